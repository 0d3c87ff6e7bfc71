"""Whose turn it is: one change at a time, and a download makes way for whoever is on site.

Charter: threads, nothing else. A download may wait for its bytes for days, and whoever brings them is not trusted. So
it is the one change that can be ended; and while somebody waits for that, no other download begins.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from agent.firmware.errors import Refusal, UpdateRefused

MAKES_WAY_S: Final = 30.0  # a slow card writes out what was given to it; RAUC cannot be ended at all


class Turn:
    """See the module."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._taken = False
        self._end: Callable[[], None] | None = None  # of the download whose turn it is
        self._awaited = 0

    @contextmanager
    def taken(
        self, end: Callable[[], None] | None = None, *, first: Callable[[], object] = lambda: None
    ) -> Iterator[None]:
        """A change. ``end``: it is a download, and soon over when another thread calls this. ``first`` is looked at
        before a download ends for this change: what cannot be, and raises there, ends none. Raises ``UpdateRefused``
        (BUSY), and what ``first`` does."""
        with self._change:
            if end is None and self._end is not None:
                first()
                self._await_end_of(self._end)
            if self._taken or (end is not None and self._awaited):
                raise UpdateRefused(Refusal.BUSY, "installer", "another update is under way", "try again later")
            self._taken, self._end = True, end
        try:
            yield
        finally:
            with self._change:
                self._taken, self._end = False, None
                self._change.notify_all()

    def _await_end_of(self, end: Callable[[], None]) -> None:
        self._awaited += 1
        try:
            end()
            self._change.wait_for(lambda: not self._taken, MAKES_WAY_S)
        finally:
            self._awaited -= 1
