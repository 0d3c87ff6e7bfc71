"""What the gateway counts of the link to the CSMS.

Charter: listens to the link and adds up, for the metrics. Nothing is kept beyond the process.

Units: ms (monotonic).
"""

from __future__ import annotations

from collections.abc import Callable

from agent.ipc.statistics import LinkStatistics
from agent.ocpp.link import LinkPhase, LinkState
from agent.ocpp.link_failure import FailureKind
from agent.ocpp.session import Direction


class LinkCounters:
    """From now on."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._up_since_ms: int | None = None
        self._up_ms = 0
        self._links = 0
        self._failures = dict.fromkeys(FailureKind, 0)
        self._last_failure = ""
        self._frames = dict.fromkeys(Direction, 0)

    def link(self, state: LinkState) -> None:
        """The link has changed its state."""
        self._add_up()
        up = state.phase is LinkPhase.CONNECTED
        self._links += up
        self._up_since_ms = self._now_ms() if up else None
        if state.failure is not None:
            self._failures[state.failure.kind] += 1
            self._last_failure = f"{state.failure.kind.value}: {state.failure.detail}"

    def frame(self, direction: Direction) -> None:
        self._frames[direction] += 1

    def read(self) -> LinkStatistics:
        self._add_up()
        return LinkStatistics(
            up=self._up_since_ms is not None,
            up_ms=self._up_ms,
            reconnects=max(0, self._links - 1),
            failures=tuple((kind.value, count) for kind, count in self._failures.items()),
            last_failure=self._last_failure,
            frames_in=self._frames[Direction.IN],
            frames_out=self._frames[Direction.OUT],
        )

    def _add_up(self) -> None:
        if self._up_since_ms is not None:
            now_ms = self._now_ms()
            self._up_ms += now_ms - self._up_since_ms
            self._up_since_ms = now_ms
