"""How often something may happen: a burst at once, then one each so many milliseconds.

Charter: pure (a token bucket). Whoever asks says what time it is.
"""

from __future__ import annotations


class Allowance:
    """``burst`` at once; one more each ``refill_ms``."""

    def __init__(self, burst: int, refill_ms: int) -> None:
        self._burst_ms = burst * refill_ms
        self._refill_ms = refill_ms
        self._saved_ms = self._burst_ms
        self._asked_ms: int | None = None

    def has_one(self, at_ms: int) -> bool:
        """Whether ``take`` may be called."""
        gained_ms = 0 if self._asked_ms is None else max(0, at_ms - self._asked_ms)
        self._asked_ms = at_ms
        self._saved_ms = min(self._burst_ms, self._saved_ms + gained_ms)
        return self._saved_ms >= self._refill_ms

    def take(self) -> None:
        assert self._saved_ms >= self._refill_ms, "ask first"
        self._saved_ms -= self._refill_ms
