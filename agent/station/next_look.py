"""When the logic is to look at the time next, and whether it could.

Charter: one timer, which comes at the earliest of the instants that were asked for and is never put off. Whoever never
stops talking to the station would otherwise keep time from passing for it: with each call the timer would be set anew,
just before it comes. A timer that has not come for long after its time tells that the process stood still.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class NextLook:
    """Calls ``look`` once, then waits to be asked again; ``stalled`` first where that is over ``stall_s`` late."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, look: Callable[[], None], stall_s: float, stalled: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._look = look
        self._stall_s = stall_s
        self._stalled = stalled
        self._timer: asyncio.TimerHandle | None = None

    def within(self, wait_ms: int) -> None:
        """Look so soon, or earlier."""
        due_s = self._loop.time() + wait_ms / 1_000
        if self._timer is not None:
            if self._timer.when() <= due_s:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(due_s, self._come)

    def heed(self) -> None:
        """Something is heard. After a stall that may be before the timer comes, which is then to be asked for again."""
        timer = self._timer
        if timer is not None and self._loop.time() - timer.when() > self._stall_s:
            timer.cancel()
            self._timer = None
            self._stalled()

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _come(self) -> None:
        self.heed()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._look()
