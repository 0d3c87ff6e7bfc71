"""The clock of the station as it is set: it always holds, and leaves a row where one is needed."""

from __future__ import annotations

import pytest

from agent.core.clock import ROW_EVERY_MS, ROWS_AT_ONCE
from agent.core.effects import Append
from agent.core.events import ClockSet, LedgerRoom
from agent.core.facts import ClockFact
from agent.core.settings import EvseHardware, StationSettings
from agent.core.station import Station

MORNING_MS = 1_800_000_000_000


class Told:
    """A station that is told the time by somebody whose clock is off by some milliseconds."""

    def __init__(self) -> None:
        self.station = Station(StationSettings(evses=(EvseHardware(1, 32_000),)), lambda: "tx")
        self.at_ms = 0
        self.rows: list[int] = []  # by how much each was off

    def tell(self, off_ms: int, *, trusted: bool = True) -> int:
        """How many rows that made. By then the station's clock is off by as much."""
        wall_ms = MORNING_MS + self.at_ms + off_ms
        effects = self.station.step(ClockSet(wall_ms, "CSMS" if trusted else "rtc", trusted), self.at_ms)
        assert self.station.ctx.wall_ms == wall_ms, "it holds, with a row or without"
        facts = [fact for each in effects if isinstance(each, Append) for fact in each.facts]
        made = [fact.wall_ms - MORNING_MS - self.at_ms for fact in facts if isinstance(fact, ClockFact)]
        self.rows += made
        return len(made)

    def later(self, ms: int) -> None:
        self.at_ms += ms
        self.station.ctx.at_ms = self.at_ms

    def room(self, *, scarce: bool) -> None:
        self.station.step(LedgerRoom(enough=not scarce, scarce=scarce), self.at_ms)


def test_the_first_trusted_time_is_a_row_and_only_where_the_clock_is_wrong_by_much_another_follows() -> None:
    told = Told()
    assert told.tell(-60_000, trusted=False) == 0
    assert told.tell(0) == 1
    assert [told.tell(off_ms) for off_ms in (400, -2_000, 2_500, -2_500, 0)] == [0] * 5
    assert told.tell(2_501) == 1


def test_a_clock_that_creeps_away_from_its_row_gets_another() -> None:
    """No row may be wrong by more, however small each step was."""
    told = Told()
    for off_ms in range(0, 10_000, 500):
        told.tell(off_ms)
        assert abs(off_ms - told.rows[-1]) <= 2_500
    assert len(told.rows) == 4


def test_two_clocks_that_differ_make_some_rows_and_then_one_an_hour() -> None:
    told = Told()
    made = []
    for minute in range(24 * 60):
        made.append(told.tell(25_000 * (minute % 2)))
        told.later(60_000)
    assert sum(made[:60]) == ROWS_AT_ONCE
    assert [sum(made[60 * hour : 60 * hour + 60]) for hour in range(1, 24)] == [1] * 23


def test_a_row_that_was_left_out_is_due_as_soon_as_there_may_be_one() -> None:
    """The newest row is what a restart knows the time by."""
    told = Told()
    for number in range(ROWS_AT_ONCE):
        told.tell(number * 60_000)
    assert told.tell(3_600_000) == 0 and not told.station.clock.row_is_due()
    told.later(ROW_EVERY_MS)
    assert told.station.clock.row_is_due()
    assert told.tell(3_600_000) == 1 and not told.station.clock.row_is_due()


@pytest.mark.parametrize("off_ms", [3_000, 3_600_000])
def test_while_room_is_scarce_only_the_first_time_is_a_row(off_ms: int) -> None:
    told = Told()
    told.room(scarce=True)
    assert told.tell(0) == 1
    assert told.tell(off_ms) == 0
    told.room(scarce=False)
    assert told.station.clock.row_is_due() and told.tell(off_ms) == 1
