"""A core station with a well-behaved world around it: board, meter, ledger and car, in virtual time.

For tests of the pure core. Every effect is carried out at once and honestly; a test makes the world
misbehave by turning off one of its habits.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from agent.core.commands import Command
from agent.core.effects import (
    AllowPower,
    Answer,
    Append,
    DisableBoard,
    Effect,
    OfferCurrent,
    ReadMeter,
    SetDuty,
    SetLock,
    SetOutput,
    StatusChanged,
    StopOffer,
    SwitchOutput,
)
from agent.core.events import Authorized, Commanded, Durable, Event, FromMeter, FromPilot, FromPower, Tick
from agent.core.facts import Fact, Token, TransactionFact
from agent.core.settings import EvseHardware, StationSettings
from agent.core.station import Station
from agent.core.status import ConnectorState
from hal.ports import (
    Back,
    Cable,
    Contactor,
    CpState,
    Lock,
    LockPosition,
    MeterReading,
    PilotState,
    PowerOutput,
)

TOKEN = Token("04A1B2C3")


@dataclass
class EvseWorld:
    """What stands around one EVSE."""

    hardware: EvseHardware
    cp: CpState = CpState.A
    duty: int = 10_000
    power: bool = False
    offer_ma: int = 0
    disabled: bool = False
    contactor: bool = False
    locked: bool = False
    output_on: bool = False
    output: tuple[int, int] = (0, 0)
    energy_mwh: int = 1_000_000
    current_ma: int = 0
    current_sign: int = 1  # as the meter tells it
    serial: str = "M1"
    contactor_follows: bool = True
    contactor_welded: bool = False
    lock_follows: bool = True
    meter_answers: bool = True


@dataclass
class CoreWorld:
    """Steps a station and carries out its effects until nothing is left to do."""

    settings: StationSettings
    ledger_answers: bool = True
    station: Station = field(init=False)
    at_ms: int = 1_000
    log: list[Effect] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)
    unwritten: list[Append] = field(default_factory=list)
    statuses: dict[int, list[ConnectorState]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ids = itertools.count(1)
        self.station = Station(self.settings, lambda: f"tx-{next(ids)}")
        self.evses = {hardware.evse: EvseWorld(hardware) for hardware in self.settings.evses}
        self._queue: list[Event] = []

    # ------------------------------------------------------------------------------------- driving

    def boot(self) -> None:
        """All devices come up."""
        self.boot_without_meter()
        for evse in self.evses:
            self.give(FromMeter(evse, Back("meter")))
            self.read(evse)

    def boot_without_meter(self) -> None:
        for evse, around in self.evses.items():
            self.pilot(evse, Back("board"))
            self.pilot(evse, Contactor(around.contactor))
            self.pilot(evse, PilotState(around.cp))
            if around.hardware.has_lock:
                self.pilot(evse, Lock(LockPosition.LOCKED if around.locked else LockPosition.UNLOCKED))
            if around.hardware.dc:
                self.give(FromPower(evse, Back("module")))

    def give(self, event: Event) -> list[Effect]:
        """One event and everything that follows from it."""
        done: list[Effect] = []
        queue = [event]
        while queue:
            effects = self.station.step(queue.pop(0), self.at_ms)
            for effect in effects:
                done.append(effect)
                queue += self._carry_out(effect)
        self.log += done
        self._check()
        return done

    def pilot(self, evse: int, event: object) -> list[Effect]:
        return self.give(FromPilot(evse, event))  # type: ignore[arg-type]

    def cp(self, evse: int, cp: CpState) -> list[Effect]:
        """The vehicle changes the pilot; the state lasts long enough to be believed."""
        self.evses[evse].cp = cp
        effects = self.pilot(evse, PilotState(cp))
        return effects + self.run(200)

    def read(self, evse: int) -> None:
        around = self.evses[evse]
        if around.meter_answers:
            self.give(FromMeter(evse, self.reading(evse)))

    def reading(self, evse: int) -> MeterReading:
        around = self.evses[evse]
        current_ma = around.current_ma if self._flows(around) else 0
        return MeterReading(
            at_ms=self.at_ms,
            serial=around.serial,
            energy_import_mwh=around.energy_mwh,
            energy_export_mwh=None,
            power_mw=current_ma * 230,
            voltage_mv=(230_000, None, None),
            current_ma=(around.current_sign * current_ma, None, None),
        )

    @staticmethod
    def _flows(around: EvseWorld) -> bool:
        return around.contactor and around.cp in (CpState.C, CpState.D)

    def run(self, ms: int) -> list[Effect]:
        """Let virtual time pass: deadlines on their instant, meters once a second, energy flowing."""
        done: list[Effect] = []
        end_ms = self.at_ms + ms
        while self.at_ms < end_ms:
            deadline_ms = self.station.deadline_ms()
            next_second_ms = self.at_ms - self.at_ms % 1_000 + 1_000
            stop_ms = min(end_ms, next_second_ms, deadline_ms if deadline_ms is not None else end_ms)
            step_ms = max(1, stop_ms - self.at_ms)
            self.at_ms += step_ms
            for evse, around in self.evses.items():
                if self._flows(around):
                    around.energy_mwh += around.current_ma * 230 * step_ms // 3_600_000
                if self.at_ms % 1_000 == 0:
                    self.read(evse)
            done += self.give(Tick())
        return done

    def authorize(self, evse: int, token: Token = TOKEN) -> list[Effect]:
        return self.give(Authorized(evse, token, None))

    def command(self, command: Command, command_id: int = 7) -> list[Effect]:
        return self.give(Commanded(command_id, command))

    def charge(self, evse: int = 1, current_ma: int = 10_000) -> None:
        """From nothing to a running charge."""
        self.cp(evse, CpState.B)
        self.authorize(evse)
        self.cp(evse, CpState.C)
        self.evses[evse].current_ma = current_ma
        self.run(1_000)

    def write(self) -> None:
        """The held-back ledger writes reach the disk now."""
        held, self.unwritten = self.unwritten, []
        for append in held:
            self.facts += append.facts
            self.give(Durable(append.ticket))

    # ------------------------------------------------------------------------------------- looking

    def state(self, evse: int = 1) -> ConnectorState:
        return self.station.views()[evse - 1].state

    def transactions(self) -> list[TransactionFact]:
        return [fact for fact in self.facts if isinstance(fact, TransactionFact)]

    @staticmethod
    def answers(effects: Iterable[Effect]) -> list[Answer]:
        return [effect for effect in effects if isinstance(effect, Answer)]

    # ------------------------------------------------------------------------------ the world obeys

    def _carry_out(self, effect: Effect) -> list[Event]:
        handlers: dict[type, Any] = {
            SetDuty: self._set_duty,
            AllowPower: self._allow_power,
            OfferCurrent: self._offer,
            StopOffer: self._offer,
            DisableBoard: self._offer,
            SetLock: self._set_lock,
            SetOutput: self._set_output,
            SwitchOutput: self._switch_output,
            ReadMeter: self._read_meter,
            Append: self._append,
            StatusChanged: self._status,
        }
        handler: Callable[[Effect], list[Event]] = handlers.get(type(effect), _nothing)
        return handler(effect)

    def _set_duty(self, effect: SetDuty) -> list[Event]:
        self.evses[effect.evse].duty = effect.duty_centipercent
        return []

    def _allow_power(self, effect: AllowPower) -> list[Event]:
        around = self.evses[effect.evse]
        around.power = effect.allowed
        return self._move_contactor(effect.evse, effect.allowed)

    def _move_contactor(self, evse: int, closed: bool) -> list[Event]:
        around = self.evses[evse]
        if around.contactor is closed or not around.contactor_follows:
            return []
        if not closed and around.contactor_welded:
            return []
        around.contactor = closed
        return [FromPilot(evse, Contactor(closed))] if around.hardware.has_contactor_feedback else []

    def _offer(self, effect: OfferCurrent | StopOffer | DisableBoard) -> list[Event]:
        around = self.evses[effect.evse]
        around.offer_ma = effect.current_ma if isinstance(effect, OfferCurrent) else 0
        around.disabled = isinstance(effect, DisableBoard)
        closes = around.offer_ma > 0 and around.cp is CpState.C
        return self._move_contactor(effect.evse, closes)

    def _set_lock(self, effect: SetLock) -> list[Event]:
        around = self.evses[effect.evse]
        if not around.lock_follows:
            return []
        around.locked = effect.locked
        return [FromPilot(effect.evse, Lock(LockPosition.LOCKED if effect.locked else LockPosition.UNLOCKED))]

    def _set_output(self, effect: SetOutput) -> list[Event]:
        self.evses[effect.evse].output = (effect.voltage_mv, effect.current_ma)
        return []

    def _switch_output(self, effect: SwitchOutput) -> list[Event]:
        around = self.evses[effect.evse]
        around.output_on = effect.on
        volts, amps = around.output if effect.on else (0, 0)
        return [FromPower(effect.evse, PowerOutput(self.at_ms, volts, amps, effect.on))]

    def _read_meter(self, effect: ReadMeter) -> list[Event]:
        answers = self.evses[effect.evse].meter_answers
        return [FromMeter(effect.evse, self.reading(effect.evse))] if answers else []

    def _append(self, effect: Append) -> list[Event]:
        if not self.ledger_answers:
            self.unwritten.append(effect)
            return []
        self.facts += effect.facts
        return [Durable(effect.ticket)]

    def _status(self, effect: StatusChanged) -> list[Event]:
        states = self.statuses.setdefault(effect.status.evse, [])
        if not states or states[-1] is not effect.status.state:
            states.append(effect.status.state)
        return []

    # ------------------------------------------------------------------------------------ invariant

    def _check(self) -> None:
        """What must hold after every event, whatever happened (promise 1 and 2)."""
        open_txs = {f.tx_id for f in self.transactions()} - {
            f.tx_id for f in self.transactions() if f.kind.value == "Ended"
        }
        for evse, around in self.evses.items():
            live = around.power or around.offer_ma > 0 or around.output_on
            if live:
                tx = self.station.evses[evse].flow.tx
                assert tx is not None and tx.tx_id in open_txs, f"power on EVSE {evse} without a durable start"
                assert not self.station.evses[evse].faults.active, f"power on EVSE {evse} in fault"
            if around.power:
                assert around.cp in (CpState.C, CpState.D), f"power on EVSE {evse} in state {around.cp}"


def _nothing(_: Effect) -> list[Event]:
    return []


def cable(rating_ma: int | None) -> Cable:
    return Cable(rating_ma)
