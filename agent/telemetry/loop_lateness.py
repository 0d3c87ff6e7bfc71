"""How late an event loop is: a light timer, and by how much it was called back too late.

Charter: four timers a second into a histogram. A loop that is held up (by work of ours, by a busy machine) calls late
whatever is due, the pilot's bytes too; here it shows. Works in the loop's own time, and costs it nothing to speak of.

Units: microseconds; seconds of the loop's clock inside.
"""

from __future__ import annotations

import asyncio
import bisect
from typing import Final

from agent.ipc.statistics import LATENESS_BOUNDS_US, Lateness

EVERY_S: Final = 0.25
MAX_KEPT_S: Final = 60.0
"""The longest is of this time and the one before it: a peak is seen by whoever looks once a minute, then forgotten."""


class LoopLateness:
    """Of one loop, from ``start`` to ``stop``."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._counts = [0] * (len(LATENESS_BOUNDS_US) + 1)
        self._sum_us = 0
        self._longest_us = [0, 0]  # of the span before, and of this one
        self._span_ends_s = loop.time() + MAX_KEPT_S
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._timer = self._loop.call_later(EVERY_S, self._called, self._loop.time() + EVERY_S)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def read(self) -> Lateness:
        return Lateness(tuple(self._counts), self._sum_us, max(self._longest_us))

    def _called(self, due_s: float) -> None:
        now_s = self._loop.time()
        late_us = max(0, round((now_s - due_s) * 1_000_000))
        self._counts[bisect.bisect_left(LATENESS_BOUNDS_US, late_us)] += 1
        self._sum_us += late_us
        if now_s >= self._span_ends_s:
            self._longest_us = [self._longest_us[1], 0]
            self._span_ends_s = now_s + MAX_KEPT_S
        self._longest_us[1] = max(self._longest_us[1], late_us)
        self.start()
