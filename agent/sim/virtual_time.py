"""An asyncio event loop whose time jumps: hours of waiting run in milliseconds.

Charter: for tests without real I/O. When nothing is ready, the loop's clock moves to the next timer
at once. ``asyncio.sleep``, ``asyncio.timeout`` and ``loop.time()`` agree. A loop that would wait for
ever (no timer, nothing ready) raises ``Stuck`` instead of hanging. Timers of the same instant fire in the
order in which they were set, so that a run is the same under every version of Python: asyncio's own order
of equals depends on what else is in its heap.

Units: seconds of virtual time, as asyncio has them.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import itertools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar, TypeVarTuple

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


class Stuck(Exception):
    """Every task waits for something that will never come."""


_RESOLUTION_S: Final = 1e-6
"""Timers so close together are due together. asyncio's own nanosecond is less than what a float can tell apart after
half a year: the next timer would never be due."""

_LONGEST_S: Final = 86_400.0
"""As far as asyncio jumps at a time: what a sum of times comes to in floats must not depend on whose loop it is."""

_TIMERS: Final = 200
"""So many may be set before those that were cancelled are looked for and dropped."""

_OWN: Final = 1
"""A loop watches one descriptor of its own, by which other threads wake it; they need no look to be heard."""


class _JumpingSelector(selectors.DefaultSelector):
    """Reports at once what is ready. It waits for nothing, so nothing may be left to wait for but descriptors."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise Stuck
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """See the module."""

    def __init__(self) -> None:
        self._now_s = 0.0
        self._watched = _JumpingSelector()
        super().__init__(self._watched)
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []  # a heap; equals in the order they were set
        self._turns = itertools.count()
        self._tidy_at = _TIMERS

    def call_at(
        self,
        when: float,
        callback: Callable[[*Arguments], object],
        *args: *Arguments,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """As asyncio does it, with a place among its equals."""
        self._check_closed()  # type: ignore[attr-defined]
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._turns), timer))
        if len(self._timers) > self._tidy_at:
            self._timers = [each for each in self._timers if not each[2].cancelled()]
            heapq.heapify(self._timers)
            self._tidy_at = max(_TIMERS, 2 * len(self._timers))
        return timer

    def _run_once(self) -> None:
        """One turn of asyncio's loop: time moves if nothing is ready, then all runs that is. Asks the system only where
        somebody watches a descriptor, or nothing else is left to wait for."""
        timers, ready = self._timers, self._ready  # type: ignore[attr-defined]
        while timers and timers[0][2].cancelled():
            heapq.heappop(timers)
        wait_s: float | None = None
        if ready or self._stopping:  # type: ignore[attr-defined]
            wait_s = 0.0
        elif timers:
            wait_s = min(max(0.0, timers[0][0] - self._now_s), _LONGEST_S)
        if wait_s is None or len(self._watched.get_map()) > _OWN:
            heard = self._watched.select(wait_s)
            self._process_events(heard)  # type: ignore[attr-defined]
            wait_s = 0.0 if heard else wait_s
        self._now_s += wait_s or 0.0
        due_s = self._now_s + _RESOLUTION_S
        while timers and timers[0][0] < due_s:
            ready.append(heapq.heappop(timers)[2])
        for _ in range(len(ready)):  # what these make ready has its turn in the next one
            handle = ready.popleft()
            if not handle.cancelled():
                handle._run()

    def time(self) -> float:
        return self._now_s

    def run_in_executor(self, _executor: Any, work: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """What would be done in a thread is done at once: virtual time does not wait for real work."""
        done = self.create_future()
        try:
            done.set_result(work(*arguments))
        except Exception as error:
            done.set_exception(error)
        return done


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    """``asyncio.run`` in virtual time, which starts at 0."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)


def now_ms() -> int:
    """Virtual milliseconds; a ``clock_ms`` for whoever wants one injected."""
    return round(asyncio.get_running_loop().time() * 1000)
