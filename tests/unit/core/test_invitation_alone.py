"""The offer by itself: what it is before anything happened, and its exact instants."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.core.invitation import Invitation
from agent.core.settings import Timing

TIMING = Timing()
READY_MS, F_MS, X1_MS, ANSWER_MS = (
    TIMING.vehicle_ready_ms,
    TIMING.wake_up_f_ms,
    TIMING.wake_up_x1_ms,
    TIMING.wake_up_answer_ms,
)


def test_at_first_nothing_is_offered_and_nothing_was_taken() -> None:
    made = Invitation(TIMING)
    assert not made.taken and made.late_at_ms is None and made.duty(0) is None and not made.shows_f(0)
    assert made.deadlines == (None, None, None)
    made.stand(1_000, drawing=False)
    assert not made.taken and made.late_at_ms == 1_000 + READY_MS


def test_an_offer_that_is_withdrawn_was_not_taken() -> None:
    made = Invitation(TIMING)
    made.stand(0, drawing=True)
    assert made.taken
    made.withdraw()
    assert made.taken is False


@pytest.mark.parametrize("wake_up_f_ms", [0, 1])
def test_any_time_of_state_f_wakes(wake_up_f_ms: int) -> None:
    made = Invitation(replace(TIMING, wake_up_f_ms=wake_up_f_ms))
    made.stand(0, drawing=False)
    made.wake(16_000, READY_MS)
    assert (made.duty(READY_MS) is not None) is (wake_up_f_ms > 0)


def test_a_board_may_tell_state_f_until_the_vehicle_must_have_answered() -> None:
    made = Invitation(TIMING)
    made.stand(0, drawing=False)
    made.wake(16_000, READY_MS)
    end_ms = READY_MS + F_MS + X1_MS + ANSWER_MS
    assert made.shows_f(end_ms - 1) and not made.shows_f(end_ms)
