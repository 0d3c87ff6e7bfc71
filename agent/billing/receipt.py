"""The payload of a receipt: one line of JSON with everything that is needed to check it.

Charter: facts, usage and bill in; bytes out, always the same for the same input. Nothing is computed here: the
bill comes from ``agent.tariff``. The sealing is ``seal``'s, the reading ``read``'s.

Rules: fixed order of keys, no optional white space, ASCII only, no vertical bar even inside text (the frame is
cut at bars), integers for energy and time, text for money and prices. Without a tariff ``usage`` and ``bill``
are null: the operator's back office prices the transaction.

A receipt must fit into one ledger row, whatever was told to the station. What does not fit is left out, least
important first, and ``left_out`` names it: single periods (those of the same prices are put together, which
changes no sum), the texts and words of the tariffs (they stand in the ledger), the records
between the first and the last, at the very end the whole account (the ledger has it).

Source: metering reference, section 6. Units: mWh, ms.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, Final

from agent.billing import account
from agent.billing.facts import Bounds, Flags, Moment, Operator, Place, ReceiptFacts, Software, TariffUsed
from agent.billing.seal import FRAME_MAX_BYTES, seal
from agent.ledger.rows import BODY_MAX_BYTES
from agent.tariff.cost import Bill
from agent.tariff.usage import Usage

__all__ = [
    "Bounds",
    "Flags",
    "Moment",
    "Operator",
    "Place",
    "ReceiptFacts",
    "Software",
    "TariffUsed",
    "payload",
    "seal",
]

FORMAT: Final = "evsed receipt 1"
PAYLOAD_MAX_BYTES: Final = BODY_MAX_BYTES - FRAME_MAX_BYTES

PERIODS: Final = "periods"
TARIFF_TEXTS: Final = "tariff_texts"
RECORDS: Final = "records"
ACCOUNT: Final = "account"
LEFT_OUT: Final = (
    (),
    (PERIODS,),
    (PERIODS, TARIFF_TEXTS),
    (PERIODS, TARIFF_TEXTS, RECORDS),
    (PERIODS, TARIFF_TEXTS, RECORDS, ACCOUNT),
)


def payload(
    facts: ReceiptFacts,
    usage: Usage | None,
    bill: Bill | None,
    *,
    seq: int,
    prev_hash: bytes,
    number: int,
    records: Sequence[str],
) -> bytes:
    """The bytes to seal. ``seq`` and ``prev_hash`` are the place of the receipt in the ledger, ``number`` its
    own; ``records`` the OCMF records of the transaction, exactly as signed."""
    for left_out in LEFT_OUT:
        head = {"format": FORMAT, "number": number, "ledger": {"seq": seq, "prev_hash": prev_hash.hex()}}
        line = written(head | body(facts, usage, bill, records, left_out))
        if len(line) <= PAYLOAD_MAX_BYTES:
            return line
    raise ValueError(f"a receipt of {len(line)} bytes without all that can be left out, at most {PAYLOAD_MAX_BYTES}")


def body(
    facts: ReceiptFacts, usage: Usage | None, bill: Bill | None, records: Sequence[str], left_out: tuple[str, ...]
) -> dict[str, Any]:
    if PERIODS in left_out and usage is not None:
        usage = account.with_fewer_periods(usage)
    if TARIFF_TEXTS in left_out:
        facts = replace(facts, tariffs=tuple(replace(each, text=None, words=()) for each in facts.tariffs))
    if RECORDS in left_out:
        records = [records[0], *records[-1:]] if len(records) > 1 else records
    if ACCOUNT in left_out:
        facts, usage, bill = replace(facts, tariffs=()), None, None
    plain = asdict(facts)
    if facts.bounds.follows is None:
        del plain["bounds"]["follows"]  # as in receipts of before there was such a thing
    return {
        **plain,
        "usage": None if usage is None else account.usage_plain(usage),
        "bill": None if bill is None else account.bill_plain(bill),
        "left_out": list(left_out),
        "records": list(records),
    }


def written(plain: dict[str, Any]) -> bytes:
    """The one way in which a payload is written."""
    # A bar stands only inside texts, where JSON has another spelling for it.
    return json.dumps(plain, separators=(",", ":")).replace("|", "\\u007c").encode("ascii")
