"""What counts as now where rows are judged old: one wrong clock, in one run or in many, makes nothing old."""

from __future__ import annotations

import pytest

from agent.ledger.rows import START, NewRow, Row, chain
from agent.ledger.state import Namespace
from agent.station.agreed_time import AgreedTime

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
YEARS_MS = 50 * 365 * DAY_MS
NOW_MS = 1_764_000_000_000


class Station:
    """A ledger, and a clock that is told once an hour while there is power."""

    def __init__(self, wall_ms: int = NOW_MS, status: str = "S") -> None:
        self.now_ms = NOW_MS  # by the sun
        self.kept: dict[str, str] = {}
        self.last: Row = chain(START, NewRow("meter", b"{}", "boot-1", 0, wall_ms, status))

    def run(self, hours: int, *, off_ms: int = 0, machine_off_ms: int | None = None) -> int:
        """What is agreed on after a run under a clock that is wrong by so much; wrong by how much that is."""
        machine_ms = None if machine_off_ms is None else self.now_ms + machine_off_ms
        agreed, agreed_ms = AgreedTime(self.kept, self.last, 7, machine_ms), 0
        for hour in range(hours + 1):
            mono_ms = 7 + hour * HOUR_MS
            agreed_ms, put = agreed.hear(mono_ms, self.now_ms + hour * HOUR_MS + off_ms)
            assert put.namespace is Namespace.CLOCK
            assert put.key not in self.kept or int(put.value) >= int(self.kept[put.key])
            self.kept[put.key] = put.value
        self.now_ms += hours * HOUR_MS
        return agreed_ms - self.now_ms


def test_the_first_clock_that_is_told_counts_where_nothing_is_known() -> None:
    assert Station(0, "U").run(1, off_ms=5 * DAY_MS) == 5 * DAY_MS


def test_the_machines_clock_and_the_last_row_count_before_anything_was_agreed_on() -> None:
    assert Station(0, "U").run(1, off_ms=YEARS_MS, machine_off_ms=0) == 0
    assert Station().run(1, off_ms=YEARS_MS) == 9 * HOUR_MS


@pytest.mark.parametrize("machine_off_ms", [None, YEARS_MS], ids=["no clock", "both are wrong"])
def test_a_clock_that_is_years_ahead_in_many_runs_makes_little_old(machine_off_ms: int | None) -> None:
    station = Station()
    assert station.run(100) == 0
    for _ in range(20):
        assert station.run(2, off_ms=YEARS_MS, machine_off_ms=machine_off_ms) <= 20 * 2 * 10 * HOUR_MS
    assert station.run(1) == 0, "it is right again"


@pytest.mark.parametrize("behind_ms", [DAY_MS, YEARS_MS // 10])
def test_a_clock_that_is_behind_in_one_run_holds_nothing_back_in_the_next(behind_ms: int) -> None:
    station = Station()
    station.run(100)
    assert station.run(1, off_ms=-behind_ms) == -behind_ms
    assert station.run(1) == 0


def test_a_machine_whose_clock_stands_in_the_past_holds_nothing_back() -> None:
    station = Station()
    station.run(100)
    for _ in range(3):
        assert station.run(24, machine_off_ms=-400 * DAY_MS) == 0


def test_a_station_that_was_off_for_months_makes_up_for_it() -> None:
    station = Station()
    station.run(100)
    station.now_ms += 90 * DAY_MS
    assert station.run(1) < -80 * DAY_MS
    assert station.run(10 * 24) == 0


def test_with_power_for_three_hours_a_day_nothing_adds_up() -> None:
    station = Station()
    for _ in range(100):
        assert station.run(3) == 0
        station.now_ms += 21 * HOUR_MS
