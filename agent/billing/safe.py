"""The meter records of a receipt as the XML that transparency software opens.

Charter: chooses number, contexts and key; ``agent.ocmf.container`` writes.
"""

from __future__ import annotations

from typing import Final

from agent.billing.read import Receipt
from agent.core.facts import SampleContext
from agent.ocmf.container import SafeValue, write_container
from agent.ocmf.errors import OcmfError
from agent.ocmf.parse import parse
from agent.ocmf.vocabulary import BEGIN_LETTER, END_LETTERS

_BOTH: Final = ""  # a single record of begin and end


def container(receipt: Receipt) -> bytes | None:
    """None where there is no record, or one that XML cannot carry as it is."""
    values = [
        SafeValue(
            signed=record.encode(),
            public_key=receipt.facts.record_key or receipt.facts.public_key,
            transaction_id=receipt.facts.local_number,
            context=_context(record),
        )
        for record in receipt.records
    ]
    try:
        return write_container(values) if values else None
    except ValueError:
        return None


def _context(record: str) -> str:
    """Begin and end where they are apart: a single record of both needs no context to be whole."""
    try:
        letters = {entry.tx for entry in parse(record.encode()).readings}
    except OcmfError:
        return _BOTH
    begins, ends = BEGIN_LETTER in letters, bool(letters & END_LETTERS)
    if begins == ends:
        return _BOTH
    return SampleContext.BEGIN.value if begins else SampleContext.END.value
