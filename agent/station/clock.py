"""Which time a run of the station begins with, and who vouches for it.

Charter: the best of what is there: what the CSMS told this boot of the machine, the machine's own clock where something
vouches for it (``agent.security.clock_proof``), what was vouched for earlier in this boot. A clock that nobody vouches
for may have stood still with the power away, or be years ahead: it is shown, and nothing goes by it: no limit, no price
by the hour, no date. Proof may come later, since a time server may answer after the start.

Units: ms. Decisions: ADR 28 and 30.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from agent.billing.books import Stamp
from agent.config.built import BUILD_TIME_MS
from agent.core.context import Context
from agent.core.events import ClockSet
from agent.core.facts import ClockFact
from agent.ledger.rows import Row

LOOK_EVERY_MS: Final = 10_000


class MachineClock:
    """The machine's own, in a run that begins now. ``earliest_ms``: no correct clock shows an earlier time."""

    def __init__(
        self, wall_ms: Callable[[], int], is_proven: Callable[[int], bool], earliest_ms: int = BUILD_TIME_MS
    ) -> None:
        self._read_ms = wall_ms
        self._is_proven = is_proven
        self._earliest_ms = earliest_ms
        self._looked_at_ms = 0
        self.at_start_ms = wall_ms()
        self.time_status = "I" if self._is_vouched(self.at_start_ms) else "U"

    @property
    def witness_ms(self) -> int | None:
        """At the start, where it may be right; see ``AgreedTime``."""
        return self.at_start_ms if self.at_start_ms >= self._earliest_ms else None

    def first(self, kept: Row | None, now_ms: int) -> ClockSet:
        """The clock to begin with. ``kept``: the newest row of this boot."""
        wall_ms = self._read_ms()  # to open a ledger can take a while
        status = "U" if kept is None else kept.time_status
        kept_ms = 0 if kept is None else kept.wall_ms + now_ms - kept.mono_ms
        if status == "S":
            return ClockSet(kept_ms, "ledger", trusted=True)
        if self._is_vouched(wall_ms):
            return ClockSet(wall_ms, "rtc", trusted=False)
        if status == "I":  # two clocks that run side by side drift apart within days: that proves neither wrong
            return ClockSet(kept_ms, "rtc", trusted=False)
        return ClockSet(wall_ms, "none", trusted=False)

    def look(self, ctx: Context) -> ClockSet | None:
        """To be asked again and again: the machine's clock, where nobody has known the time and something vouches for
        it by now."""
        if ctx.time_status != "U" or ctx.at_ms < self._looked_at_ms + LOOK_EVERY_MS:
            return None
        self._looked_at_ms = ctx.at_ms
        wall_ms = self._read_ms()
        return ClockSet(wall_ms, "rtc", trusted=False) if self._is_vouched(wall_ms) else None

    def _is_vouched(self, wall_ms: int) -> bool:
        return wall_ms >= self._earliest_ms and self._is_proven(wall_ms)


def found_out(kept: Row | None, now: Stamp) -> list[ClockFact]:
    """What dates the rows of this boot from before, where nobody knew the time then (``kept``) and the machine's clock
    is vouched for now. What the CSMS tells leaves a row anyway."""
    if kept is None or kept.time_status != "U" or now.time_status != "I":
        return []
    return [ClockFact(now.wall_ms, "rtc", now.mono_ms + kept.wall_ms - kept.mono_ms)]
