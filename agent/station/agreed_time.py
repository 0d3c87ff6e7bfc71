"""What counts as now where rows are judged old: no single clock may make them so.

Charter: of the clocks that were believed in this run, the one that is furthest behind counts. The ledger is one of
them, since a machine may have no clock and a CSMS a wrong one: it keeps the latest time that was agreed on, and from
there no clock gets further ahead than ``SPEED`` times as fast as this run has lasted. However long a station was off,
that makes up for it; and it takes a wrong clock months, in however many starts, to make years of rows old. To be late
costs room, to be early costs rows.

Units: UTC milliseconds since 1970, and ``mono_ms`` of the station's own clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from agent.ledger.kinds import TIME_UNKNOWN
from agent.ledger.rows import Row
from agent.ledger.state import Namespace, Put

SPEED: Final = 10
"""Three months without power are made up for in nine days; who has power for three hours a day keeps up."""

_KEY: Final = "agreed"


class AgreedTime:
    """For one run, which begins at ``mono_ms``. ``kept``: the state of ``Namespace.CLOCK``; ``last``: the last row
    there is, whose time counts where none was kept; ``machine_ms``: the machine's own clock, None where it is wrong for
    sure. One that is behind what was agreed on is no witness: it would hold back rows for as long as it is."""

    def __init__(self, kept: Mapping[str, str], last: Row, mono_ms: int, machine_ms: int | None) -> None:
        known_ms = None if last.time_status == TIME_UNKNOWN else last.wall_ms
        self._before_ms = int(kept[_KEY]) if _KEY in kept else known_ms
        self._began_mono_ms = mono_ms
        stood = _KEY in kept and machine_ms is not None and machine_ms < int(kept[_KEY])  # or was set back
        self._offset_ms = None if machine_ms is None or stood else machine_ms - mono_ms

    def hear(self, mono_ms: int, wall_ms: int) -> tuple[int, Put]:
        """A clock that is believed says so. Returns what all agree on, and what is to be kept of it.

        What is kept never goes back: a clock that is behind in one run must not hold back rows in the next ones."""
        offset_ms = wall_ms - mono_ms
        self._offset_ms = offset_ms if self._offset_ms is None else min(self._offset_ms, offset_ms)
        agreed_ms = latest_ms = mono_ms + self._offset_ms
        if self._before_ms is not None:
            agreed_ms = min(agreed_ms, self._before_ms + SPEED * (mono_ms - self._began_mono_ms))
            latest_ms = max(agreed_ms, self._before_ms)
        return agreed_ms, Put(Namespace.CLOCK, _KEY, str(latest_ms))
