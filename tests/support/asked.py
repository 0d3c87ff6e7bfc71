"""Questions to the station in a test that has no event loop: asked, and answered now or later.

Charter: steps coroutines of the station on one loop that runs only within these calls, so that a world in virtual
time stays in charge. What they wait for must be set by the world, not by time.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
from collections.abc import Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_TURNS = 8  # of the loop: more than any answer takes once nothing holds it up


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    atexit.register(loop.close)
    return loop


class Asked(Generic[T]):
    """One question, on its way as soon as it is made."""

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self._task = _loop().create_task(work)
        self.go_on()

    def go_on(self) -> None:
        """As far as it gets without waiting."""
        for _ in range(0 if self._task.done() else _TURNS):
            _loop().call_soon(_loop().stop)
            _loop().run_forever()

    @property
    def answer(self) -> T | None:
        """None while it waits."""
        self.go_on()
        return self._task.result() if self._task.done() else None

    def forget(self) -> None:
        """Whoever was to answer is gone."""
        self._task.cancel()
        self.go_on()


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """The answer to what need not wait."""
    asked = Asked(work)
    answer = asked.answer
    asked.forget()
    assert answer is not None, "it waits"
    return answer
