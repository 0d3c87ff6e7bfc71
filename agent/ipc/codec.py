"""Dataclasses to JSON and back: for the local socket and for the bodies of ledger rows.

Charter: strict rules between processes, which are of one release: an unknown key is an error. What is stored outlives
the release that wrote it, and may be read by an older one: there an unknown key is left out (ADR 29). Unions are
told apart by a ``_type`` tag, bytes are canonical (sorted keys, no spaces) because ledger bodies are hashed. Bad bytes
raise ``CodecError`` that names what did not fit; nothing else.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar, cast

from cattrs import Converter, transform_error
from cattrs.strategies import configure_tagged_union

from agent.core.commands import Command
from agent.core.facts import KIND_OF, Fact, ReceiptFact, SignedFact, TransactionFact
from agent.ipc.port import News

T = TypeVar("T")


class CodecError(ValueError):
    """Bytes that are not the message they should be."""


def _number(value: Any, kind: type[int]) -> int:
    """A number that a column of the ledger can hold: others would crash whoever stores them."""
    number = kind(value)
    if not -(2**63) <= number < 2**63:
        raise ValueError("more than 64 bits")
    return number


def _make_converter(*, strict: bool) -> Converter:
    converter = Converter(forbid_extra_keys=strict)
    converter.register_structure_hook(int, _number)  # also for bool and for enumerations of numbers
    for union in (Fact, Command, News):
        configure_tagged_union(cast(Any, union), converter)
    return converter


_CONVERTER = _make_converter(strict=True)
_OF_STORED = _make_converter(strict=False)

_FACT_OF_KIND: dict[str, type[Fact]] = {
    "tx_started": TransactionFact,
    "tx_updated": TransactionFact,
    "tx_ended": TransactionFact,
    **{kind: of_kind for of_kind, kind in KIND_OF.items()},
}


def to_plain(value: object, as_type: Any = None) -> Any:
    """JSON-able form; ``as_type`` where the declared type is a union."""
    return _CONVERTER.unstructure(value, as_type)


def from_plain(plain: Any, as_type: Any) -> Any:
    """What another process of this release sent."""
    return _structured(_CONVERTER, plain, as_type)


def from_stored(plain: Any, as_type: Any) -> Any:
    """What was stored, perhaps by a newer release."""
    return _structured(_OF_STORED, plain, as_type)


def _structured(converter: Converter, plain: Any, as_type: Any) -> Any:
    try:
        return converter.structure(plain, as_type)
    except Exception as error:
        # cattrs raises groups of many kinds; all mean that the bytes do not fit.
        raise CodecError("; ".join(transform_error(error))[:500]) from error


def to_json(plain: Any) -> bytes:
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def from_json(data: bytes) -> Any:
    """UTF-8 without halves of characters, neither as bytes nor as escapes: nothing of ours could write them again."""
    try:
        plain = json.loads(data.decode())  # given bytes, it would take other encodings, and halves
        if b"\\u" in data:
            to_json(plain)
    except (ValueError, RecursionError) as error:
        raise CodecError(f"not JSON: {error}"[:200]) from error
    return plain


def encode_fact(fact: Fact) -> bytes:
    """The body of the fact's ledger row."""
    return to_json(_CONVERTER.unstructure(fact))


def decode_fact(kind: str, body: bytes, tx_id: str | None = None, evse: int | None = None) -> Fact | None:
    """The fact in a row of this kind; None for kinds that hold none (genesis, or of a later version).

    A signed document is the body itself; it needs the row's ``tx_id`` and ``evse``."""
    of_kind = _FACT_OF_KIND.get(kind)
    if of_kind is SignedFact or of_kind is ReceiptFact:
        return of_kind(tx_id or "", evse or 0, body.decode(errors="replace"))
    return None if of_kind is None else cast(Fact, from_stored(from_json(body), of_kind))
