"""The contactor by itself: its deadlines to the millisecond, boards without mirror contact, boards that close alone."""

from __future__ import annotations

import pytest

from agent.core.contactor import CONTACTOR, Contactor, ContactorEvent, ContactorState
from agent.core.settings import Timing

S, E = ContactorState, ContactorEvent
TIMING = Timing()


def state(made: Contactor) -> ContactorState:
    return made.state


def contactor(*, has_feedback: bool = True, autonomous: bool = False) -> Contactor:
    """Known open since instant 0."""
    made = Contactor(TIMING, has_feedback=has_feedback, autonomous=autonomous)
    if has_feedback:
        made.feed(E.SEEN_OPEN, 0)
    else:
        made.board_back(0)
    assert state(made) is S.OPEN and made.known_open and not made.closed
    return made


def look(made: Contactor, until_ms: int) -> None:
    """Time passes, and the station's timer looks when it is due."""
    while made.look_ms is not None and made.look_ms <= until_ms:
        made.tick(made.look_ms)
    made.tick(until_ms)


def closed(*, has_feedback: bool = True, autonomous: bool = False) -> Contactor:
    made = contactor(has_feedback=has_feedback, autonomous=autonomous)
    made.feed(E.GRANT, 1_000)
    if has_feedback:
        made.feed(E.SEEN_CLOSED, 1_050)
    else:
        look(made, 1_000 + TIMING.contactor_close_ms)
    assert state(made) is S.CLOSED and made.powered and made.closed and made.deadline_ms is None
    return made


def test_nothing_is_known_and_nothing_granted_before_the_board_has_told() -> None:
    made = Contactor(TIMING, has_feedback=True, autonomous=False)
    made.board_back(1)
    made.feed(E.GRANT, 2)
    assert state(made) is S.UNKNOWN
    assert not made.powered and not made.known_open


def test_a_mirror_contact_that_does_not_follow_is_stuck_at_its_deadline() -> None:
    made = contactor()
    made.feed(E.GRANT, 1_000)
    assert made.deadline_ms == 1_000 + TIMING.contactor_close_ms and made.since_ms == 1_000
    look(made, made.deadline_ms - 1)
    assert state(made) is S.CLOSING and made.powered and not made.closed
    look(made, made.deadline_ms)
    assert state(made) is S.STUCK and made.known_open and not made.powered and made.deadline_ms is None


def test_a_contactor_that_stays_closed_is_welded_at_its_deadline() -> None:
    made = closed()
    made.feed(E.WITHDRAW, 5_000)
    assert made.deadline_ms == 5_000 + TIMING.contactor_open_ms
    look(made, made.deadline_ms - 1)
    assert state(made) is S.OPENING and made.closed and not made.powered
    look(made, made.deadline_ms)
    assert state(made) is S.WELDED and made.closed and not made.known_open
    made.feed(E.LOST, 6_000)
    made.feed(E.SEEN_OPEN, 6_001)
    assert state(made) is S.WELDED and made.closed, "latched: an open contact later proves nothing"


def test_one_that_closes_by_itself_has_as_long_to_open() -> None:
    made = contactor()
    made.feed(E.SEEN_CLOSED, 7_000)
    assert state(made) is S.OPENING and made.since_ms == 7_000
    look(made, 7_000 + TIMING.contactor_open_ms)
    assert state(made) is S.WELDED


def test_release_leaves_the_vehicle_its_seconds_and_then_opens() -> None:
    made = closed()
    made.feed(E.RELEASE, 5_000)
    assert state(made) is S.RELEASING and made.powered and made.deadline_ms == 5_000 + TIMING.release_ms
    made.feed(E.RELEASE, 6_000)
    assert made.deadline_ms == 5_000 + TIMING.release_ms, "asking again does not prolong it"
    look(made, 5_000 + TIMING.release_ms)
    assert state(made) is S.OPENING and not made.powered
    assert made.deadline_ms == 5_000 + TIMING.release_ms + TIMING.contactor_open_ms


def test_a_tick_without_deadline_changes_nothing() -> None:
    made = closed()
    look(made, 10**9)
    assert state(made) is S.CLOSED


def test_news_that_came_before_the_wish_is_not_waited_for_again() -> None:
    """The mirror contact tells changes only."""
    made = contactor()
    made.feed(E.GRANT, 1_000)
    made.feed(E.WITHDRAW, 1_010)  # it never closed in between
    assert state(made) is S.OPEN and made.since_ms == 1_010 and made.deadline_ms is None
    made = closed()
    made.feed(E.RELEASE, 2_000)
    made.feed(E.GRANT, 2_010)
    assert state(made) is S.CLOSED and made.deadline_ms is None
    made.feed(E.SEEN_OPEN, 2_020)  # it bounced
    assert state(made) is S.CLOSING and made.deadline_ms == 2_020 + TIMING.contactor_close_ms
    made.feed(E.SEEN_CLOSED, 2_030)
    assert state(made) is S.CLOSED


