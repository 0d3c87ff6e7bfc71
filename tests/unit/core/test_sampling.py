"""Clock-aligned intervals: one sample at the first reading in each, whatever clock and settings do."""

from __future__ import annotations

import pytest

from agent.core.sampling import AlignedClock

MINUTE_MS, DAY_MS = 60_000, 86_400_000
NOW_MS = 20_000 * DAY_MS


def due(clock: AlignedClock, since_ms: int, minutes: int, every_minutes: int) -> int:
    """How many samples in so many minutes, with a reading in each."""
    at_ms = range(since_ms, since_ms + minutes * MINUTE_MS, MINUTE_MS)
    return sum(clock.due(each, every_minutes * MINUTE_MS, True) for each in at_ms)


def test_one_sample_in_each_interval_and_none_in_that_of_the_beginning() -> None:
    assert due(AlignedClock(), NOW_MS + MINUTE_MS, 60, 15) == 4


@pytest.mark.parametrize("before_minutes", [1, 5, 60])
def test_another_interval_holds_from_the_next_one_of_its_own_on(before_minutes: int) -> None:
    clock = AlignedClock()
    due(clock, NOW_MS, 120, before_minutes)
    assert due(clock, NOW_MS + 121 * MINUTE_MS, 120, 15) == 8


def test_a_clock_that_steps_back_repeats_nothing() -> None:
    clock = AlignedClock()
    due(clock, NOW_MS, 120, 15)
    assert due(clock, NOW_MS + 60 * MINUTE_MS, 60, 15) == 0
    assert due(clock, NOW_MS + 120 * MINUTE_MS, 60, 15) == 4


def test_nobody_waits_for_a_date_of_a_clock_that_was_years_ahead() -> None:
    clock = AlignedClock()
    due(clock, NOW_MS + 2_000 * DAY_MS, 30, 15)
    assert due(clock, NOW_MS + MINUTE_MS, 60, 15) == 4


def test_without_a_clock_there_are_none() -> None:
    clock = AlignedClock()
    assert not any(clock.due(NOW_MS + each * MINUTE_MS, MINUTE_MS, False) for each in range(9))
