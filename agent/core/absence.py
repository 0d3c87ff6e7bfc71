"""For how long the vehicle of a transaction that outlives unplugging has been away.

Rules (OCPP 2.0.1 E10: resume or time-out; 16-TX-16):

* The time runs from its leaving. Whoever plugs in before it is over goes on: with a fixed cable nobody can tell
  whether that is the same vehicle, so the time is all that protects who pays.
* A plug that is only tried, or a contact that chatters, gives no new time: a vehicle is back when it has stayed for
  ``BACK_AFTER_MS``.
* While nobody knows (the board is lost), what was seen last stands.
"""

from __future__ import annotations

from typing import Final

BACK_AFTER_MS: Final = 5_000


class Absence:
    """Of one transaction's vehicle. Times are monotonic, in ms."""

    def __init__(self) -> None:
        self._left_ms: int | None = None
        self._here_since_ms: int | None = None  # since it left

    def see(self, connected: bool | None, at_ms: int) -> None:
        """The vehicle is (not) there now; None: nobody knows."""
        if connected is False:
            is_back = self._here_since_ms is not None and at_ms - self._here_since_ms >= BACK_AFTER_MS
            if self._left_ms is None or is_back:
                self._left_ms = at_ms
            self._here_since_ms = None
        elif connected and self._left_ms is not None and self._here_since_ms is None:
            self._here_since_ms = at_ms

    @property
    def since_ms(self) -> int | None:
        """Since when it has been away; None: it is there."""
        return self._left_ms if self._here_since_ms is None else None
