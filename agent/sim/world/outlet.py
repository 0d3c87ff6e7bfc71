"""The physical truth at one EVSE of the simulated world: board, contactor, meter, modules, and the car in front of it.

Charter: puts the devices together, lets current flow as they allow, and integrates it exactly. It lives through
power cuts and restarts of the station: ``drivers`` gives fresh HAL drivers to each life of the station process,
``detach`` is that process's death. What the station believes is not known here, so checkers may compare.

Everything happens in the running event loop; its time is the only clock.

Units: mA, mV, mWh, ms, 0.01 % duty.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from agent.config.model import EvseConfig
from agent.sim.world.board_mcu import McuBoard, McuFace
from agent.sim.world.board_openevse import OpenEvseBoard, OpenEvseFace
from agent.sim.world.device_faults import FAULTS, Ends, Fault, NotHere
from agent.sim.world.meter import Line, Meter, MeterFace
from agent.sim.world.module import ModuleFace, Rectifier
from agent.sim.world.plug import Plug
from agent.sim.world.vehicle import Vehicle
from hal.boards import BoardKind
from hal.meters.map_file import load_map
from hal.ports import (
    DUTY_DIGITAL,
    AutonomousPilot,
    CpState,
    EnergyMeter,
    LockPosition,
    PowerModule,
    SubordinatePilot,
)

CAR_LEAVES: Final = "car unplugs"


@dataclass(frozen=True, slots=True)
class Drivers:
    """What one life of the station process talks to."""

    pilot: SubordinatePilot | AutonomousPilot
    meter: EnergyMeter
    module: PowerModule | None


class Outlet:
    """One outlet. Make it inside the running loop; ``on_change`` is told one plain sentence per physical event."""

    def __init__(
        self,
        evse: EvseConfig,
        rng: random.Random,
        *,
        poll_ms: int = 1_000,
        idle_poll_ms: int | None = None,
        on_change: Callable[[str], None],
        register_mwh: int | None = None,
    ) -> None:
        """``register_mwh``: what its meter shows at first; None: something, since no meter begins at zero.
        ``idle_poll_ms``: how often it is asked while nothing flows; None: as often as otherwise."""
        self.evse = evse
        self.rng = rng
        self.loop = loop = asyncio.get_running_loop()
        self.faults: dict[Fault, None] = {}  # those that last, in the order they came
        self._struck_ms: dict[Fault, int] = {}  # when each last began or was over
        self.even_since_ms = 0  # since then nothing broke, was mended, or flowed differently
        self.mains = True
        self.voltage_mv = evse.voltage_v * 1_000
        self.vehicle: Vehicle | None = None
        self._poll_ms = poll_ms
        self._idle_poll_ms = poll_ms if idle_poll_ms is None else idle_poll_ms
        self._told = on_change
        self._endings: dict[Fault, asyncio.TimerHandle] = {}
        self._closings: list[asyncio.Future[None]] = []
        dc = evse.board.kind is BoardKind.DC
        self.line = Line(self.now_ms(), 1 if dc else evse.phases)
        self.plug_point = Plug(loop, self._contact_moved, on_change)
        self.board = _board(evse, loop, self.plug_point, rng)
        self.plug_point.on_change = self._offer_changed
        self.plug_point.on_vehicle_change = self.board.update
        self.module = Rectifier(loop, evse.board.limits, self._flow) if dc else None
        self.meter = Meter(
            loop,
            self.line,
            evse.meter.serial or str(rng.randrange(20_000_000, 30_000_000)),
            rng.randrange(1, 100_000) * 10_000 if register_mwh is None else register_mwh,
            load_map(evse.meter_map).energy_step_mwh,
            evse.meter_rollover_mwh,
        )
        self.board.update()
        self.board.contact_changed()
        self._flow()

    def now_ms(self) -> int:
        return round(self.loop.time() * 1_000)

    # --------------------------------------------------------------------------------- the station's lives

    def drivers(self, booted_ms: int = 0) -> Drivers:
        """Fresh drivers for one life of the station process, on a machine that booted then.

        Raises ``RuntimeError`` while another life goes on."""
        if self.board.face is not None:
            raise RuntimeError(f"EVSE {self.evse.id}: the station process before this one was not ended (detach)")
        self._found = self.meter.frozen_mwh, self.owed_mwh
        evse, name = self.evse, f"EVSE {self.evse.id}"
        limit_ma = evse.board.limits.max_current_ma
        pilot: SubordinatePilot | AutonomousPilot
        if isinstance(self.board, McuBoard):
            pilot = McuFace(self.board, name, max_current_ma=limit_ma, has_lock=evse.board.pilot.lock)
        else:
            pilot = OpenEvseFace(self.board, name, max_current_ma=limit_ma)
        self._meter_face = MeterFace(
            self.loop,
            self.meter,
            name,
            max_power_w=evse.max_power_w * 3 // 2,
            poll_ms=self._poll_ms,
            idle_poll_ms=self._idle_poll_ms,
            booted_ms=booted_ms,
        )
        module = None
        if self.module is not None:
            module = ModuleFace(
                self.loop, self.module, self.rng, lambda: self.line.current_ma, booted_ms, self._poll_ms
            )
        return Drivers(pilot, self._meter_face, module)

    def detach(self) -> None:
        """The station process is dead: its drivers never call back again. Harmless where none lives."""
        self.board.detach()
        if self._meter_face is not None:
            self._meter_face.detach()
        if self.module is not None:
            self.module.detach()

    _meter_face: MeterFace | None = None
    _found: tuple[int | None, int] = (None, 0)  # the register that stood still then, and what it owed

    # ------------------------------------------------------------------------------------------- the truth

    @property
    def cp(self) -> CpState:
        """What a voltmeter at the pilot says."""
        return self.plug_point.cp

    @property
    def duty_centipercent(self) -> int:
        return self.plug_point.duty_centipercent

    @property
    def power_allowed(self) -> bool:
        """Whether the board commands its contactor closed."""
        return self.plug_point.commanded

    @property
    def contactor_closed(self) -> bool:
        """The real contact, also when it is welded."""
        return self.plug_point.relay_closed

    @property
    def supervised(self) -> bool:
        """A driver of the station has the board in hand. Otherwise the board acts by itself."""
        return self.board.supervised

    @property
    def current_ma(self) -> int:
        """What flows now, per phase."""
        return self.line.current_ma

    @property
    def drawn_mwh(self) -> int:
        """All energy that ever went through this outlet."""
        return self.line.total_mwh(self.now_ms())

    @property
    def offered_ma(self) -> int:
        """What the vehicle may draw by the pilot; DC: what the modules are set to."""
        if self.duty_centipercent == DUTY_DIGITAL:
            return 0 if self.module is None else self.module.current_ma
        return self.plug_point.offered_current_ma

    @property
    def idle_ms(self) -> int:
        """How long, in all, a car was offered current that it did not ask for (``Plug``)."""
        return self.plug_point.idle_ms

    @property
    def lock(self) -> LockPosition:
        return self.board.lock

    @property
    def locked(self) -> bool:
        """The bolt holds a plug, whatever the board knows of it."""
        return self.board.bolted

    @property
    def register_mwh(self) -> int:
        """What an honest meter of this serial number would show now."""
        return self.meter.register_mwh(self.now_ms())

    @property
    def owed_mwh(self) -> int:
        """What went through, and the meter does not show while its register stands still."""
        return self.meter.owed_mwh(self.now_ms())

    @property
    def forgotten_mwh(self) -> int:
        """What of that was so when this life of the station began."""
        stood_mwh, owed_mwh = self._found
        return 0 if stood_mwh is None or stood_mwh != self.meter.frozen_mwh else owed_mwh

    @property
    def meter_serial(self) -> str:
        return self.meter.serial

    async def closes(self) -> None:
        """Returns in the instant in which the contactor closes next."""
        closing: asyncio.Future[None] = self.loop.create_future()
        self._closings.append(closing)
        await closing

    # ------------------------------------------------------------------------------------- the world's hands

    def plug(self, vehicle: Vehicle) -> bool:
        """Plug a car in; False where the place is taken, or the bolt is out."""
        if self.vehicle is not None or self.locked or vehicle.plugged:
            return False
        self.vehicle = vehicle
        self._told("car plugs in")
        vehicle.attach(self.loop, self.plug_point, self.line, self._flow, self._told, dc=self.module is not None)
        return True

    def unplug(self, *, forced: bool = False) -> bool:
        """Pull the plug; False where it is locked (unless forced), or none is there."""
        if self.vehicle is None or (self.locked and not forced):
            return False
        vehicle, self.vehicle = self.vehicle, None
        self._told(CAR_LEAVES)
        vehicle.detach()
        return True

    def power(self, on: bool) -> None:
        """Mains at the station come or go. Board, meter and modules boot in their own time."""
        if on is self.mains:
            return
        self.mains = on
        self._told("mains come back" if on else "mains fail")
        self._flow()
        self.board.power(on)
        self.meter.power(on)
        if self.module is not None:
            self.module.power(on)

    def set_grid(self, voltage_mv: int) -> None:
        """The grid's voltage between phase and neutral is now this."""
        self.voltage_mv = voltage_mv
        self._flow()

    def applies(self, fault: Fault) -> bool:
        """Whether this outlet has the part that the fault strikes."""
        return FAULTS[fault].applies(self)

    def fault(self, fault: Fault, value: int | None = None) -> None:
        """Something breaks. ``value`` as ``FAULTS`` says. Raises ``NotHere`` where it cannot."""
        spec = FAULTS[fault]
        if not spec.applies(self):
            raise NotHere(f"EVSE {self.evse.id} ({self.evse.board.name}) has no part for {fault.value}")
        if fault in self.faults:
            return
        value = spec.value if value is None else value
        self._told(spec.text)
        self._struck_ms[fault] = self.now_ms()
        if spec.ends is not Ends.ONCE:
            self.faults[fault] = None
        if spec.ends is Ends.TIME:
            self._endings[fault] = self.loop.call_later(value / 1_000, self.clear, fault)
        spec.begin(self, value)
        self._look_closer()

    def was_struck(self, faults: Collection[Fault], since_ms: int) -> bool:
        """Whether any of them lasts, or has been there since then."""
        lasts = not self.faults.keys().isdisjoint(faults)
        return lasts or any(self._struck_ms[each] >= since_ms for each in faults if each in self._struck_ms)

    def clear(self, fault: Fault | None = None) -> None:
        """End a fault, or all of them; harmless where it is not there."""
        for each in list(self.faults) if fault is None else [fault]:
            if each not in self.faults:
                continue
            del self.faults[each]
            self._struck_ms[each] = self.now_ms()
            if (ending := self._endings.pop(each, None)) is not None:
                ending.cancel()
            self._told(f"over: {FAULTS[each].text}")
            undo = FAULTS[each].undo
            assert undo is not None, "a fault that lasts can be undone"
            undo(self)
            self._look_closer()

    # ---------------------------------------------------------------------------------------------- physics

    def _look_closer(self) -> None:
        self.even_since_ms = self.now_ms()
        if self._meter_face is not None:
            self._meter_face.look_closer()

    def _offer_changed(self) -> None:
        if self.vehicle is not None:
            self.vehicle.changed()

    def _contact_moved(self) -> None:
        self._flow()
        if self.vehicle is not None:
            self.vehicle.changed()
        self.board.update()
        if self.contactor_closed:
            closings, self._closings = self._closings, []
            for closing in closings:
                if not closing.done():
                    closing.set_result(None)

    def _flow(self) -> None:
        """Who draws what through which contact: from now on this flows."""
        vehicle, module, line = self.vehicle, self.module, self.line
        live = self.mains and self.contactor_closed and vehicle is not None
        draw_ma = vehicle.draw_ma if live and vehicle is not None else 0
        voltage_mv, phases = self.voltage_mv if self.mains else 0, 1
        if module is not None:
            draw_ma, voltage_mv = min(draw_ma, module.current_ma), module.voltage_mv
        elif vehicle is not None:
            phases = min(vehicle.kind.phases, self.evse.phases)
        if (voltage_mv, draw_ma) == (line.voltage_mv, line.current_ma):
            return
        if draw_ma != line.current_ma:
            self._told(f"{draw_ma / 1_000:.1f} A flow" if draw_ma else "no current flows")
        line.change(self.now_ms(), voltage_mv, draw_ma, phases)
        self._look_closer()
        if module is not None and module.face is not None:
            module.face.output_changed()
        if vehicle is not None:
            vehicle.flow_changed()


def _board(
    evse: EvseConfig, loop: asyncio.AbstractEventLoop, plug: Plug, rng: random.Random
) -> McuBoard | OpenEvseBoard:
    if evse.board.pilot.driver.autonomous:
        max_a = min(evse.max_current_ma, evse.board.limits.max_current_ma) // 1_000
        return OpenEvseBoard(loop, plug, rng, max_a=max_a)
    return McuBoard(loop, plug, rng)
