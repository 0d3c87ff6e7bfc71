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


def test_a_quarter_of_an_hour_begins_at_the_full_hour() -> None:
    """16-MV-02: intervals count from 00:00:00, so 900 s gives :00, :15, :30 and :45."""
    clock = AlignedClock()
    seconds = range(7 * 60 + 13, 24 * 3_600)
    taken_s = [each for each in seconds if clock.due(NOW_MS + each * 1_000, 900_000, True)]
    assert taken_s == list(range(900, 24 * 3_600, 900))


def test_an_interval_of_0_is_none() -> None:
    """16-MV-02."""
    clock = AlignedClock()
    assert not any(clock.due(NOW_MS + each * MINUTE_MS, 0, True) for each in range(120))


def test_without_a_clock_there_are_none() -> None:
    clock = AlignedClock()
    assert not any(clock.due(NOW_MS + each * MINUTE_MS, MINUTE_MS, False) for each in range(9))


def test_what_does_not_divide_a_day_begins_anew_at_midnight() -> None:
    """420 s: the last interval of a day is shorter."""
    clock, day_ms = AlignedClock(), 20_001 * DAY_MS
    clock.due(day_ms - MINUTE_MS, 420_000, True)
    taken = [minute for minute in range(30) if clock.due(day_ms + minute * MINUTE_MS, 420_000, True)]
    assert taken == [0, 7, 14, 21, 28]
