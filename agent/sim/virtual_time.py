"""An asyncio event loop whose time jumps: hours of waiting run in milliseconds.

Charter: for tests without real I/O. When nothing is ready, the loop's clock moves to the next timer
at once. ``asyncio.sleep``, ``asyncio.timeout`` and ``loop.time()`` agree. A loop that would wait for
ever (no timer, nothing ready) raises ``Stuck`` instead of hanging.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Stuck(Exception):
    """Every task waits for something that will never come."""


class _JumpingSelector(selectors.DefaultSelector):
    """Reports at once; the time that the loop wanted to wait is added to its clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
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