def test_what_a_lost_board_had_told_is_forgotten() -> None:
    made = contactor()
    made.feed(E.LOST, 2_000)
    assert state(made) is S.UNKNOWN and made.deadline_ms is None
    made.feed(E.SEEN_CLOSED, 3_000)
    assert state(made) is S.OPENING, "closed without being asked"
    made = closed()
    made.feed(E.LOST, 2_000)
    assert not made.closed and not made.known_open


def test_a_board_without_mirror_contact_is_believed_after_the_same_times() -> None:
    made = contactor(has_feedback=False)
    made.feed(E.GRANT, 1_000)
    assert made.closed, "current may flow from the command on"
    look(made, 1_000 + TIMING.contactor_close_ms - 1)
    assert state(made) is S.CLOSING
    look(made, 1_000 + TIMING.contactor_close_ms)
    assert state(made) is S.CLOSED
    made.feed(E.WITHDRAW, 9_000)
    look(made, 9_000 + TIMING.contactor_open_ms - 1)
    assert state(made) is S.OPENING
    look(made, 9_000 + TIMING.contactor_open_ms)
    assert state(made) is S.OPEN and made.since_ms == 9_000 + TIMING.contactor_open_ms
    made.feed(E.WELD_SEEN, 12_000)
    assert state(made) is S.WELDED and made.closed


def test_a_board_without_mirror_contact_that_releases_opens_at_the_deadline() -> None:
    made = closed(has_feedback=False)
    made.feed(E.RELEASE, 5_000)
    look(made, 5_000 + TIMING.release_ms)
    assert state(made) is S.OPENING


def test_a_board_that_comes_back_in_mid_charge_does_not_open_what_is_closed() -> None:
    made = closed(has_feedback=False)
    made.board_back(5_000)
    assert state(made) is S.CLOSED


def test_a_board_that_closes_alone_may_take_its_time_and_has_longer_to_open() -> None:
    made = contactor(autonomous=True)
    made.feed(E.GRANT, 1_000)
    assert state(made) is S.CLOSING and made.deadline_ms is None
    made = closed(autonomous=True)
    made.feed(E.WITHDRAW, 5_000)
    assert made.deadline_ms == 5_000 + TIMING.board_open_ms


@pytest.mark.parametrize("before", [s for s in ContactorState if s is not S.WELDED])
def test_a_lost_board_is_unknown_from_anywhere(before: ContactorState) -> None:
    assert CONTACTOR.next(before, E.LOST) is S.UNKNOWN


@pytest.mark.parametrize("before", list(ContactorState))
def test_events_that_mean_nothing_in_a_state_stay(before: ContactorState) -> None:
    """Every pair has an entry: no news from a board may ever stop the station."""
    assert set(CONTACTOR.rows[before]) == set(ContactorEvent)
    if before is not S.RELEASING:
        assert CONTACTOR.next(before, E.VEHICLE_IDLE) is before


def toggled(made: Contactor, at_ms: int, lasted_ms: int) -> int:
    """It closes and is taken away so much later; how long it rests then."""
    made.feed(E.GRANT, at_ms)
    made.feed(E.SEEN_CLOSED, at_ms)
    made.feed(E.WITHDRAW, at_ms + lasted_ms)
    made.feed(E.SEEN_OPEN, at_ms + lasted_ms)
    return max(0, made.rests_until_ms - at_ms - lasted_ms)


def test_it_rests_longer_with_each_short_closure_after_the_third() -> None:
    made = contactor()
    rests = [toggled(made, 100_000 * n, 9_999) for n in range(1, 12)]
    assert rests == [0, 0, 0, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000]


def test_a_closure_that_is_not_short_makes_all_good() -> None:
    made = contactor()
    assert [toggled(made, 100_000 * n, ms) for n, ms in enumerate([9_999] * 3 + [10_000] + [9_999] * 4, 1)] == [
        *(0, 0, 0, 0),
        *(0, 0, 0, 2_000),
    ]


def test_another_vehicle_finds_a_rested_contactor() -> None:
    made = contactor()
    for n in range(1, 6):
        toggled(made, 100_000 * n, 0)
    made.rested()
    assert made.rests_until_ms == 0
    assert [toggled(made, 10**6 + 100_000 * n, 0) for n in range(4)] == [0, 0, 0, 2_000]
