"""The session's flow where the register begins anew at 0: one session in two transactions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.core.effects import Append, TransactionEnded
from agent.core.facts import Forerunner, SampleContext, StopFact, StopReason, TransactionFact, Trigger, TxKind
from agent.core.session import SessionState, Stop
from tests.unit.core.flow_bench import BY_CARD, CARD, EVSE, TIMING, Bench, active

S = SessionState


def test_a_register_that_begins_anew_ends_one_transaction_and_begins_the_next() -> None:
    made = active()
    made.at(8_000)
    made.flow.roll_over()
    assert made.is_in(S.RELEASING)
    made.flow.opened()
    made.read(17)
    [end, start] = made.facts()
    assert made.is_in(S.BEGIN_WRITING) and isinstance(end, TransactionFact)
    assert (end.trigger, end.stopped_reason) == (Trigger.ABNORMAL_CONDITION, StopReason.OTHER)
    assert end.samples[-1].energy_import_mwh == 5_000 and end.samples[-1].context is SampleContext.END
    assert made.flow.tx is not None and made.flow.tx.begin_energy_mwh == 17
    made.flow.durable(made.ticket)
    assert made.effects() == [TransactionEnded(EVSE, "tx-1")] and made.is_in(S.ACTIVE)
    assert isinstance(start, TransactionFact) and (start.tx_id, start.seq_no) == ("tx-2", 0)
    assert (start.token, start.group, start.authorized_by) == (CARD, "G", "csms")
    assert start.trigger is Trigger.AUTHORIZED and start.follows == Forerunner("tx-1")
    made.flow.stop(Stop.abnormal(None))
    made.flow.opened()
    made.read(20)
    last = [fact for fact in made.facts() if isinstance(fact, TransactionFact)][-1]
    assert last.kind is TxKind.ENDED and last.follows is None, "the start has told it"


def test_end_and_start_are_one_commit_where_a_register_begins_anew() -> None:
    """The one is billed without what the other is to bring (the least cost): neither may be on disk alone."""
    made = active()
    made.flow.roll_over()
    made.flow.opened()
    made.read(17)
    [both] = [effect for effect in made.effects() if isinstance(effect, Append)]
    assert [fact.kind for fact in both.facts if isinstance(fact, TransactionFact)] == [TxKind.ENDED, TxKind.STARTED]


@pytest.mark.parametrize("how", ["no reading", "left"])
def test_nothing_follows_where_it_could_not_begin(how: str) -> None:
    made = active()
    made.flow.roll_over()
    made.flow.opened()
    if how == "left":
        made.flow.follow(False)
        made.read(17)
    else:
        made.at(1_000 + TIMING.end_reading_ms)
    assert [fact.kind for fact in made.facts() if isinstance(fact, TransactionFact)] == [TxKind.ENDED]
    made.flow.durable(made.ticket)
    assert made.is_in(S.IDLE if how == "left" else S.FINISHED)


def test_what_follows_is_stopped_by_a_row_that_does_not_overtake_its_start() -> None:
    """A meter that signs by itself lets the start wait for the record of the end."""
    made = active()
    made.flow.roll_over()
    made.flow.opened()
    made.read(17)
    made.facts()
    made.flow.stop(replace(BY_CARD))
    made.flow.save_stop()
    assert made.facts() == [] and made.flow.stop_is_pending
    made.flow.durable(made.ticket)
    made.flow.save_stop()
    [row] = made.facts()
    assert made.is_in(S.RELEASING) and isinstance(row, StopFact) and row.tx_id == "tx-2"


@pytest.mark.parametrize("how", ["roll over", "stop"])
def test_whoever_is_plugged_in_when_the_end_is_written_is_another_vehicle(how: str) -> None:
    made = active()
    if how == "stop":
        made.flow.stop(replace(BY_CARD))
    else:
        made.flow.roll_over()
    made.flow.opened()
    made.read(6_000)
    assert made.is_in(S.END_WRITING if how == "stop" else S.BEGIN_WRITING)
    made.flow.follow(False)
    made.flow.follow(True)
    made.durable()
    if how == "roll over":
        made.flow.follow(True)
        made.flow.opened()
        made.read(6_000)
        made.durable()
    made.flow.follow(True)
    assert made.is_in(S.PLUGGED), "free to begin, and on nobody's account"


def test_whoever_wants_an_end_wants_no_other_transaction_after_it() -> None:
    for first in ("stop", "roll over"):
        made = active()
        if first == "stop":
            made.flow.stop(replace(BY_CARD))
            made.flow.roll_over()
        else:
            made.flow.roll_over()
            made.flow.stop(replace(BY_CARD))
        made.flow.opened()
        made.read(17)
        made.durable()
        assert made.is_in(S.FINISHED)


def test_a_register_that_begins_anew_outside_a_transaction_is_nothing_to_the_next_one() -> None:
    made = Bench()
    made.flow.roll_over()
    made.flow.follow(True)
    made.flow.authorize(CARD, None, None)
    made.read(5_000)
    made.durable()
    made.flow.stop(BY_CARD)
    made.flow.opened()
    made.read(6_000)
    [end] = made.facts()
    assert isinstance(end, TransactionFact) and end.samples[-1].energy_import_mwh == 6_000


def test_a_register_that_begins_anew_while_it_ends_does_not_hurry_it() -> None:
    made = active()
    made.flow.stop(replace(BY_CARD))
    made.flow.roll_over()
    assert made.flow.tx is not None and made.flow.tx.stop == BY_CARD


def test_a_register_that_begins_anew_before_it_is_known_how_it_goes_on_ends_nothing() -> None:
    made = Bench()
    made.flow.state = S.RECOVERING
    made.flow.roll_over()
    assert made.is_in(S.RECOVERING)
