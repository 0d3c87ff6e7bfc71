"""A real core station on the devices of one simulated outlet, in virtual time. For tests of the world itself."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from agent.config.board_file import board_from
from agent.config.model import (
    CableKind,
    CanInterface,
    ConnectorType,
    EvseConfig,
    FixedOutput,
    MeterAddress,
    PilotAddress,
    PowerAddress,
)
from agent.core.effects import (
    AllowPower,
    Append,
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
from agent.core.events import (
    Authorized,
    Durable,
    Event,
    FromMeter,
    FromPilot,
    FromPower,
    LinkChanged,
    StopAuthorized,
    Tick,
)
from agent.core.facts import Fact, Token, TransactionFact, TxKind
from agent.core.settings import StationSettings
from agent.core.station import Station
from agent.core.status import FaultCode
from agent.sim.virtual_time import now_ms, run_virtual
from agent.sim.world.outlet import Outlet
from agent.sim.world.vehicle import Habit, Kind, Vehicle
from agent.station.hardware import describe
from hal.ports import BoardFaults, Contactor, CpState, LossKind, Lost, MeterReading, PilotState

T = TypeVar("T")
TOKEN = Token("04A1B2C3")
KWH = 1_000_000
BOARDS = ("mcu_ac", "openevse", "mcu_dc")


def evse_config(board: str, *, rollover_kwh: int | None = None, max_ma: int = 16_000) -> EvseConfig:
    dc = board == "mcu_dc"
    return EvseConfig(
        id=1,
        board=board_from(board, Path()),
        pilot=PilotAddress(port="pilot"),
        meter=MeterAddress(port="meter", rollover_kwh=rollover_kwh),
        power=PowerAddress(interface=CanInterface.SLCAN, channel="can", modules=(0, 1)) if dc else None,
        fixed_output=FixedOutput(voltage_mv=400_000, current_ma=30_000) if dc else None,
        connector_type=ConnectorType.C_CCS2 if dc else ConnectorType.C_TYPE2,
        phases=board_from(board, Path()).limits.phases,
        cable=CableKind.SOCKET if board == "mcu_ac" else CableKind.FIXED,
        max_current_ma=40_000 if dc else max_ma,
    )


def car(wants_mwh: int = 50 * KWH, *habits: Habit, seed: int = 7, **others: Any) -> Vehicle:
    return Vehicle(Kind(), wants_mwh, random.Random(seed), habits=frozenset(habits), **others)


class Rig:
    """Outlet and station. Make it inside the loop. ``told`` holds the world's sentences with their time."""

    def __init__(self, board: str, seed: int = 1, **config: Any) -> None:
        self.told: list[tuple[int, str]] = []
        self.evse = evse_config(board, **config)
        self.outlet = Outlet(self.evse, random.Random(seed), on_change=lambda text: self.told.append((now_ms(), text)))
        self.facts: list[Fact] = []
        self.events: list[object] = []  # what the drivers said in this life
        self.effects: list[Effect] = []
        self.watch: Callable[[], None] = lambda: None  # called after every event
        self._ids = itertools.count(1)
        self._alive = 0
        self._timer: asyncio.TimerHandle | None = None

    def live(self) -> None:
        """A station process begins."""
        self._alive += 1
        self.events, self.effects = [], []
        self.station = Station(StationSettings((describe(self.evse),)), lambda: f"tx-{next(self._ids)}")
        drivers = self.outlet.drivers()
        self.pilot: Any = drivers.pilot
        self.meter, self.module = drivers.meter, drivers.module
        self.give(LinkChanged(True))
        drivers.pilot.start(lambda event: self.give(FromPilot(1, event)))
        drivers.meter.start(lambda event: self.give(FromMeter(1, event)))
        if drivers.module is not None:
            drivers.module.start(lambda event: self.give(FromPower(1, event)))

    def die(self) -> None:
        """The process is killed."""
        self._alive += 1
        self.outlet.detach()
        if self._timer is not None:
            self._timer.cancel()

    def give(self, event: Event) -> None:
        if isinstance(event, FromPilot | FromMeter | FromPower):
            self.events.append(event.event)
        for effect in self.station.step(event, now_ms()):
            self.effects.append(effect)
            self._carry_out(effect)
        self._wait()
        self.watch()

    def _wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        due_ms = self.station.deadline_ms()
        if due_ms is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(max(due_ms, now_ms() + 1) / 1_000, self.give, Tick())

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case SetDuty():
                self.pilot.set_duty(effect.duty_centipercent)
            case AllowPower():
                self.pilot.allow_power(effect.allowed)
            case SetLock():
                self.pilot.set_lock(effect.locked)
            case OfferCurrent():
                self.pilot.offer(effect.current_ma)
            case StopOffer():
                self.pilot.stop()
            case DisableBoard():
                self.pilot.disable()
            case ResetBoard():
                self.pilot.reset()
            case ReadMeter():
                self.meter.read_soon()
            case SetOutput() if self.module is not None:
                self.module.set_output(effect.voltage_mv, effect.current_ma)
            case SwitchOutput() if self.module is not None:
                self.module.switch(effect.on)
            case Append():
                self._write(effect)

    def _write(self, append: Append) -> None:
        life = self._alive

        def durable() -> None:
            if life == self._alive:
                self.facts += append.facts
                self.give(Durable(append.ticket))

        asyncio.get_running_loop().call_later(0.01, durable)

    # ------------------------------------------------------------------------------------------ looking

    def authorize(self) -> None:
        self.give(Authorized(1, TOKEN, None))

    def stop(self) -> None:
        self.give(StopAuthorized(1, TOKEN))

    @property
    def faults(self) -> tuple[FaultCode, ...]:
        return self.station.evses[1].faults.active

    def transactions(self) -> list[tuple[int, int]]:
        """(begin, end) register of every ended transaction, mWh."""
        facts = [fact for fact in self.facts if isinstance(fact, TransactionFact)]
        begins = {f.tx_id: f.samples[-1].energy_import_mwh for f in facts if f.kind is TxKind.STARTED}
        return [(begins[f.tx_id], f.samples[-1].energy_import_mwh) for f in facts if f.kind is TxKind.ENDED]

    def said(self, kind: type[T]) -> list[T]:
        """What the drivers said of one kind in this life."""
        return [event for event in self.events if isinstance(event, kind)]

    def sentences(self) -> list[str]:
        return [text for _, text in self.told]

    def cps(self) -> list[CpState]:
        return [event.cp for event in self.said(PilotState)]

    def contacts(self) -> list[bool]:
        return [event.closed for event in self.said(Contactor)]

    def board_faults(self) -> set[Any]:
        return {fault for event in self.said(BoardFaults) for fault in event.faults}

    def losses(self) -> list[LossKind]:
        return [event.kind for event in self.said(Lost)]

    def readings(self) -> list[MeterReading]:
        return self.said(MeterReading)


async def charging(board: str, **config: Any) -> Rig:
    """A rig with a car that has charged for some time."""
    rig = Rig(board, **config)
    rig.live()
    await asyncio.sleep(5)
    assert rig.outlet.plug(car())
    await asyncio.sleep(1)
    rig.authorize()
    await asyncio.sleep(30)
    assert rig.outlet.current_ma > 0, rig.told
    return rig


def in_world(story: Callable[[], Coroutine[Any, Any, T]]) -> T:
    return run_virtual(story())
