"""A bench for the session's flow alone: an instant, a meter, and what was written since the last look."""

from __future__ import annotations

from agent.core.context import Context
from agent.core.effects import Append, Effect, ReadMeter
from agent.core.facts import (
    ChargingState,
    Fact,
    Sample,
    SampleContext,
    StopReason,
    Token,
    TransactionFact,
    Trigger,
    TxKind,
)
from agent.core.flow import Flow
from agent.core.session import SessionState, Stop
from agent.core.settings import Behaviour, Timing
from hal.ports import MeterReading

S = SessionState
CARD = Token("04A1B2C3")
EVSE = 2
TIMING = Timing()
QUIET = Behaviour(sample_interval_ms=0, checkpoint_ms=10**9)
BY_CARD = Stop(Trigger.STOP_AUTHORIZED, StopReason.LOCAL, CARD)


class Bench:
    """One flow, its instant, and what it wrote since the last look."""

    def __init__(self, behaviour: Behaviour = QUIET, *, autonomous: bool = False) -> None:
        ids = iter(f"tx-{n}" for n in range(1, 9))
        self.ctx = Context(behaviour, lambda: next(ids), lambda evse, token, group: f"{evse} {token.id_token} {group}")
        self.ctx.at_ms, self.ctx.online = 1_000, True
        self.flow = Flow(EVSE, TIMING, self.ctx, autonomous=autonomous)
        self.ticket = 0

    def is_in(self, state: SessionState) -> bool:
        return self.flow.state is state

    def effects(self) -> list[Effect]:
        return self.ctx.take_effects()

    def facts(self) -> list[Fact]:
        appends = [effect for effect in self.effects() if isinstance(effect, Append)]
        if appends:
            self.ticket = appends[-1].ticket
        return [fact for append in appends for fact in append.facts]

    def reading(self, energy_mwh: int, serial: str = "M1") -> MeterReading:
        return MeterReading(
            self.ctx.at_ms, serial, energy_mwh, 7, 2_300_000, (230_000, None, None), (10_000, None, None), 50_000
        )

    def read(self, energy_mwh: int, offered_ma: int = 16_000, serial: str = "M1") -> None:
        self.flow.reading(self.reading(energy_mwh, serial), offered_ma)

    def sample(self, context: SampleContext, energy_mwh: int, offered_ma: int | None = 16_000) -> Sample:
        voltage_mv, current_ma = (230_000, None, None), (10_000, None, None)
        return Sample(
            context, self.ctx.at_ms, "M1", energy_mwh, 7, 2_300_000, voltage_mv, current_ma, offered_ma, 50_000
        )

    def at(self, at_ms: int) -> None:
        self.ctx.at_ms = at_ms
        self.flow.tick(True, False)

    def durable(self) -> None:
        self.facts()
        self.flow.durable(self.ticket)


def active(behaviour: Behaviour = QUIET) -> Bench:
    """A transaction since 1 s with 5 Wh on the register; its start row (sequence number 0) is durable."""
    made = Bench(behaviour)
    made.flow.follow(True)
    made.flow.authorize(CARD, "G", None, "csms")
    made.read(5_000)
    made.durable()
    assert made.is_in(S.ACTIVE)
    return made


def ending(stop: Stop = BY_CARD) -> Bench:
    """At 9 s the contactor has opened and the end reading is wanted."""
    made = active()
    made.at(8_000)
    made.flow.stop(stop)
    assert made.is_in(S.RELEASING) and made.flow.deadline_ms == 8_000 + TIMING.end_release_ms
    made.ctx.at_ms = 9_000
    made.flow.opened()
    assert made.effects() == [ReadMeter(EVSE)]
    assert made.is_in(S.END_READING) and made.flow.deadline_ms == 9_000 + TIMING.end_reading_ms
    return made


def row(kind: TxKind, seq_no: int, trigger: Trigger, *samples: Sample, tx_id: str = "tx-1") -> TransactionFact:
    return TransactionFact(kind, tx_id, seq_no, EVSE, trigger, ChargingState.EV_CONNECTED, False, samples)
