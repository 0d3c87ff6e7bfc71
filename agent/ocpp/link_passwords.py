"""Which password the next connection attempt shows: the wanted one, or after a refusal one that is known as well.

Charter: a CSMS may set a password that it does not know itself afterwards. The last one that worked is kept until the
new one has (A01), over restarts too: the station remembers it. Until then a refusal makes the next attempt show the
next one in turn, so that the station stays reachable. No I/O here, and none of them is ever printed.

One has worked when the CSMS has said something, not at the handshake: some take any, and close at once.

32 to 40 hex digits may stand for 16 to 20 bytes in 1.6, and for themselves in 2.x: both forms are shown in turn
(16-SEC-04).

Sources: OCPP 2.0.1 part 2 A01, OCPP 1.6 security white paper A01 (checklist A01, 16-SEC-03, 16-SEC-04; field fault 14).
"""

from __future__ import annotations

from agent.config.model import KeyEncoding
from agent.config.variable import is_hex


def forms_of(text: str, encoding: KeyEncoding, *, text_first: bool) -> tuple[bytes, ...]:
    """What a password may look like in the header, the likelier first; none: hex is demanded, and this is not."""
    if encoding is KeyEncoding.HEX:
        return (bytes.fromhex(text),) if is_hex(text) else ()
    if encoding is KeyEncoding.TEXT or not 32 <= len(text) <= 40 or not is_hex(text):
        return (text.encode(),)
    forms = (bytes.fromhex(text), text.encode())
    return forms[::-1] if text_first or len(text) < 40 else forms


class Passwords:
    """The passwords of one station. They come in forms, as ``forms_of`` gives them."""

    def __init__(self) -> None:
        self._wanted: tuple[bytes, ...] = ()
        self._delivered: tuple[bytes, ...] = ()
        self._kept: bytes | None = None
        self._worked: bytes | None = None  # the last that did
        self._shown: bytes | None = None
        self._settled = False  # the wanted one has worked: the others have had their day
        self._heard = False  # the CSMS has spoken since the choice
        self._refused = False

    def choose(self, wanted: tuple[bytes, ...], kept: bytes | None, delivered: tuple[bytes, ...]) -> bytes | None:
        """For an attempt that begins now. A changed ``wanted`` goes first; ``kept`` is what the station remembers as
        the last that worked, ``delivered`` what it was delivered with."""
        if set(wanted) != set(self._wanted):
            self._shown, self._settled = None, False
        self._wanted, self._kept, self._delivered = wanted, kept, delivered
        in_turn = self._in_turn()
        if self._shown not in in_turn:
            self._shown = in_turn[0] if in_turn else None
        elif self._refused:
            self._shown = in_turn[(in_turn.index(self._shown) + 1) % len(in_turn)]
        self._heard = self._refused = False
        return self._shown

    def _in_turn(self) -> list[bytes]:
        last = self._worked or self._kept
        form = (last,) if last in self._wanted else ()  # of the two, the one that worked
        others = () if self._settled else (last, *self._delivered)
        return [each for each in dict.fromkeys((*form, *self._wanted, *others)) if each is not None]

    def worked(self) -> bytes | None:
        """The CSMS speaks with who shows what was chosen last. Returns what the station must remember, once."""
        known = self._heard or self._shown in self._delivered
        self._heard = True
        self._worked = self._shown
        self._settled = self._shown in self._wanted
        return None if known else self._shown

    def refused(self) -> None:
        """The CSMS did not take it: the next one's turn."""
        self._refused = True

    def closed(self) -> None:
        """The CSMS let the station in and soon closed: refused, if it said nothing. A CSMS that is merely down does
        the same; where the wanted one has worked already, it is taken for that."""
        self._refused = not self._heard and not self._settled
