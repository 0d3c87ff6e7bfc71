"""Rows that others can cause: of each kind some, then one an hour; none where room is scarce."""

from __future__ import annotations

from agent.core.events import LedgerRoom
from agent.core.facts import LogEntry, LogFact, SecurityFact
from agent.core.settings import EvseHardware, StationSettings
from agent.core.station import Station
from agent.station.allowed_rows import AT_ONCE, EVERY_MS, KINDS_MAX, AllowedRows

REFUSED = LogFact(LogEntry.TARIFF_REFUSED)


class Bench:
    def __init__(self) -> None:
        self.core = Station(StationSettings(evses=(EvseHardware(1, 32_000),)), lambda: "tx")
        self.written: list[LogFact | SecurityFact] = []
        self.rows = AllowedRows(self.core, self.written.append)

    def made(self, fact: LogFact | SecurityFact, times: int = 1) -> int:
        before = len(self.written)
        for _ in range(times):
            self.rows.append(fact)
        return len(self.written) - before


def test_one_kind_takes_no_room_of_another() -> None:
    bench = Bench()
    assert bench.made(SecurityFact("InvalidMessages", "x"), 1_000) == AT_ONCE
    assert bench.made(REFUSED, 1_000) == AT_ONCE
    assert bench.made(SecurityFact("MaintenanceLoginAccepted", "x")) == 1


def test_one_more_comes_free_each_hour() -> None:
    bench = Bench()
    bench.made(REFUSED, AT_ONCE)
    for _ in range(3):
        bench.core.ctx.at_ms += EVERY_MS - 1
        assert bench.made(REFUSED) == 0
        bench.core.ctx.at_ms += 1
        assert bench.made(REFUSED, 2) == 1


def test_names_that_a_gateway_makes_up_give_it_no_more_rows() -> None:
    bench = Bench()
    made = sum(bench.made(SecurityFact(f"Event{number}", ""), 2) for number in range(1_000))
    assert made == 2 * KINDS_MAX + AT_ONCE


def test_where_room_is_scarce_there_is_none() -> None:
    bench = Bench()
    bench.core.step(LedgerRoom(enough=True, scarce=True), 0)
    assert bench.made(REFUSED) == 0
    bench.core.step(LedgerRoom(enough=True, scarce=False), 0)
    assert bench.made(REFUSED, 1_000) == AT_ONCE, "what was left out took nothing"
