"""A receipt out of whatever file holds it, and whether a page shows what is in it.

Charter: a file is a sealed receipt, its JSON form, or an HTML page with one inside. A page is true only when it
is, byte for byte, what our renderer makes of the receipt inside it, in its words of now or of earlier releases: so a
changed number is found wherever it stands. What the operator told (outside the signature) is taken from the page and
marked there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Final

from agent.billing import html
from agent.billing.errors import ReceiptError
from agent.billing.read import SEALED_MAX_BYTES, Receipt, parse
from agent.billing.seal import from_json
from agent.billing.told import Told
from agent.billing.verdicts import State, Verdict, verify
from agent.ocmf.public_key import PublicKey

# A page says everything at most four times: shown, sealed, as records, and as XML in Base64.
FILE_MAX_BYTES: Final = 12 * SEALED_MAX_BYTES
_DISPLAY: Final = "display"


@dataclass(frozen=True, slots=True)
class Found:
    """A receipt and the page it came in, if it came in one."""

    receipt: Receipt
    page: bytes | None = None
    told: Told | None = None


def find(data: bytes) -> Found:
    """The receipt in the bytes of a file, or ``ReceiptError``."""
    if len(data) > FILE_MAX_BYTES:
        raise ReceiptError("file", f"{len(data)} bytes, at most {FILE_MAX_BYTES}")
    if data.startswith(b"{"):
        return Found(parse(from_json(data.removesuffix(b"\n"))))
    if data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] != b"<":
        return Found(parse(data))
    reader = _Reader()
    try:
        reader.feed(data.decode("utf-8"))
    except (UnicodeDecodeError, AssertionError) as error:
        raise ReceiptError("page", f"it cannot be read as HTML: {error}"[:200]) from error
    if reader.count != 1:
        raise ReceiptError("page", f"holds {reader.count} sealed receipts instead of one")
    sealed = "".join(reader.sealed)
    if not sealed.isascii():
        raise ReceiptError("page", "the sealed receipt in it is not ASCII")
    return Found(parse(sealed.encode("ascii")), data, _told(reader.told))


def verify_found(found: Found, key: PublicKey | None = None) -> tuple[Verdict, ...]:
    """The verdicts on the receipt, and on the page where there is one."""
    verdicts = verify(found.receipt, key)
    if found.page is None:
        return verdicts
    pages = (html.render(found.receipt, found.told, earlier=each).encode() for each in (False, True))
    if found.page not in pages:
        text = "the page is not what this version shows of the receipt inside it: trust only the receipt itself"
        return (*verdicts, Verdict(_DISPLAY, State.BAD, text))
    beside = "; what the operator told is not signed" if found.told is not None else ""
    return (*verdicts, Verdict(_DISPLAY, State.GOOD, f"the page shows exactly what is in the receipt{beside}"))


def _told(text: str | None) -> Told | None:
    if text is None:
        return None
    try:
        plain = json.loads(text)
        told = Told(**plain)
    except (ValueError, TypeError, RecursionError) as error:
        raise ReceiptError("page", "what the operator told cannot be read") from error
    if not isinstance(told.cost, str) or not isinstance(told.final, bool) or not isinstance(told.text, str):
        raise ReceiptError("page", "what the operator told cannot be read")
    return told


@dataclass
class _Reader(HTMLParser):
    """Collects the text of the element that holds the sealed receipt."""

    sealed: list[str] = field(default_factory=list)
    told: str | None = None
    count: int = 0
    inside: bool = False

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "pre" and found.get("id") == html.RECEIPT_ID:
            self.count, self.inside = self.count + 1, True
        elif tag == "meta" and found.get("name") == html.TOLD_NAME:
            self.told = found.get("content")

    def handle_endtag(self, tag: str) -> None:
        if tag == "pre":
            self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.sealed.append(data)
