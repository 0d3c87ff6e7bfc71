"""The session's flow by itself: every fact it writes, in full, and at which instant."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.core.effects import ReadMeter, TransactionEnded
from agent.core.facts import (
    ChargingState,
    CheckpointFact,
    Fact,
    SampleContext,
    StopReason,
    Token,
    TransactionFact,
    Trigger,
    TxKind,
)
from agent.core.sampling import SCARCE_CHECKPOINT_MS
from agent.core.session import SessionState, Stop
from tests.unit.core.flow_bench import BY_CARD, CARD, EVSE, QUIET, TIMING, Bench, active, ending, row

S = SessionState
MINUTE_MS, HOUR_MS = 60_000, 3_600_000


# -------------------------------------------------------------------------------------------- begin


@pytest.mark.parametrize(
    "remote_start_id, plugged_first, trigger",
    [
        (None, True, Trigger.AUTHORIZED),
        (17, True, Trigger.REMOTE_START),
        (None, False, Trigger.CABLE_PLUGGED_IN),
        (17, False, Trigger.CABLE_PLUGGED_IN),
    ],
)
def test_a_start_row_says_everything(remote_start_id: int | None, plugged_first: bool, trigger: Trigger) -> None:
    made = Bench()
    made.ctx.online = False
    if plugged_first:
        made.flow.follow(True)
    made.flow.authorize(CARD, "G", remote_start_id, "cache")
    if not plugged_first:
        assert made.is_in(S.WAITING) and made.flow.deadline_ms == 1_000 + QUIET.connect_timeout_ms
        made.flow.follow(True)
    assert made.effects() == [ReadMeter(EVSE)]
    assert made.is_in(S.BEGIN_READING) and made.flow.deadline_ms == 1_000 + TIMING.begin_reading_ms
    made.ctx.at_ms = 1_500
    made.read(5_000, 0)
    assert made.facts() == [
        replace(
            row(TxKind.STARTED, 0, trigger, made.sample(SampleContext.BEGIN, 5_000, 0)),
            offline=True,
            token=CARD,
            group="G",
            remote_start_id=remote_start_id,
            tariff="2 04A1B2C3 G",
            authorized_by="cache",
        )
    ]
    assert made.is_in(S.BEGIN_WRITING) and made.flow.deadline_ms is None
    assert made.flow.tx is not None and made.flow.tx.begin_energy_mwh == 5_000


def test_only_its_own_ticket_makes_a_start_durable() -> None:
    made = Bench()
    made.flow.follow(True)
    made.flow.authorize(CARD, None, None)
    made.read(5_000)
    made.facts()
    made.flow.durable(made.ticket + 1)
    assert made.is_in(S.BEGIN_WRITING)
    made.flow.durable(made.ticket)
    assert made.is_in(S.ACTIVE) and made.flow.active and made.flow.in_transaction
    made.flow.durable(made.ticket)
    assert made.is_in(S.ACTIVE)


def test_a_begin_reading_from_before_it_was_asked_for_is_not_taken() -> None:
    made = Bench()
    early = made.reading(5_000)
    made.ctx.at_ms = 1_001
    made.flow.follow(True)
    made.flow.authorize(CARD, None, None)
    made.flow.reading(early, 0)
    assert made.is_in(S.BEGIN_READING)
    made.flow.begin_with(early)  # the EVSE knows that nothing can have flowed since
    assert made.is_in(S.BEGIN_WRITING)
    fact = made.facts()[0]
    assert isinstance(fact, TransactionFact) and fact.samples[0].offered_current_ma == 0
    made.flow.begin_with(early)
    assert made.facts() == []


def test_a_meter_that_stays_silent_at_the_begin_costs_the_authorization() -> None:
    made = Bench()
    made.flow.follow(True)
    made.flow.authorize(CARD, None, None)
    made.at(1_000 + TIMING.begin_reading_ms - 1)
    assert made.is_in(S.BEGIN_READING)
    made.at(1_000 + TIMING.begin_reading_ms)
    assert made.is_in(S.PLUGGED) and made.flow.deadline_ms is None
    made.read(5_000)
    assert made.facts() == []


def test_a_second_card_before_the_plug_counts_and_waits_anew() -> None:
    made = Bench()
    made.flow.authorize(CARD, None, None)
    made.at(100_000)
    made.flow.authorize(Token("BB"), None, None)
    assert made.flow.deadline_ms == 100_000 + QUIET.connect_timeout_ms
    made.at(100_000 + QUIET.connect_timeout_ms - 1)
    assert made.is_in(S.WAITING)
    made.at(100_000 + QUIET.connect_timeout_ms)
    assert made.is_in(S.IDLE)


@pytest.mark.parametrize("connected", [None, False])
def test_nobody_knows_and_not_there_are_no_plug(connected: bool | None) -> None:
    made = Bench()
    made.flow.authorize(CARD, None, None)
    made.flow.follow(connected)
    assert made.is_in(S.WAITING)


# ----------------------------------------------------------------------------------- while it runs


def test_samples_keep_their_beat_and_skip_what_was_missed() -> None:
    """16-MV-01: the beat is that of the transaction's start, at 1 s."""
    made = active(replace(QUIET, sample_interval_ms=MINUTE_MS))
    periodic = SampleContext.PERIODIC
    due = ((61_000, 121_000), (121_500, 181_000), (181_000, 241_000), (400_000, 421_000), (421_000, 481_000))
    for seq_no, (at_ms, next_ms) in enumerate(due, 1):
        made.ctx.at_ms = at_ms
        made.read(5_000 + seq_no)
        expected = row(TxKind.UPDATED, seq_no, Trigger.METER_VALUE_PERIODIC, made.sample(periodic, 5_000 + seq_no))
        assert made.facts() == [expected]
        made.ctx.at_ms = next_ms - 1
        made.read(5_000 + seq_no)
        assert made.facts() == []


