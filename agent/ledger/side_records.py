"""What else is kept beside the rows: tariffs, keys, meters, witnesses, transactions. Pure: values only.

Charter: records that belong to evidence and so never change: each says what held from some row on.
They are committed together with the rows of their job. The ledger does not look into them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from agent.ledger.rows import BODY_MAX_BYTES, HASH_BYTES
from agent.ledger.state import is_unicode

NAME_MAX_CHARS: Final = 64
SERIAL_MAX_CHARS: Final = 128
KEY_MAX_BYTES: Final = 1024

_INT64: Final = range(-(2**63), 2**63)
_SEQS: Final = range(1, 2**63)


@dataclass(frozen=True, slots=True)
class PutTariff:
    """A tariff's text exactly as received. It goes with a row of kind ``tariff`` in the same job: the
    first with the first, and so on. The same text again only gets its newer row."""

    tariff_id: str
    source: str
    text: bytes

    def __post_init__(self) -> None:
        _check_text("tariff id", self.tariff_id, 0, NAME_MAX_CHARS)
        _check_text("tariff source", self.source, 0, NAME_MAX_CHARS)
        if len(self.text) > BODY_MAX_BYTES:
            raise ValueError(f"tariff of {len(self.text)} bytes, at most {BODY_MAX_BYTES}")

    @property
    def hash(self) -> bytes:
        return hashlib.sha256(self.text).digest()


@dataclass(frozen=True, slots=True)
class PutKey:
    """A public key (DER) that is in use from this job's rows on. The same again changes nothing; another
    key under the same id is a mistake of ours and ends the ledger."""

    key_id: str
    public_der: bytes

    def __post_init__(self) -> None:
        _check_text("key id", self.key_id, 1, SERIAL_MAX_CHARS)
        if len(self.public_der) > KEY_MAX_BYTES:
            raise ValueError(f"public key of {len(self.public_der)} bytes, at most {KEY_MAX_BYTES}")


@dataclass(frozen=True, slots=True)
class PutMeter:
    """The meter of an EVSE from this job's rows on; whatever other one it had ends with the row before.
    The same again changes nothing. ``key_id`` is the key of the signatures over its readings."""

    evse: int
    serial: str
    key_id: str | None = None

    def __post_init__(self) -> None:
        _check_integer("meter's EVSE", self.evse)
        _check_text("meter serial", self.serial, 0, SERIAL_MAX_CHARS)
        if self.key_id is not None:
            _check_text("key id", self.key_id, 1, SERIAL_MAX_CHARS)


@dataclass(frozen=True, slots=True)
class Witness:
    """Somebody outside, called ``name``, knows that row ``seq`` has this hash."""

    seq: int
    head_hash: bytes
    name: str
    wall_ms: int

    def __post_init__(self) -> None:
        _check_text("witness name", self.name, 1, NAME_MAX_CHARS)
        _check_integer("witness time", self.wall_ms)
        if self.seq not in _SEQS or len(self.head_hash) != HASH_BYTES:
            raise ValueError(f"witness of row {self.seq} with a hash of {len(self.head_hash)} bytes")


@dataclass(frozen=True, slots=True)
class PutWitness(Witness):
    """Remember a witness. Its first word on a row stands; only the newest rows' are kept."""


SideRecord = PutTariff | PutKey | PutMeter | PutWitness

# ------------------------------------------------------------------------------- as they are read


@dataclass(frozen=True, slots=True)
class Tariff:
    """``seq`` is the newest row that brought this text."""

    hash: bytes
    tariff_id: str
    source: str
    seq: int
    text: bytes


@dataclass(frozen=True, slots=True)
class SigningKey:
    key_id: str
    public_der: bytes
    from_seq: int


@dataclass(frozen=True, slots=True)
class Meter:
    """``to_seq`` None: still in use."""

    evse: int
    serial: str
    key_id: str | None
    from_seq: int
    to_seq: int | None


@dataclass(frozen=True, slots=True)
class Transaction:
    """Where its first, its last and its newest receipt's row are. ``end_seq`` None: still open."""

    tx_id: str
    evse: int | None
    begin_seq: int
    end_seq: int | None
    receipt_seq: int | None


def _check_text(what: str, text: str, chars_min: int, chars_max: int) -> None:
    """Raises ``ValueError`` for what the tables cannot hold."""
    if not chars_min <= len(text) <= chars_max or "\0" in text or not is_unicode(text):
        raise ValueError(f"{what} {text[:80]!r} is not {chars_min} to {chars_max} storable characters")


def _check_integer(what: str, value: int) -> None:
    if value not in _INT64:
        raise ValueError(f"{what} {value} is not an integer of at most 64 bits")
