"""A transaction found open after a restart, by the flow alone: what it waits for, how it goes on, how it ends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.core.effects import Append, ReadMeter
from agent.core.events import GapKind, Recovered
from agent.core.facts import (
    ChargingState,
    LogEntry,
    LogFact,
    Sample,
    SampleContext,
    StopReason,
    TransactionFact,
    Trigger,
    TxKind,
)
from agent.core.flow import Flow
from agent.core.sampling import SCARCE_CHECKPOINT_MS
from agent.core.session import SessionState, Stop
from agent.core.settings import Behaviour
from tests.unit.core.flow_bench import BY_CARD, CARD, EVSE, QUIET, TIMING, Bench

S = SessionState
LAST = Sample(SampleContext.PERIODIC, 70, "M1", 5_000, current_ma=(9_000, None, None))
FOUND = Recovered(EVSE, "old", 4, CARD, "G", 1_000, LAST, GapKind.PROCESS, 20_000, "csms")


def found(what: Recovered = FOUND, behaviour: Behaviour = QUIET, *, autonomous: bool = False) -> Bench:
    made = Bench(behaviour, autonomous=autonomous)
    made.flow.recover(what)
    assert made.is_in(S.RECOVERING) and made.flow.in_transaction
    assert made.flow.deadline_ms == 1_000 + TIMING.recover_ms
    return made


def opened(what: Recovered = FOUND, behaviour: Behaviour = QUIET, *, autonomous: bool = False) -> Bench:
    """At 2 s the contactor is known to be open, and a reading is wanted."""
    made = found(what, behaviour, autonomous=autonomous)
    made.ctx.at_ms = 2_000
    made.flow.tick(None, False)
    assert made.effects() == []
    made.flow.tick(None, True)
    made.flow.tick(None, True)
    assert made.effects() == [ReadMeter(EVSE)]
    return made


def end_row(sample: Sample, reason: StopReason) -> TransactionFact:
    state, trigger = ChargingState.SUSPENDED_EVSE, Trigger.ABNORMAL_CONDITION
    return TransactionFact(
        TxKind.ENDED, "old", 4, EVSE, trigger, state, False, (sample,), stopped_reason=reason, gap=True
    )


def log_row(entry: LogEntry, serial: str, after_mwh: int) -> LogFact:
    return LogFact(entry, EVSE, (("serial", serial), ("before_mwh", "5000"), ("after_mwh", str(after_mwh))))


def test_it_goes_on_with_the_reading_of_now_and_a_row_that_tells_of_the_gap() -> None:
    made = opened(behaviour=replace(QUIET, sample_interval_ms=60_000))
    made.read(5_700)
    made.flow.tick(None, True)
    assert made.facts() == [], "the pilot has not spoken"
    made.flow.tick(True, True)
    sample = made.sample(SampleContext.INTERRUPTION_END, 5_700, 0)
    state, trigger = ChargingState.SUSPENDED_EVSE, Trigger.CHARGING_STATE_CHANGED
    assert made.facts() == [TransactionFact(TxKind.UPDATED, "old", 4, EVSE, trigger, state, False, (sample,), gap=True)]
    assert made.is_in(S.BEGIN_WRITING)
    made.flow.durable(made.ticket)
    assert made.is_in(S.ACTIVE)
    tx = made.flow.tx
    assert tx is not None and (tx.token, tx.group, tx.authorized_by) == (CARD, "G", "csms")
    assert (tx.begin_energy_mwh, tx.ever_closed, tx.energy_blocked) == (1_000, True, False)
    made.ctx.at_ms = 61_999
    made.read(5_800)
    assert made.facts() == []
    made.ctx.at_ms = 62_000
    made.read(5_900)
    [periodic] = made.facts()
    assert isinstance(periodic, TransactionFact) and (periodic.seq_no, periodic.gap) == (5, False)


def test_without_periodic_samples_it_goes_on_without() -> None:
    made = opened()
    made.read(5_700)
    made.flow.tick(True, True)
    made.durable()
    made.ctx.at_ms = 10**8
    made.read(5_800)
    assert made.facts() == []


def test_a_refused_token_stays_refused() -> None:
    made = found(replace(FOUND, energy_blocked=True))
    assert made.flow.tx is not None and made.flow.tx.energy_blocked


def test_a_reading_from_before_the_contactor_was_known_open_is_not_taken() -> None:
    made = opened()
    made.flow.reading(replace(made.reading(5_700), at_ms=1_999), 0)
    made.flow.tick(True, True)
    assert made.is_in(S.RECOVERING)


@pytest.mark.parametrize("gap_ms, goes_on", [(60_000, True), (60_001, False), (None, False)])
def test_it_goes_on_only_within_the_window(gap_ms: int | None, goes_on: bool) -> None:
    made = opened(replace(FOUND, gap_ms=gap_ms))
    made.read(5_700)
    made.flow.tick(True, True)
    assert made.is_in(S.BEGIN_WRITING if goes_on else S.END_WRITING)


@pytest.mark.parametrize(
    "gap, connected, reason",
    [
        (GapKind.PROCESS, False, StopReason.EV_DISCONNECTED),
        (GapKind.POWER, False, StopReason.POWER_LOSS),
        (GapKind.PROCESS, True, StopReason.OTHER),
        (GapKind.POWER, True, StopReason.POWER_LOSS),
    ],
)
def test_what_cannot_go_on_ends_with_the_reading_of_now(gap: GapKind, connected: bool, reason: StopReason) -> None:
    made = opened(replace(FOUND, gap=gap, gap_ms=60_001))
    made.read(5_700)
    made.flow.tick(connected, True)
    assert made.facts() == [end_row(made.sample(SampleContext.END, 5_700, 0), reason)]


def test_a_stop_that_came_meanwhile_is_the_reason() -> None:
    made = opened()
    made.flow.stop(BY_CARD)
    assert made.is_in(S.RECOVERING)
    made.read(5_700)
    made.flow.tick(True, True)
    expected = end_row(made.sample(SampleContext.END, 5_700, 0), StopReason.LOCAL)
    assert made.facts() == [replace(expected, trigger=Trigger.STOP_AUTHORIZED, token=CARD)]


@pytest.mark.parametrize("connected", [True, None])
def test_a_meter_that_stays_silent_ends_it_at_the_last_row_in_time(connected: bool | None) -> None:
    made = opened()
    made.ctx.at_ms = 1_000 + TIMING.recover_ms - 1
    made.flow.tick(connected, True)
    assert made.facts() == []
    made.ctx.at_ms += 1
    made.flow.tick(connected, True)
    sample = replace(LAST, context=SampleContext.END, at_ms=31_000, substituted=True, meter_state="T")
    assert made.facts() == [end_row(sample, StopReason.OTHER)]


def test_a_pilot_that_stays_silent_ends_it_with_the_reading_that_is_there() -> None:
    made = opened()
    made.read(5_700)
    read = made.sample(SampleContext.END, 5_700, 0)
    made.ctx.at_ms = 1_000 + TIMING.recover_ms
    made.flow.tick(None, True)
    assert made.facts() == [end_row(read, StopReason.OTHER)]


@pytest.mark.parametrize(
    "serial, energy_mwh, state, entry",
    [
        ("M2", 5_700, "X", LogEntry.METER_EXCHANGED),
        ("M1", 4_999, "M", LogEntry.METER_BACKWARDS),
        ("M1", 8_000, "O", LogEntry.METER_IMPLAUSIBLE),
    ],
)
def test_a_register_that_cannot_be_is_told_and_not_billed(
    serial: str, energy_mwh: int, state: str, entry: LogEntry
) -> None:
    made = opened()
    made.flow._can_have_risen = lambda risen_mwh, within_ms: risen_mwh < 3_000
    made.read(energy_mwh, serial=serial)
    made.flow.tick(True, True)
    sample = replace(LAST, context=SampleContext.END, at_ms=2_000, substituted=True, meter_state=state)
    assert made.facts() == [log_row(entry, serial, energy_mwh), end_row(sample, StopReason.OTHER)]


@pytest.mark.parametrize("gap_ms", [60_001, None])
@pytest.mark.parametrize("connected", [True, False])
@pytest.mark.parametrize("stop", [None, BY_CARD])
def test_what_an_autonomous_board_gave_away_while_nobody_looked_is_not_billed(
    gap_ms: int | None, connected: bool, stop: Stop | None
) -> None:
    """It may be anybody's; nor does it speak against the meter."""
    made = opened(replace(FOUND, gap_ms=gap_ms), autonomous=True)
    made.flow._can_have_risen = lambda *_: False
    if stop is not None:
        made.flow.stop(stop)
    made.read(5_001)
    made.flow.tick(connected, True)
    [ended] = made.facts()
    assert isinstance(ended, TransactionFact) and ended.kind is TxKind.ENDED
    sample = replace(LAST, context=SampleContext.END, at_ms=2_000, substituted=True, meter_state="T")
    assert ended.samples == (sample,)


