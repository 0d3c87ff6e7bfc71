"""The table of a signing meter's record: complete, and safe against forgetting what nobody has read."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hal.meters.record_life import RECORD, RecordEvent, RecordLife, RecordState
from hal.ports import HeldRecord, RecordFailed, RecordFault

SAYS = [event for event in RecordEvent if event.value.startswith("says_")]
COMMANDS = [RecordEvent.BEGIN, RecordEvent.END, RecordEvent.ABORT, RecordEvent.CONFIRM]
AT_REST = {RecordState.IDLE, RecordState.RUNNING, RecordState.READY, RecordState.UNCONFIRMED, RecordState.CORRUPTED}


@pytest.mark.parametrize("state", RecordState)
def test_the_meters_word_is_understood_in_every_state(state: RecordState) -> None:
    assert set(SAYS) <= set(RECORD[state])


def test_exactly_the_commands_under_way_can_be_given_up() -> None:
    given_up = {state for state, row in RECORD.items() if RecordEvent.GAVE_UP in row}
    assert given_up == set(RecordState) - AT_REST - {RecordState.UNKNOWN}


def test_no_command_is_given_before_the_meter_was_asked_or_while_another_is_under_way() -> None:
    for state in set(RecordState) - AT_REST:
        assert not set(COMMANDS) & set(RECORD[state])


@pytest.mark.parametrize(
    ("says", "command", "reason"),
    [
        (RecordEvent.SAYS_IDLE, RecordEvent.END, RecordFault.NOT_RUNNING),
        (RecordEvent.SAYS_RUNNING, RecordEvent.BEGIN, RecordFault.RUNNING),
        (RecordEvent.SAYS_READY, RecordEvent.BEGIN, RecordFault.UNCONFIRMED),
        (RecordEvent.SAYS_READY, RecordEvent.CONFIRM, RecordFault.NOT_FETCHED),
        (RecordEvent.SAYS_CORRUPTED, RecordEvent.BEGIN, RecordFault.CORRUPTED),
        (RecordEvent.SAYS_CORRUPTED, RecordEvent.FETCHED, RecordFault.CORRUPTED),
    ],
)
def test_a_forbidden_command_is_told_with_its_reason(
    says: RecordEvent, command: RecordEvent, reason: RecordFault
) -> None:
    life = RecordLife("meter")
    life.happened(says)
    with pytest.raises(RecordFailed) as caught:
        life.happened(command)
    assert caught.value.reason is reason


@example(
    [RecordEvent.SAYS_CORRUPTED, RecordEvent.CONFIRM, RecordEvent.GAVE_UP, RecordEvent.SAYS_READY, RecordEvent.CONFIRM]
)
@given(st.lists(st.sampled_from([*RecordEvent])))
def test_a_finished_record_is_confirmed_only_after_it_was_fetched(events: list[RecordEvent]) -> None:
    """Whatever happens in whatever order: confirming READY or UNCONFIRMED needs a fetch since it became ready."""
    life, fetched = RecordLife("meter"), False
    for event in events:
        before = life.state
        if event in RECORD[before]:
            life.happened(event)
        if event is RecordEvent.FETCHED and life.state is RecordState.UNCONFIRMED:
            fetched = True
        if life.state in (RecordState.IDLE, RecordState.RUNNING, RecordState.CORRUPTED):
            fetched = False
        if life.state is RecordState.CONFIRMING:
            assert fetched
        if life.state is RecordState.DISCARDING:
            assert before in (RecordState.CORRUPTED, RecordState.DISCARDING)


def test_what_is_held_is_told_in_the_ports_words() -> None:
    life = RecordLife("meter")
    for event, held in (
        (RecordEvent.SAYS_IDLE, HeldRecord.NOTHING),
        (RecordEvent.SAYS_RUNNING, HeldRecord.RUNNING),
        (RecordEvent.SAYS_READY, HeldRecord.FINISHED),
        (RecordEvent.FETCHED, HeldRecord.FINISHED),
        (RecordEvent.SAYS_CORRUPTED, HeldRecord.CORRUPTED),
    ):
        life.happened(event)
        assert life.held is held


def test_after_a_loss_nothing_counts_as_fetched() -> None:
    life = RecordLife("meter")
    for event in (RecordEvent.SAYS_READY, RecordEvent.FETCHED):
        life.happened(event)
    life.forget()
    life.happened(RecordEvent.SAYS_READY)
    assert life.state is RecordState.READY
