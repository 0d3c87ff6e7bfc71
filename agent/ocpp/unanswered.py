"""Status reports that got no answer: which, and when each is told again.

Charter: bookkeeping per EVSE, the same in every version. Whether the CSMS took a report that it did not answer is
unknown: what it was told last no longer counts, and the present status goes again, on the same link too. The waits
grow, so that a CSMS that never answers these is not asked all day. No I/O; time is an argument.

Units: seconds of the event loop. Sources: OCPP 1.6 section 4.9, OCPP 2.0.1 G01; ours as to the waits.
"""

from __future__ import annotations

from typing import Final

WAIT_S: Final = 60.0
WAIT_MAX_S: Final = 3600.0


class Unanswered:
    """The EVSEs whose last report got no answer."""

    def __init__(self) -> None:
        self._due_s: dict[int, float] = {}
        self._in_a_row = 0  # without any answer, of whichever EVSE

    def __contains__(self, evse: int) -> bool:
        return evse in self._due_s

    def note(self, evse: int, now_s: float, *, answered: bool) -> None:
        """What became of a report."""
        if answered:
            self._due_s.pop(evse, None)
            self._in_a_row = 0
            return
        self._in_a_row += 1
        self._due_s[evse] = now_s + min(self._in_a_row * WAIT_S, WAIT_MAX_S)

    def waits(self, now_s: float) -> dict[int, float]:
        """In how many seconds each is to be told again."""
        return {evse: due_s - now_s for evse, due_s in self._due_s.items()}
