"""Wall time as it is set, and which settings of it leave a row.

Charter: the only one that sets the clock of a ``Context``. The first trusted time of a run is always a row: it dates
what came before it. From then on there is one where the newest row is wrong by more than ``_WRONG_MS``, and not for
each of them: two nodes of a CSMS whose clocks differ would fill the ledger. Some at once, then one an hour, none while
room is scarce; a row that was left out is due at the next word of the CSMS. The time itself holds in any case.
"""

from __future__ import annotations

from typing import Final

from agent.allowance import Allowance
from agent.core.context import Context
from agent.core.events import ClockSet
from agent.core.facts import ClockFact

ROWS_AT_ONCE: Final = 10
ROW_EVERY_MS: Final = 3_600_000
_WRONG_MS: Final = 2_500


class Clock:
    """The clock of one station."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._row_offset_ms: int | None = None  # as the newest row of this run has it
        self._rows = Allowance(ROWS_AT_ONCE, ROW_EVERY_MS)

    def set(self, event: ClockSet) -> None:
        ctx = self._ctx
        before_ms = ctx.wall_ms
        ctx.wall_offset_ms = event.wall_ms - ctx.at_ms
        if event.trusted:
            ctx.time_status = "S"
        elif ctx.time_status == "U" and event.source == "rtc":
            ctx.time_status = "I"
        if event.trusted and (self._row_offset_ms is None or self.row_is_due()):
            self._row_offset_ms = ctx.wall_offset_ms
            self._rows.take()
            ctx.append(ClockFact(event.wall_ms, event.source, before_ms))

    def row_is_due(self) -> bool:
        """Whether the newest row is wrong, and there may be another."""
        ctx = self._ctx
        if self._row_offset_ms is None or abs(ctx.wall_offset_ms - self._row_offset_ms) <= _WRONG_MS:
            return False
        return self._rows.has_one(ctx.at_ms) and not ctx.ledger_scarce
