"""The payload of a receipt: one line of JSON with everything that is needed to check it.

Charter: facts, usage and bill in; bytes out, always the same for the same input. Nothing is computed here: the
bill comes from ``agent.tariff``. The sealing is ``seal``'s, the reading ``read``'s.

Rules: fixed order of keys, no optional white space, ASCII only, no vertical bar even inside text (the frame is
cut at bars), integers for energy and time, text for money and prices. Without a tariff ``usage`` and ``bill``
are null: the operator's back office prices the transaction.

A receipt must fit into one ledger row, whatever was told to the station. What does not fit is left out, least
important first, and ``left_out`` names it: the period table (the bill rests on the volumes), the texts of the
tariffs (they stand in the ledger under their hash), the middle records.

Source: metering reference, section 6. Units: mWh, ms.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from agent.billing import account
from agent.billing.facts import Flags, Moment, Operator, Place, ReceiptFacts, Software, TariffUsed, Terms
from agent.billing.seal import FRAME_MAX_BYTES, seal
from agent.ledger.rows import BODY_MAX_BYTES
from agent.tariff.usage import Usage

if TYPE_CHECKING:
    from agent.tariff.cost import Bill

__all__ = ["Flags", "Moment", "Operator", "Place", "ReceiptFacts", "Software", "TariffUsed", "Terms", "payload", "seal"]

FORMAT: Final = "evsed receipt 1"
PAYLOAD_MAX_BYTES: Final = BODY_MAX_BYTES - FRAME_MAX_BYTES

PERIODS: Final = "periods"
TARIFF_TEXTS: Final = "tariff_texts"
RECORDS: Final = "records"
_LEAVE_OUT: Final = ((), (PERIODS,), (PERIODS, TARIFF_TEXTS), (PERIODS, TARIFF_TEXTS, RECORDS))


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
    for left_out in _LEAVE_OUT:
        line = _line(
            {
                "format": FORMAT,
                "number": number,
                "ledger": {"seq": seq, "prev_hash": prev_hash.hex()},
                **_facts(facts, TARIFF_TEXTS in left_out),
                "usage": None if usage is None else account.usage_plain(usage, PERIODS not in left_out),
                "bill": None if bill is None else account.bill_plain(bill),
                "left_out": list(left_out),
                "records": _ends(records) if RECORDS in left_out else list(records),
            }
        )
        if len(line) <= PAYLOAD_MAX_BYTES:
            return line
    raise ValueError(f"a receipt of {len(line)} bytes without all that can be left out, at most {PAYLOAD_MAX_BYTES}")


def _facts(facts: ReceiptFacts, without_texts: bool) -> dict[str, Any]:
    plain = asdict(facts)
    if without_texts:
        for tariff in plain["tariffs"]:
            tariff["text"] = None
    return plain


def _ends(records: Sequence[str]) -> list[str]:
    return [records[0], *records[-1:]] if len(records) > 1 else list(records)


def _line(plain: dict[str, Any]) -> bytes:
    # A bar stands only inside texts, where JSON has another spelling for it.
    return json.dumps(plain, separators=(",", ":")).replace("|", "\\u007c").encode("ascii")