@pytest.mark.parametrize("gap_ms, energy_mwh", [(60_000, 5_700), (60_001, 5_000), (None, 5_000)])
def test_what_it_gave_within_the_window_or_nothing_ends_with_the_reading_of_now(
    gap_ms: int | None, energy_mwh: int
) -> None:
    made = opened(replace(FOUND, gap_ms=gap_ms), autonomous=True)
    made.read(energy_mwh)
    made.flow.tick(False, True)
    assert made.facts() == [
        end_row(made.sample(SampleContext.END, energy_mwh, 0), StopReason.EV_DISCONNECTED),
    ]


@pytest.mark.parametrize("energy_mwh", [5_000, 5_001])
def test_a_register_that_stood_still_or_rose_is_good(energy_mwh: int) -> None:
    made = opened()
    made.read(energy_mwh)
    made.flow.tick(True, True)
    assert made.is_in(S.BEGIN_WRITING)


@pytest.mark.parametrize("gap_ms, unseen_ms", [(20_000, 80_000), (None, SCARCE_CHECKPOINT_MS)])
def test_how_much_can_have_flowed_counts_all_the_time_in_which_nobody_looked(
    gap_ms: int | None, unseen_ms: int
) -> None:
    made = Bench(replace(QUIET, checkpoint_ms=60_000))
    asked: list[tuple[int, int]] = []

    def can_have_risen(risen_mwh: int, within_ms: int) -> bool:
        asked.append((risen_mwh, within_ms))
        return True

    made.flow = Flow(EVSE, TIMING, made.ctx, can_have_risen)
    made.flow.recover(replace(FOUND, gap_ms=gap_ms))
    made.flow.tick(None, True)
    made.read(5_700)
    made.flow.tick(True, True)
    assert asked == [(700, unseen_ms + TIMING.recover_ms)]


def test_nothing_is_written_twice() -> None:
    made = opened()
    made.read(5_700)
    for _ in range(3):
        made.flow.tick(True, True)
    assert len([effect for effect in made.effects() if isinstance(effect, Append)]) == 1
