"""Ledger rows and the hash chain that binds them. Pure: no file, no clock.

Every column is covered by the row's hash, and the hash of each row by the next row. The hash is
SHA-256 over this layout (version 1, named by its domain string):

    domain      the bytes of ``DOMAIN``
    seq         unsigned 64 bit, big endian
    kind        field
    prev_hash   32 bytes; zeros in row 1
    tx_id       field
    evse        field
    boot_id     field
    mono_ms     field
    wall_ms     field
    time_status field
    body        field

A field is its length as unsigned 32 bit big endian, then its bytes. Text is ASCII; an integer is 8
bytes, signed, big endian; an absent value is the length 0xFFFFFFFF and no bytes.

A chain finds every change inside it. It cannot show that rows are missing at its end: whoever needs
that compares the head with a witness outside.

Units: ``mono_ms`` is monotonic time of the boot ``boot_id``, ``wall_ms`` UTC since 1970.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

DOMAIN: Final = b"evsed ledger row 1\n"
HASH_BYTES: Final = 32
BODY_MAX_BYTES: Final = 256 * 1024
ID_MAX_CHARS: Final = 64

COUNTER_MAX_CHARS: Final = 32

_KIND: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")
_COUNTER: Final = re.compile(rf"[A-Za-z][A-Za-z0-9_:-]{{0,{COUNTER_MAX_CHARS - 1}}}")
_ABSENT: Final = b"\xff\xff\xff\xff"
_SEQ: Final = struct.Struct(">Q").pack
_LENGTH: Final = struct.Struct(">I").pack
_INTEGER: Final = struct.Struct(">Iq").pack  # its length, itself
_INT64: Final = range(-(2**63), 2**63)


@dataclass(frozen=True, slots=True)
class NewRow:
    """What a caller supplies. Raises ``ValueError`` for what the ledger cannot hold.

    ``time_status`` is one capital letter: how far ``wall_ms`` can be trusted. It is checked here, in
    the caller's own call, because a row refused later by the database would end the ledger."""

    kind: str
    body: bytes
    boot_id: str
    mono_ms: int
    wall_ms: int
    time_status: str
    tx_id: str | None = None
    evse: int | None = None

    def __post_init__(self) -> None:
        _check_fields(self)
        if len(self.body) > BODY_MAX_BYTES:
            raise ValueError(f"ledger row body: {len(self.body)} bytes, at most {BODY_MAX_BYTES}")


@dataclass(frozen=True, slots=True)
class Slot:
    """The place a sealed row gets: known only inside the transaction that writes it."""

    seq: int
    prev_hash: bytes
    number: int | None
    """The next number of the row's counter, where it names one; the first is 1."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """A row whose body depends on its place: it names its number, or the hash of the row before it.

    ``make`` is called in the writer's thread, within the transaction. It may be called again, with
    another slot or the same, for a commit that did not come about: it must change nothing outside.
    Where it raises, the row that ``instead`` makes of the exception takes its place; without that, it is our own
    error and ends the ledger. ``counter`` gives out numbers without gaps: one is used up by the commit that stores
    the row, and by nothing else.

    Raises ``ValueError`` as ``NewRow`` does, and for a counter's name."""

    kind: str
    make: Callable[[Slot], bytes]
    boot_id: str
    mono_ms: int
    wall_ms: int
    time_status: str
    tx_id: str | None = None
    evse: int | None = None
    counter: str | None = None
    instead: Callable[[Exception], NewRow] | None = None

    def __post_init__(self) -> None:
        _check_fields(self)
        if self.counter is not None and not _COUNTER.fullmatch(self.counter):
            raise ValueError(f"ledger row counter: {self.counter!r}")

    def made(self, slot: Slot) -> NewRow:
        """Raises what ``make`` raises; ``TypeError`` or ``ValueError`` for what is no body."""
        body = self.make(slot)
        if not isinstance(body, bytes):
            raise TypeError(f"ledger row body: made as {type(body).__name__}")
        return NewRow(
            self.kind,
            body,
            self.boot_id,
            self.mono_ms,
            self.wall_ms,
            self.time_status,
            self.tx_id,
            self.evse,
        )


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it stands in the ledger. ``seq`` counts from 1 without gaps."""

    seq: int
    kind: str
    tx_id: str | None
    evse: int | None
    body: bytes
    boot_id: str
    mono_ms: int
    wall_ms: int
    time_status: str
    prev_hash: bytes
    hash: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """A place in the chain: all rows up to ``seq``."""

    seq: int
    hash: bytes


START: Final = Head(0, bytes(HASH_BYTES))
"""Before the first row."""


def chain(after: Head, new: NewRow) -> Row:
    """The row that follows ``after``."""
    seq, prev_hash = after.seq + 1, after.hash
    clocks = (new.boot_id, new.mono_ms, new.wall_ms, new.time_status)
    content_hash = hash_of_columns(seq, new.kind, new.tx_id, new.evse, new.body, *clocks, prev_hash)
    return Row(seq, new.kind, new.tx_id, new.evse, new.body, *clocks, prev_hash, content_hash)


def hash_of_columns(
    seq: int,
    kind: str,
    tx_id: str | None,
    evse: int | None,
    body: bytes,
    boot_id: str,
    mono_ms: int,
    wall_ms: int,
    time_status: str,
    prev_hash: bytes,
) -> bytes:
    """The hash of a row that is not one yet: whole ledgers are checked by this, so it is quick.

    Raises ``TypeError``, ``AttributeError`` or ``struct.error`` for columns of other types."""
    kind_bytes, boot_bytes, status_bytes = kind.encode(), boot_id.encode(), time_status.encode()
    tx_bytes = None if tx_id is None else tx_id.encode()
    layout = (
        DOMAIN,
        _SEQ(seq),
        _LENGTH(len(kind_bytes)),
        kind_bytes,
        prev_hash,
        _ABSENT if tx_bytes is None else _LENGTH(len(tx_bytes)) + tx_bytes,
        _ABSENT if evse is None else _INTEGER(8, evse),
        _LENGTH(len(boot_bytes)),
        boot_bytes,
        _INTEGER(8, mono_ms),
        _INTEGER(8, wall_ms),
        _LENGTH(len(status_bytes)),
        status_bytes,
        _LENGTH(len(body)),
        body,
    )
    return hashlib.sha256(b"".join(layout)).digest()


def _check_fields(new: NewRow | Sealed) -> None:
    if not _KIND.fullmatch(new.kind):
        raise ValueError(f"ledger row kind: {new.kind!r}")
    _check_id("boot_id", new.boot_id)
    if new.tx_id is not None:
        _check_id("tx_id", new.tx_id)
    if len(new.time_status) != 1 or not ("A" <= new.time_status <= "Z"):
        raise ValueError(f"ledger row time_status: {new.time_status!r}")
    for name, value in (("mono_ms", new.mono_ms), ("wall_ms", new.wall_ms), ("evse", new.evse)):
        if value is not None and value not in _INT64:
            raise ValueError(f"ledger row {name}: {value} needs more than 64 bits")


def _check_id(name: str, text: str) -> None:
    if not 1 <= len(text) <= ID_MAX_CHARS or not (text.isascii() and text.isprintable()):
        raise ValueError(f"ledger row {name}: {text!r} is not 1 to {ID_MAX_CHARS} printable ASCII characters")
