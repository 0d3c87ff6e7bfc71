"""The devices of a station: drivers made from the configuration, effects handed to them.

Charter: builds drivers (importing each only when the configuration names it), turns their callbacks
into core events, and carries out the effects meant for hardware. Knows no state.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from agent.config.model import CableKind, Config, EvseConfig
from agent.core.effects import (
    AllowPower,
    DisableBoard,
    Effect,
    OfferCurrent,
    ReadMeter,
    ResetBoard,
    SetDuty,
    SetLock,
    SetOutput,
    StopOffer,
    SwitchOutput,
)
from agent.core.events import Event, FromMeter, FromPilot, FromPower
from agent.core.settings import DcBench, EvseHardware
from agent.ipc.statistics import BusStatistics, Temperature
from hal.boards import BoardKind, PilotDriver
from hal.bus_counters import BusCounters
from hal.meters.map_file import load_map
from hal.ports import AutonomousPilot, EnergyMeter, PowerModule, SigningMeter, SubordinatePilot, Thermometer

if TYPE_CHECKING:
    from hal.meters.modbus_line import ModbusLine
    from hal.pilots.mcu import McuPilot
    from hal.pilots.openevse import OpenEvsePilot
    from hal.power.can_bus import CanBus

SIGNING_MAP = "carlo_gavazzi_em580"  # the one meter of ours that signs by itself

OnEvent = Callable[[Event], None]


def describe(evse: EvseConfig) -> EvseHardware:
    """What the core must know of an EVSE as built."""
    board, fixed = evse.board, evse.fixed_output
    autonomous = board.pilot.driver.autonomous
    return EvseHardware(
        evse=evse.id,
        hard_limit_ma=min(evse.max_current_ma, board.limits.max_current_ma),
        min_current_ma=board.limits.min_current_ma,
        phases=evse.phases,
        autonomous=autonomous,
        # A fixed cable has nothing to lock, and what an autonomous board locks is its own affair.
        has_lock=board.pilot.lock and evse.cable is CableKind.SOCKET and not autonomous,
        has_contactor_feedback=board.pilot.contactor_feedback,
        ventilation=board.pilot.ventilation,
        socket=evse.cable is CableKind.SOCKET,
        dc=board.kind is BoardKind.DC,
        meter_step_mwh=load_map(evse.meter_map).energy_step_mwh,
        meter_rollover_mwh=evse.meter_rollover_mwh,
        dc_bench=DcBench(fixed.voltage_mv, fixed.current_ma) if fixed else None,
    )


class Hardware:
    """All drivers of a station, by EVSE. ``start`` opens them, ``carry_out`` hands them an effect.

    ``signing``: the EVSEs whose meters sign by themselves; ``buses``: what modules share; ``counters``: of every line,
    by its name."""

    def __init__(
        self,
        pilots: Mapping[int, AutonomousPilot | SubordinatePilot],
        meters: Mapping[int, EnergyMeter],
        modules: Mapping[int, PowerModule],
        signing: Collection[int] = (),
        buses: Sequence[CanBus] = (),
        counters: Mapping[str, BusCounters] | None = None,
    ) -> None:
        self._pilots = pilots
        self._meters = meters
        self._modules = modules
        self._signing = signing
        self._buses = buses
        self._counters = counters or {}

    def start(self, on_event: OnEvent) -> None:
        """Open everything; must run inside the event loop."""
        for evse, pilot in self._pilots.items():
            pilot.start(partial(_tell, on_event, FromPilot, evse))
        for evse, meter in self._meters.items():
            meter.start(partial(_tell, on_event, FromMeter, evse))
        for bus in self._buses:
            bus.start()
        for evse, module in self._modules.items():
            module.start(partial(_tell, on_event, FromPower, evse))

    def signers(self) -> dict[int, SigningMeter]:
        """The meters that sign by themselves, by EVSE."""
        return {evse: cast(SigningMeter, meter) for evse, meter in self._meters.items() if evse in self._signing}

    def bus_statistics(self) -> tuple[BusStatistics, ...]:
        return tuple(
            BusStatistics(
                name,
                each.exchanges,
                tuple((kind.value, count) for kind, count in each.failures.items()),
                each.timed,
                each.latency_sum_us,
                each.latency_max_us,
            )
            for name, each in self._counters.items()
        )

    def temperatures(self) -> tuple[Temperature, ...]:
        return tuple(
            Temperature(evse, sensor, milli_celsius)
            for evse, device in (*self._pilots.items(), *self._modules.items())
            if isinstance(device, Thermometer)
            for sensor, milli_celsius in device.temperatures().items()
        )

    def carry_out(self, effect: Effect) -> bool:
        """Hand the effect to its driver; False if it is not one for hardware."""
        action = _ACTIONS.get(type(effect))
        if action is None:
            return False
        action(self, effect)
        return True

    async def close(self) -> None:
        """Everything into its safe state, then release the ports. Power goes first, and everywhere at once: a board may
        wait seconds for its vehicle to let go. What devices tell meanwhile must reach no station any more: a board that
        is being closed tells what it would tell of a fault. Where nothing has to be waited for, this does not wait."""
        for module in self._modules.values():
            module.switch(False)
        for evse, pilot in self._pilots.items():
            if pilot.capabilities.autonomous:
                self._autonomous(evse).stop()
            else:
                self._subordinate(evse).allow_power(False)
        for pilot in self._pilots.values():
            await pilot.close()
        for module in self._modules.values():
            await module.close()
        for bus in self._buses:
            await bus.close()
        for meter in self._meters.values():
            await meter.close()

    # One small method per kind of effect; the casts state what ``describe`` told the core.

    def _subordinate(self, evse: int) -> SubordinatePilot:
        return cast(SubordinatePilot, self._pilots[evse])

    def _autonomous(self, evse: int) -> AutonomousPilot:
        return cast(AutonomousPilot, self._pilots[evse])

    def _set_duty(self, effect: SetDuty) -> None:
        self._subordinate(effect.evse).set_duty(effect.duty_centipercent)

    def _allow_power(self, effect: AllowPower) -> None:
        self._subordinate(effect.evse).allow_power(effect.allowed)

    def _set_lock(self, effect: SetLock) -> None:
        self._subordinate(effect.evse).set_lock(effect.locked)

    def _offer(self, effect: OfferCurrent) -> None:
        self._autonomous(effect.evse).offer(effect.current_ma)

    def _stop(self, effect: StopOffer) -> None:
        self._autonomous(effect.evse).stop()

    def _disable(self, effect: DisableBoard) -> None:
        self._autonomous(effect.evse).disable()

    def _reset(self, effect: ResetBoard) -> None:
        self._pilots[effect.evse].reset()

    def _set_output(self, effect: SetOutput) -> None:
        self._modules[effect.evse].set_output(effect.voltage_mv, effect.current_ma)

    def _switch(self, effect: SwitchOutput) -> None:
        self._modules[effect.evse].switch(effect.on)

    def _read(self, effect: ReadMeter) -> None:
        self._meters[effect.evse].read_soon()


_ACTIONS: dict[type, Callable[[Hardware, Effect], None]] = {
    kind: cast(Callable[[Hardware, Effect], None], method)
    for kind, method in {
        SetDuty: Hardware._set_duty,
        AllowPower: Hardware._allow_power,
        SetLock: Hardware._set_lock,
        OfferCurrent: Hardware._offer,
        StopOffer: Hardware._stop,
        DisableBoard: Hardware._disable,
        ResetBoard: Hardware._reset,
        SetOutput: Hardware._set_output,
        SwitchOutput: Hardware._switch,
        ReadMeter: Hardware._read,
    }.items()
}


def open_hardware(config: Config, now_ms: Callable[[], int]) -> Hardware:
    """The drivers that the configuration names, not started yet."""
    meters, buses = _MeterLines(now_ms), _CanBuses(now_ms)
    modules = {evse.id: buses.module(evse) for evse in config.evse if evse.power is not None}
    pilots = {evse.id: _pilot(evse) for evse in config.evse}
    return Hardware(
        pilots,
        {evse.id: meters.meter(evse) for evse in config.evse},
        modules,
        {evse.id for evse in config.evse if evse.meter_map == SIGNING_MAP},
        buses.all(),
        {
            **{evse.pilot.port: pilots[evse.id].counters for evse in config.evse},
            **{line.config.port: line.counters for line in meters.all()},
            **{bus.config.name: bus.counters for bus in buses.all()},
        },
    )


def _tell(on_event: OnEvent, wrap: Callable[[int, Any], Event], evse: int, event: object) -> None:
    on_event(wrap(evse, event))


def _pilot(evse: EvseConfig) -> OpenEvsePilot | McuPilot:
    part, path = evse.board.pilot, evse.pilot.port
    limit_ma = evse.board.limits.max_current_ma
    if part.driver is PilotDriver.OPENEVSE:
        from hal.pilots.openevse import OpenEvseConfig, OpenEvsePilot

        return OpenEvsePilot(OpenEvseConfig(path, part.baud, limit_ma))
    from hal.pilots.mcu import McuConfig, McuPilot

    return McuPilot(McuConfig(path, part.baud, limit_ma, has_lock=part.lock))


class _MeterLines:
    """Meters on one port share one line."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._lines: dict[str, ModbusLine] = {}

    def all(self) -> Sequence[ModbusLine]:
        return tuple(self._lines.values())

    def meter(self, evse: EvseConfig) -> EnergyMeter:
        from hal.meters.modbus_line import LineConfig, ModbusLine
        from hal.meters.modbus_meter import ModbusMeter, ModbusMeterConfig

        port, baud, parity = evse.meter.port, evse.meter_baud, evse.meter_parity.value
        if port not in self._lines:
            self._lines[port] = ModbusLine(LineConfig(port, baud, parity))
        config = ModbusMeterConfig(
            port=port,
            map_name=evse.meter_map,
            # What the meter could ever see, not what may be offered: half as much again.
            max_power_w=evse.max_power_w * 3 // 2,
            unit_id=evse.meter.unit,
            baudrate=baud,
            parity=parity,
            serial=evse.meter.serial,
            rollover_mwh=evse.meter_rollover_mwh,
        )
        if evse.meter_map == SIGNING_MAP:
            from hal.meters.em580 import Em580

            return Em580(config, self._lines[port], self._now_ms)
        return ModbusMeter(config, self._lines[port], self._now_ms)


class _CanBuses:
    """Modules on one channel share one bus."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._buses: dict[str, CanBus] = {}

    def all(self) -> Sequence[CanBus]:
        return tuple(self._buses.values())

    def module(self, evse: EvseConfig) -> PowerModule:
        from hal.power.can_bus import CanBus
        from hal.power.can_ports import CanBusConfig
        from hal.power.infypower import InfypowerModules
        from hal.power.infypower_config import InfypowerConfig, Mode

        power, part = evse.power, evse.board.power
        assert power is not None and part is not None, "checked with the configuration"
        if power.channel not in self._buses:
            name = f"{power.interface.value} {power.channel}"
            self._buses[power.channel] = CanBus(
                CanBusConfig(name=name, interface=power.interface.value, channel=power.channel, bitrate=part.bitrate)
            )
        config = InfypowerConfig(name=f"modules of EVSE {evse.id}", mode=Mode.MODULES, addresses=power.modules)
        return InfypowerModules(config, self._buses[power.channel], self._now_ms)