def test_a_shorter_interval_holds_at_once() -> None:
    made = active(replace(QUIET, sample_interval_ms=60 * MINUTE_MS))
    made.ctx.behaviour = replace(QUIET, sample_interval_ms=MINUTE_MS)
    made.ctx.at_ms = 200_000
    made.read(5_001)
    assert made.facts() == []
    made.ctx.at_ms += MINUTE_MS
    made.read(5_002)
    assert len(made.facts()) == 1


def test_samples_can_be_turned_off_and_on_while_it_runs() -> None:
    """16-MV-01: an interval of 0 is none."""
    made = active(replace(QUIET, sample_interval_ms=MINUTE_MS))
    made.ctx.behaviour = QUIET
    made.ctx.at_ms = 200_000
    made.read(5_001)
    assert made.facts() == []
    made.ctx.behaviour = replace(QUIET, sample_interval_ms=MINUTE_MS)
    made.read(5_002)
    made.ctx.at_ms = 200_000 + MINUTE_MS - 1
    made.read(5_003)
    assert made.facts() == []
    made.ctx.at_ms = 200_000 + MINUTE_MS
    made.read(5_004)
    assert len(made.facts()) == 1


@pytest.mark.parametrize("time_status, rows", [("S", 1), ("I", 1), ("U", 0)])
def test_clock_aligned_samples_need_a_clock(time_status: str, rows: int) -> None:
    made = Bench(replace(QUIET, aligned_interval_ms=MINUTE_MS))
    made.ctx.time_status, made.ctx.wall_offset_ms = time_status, 30_000
    made.flow.follow(True)
    made.flow.authorize(CARD, None, None)
    made.read(5_000)
    made.durable()
    made.read(5_000)
    made.ctx.at_ms = 29_999
    made.read(5_001)
    assert made.facts() == []
    made.ctx.at_ms = 30_000  # a full minute of wall time
    made.read(5_002)
    expected = row(TxKind.UPDATED, 1, Trigger.METER_VALUE_CLOCK, made.sample(SampleContext.CLOCK, 5_002))
    assert made.facts() == [expected] * rows


def test_a_checkpoint_is_written_when_nothing_else_was() -> None:
    made = active(replace(QUIET, checkpoint_ms=MINUTE_MS))
    made.ctx.at_ms = 1_000 + MINUTE_MS - 1
    made.read(5_001)
    assert made.facts() == []
    made.ctx.at_ms = 1_000 + MINUTE_MS
    made.read(5_002)
    assert made.facts() == [CheckpointFact("tx-1", EVSE, made.sample(SampleContext.PERIODIC, 5_002))]
    made.ctx.at_ms += MINUTE_MS - 1
    made.read(5_003)
    assert made.facts() == []


def test_what_was_just_written_needs_no_checkpoint() -> None:
    made = active(replace(QUIET, sample_interval_ms=MINUTE_MS, checkpoint_ms=MINUTE_MS))
    made.ctx.at_ms = 1_000 + MINUTE_MS
    made.read(5_002)
    assert [type(fact) for fact in made.facts()] == [TransactionFact]


