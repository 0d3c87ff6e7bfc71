"""No more than so many bytes per second: a token bucket.

Charter: arithmetic in whole numbers; clock (milliseconds) and sleep (seconds) are given. The bucket holds one second's
worth, so the average holds over any longer time. Paying comes after receiving: while we sleep, the receive buffer
fills and TCP slows the sender down.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

PIECE_MAX_BYTES: Final = 64 * 1024
_PIECE_MIN_BYTES: Final = 256
_PIECES_PER_S: Final = 4  # of a limited transfer: no single sleep is long


class TokenBucket:
    """``bytes_per_s`` 0: no limit. ``piece_bytes``: how much should be received between two calls of ``pay``."""

    def __init__(self, bytes_per_s: int, clock_ms: Callable[[], int], sleep: Callable[[float], object]) -> None:
        self._rate = bytes_per_s
        self._clock_ms = clock_ms
        self._sleep = sleep
        self._level = bytes_per_s * 1000  # thousandths of a byte
        self._at_ms = clock_ms()
        wanted = bytes_per_s // _PIECES_PER_S if bytes_per_s else PIECE_MAX_BYTES
        self.piece_bytes: Final = min(max(wanted, _PIECE_MIN_BYTES), PIECE_MAX_BYTES)

    def pay(self, count: int) -> None:
        """For ``count`` bytes that came; sleeps where they came too early."""
        if not self._rate:
            return
        now_ms = self._clock_ms()
        self._level = min(self._rate * 1000, self._level + (now_ms - self._at_ms) * self._rate) - count * 1000
        self._at_ms = now_ms
        if self._level < 0:
            self._sleep(-self._level / self._rate / 1000)
