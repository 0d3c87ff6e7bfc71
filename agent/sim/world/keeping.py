"""Whether the ledger keeps its rows as long as it has promised, and no longer.

Charter: remembers day by day how far the ledger had come and whether the clocks in its rows were right; in calm
weather, when all is told, it is held against the oldest row that is left. A row is as old as its own clock says: of
days with a wrong one nothing is asked.

Units: ms of virtual time. Source: docs/ledger.md, retention.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from agent.sim.virtual_time import now_ms
from agent.sim.world.site import RETENTION_DAYS

DAY_MS: Final = 86_400_000
SLACK_DAYS: Final = 20
"""Rows are removed in whole transactions, and only where the station knows the time: so much later at most."""


@dataclass(slots=True)
class Day:
    """``since_ms``: when its first row came; ``last_seq`` of its rows; ``sound``: the clock of each was right."""

    since_ms: int
    last_seq: int
    sound: bool


class Keeping:
    """See the module. ``wrong`` takes what must not be."""

    def __init__(self, wrong: Callable[[int, str], None]) -> None:
        self._days: deque[Day] = deque()
        self._wrong = wrong

    def row(self, seq: int, off_ms: int) -> None:
        """This row has just become durable; its clock is wrong by so much."""
        days, at_ms = self._days, now_ms()
        if not days or at_ms - days[-1].since_ms >= DAY_MS:
            days.append(Day(at_ms, seq, sound=True))
        days[-1].last_seq = seq
        days[-1].sound &= abs(off_ms) < DAY_MS

    def look(self, oldest_seq: int) -> None:
        """All is told; this is the first row that is left."""
        young_ms = now_ms() - RETENTION_DAYS * DAY_MS
        for day in self._days:
            if day.since_ms > young_ms and day.sound and day.last_seq < oldest_seq:
                age = (now_ms() - day.since_ms) / DAY_MS
                self._wrong(0, f"a row of {age:.1f} days ago is gone, {RETENTION_DAYS} days are promised")
        while self._days and self._days[0].last_seq < oldest_seq:
            self._days.popleft()
        # A row that was ahead by some days holds back what comes after it until it is old itself.
        slack_days = SLACK_DAYS if all(day.sound for day in self._days) else SLACK_DAYS + RETENTION_DAYS
        if len(self._days) > RETENTION_DAYS + slack_days:
            old_ms = young_ms - slack_days * DAY_MS
            if (since_ms := self._days[0].since_ms) < old_ms:
                self._wrong(0, f"a row of {(now_ms() - since_ms) / DAY_MS:.1f} days ago is still there")