@pytest.mark.parametrize(
    ("window_ms", "every_ms"), [(HOUR_MS, SCARCE_CHECKPOINT_MS), (10 * MINUTE_MS, 5 * MINUTE_MS), (0, MINUTE_MS)]
)
def test_while_room_is_scarce_no_reading_is_a_row_and_checkpoints_are_rare(window_ms: int, every_ms: int) -> None:
    """A transaction whose newest row is older than the window does not go on after a restart."""
    rare = replace(QUIET, sample_interval_ms=MINUTE_MS, aligned_interval_ms=MINUTE_MS, checkpoint_ms=MINUTE_MS)
    made = active(replace(rare, resume_window_ms=window_ms))
    made.ctx.time_status, made.ctx.ledger_scarce = "S", True
    facts: list[Fact] = []
    for second in range(1, 3_601):
        made.ctx.at_ms = 1_000 + second * 1_000
        made.read(5_000 + second)
        facts += made.facts()
    assert facts and all(isinstance(fact, CheckpointFact) for fact in facts)
    assert len(facts) == HOUR_MS // every_ms
    made.ctx.ledger_scarce = False
    for second in range(3_601, 3_661):
        made.ctx.at_ms = 1_000 + second * 1_000
        made.read(5_000 + second)
    rows = [fact for fact in made.facts() if isinstance(fact, TransactionFact)]
    assert [(fact.seq_no, fact.trigger) for fact in rows] == [
        (1, Trigger.METER_VALUE_CLOCK),
        (2, Trigger.METER_VALUE_PERIODIC),
    ], "as before, and no number is missing"


def test_a_sample_that_the_csms_asked_for() -> None:
    made = active()
    made.flow.triggered_sample(made.reading(5_100), 9_000)
    sample = made.sample(SampleContext.TRIGGER, 5_100, 9_000)
    assert made.facts() == [row(TxKind.UPDATED, 1, Trigger.TRIGGER, sample)]


def test_a_change_of_the_charging_state_is_told_once_with_the_register_before_it() -> None:
    made = active()
    made.ctx.at_ms = 2_000
    made.read(5_050)
    told = replace(row(TxKind.UPDATED, 1, Trigger.CHARGING_STATE_CHANGED), charging_state=ChargingState.CHARGING)
    made.flow.tell(ChargingState.CHARGING)
    assert made.facts() == [CheckpointFact("tx-1", EVSE, made.sample(SampleContext.PERIODIC, 5_050)), told]
    made.flow.tell(ChargingState.CHARGING)
    assert made.facts() == []
    made.flow.tell(ChargingState.SUSPENDED_EV)
    assert made.facts() == [replace(told, seq_no=2, charging_state=ChargingState.SUSPENDED_EV)]
    made.flow.stop(BY_CARD)
    made.flow.tell(ChargingState.CHARGING)
    assert made.facts() == [], "after the end has begun nothing is told"


def test_a_refused_token_is_told_and_energy_is_blocked() -> None:
    made = active()
    made.flow.block_energy()
    assert made.facts() == [row(TxKind.UPDATED, 1, Trigger.DEAUTHORIZED)]
    assert made.flow.tx is not None and made.flow.tx.energy_blocked


def test_a_token_refused_before_the_start_is_durable_is_blocked_without_a_row() -> None:
    made = Bench()
    made.flow.block_energy()
    made.flow.follow(True)
    made.flow.authorize(CARD, None, None)
    made.read(5_000)
    made.facts()
    made.flow.block_energy()
    assert made.facts() == [] and made.flow.tx is not None and made.flow.tx.energy_blocked


# ---------------------------------------------------------------------------------------------- end


def test_an_end_row_says_why_who_and_what_was_read() -> None:
    made = ending()
    early = replace(made.reading(9_999), at_ms=8_999)
    made.flow.reading(early, 0)
    assert made.facts() == [], "read before the contactor had opened"
    made.ctx.at_ms = 9_200
    made.read(6_000, 0)
    end = row(TxKind.ENDED, 1, Trigger.STOP_AUTHORIZED, made.sample(SampleContext.END, 6_000, 0))
    assert made.facts() == [replace(end, token=CARD, stopped_reason=StopReason.LOCAL)]
    assert made.is_in(S.END_WRITING)
    made.flow.durable(made.ticket)
    assert made.effects() == [TransactionEnded(EVSE, "tx-1")]
    assert made.is_in(S.FINISHED) and made.flow.tx is None and made.flow.held_token is None


@pytest.mark.parametrize("serial, energy_mwh", [("M2", 6_000), ("M1", 4_999)])
def test_a_register_that_is_not_the_transactions_own_never_ends_it(serial: str, energy_mwh: int) -> None:
    made = ending()
    made.read(energy_mwh, serial=serial)
    assert made.facts() == [] and made.is_in(S.END_READING)


def test_a_silent_meter_gives_the_last_good_value_marked() -> None:
    made = ending()
    last = made.flow.tx.last if made.flow.tx else None
    assert last is not None
    made.flow.meter_state = "X"
    made.at(9_000 + TIMING.end_reading_ms - 1)
    assert made.facts() == []
    made.at(9_000 + TIMING.end_reading_ms)
    sample = replace(last, context=SampleContext.END, at_ms=14_000, substituted=True, meter_state="X")
    end = row(TxKind.ENDED, 1, Trigger.STOP_AUTHORIZED, sample)
    assert made.facts() == [replace(end, token=CARD, stopped_reason=StopReason.LOCAL)]


