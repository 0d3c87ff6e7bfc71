"""What a station must not forget when its ledger is set aside: read from there, for the ledger that follows.

Charter: reads one damaged ledger, changes nothing in it. Each namespace is read by itself, so that one that is lost
takes no other with it; those of which not surely all was read are named, since a promise may be missing there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from agent.ledger.errors import LedgerDamaged, LedgerError
from agent.ledger.reader import LedgerReader
from agent.ledger.rows import Head
from agent.ledger.side_records import PutTariff
from agent.ledger.state import Namespace, Put

_T = TypeVar("_T")

MEMORY: Final = (
    Namespace.FAULT,
    Namespace.AVAILABILITY,
    Namespace.PROFILE,
    Namespace.FORGOTTEN,
    Namespace.LIMIT,
    Namespace.SETTING,
    Namespace.PASSWORD,
    Namespace.CERTIFICATE,
    Namespace.TARIFF,
    Namespace.MONITOR,
    Namespace.FIRMWARE,
    Namespace.CLOCK,
)
"""All but what speaks of rows that stay behind (CURSOR, CSMS_TX, METER) or of the evidence beside that ledger (DAMAGE),
and what can be asked for again (TOKEN)."""

_CONTENT_HASH: Final = re.compile(r"[0-9a-f]{64}")
_NO_TEXT: Final = "\ufffd"  # what a reader makes of bytes that are no text


@dataclass(frozen=True, slots=True)
class Memory:
    """``tariffs`` are those that the values name. ``unread``: of these, what is here may not be all."""

    head: Head | None = None
    values: tuple[Put, ...] = ()
    tariffs: tuple[PutTariff, ...] = ()
    unread: tuple[Namespace, ...] = ()


def recall(evidence: Path) -> Memory:
    """What can be read there: nothing of a file that is gone, or that is no ledger any more."""
    if not evidence.exists() or evidence.stat().st_size == 0:  # SQLite would delete the WAL beside an empty file
        return Memory(unread=MEMORY)
    try:
        with LedgerReader(evidence) as reader:
            return _recall(reader)
    except LedgerError:
        return Memory(unread=MEMORY)


def _recall(reader: LedgerReader) -> Memory:
    read = {namespace: _tried(partial(_values, reader, namespace)) for namespace in MEMORY}
    tariffs = _tried(partial(_tariffs, reader, read[Namespace.TARIFF] or []))
    if tariffs is None:
        read[Namespace.TARIFF] = None
    is_sound = _tried(reader.state_is_sound)
    return Memory(
        head=_tried(reader.head),
        values=tuple(put for found in read.values() for put in found or ()),
        tariffs=tuple(tariffs or ()),
        unread=tuple(namespace for namespace, found in read.items() if found is None or not is_sound),
    )


def _tried(read: Callable[[], _T]) -> _T | None:
    try:
        return read()
    except (LedgerError, TypeError, ValueError):  # the latter for what nobody can have stored
        return None


def _values(reader: LedgerReader, namespace: Namespace) -> list[Put]:
    found = [Put(namespace, key, value) for key, value in reader.state(namespace).items()]
    if any(_NO_TEXT in put.key + put.value for put in found):
        raise ValueError(f"state {namespace}: bytes that are no text")
    return found


def _tariffs(reader: LedgerReader, values: list[Put]) -> list[PutTariff]:
    tariffs = {}
    for content_hash in _CONTENT_HASH.findall(" ".join(put.value for put in values)):
        found = reader.tariff(bytes.fromhex(content_hash))
        tariff = None if found is None else PutTariff(found.tariff_id, found.source, found.text)
        if tariff is None or tariff.hash.hex() != content_hash:
            raise LedgerDamaged(f"tariff {content_hash} is not there any more")
        tariffs[content_hash] = tariff
    return list(tariffs.values())


def tariff_body(tariff: PutTariff) -> bytes:
    """Of the row that a tariff comes with: a ``TariffFact``. The row that it came with first may have been cut."""
    fact = {"content_hash": tariff.hash.hex(), "source": tariff.source, "tariff_id": tariff.tariff_id}
    return json.dumps(fact | {"text": tariff.text.decode()}, separators=(",", ":")).encode()
