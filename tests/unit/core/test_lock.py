"""The connector lock by itself: tries, deadlines, jams, and a position that changes unasked."""

from __future__ import annotations

import pytest

from agent.core.lock import LOCK, ConnectorLock, LockEvent, LockState
from agent.core.settings import Timing
from hal.ports import LockPosition

S, P = LockState, LockPosition
TIMING = Timing()


def state(made: ConnectorLock) -> LockState:
    return made.state


def unlocked() -> ConnectorLock:
    made = ConnectorLock(TIMING)
    made.observe(P.UNLOCKED, 0)
    made.want(False, 0)
    assert made.take_command() is False, "the first wish is always driven: the board may be wrong"
    assert made.unlocked and not made.locked and made.deadline_ms is None
    return made


def locking(at_ms: int = 1_000) -> ConnectorLock:
    made = unlocked()
    made.want(True, at_ms)
    assert state(made) is S.LOCKING and made.take_command() is True
    return made


def locked() -> ConnectorLock:
    made = locking()
    made.observe(P.LOCKED, 1_100)
    assert made.locked and not made.unlocked and made.deadline_ms is None and made.take_command() is None
    return made


def test_a_lock_starts_unknown_and_commands_nothing() -> None:
    made = ConnectorLock(TIMING)
    made.tick(10**9)
    assert state(made) is S.UNKNOWN and made.take_command() is None and made.deadline_ms is None


def test_every_try_has_its_time_and_after_the_last_it_is_jammed() -> None:
    made = locking()
    for n in range(1, TIMING.lock_tries):
        assert made.deadline_ms == 1_000 + n * TIMING.lock_ms
        made.tick(made.deadline_ms - 1)
        assert made.take_command() is None
        made.tick(made.deadline_ms)
        assert made.take_command() is True, "the motor tries again in the same direction"
    made.tick(1_000 + TIMING.lock_tries * TIMING.lock_ms)
    jammed_ms = 1_000 + TIMING.lock_tries * TIMING.lock_ms
    assert state(made) is S.JAMMED and made.take_command() is None
    assert made.deadline_ms == jammed_ms + TIMING.lock_again_ms


def test_a_jammed_lock_is_tried_again_and_stays_jammed_until_it_moves() -> None:
    made = jammed()
    for _ in range(3):
        assert made.deadline_ms is not None
        due_ms = made.deadline_ms
        made.tick(due_ms - 1)
        assert made.take_command() is None
        made.tick(due_ms)
        assert made.take_command() is True and state(made) is S.JAMMED
        assert made.deadline_ms == due_ms + TIMING.lock_again_ms
    made.observe(P.LOCKED, due_ms + 300)
    assert state(made) is S.LOCKED and made.deadline_ms is None


def jammed() -> ConnectorLock:
    made = locking()
    for n in range(1, TIMING.lock_tries + 1):
        made.tick(1_000 + n * TIMING.lock_ms)
    made.take_command()
    assert state(made) is S.JAMMED
    return made


def test_a_jam_ends_when_the_wanted_position_is_seen_and_not_before() -> None:
    made = jammed()
    made.observe(P.UNLOCKED, 50_000)
    assert state(made) is S.JAMMED, "the same news again is no release"
    made.observe(P.LOCKED, 50_001)
    assert state(made) is S.LOCKED


def test_another_wish_after_a_jam_gets_its_own_tries() -> None:
    made = jammed()
    made.observe(P.UNKNOWN, 50_000)
    made.want(False, 60_000)
    assert state(made) is S.UNLOCKING and made.take_command() is False
    for n in range(1, TIMING.lock_tries):
        made.tick(60_000 + n * TIMING.lock_ms)
        assert made.take_command() is False
    made.observe(P.UNLOCKED, 70_000)
    assert state(made) is S.UNLOCKED


def test_a_jam_while_unlocking_ends_with_the_open_lock() -> None:
    made = locked()
    made.want(False, 2_000)
    for n in range(1, TIMING.lock_tries + 1):
        made.tick(2_000 + n * TIMING.lock_ms)
    assert state(made) is S.JAMMED
    made.observe(P.LOCKED, 50_000)
    assert state(made) is S.JAMMED
    made.observe(P.UNLOCKED, 50_001)
    assert state(made) is S.UNLOCKED


def test_the_same_wish_again_starts_no_new_try() -> None:
    made = locking()
    made.want(True, 1_500)
    assert made.take_command() is None and made.deadline_ms == 1_000 + TIMING.lock_ms


def test_a_position_that_changes_by_itself_is_driven_back() -> None:
    made = locked()
    made.observe(P.UNLOCKED, 5_000)
    assert state(made) is S.LOCKING and made.take_command() is True and made.deadline_ms == 5_000 + TIMING.lock_ms
    made = unlocked()
    made.observe(P.LOCKED, 5_000)
    assert state(made) is S.UNLOCKING and made.take_command() is False


def test_a_position_that_is_no_longer_known_is_driven_to_again() -> None:
    made = locked()
    made.observe(P.UNKNOWN, 5_000)
    assert state(made) is S.LOCKING and made.take_command() is True
    made.observe(P.UNKNOWN, 5_100)
    assert made.take_command() is None, "it moves"
    made.observe(P.LOCKED, 5_300)
    assert made.locked and made.deadline_ms is None
    made = unlocked()
    made.observe(P.UNKNOWN, 5_000)
    assert state(made) is S.UNLOCKING and made.take_command() is False


def test_a_position_known_before_the_wish_is_enough() -> None:
    made = ConnectorLock(TIMING)
    made.observe(P.LOCKED, 0)
    made.want(True, 10)
    assert made.locked and made.deadline_ms is None


def test_a_position_seen_before_an_opposite_wish_is_not_enough() -> None:
    made = locked()
    made.want(False, 2_000)
    assert state(made) is S.UNLOCKING and made.deadline_ms == 2_000 + TIMING.lock_ms


def test_after_a_loss_nothing_is_remembered() -> None:
    made = locked()
    made.lose()
    assert state(made) is S.UNKNOWN and made.deadline_ms is None and made.take_command() is None
    made.want(True, 9_000)
    assert state(made) is S.LOCKING and made.take_command() is True, "an old position is not believed"
    made = locking()
    made.lose()
    made.tick(10**9)
    assert state(made) is S.UNKNOWN and made.take_command() is None


@pytest.mark.parametrize("before", list(LockState))
def test_every_event_has_an_entry_and_a_lost_board_is_unknown(before: LockState) -> None:
    assert set(LOCK.rows[before]) == set(LockEvent)
    assert LOCK.next(before, LockEvent.LOST) is S.UNKNOWN