def test_the_instant_of_a_last_good_value_is_kept_when_it_was_in_no_row() -> None:
    made = active()
    made.ctx.at_ms = 7_000
    made.read(5_500)
    read = made.sample(SampleContext.PERIODIC, 5_500)
    made.flow.stop(BY_CARD)
    made.flow.opened()
    made.at(7_000 + TIMING.end_reading_ms)
    facts = made.facts()
    assert facts[0] == CheckpointFact("tx-1", EVSE, read)
    assert isinstance(facts[1], TransactionFact) and facts[1].samples[0].at_ms == 12_000


def test_a_contactor_that_never_opens_is_not_waited_for_for_ever() -> None:
    made = active()
    made.flow.stop(BY_CARD)
    made.at(1_000 + TIMING.end_release_ms - 1)
    assert made.is_in(S.RELEASING)
    made.at(1_000 + TIMING.end_release_ms)
    assert made.is_in(S.END_READING)


def test_the_first_reason_stays_but_a_later_stop_may_hurry() -> None:
    made = ending()
    assert made.flow.tx is not None and made.flow.tx.stop is not None
    made.flow.stop(Stop.abnormal(StopReason.GROUND_FAULT))
    assert made.flow.tx.stop.reason is StopReason.LOCAL and made.flow.tx.stop.at_once
    made.flow.stop(Stop(Trigger.REMOTE_STOP, StopReason.REMOTE))
    assert made.flow.tx.stop.reason is StopReason.LOCAL and made.flow.tx.stop.at_once


def test_a_stop_while_the_start_is_being_written_ends_it_when_it_is_durable() -> None:
    made = Bench()
    made.flow.follow(True)
    made.flow.authorize(CARD, None, None)
    made.read(5_000)
    made.flow.stop(BY_CARD)
    assert made.is_in(S.BEGIN_WRITING)
    made.durable()
    assert made.is_in(S.RELEASING)


@pytest.mark.parametrize("stop_on_unplug", [True, False])
def test_unplugging_ends_it_where_it_shall(stop_on_unplug: bool) -> None:
    made = active(replace(QUIET, stop_on_unplug=stop_on_unplug))
    made.flow.follow(False)
    assert made.is_in(S.RELEASING) is stop_on_unplug
    stop = made.flow.tx.stop if made.flow.tx else None
    expected = Stop(Trigger.EV_COMMUNICATION_LOST, StopReason.EV_DISCONNECTED, at_once=True)
    assert stop == (expected if stop_on_unplug else None)


def test_only_a_deauthorized_stop_holds_the_cable_until_unplug_or_another_card() -> None:
    for released in ("unplug", "card"):
        made = ending(Stop(Trigger.DEAUTHORIZED, StopReason.DE_AUTHORIZED))
        made.read(6_000)
        made.durable()
        assert made.flow.held_token == CARD
        if released == "unplug":
            made.flow.follow(False)
        else:
            made.flow.authorize(Token("BB"), None, None)
        assert made.flow.held_token is None


def test_no_cable_is_held_for_a_token_that_nobody_can_present() -> None:
    made = Bench()
    made.flow.follow(True)
    made.flow.authorize(Token("", "NoAuthorization"), None, None)
    made.read(5_000)
    made.durable()
    made.flow.stop(Stop(Trigger.DEAUTHORIZED, StopReason.DE_AUTHORIZED))
    made.flow.opened()
    made.read(6_000)
    made.durable()
    assert made.is_in(S.FINISHED) and made.flow.held_token is None


def test_what_a_remote_start_was_asked_with_stands_in_the_start_row_only() -> None:
    made = Bench()
    made.flow.follow(True)
    made.flow.authorize(CARD, "G", 17)
    made.read(5_000)
    made.durable()
    made.flow.triggered_sample(made.reading(5_100), 0)
    [later] = made.facts()
    assert isinstance(later, TransactionFact)
    assert (later.remote_start_id, later.group, later.tariff, later.authorized_by) == (None, None, None, "")


def test_a_second_transaction_owes_nothing_to_the_first() -> None:
    made = ending()
    made.read(6_000)
    made.durable()
    made.flow.authorize(CARD, None, None)
    made.read(6_000)
    made.durable()
    made.flow.stop(replace(BY_CARD))
    made.flow.opened()
    made.read(7_000)
    [end] = made.facts()
    assert isinstance(end, TransactionFact) and end.samples[-1].energy_import_mwh == 7_000
