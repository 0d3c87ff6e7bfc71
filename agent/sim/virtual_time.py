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

_OWN: Final = 1
"""A loop watches one descriptor of its own, by which other threads wake it; they need no look to be heard."""


class _Timer(asyncio.TimerHandle):
    """A timer that knows when it was set."""

    __slots__ = ("_due",)

    def __init__(
        self,
        due: tuple[float, int],
        callback: Callable[..., object],
        arguments: tuple[Any, ...],
        loop: asyncio.AbstractEventLoop,
        context: contextvars.Context | None,
    ) -> None:
        super().__init__(due[0], callback, arguments, loop, context)
        self._due = due

    def __lt__(self, other: object) -> bool:
        return self._due < other._due if isinstance(other, _Timer) else NotImplemented


class _JumpingSelector(selectors.DefaultSelector):
    """Reports at once; the time that the loop wanted to wait is added to its clock. Asks the system only where
    somebody watches a descriptor, or nothing else is left to wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        looks = timeout is None or len(self.get_map()) > _OWN
        ready = super().select(0) if looks else []
        if not ready:
            if timeout is None:
                raise Stuck
            self.now_s += max(0.0, timeout)
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """See the module."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)
        self._clock_resolution = _RESOLUTION_S
        self._turns = itertools.count()

    def call_at(
        self,
        when: float,
        callback: Callable[[*Arguments], object],
        *args: *Arguments,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """As asyncio does it, with a timer that has a place among its equals."""
        self._check_closed()  # type: ignore[attr-defined]
        timer = _Timer((when, next(self._turns)), callback, args, self, context)
        heapq.heappush(self._scheduled, timer)  # type: ignore[attr-defined]
        timer._scheduled = True  # type: ignore[attr-defined]
        return timer

    def time(self) -> float:
        return self._jumping.now_s

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
