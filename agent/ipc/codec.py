"""Dataclasses to JSON and back: for the local socket and for the bodies of ledger rows.

Charter: one converter with strict rules (unknown keys are errors), unions told apart by a ``_type``
tag, canonical bytes (sorted keys, no spaces) because ledger bodies are hashed. Bad bytes raise
``CodecError`` that names what did not fit; nothing else.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar, cast

from cattrs import Converter, transform_error
from cattrs.strategies import configure_tagged_union

from agent.core.commands import Command
from agent.core.facts import BootFact, CheckpointFact, ClockFact, Fact, MeterFact, SecurityFact, TransactionFact
from agent.ipc.port import News

T = TypeVar("T")


class CodecError(ValueError):
    """Bytes that are not the message they should be."""


def _make_converter() -> Converter:
    converter = Converter(forbid_extra_keys=True)
    for union in (Fact, Command, News):
        configure_tagged_union(cast(Any, union), converter)
    return converter


_CONVERTER = _make_converter()

_FACT_OF_KIND: dict[str, type[Fact]] = {
    "tx_started": TransactionFact,
    "tx_updated": TransactionFact,
    "tx_ended": TransactionFact,
    "checkpoint": CheckpointFact,
    "meter": MeterFact,
    "boot": BootFact,
    "clock": ClockFact,
    "security": SecurityFact,
}


def to_plain(value: object, as_type: Any = None) -> Any:
    """JSON-able form; ``as_type`` where the declared type is a union."""
    return _CONVERTER.unstructure(value, as_type)


def from_plain(plain: Any, as_type: Any) -> Any:
    try:
        return _CONVERTER.structure(plain, as_type)
    except Exception as error:
        # cattrs raises groups of many kinds; all mean that the peer's bytes do not fit.
        raise CodecError("; ".join(transform_error(error))[:500]) from error


def to_json(plain: Any) -> bytes:
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def from_json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CodecError(f"not JSON: {error}"[:200]) from error


def encode_fact(fact: Fact) -> bytes:
    """The body of the fact's ledger row."""
    return to_json(_CONVERTER.unstructure(fact))


def decode_fact(kind: str, body: bytes) -> Fact | None:
    """The fact in a row of this kind; None for kinds that hold none (genesis, or of a later version)."""
    of_kind = _FACT_OF_KIND.get(kind)
    return None if of_kind is None else cast(Fact, from_plain(from_json(body), of_kind))
