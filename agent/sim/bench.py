"""A bench of simulated devices at the addresses that a configuration names.

Charter: for every EVSE of a configuration puts a pilot board, a meter and, for DC, rectifiers on ptys
whose names are those in the file, with a car in front of each; so the station opens them as it would
open real ones. Energy is conserved: every step moves the same amount into the car and into the meter.
Runs in a process of its own, and takes orders over a local socket (``evsed sim``).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.config.model import CanInterface, Config, EvseConfig
from agent.sim.car import NJ_PER_MWH, Car, Habit, Model
from agent.sim.defects import defects_of
from hal.boards import BoardKind, PilotDriver
from hal.ports import CpState
from hal.sim.dc_bus import BatteryLoad, OpenCircuit
from hal.sim.faults import FaultSwitch
from hal.sim.infypower import SimInfypower
from hal.sim.mcu_board import SimMcu
from hal.sim.meter import SimMeter, SimMeterLine
from hal.sim.pty import PtyLink
from hal.sim.rapi_board import SimOpenEvse
from hal.sim.slcan import SimSlcanAdapter

if TYPE_CHECKING:
    from hal.sim.em580 import SimEm580

STEP_MS = 50
_VOLTAGE_MV = 230_000
_FIRST_REGISTER_MWH = 1_234_000_000  # no meter starts at zero


class BadOrder(ValueError):
    """An order the bench cannot follow; the text says what it takes."""


class EvseBench:
    """Board, meter and car of one EVSE."""

    def __init__(self, evse: EvseConfig, car: Model) -> None:
        self.id = evse.id
        self.dc = evse.board.kind is BoardKind.DC
        pilot = Path(evse.pilot.port)
        self.board: SimOpenEvse | SimMcu
        self.board = SimOpenEvse(pilot) if evse.board.pilot.driver is PilotDriver.OPENEVSE else SimMcu(pilot)
        self.meter = _meter(evse)
        self.line = SimMeterLine(PtyLink(Path(evse.meter.port), baud=evse.meter_baud), [self.meter])
        self.car = Car(self.board.vehicle, car)
        self.modules: SimInfypower | None = None
        self.adapter: SimSlcanAdapter | None = None
        if evse.power is not None:
            self.modules = SimInfypower(evse.power.modules, now_ms=_now_ms())
            if evse.power.interface is CanInterface.SLCAN:
                self.adapter = SimSlcanAdapter(PtyLink(Path(evse.power.channel)), [self.modules])
        self.defects = defects_of(self.board, self.modules)
        self.broken: dict[str, None] = {}  # defects that are there now
        self._metered_nj = _FIRST_REGISTER_MWH * NJ_PER_MWH
        self._fed_nj = 0

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self.board.start(loop)
        self.line.start()
        if self.adapter is not None:
            self.adapter.start()
        self.step(0)

    def close(self) -> None:
        self.board.close()
        self.line.close()
        if self.adapter is not None:
            self.adapter.close()

    def step(self, passed_ms: int) -> None:
        before_nj = self.car.taken_nj
        if self.modules is None:
            self.car.step(passed_ms, _VOLTAGE_MV)
            voltage_mv, current_ma, phases = _VOLTAGE_MV, self.car.current_ma, self.car.model.phases
        else:
            voltage_mv, current_ma, phases = self._step_dc(self.modules, passed_ms)
        self._metered_nj += self.car.taken_nj - before_nj
        values, idle = self.meter.values, (0, 0, 0)
        values.energy_import_mwh = self._metered_nj // NJ_PER_MWH
        values.power_mw = voltage_mv * current_ma * phases // 1_000_000 * 1_000
        values.voltage_mv = (voltage_mv, voltage_mv, voltage_mv) if phases == 3 else (voltage_mv, 0, 0)
        values.current_ma = (current_ma, current_ma, current_ma) if phases == 3 else (current_ma, 0, 0)
        if current_ma == 0:
            values.current_ma = idle

    def _step_dc(self, modules: SimInfypower, passed_ms: int) -> tuple[int, int, int]:
        self.car.step(passed_ms, 0)
        vehicle = self.board.vehicle
        connected = vehicle.relay_closed and vehicle.cp is CpState.C
        modules.load = BatteryLoad(350_000, 1_000) if connected else OpenCircuit()
        modules.step(_now_ms())
        fed_nj, self._fed_nj = modules.energy_nanojoule - self._fed_nj, modules.energy_nanojoule
        self.car.take(fed_nj)
        return modules.voltage_mv, modules.current_ma, 1

    @property
    def register_mwh(self) -> int:
        return self._metered_nj // NJ_PER_MWH

    def switches(self) -> dict[str, FaultSwitch]:
        found = {"pilot": self.board.faults, "meter": self.meter.faults}
        if self.adapter is not None:
            found["can"] = self.adapter.faults
        return found

    def view(self) -> dict[str, Any]:
        vehicle = self.board.vehicle
        return {
            "evse": self.id,
            "plugged": self.car.plugged,
            "cp": vehicle.cp.value,
            "duty_centipercent": vehicle.duty_centipercent,
            "relay_closed": vehicle.relay_closed,
            "current_ma": self.car.current_ma if self.modules is None else self.modules.current_ma,
            "soc_percent": self.car.soc_percent,
            "taken_mwh": self.car.taken_mwh,
            "metered_mwh": self.register_mwh - _FIRST_REGISTER_MWH,
        }


class Bench:
    """All EVSEs, stepped together in real time."""

    def __init__(self, config: Config, car: Model | None = None) -> None:
        self.evses = {evse.id: EvseBench(evse, car or _car_for(evse)) for evse in config.evse}
        self._at_ms = _now_ms()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        for evse in self.evses.values():
            evse.start(loop)
        self._tick(loop)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for evse in self.evses.values():
            evse.close()

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now_ms = _now_ms()
        passed_ms, self._at_ms = now_ms - self._at_ms, now_ms
        for evse in self.evses.values():
            evse.step(passed_ms)
        self._timer = loop.call_later(STEP_MS / 1_000, self._tick, loop)

    def obey(self, evse_id: int, action: str, arguments: list[str]) -> dict[str, Any]:
        """Carry out an order; returns the view of the EVSE afterwards. Raises ``BadOrder``."""
        evse = self.evses.get(evse_id)
        if evse is None:
            raise BadOrder(f"no EVSE {evse_id} here, there are: {', '.join(map(str, self.evses))}")
        order = _ORDERS.get(action)
        if order is None:
            raise BadOrder(f"unknown action {action!r}; there are: {', '.join(sorted(_ORDERS))}")
        order(evse, arguments)
        return evse.view()


def _car_for(evse: EvseConfig) -> Model:
    return Model(phases=evse.phases if evse.board.kind is BoardKind.AC else 1)


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def _pause(evse: EvseBench, _: list[str]) -> None:
    evse.car.wants_energy = False


def _ready(evse: EvseBench, _: list[str]) -> None:
    evse.car.wants_energy = True


def _fault(evse: EvseBench, arguments: list[str]) -> None:
    switches = evse.switches()
    if len(arguments) < 2 or arguments[0] not in switches:
        raise BadOrder(f"usage: fault {'|'.join(switches)} NAME [PARAM]")
    switch, name = switches[arguments[0]], arguments[1]
    try:
        switch.set(name, param=int(arguments[2]) if len(arguments) > 2 else None)
    except ValueError as error:
        raise BadOrder(str(error)) from error


def _break(evse: EvseBench, arguments: list[str]) -> None:
    name = arguments[0] if arguments else ""
    if name not in evse.defects:
        raise BadOrder(f"usage: break {'|'.join(evse.defects)}")
    evse.broken[name] = None
    evse.defects[name](True)


def _mend(evse: EvseBench, arguments: list[str]) -> None:
    for name in list(evse.broken):
        if not arguments or arguments[0] == name:
            del evse.broken[name]
            evse.defects[name](False)


def _clear(evse: EvseBench, arguments: list[str]) -> None:
    for name, switch in evse.switches().items():
        if not arguments or arguments[0] == name:
            switch.clear()
    evse.car.habits.clear()
    _mend(evse, arguments)


def _habit(evse: EvseBench, arguments: list[str]) -> None:
    try:
        evse.car.habits.add(Habit(arguments[0] if arguments else ""))
    except ValueError as error:
        raise BadOrder(f"usage: habit {'|'.join(Habit)}") from error


_ORDERS: dict[str, Callable[[EvseBench, list[str]], None]] = {
    "plug": lambda evse, _: evse.car.plug(),
    "unplug": lambda evse, _: evse.car.unplug(),
    "pause": _pause,
    "ready": _ready,
    "fault": _fault,
    "break": _break,
    "mend": _mend,
    "clear": _clear,
    "habit": _habit,
    "status": lambda _evse, _arguments: None,
}


def _meter(evse: EvseConfig) -> SimMeter | SimEm580:
    """The meter that the configuration names. One that signs has a fresh key at each start of the bench."""
    if evse.meter_map == "carlo_gavazzi_em580":
        from hal.sim.em580 import SimEm580

        return SimEm580(evse.meter.unit, serial_number=f"BY{20_000_000 + evse.id}")
    return SimMeter(evse.meter.unit, map_name=evse.meter_map, serial_number=20_000_000 + evse.id)
