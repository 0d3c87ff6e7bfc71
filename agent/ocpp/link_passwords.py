"""Which password the next connection attempt shows: the wanted one, or after a refusal one that is known as well.

Charter: a CSMS may set a password that it does not know itself afterwards. The old one is kept until the new one has
worked (A01); until then a refusal makes the next attempt show the next one in turn, so that the station stays
reachable. A few are kept, in memory only. No I/O here, and none of them is ever printed.

Sources: OCPP 2.0.1 part 2 A01, OCPP 1.6 security white paper A01 (checklist A01, 16-SEC-04; field fault 14).
"""

from __future__ import annotations

from typing import Final

KNOWN_MAX: Final = 3


class Passwords:
    """The passwords of one station, the next to be shown first."""

    def __init__(self) -> None:
        self._wanted: bytes | None = None
        self._known: tuple[bytes, ...] = ()

    def choose(self, wanted: bytes | None, spare: bytes | None) -> bytes | None:
        """For an attempt that begins now. A changed ``wanted`` goes first; ``spare`` is what the station was delivered
        with, for one that was restarted since."""
        if wanted != self._wanted:
            self._wanted = wanted
            in_turn = (wanted, *self._known, spare)
            self._known = tuple(dict.fromkeys(each for each in in_turn if each is not None))[:KNOWN_MAX]
        return self._known[0] if self._known else None

    def worked(self) -> None:
        """The CSMS took what was chosen last. Once the wanted one has worked, the others have had their day."""
        if self._known[:1] == (self._wanted,):
            self._known = self._known[:1]

    def refused(self) -> None:
        """The CSMS did not take it: the next one's turn."""
        self._known = (*self._known[1:], *self._known[:1])
