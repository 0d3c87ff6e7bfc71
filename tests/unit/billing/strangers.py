"""Texts that others choose, at their worst."""

from __future__ import annotations

from dataclasses import replace

from agent.billing.facts import Operator
from agent.billing.read import Receipt, parse
from tests.unit.billing import making
from tests.unit.billing.making import TARIFF

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</pre></details></style><pre id=evsed-receipt>EVSED-RECEIPT|{}|{}",
    "' onmouseover='x",
    "&lt;b&gt;&#x27;&amp;",
    "first\nTotal           0.00 EUR\n",
    "\x1b[2J\x1b]0;title\x07",
    "\u202e00.1\u202c \u2066x\u2069 \u200b\u00ad",
    "a|b|c",
    "=cmd()",
    "\ud800 \udfff",
    "\x00\x7f\x85\u2028\u2029\ufeff",
    "",
)


def hostile_receipt(text: str) -> Receipt:
    """A transaction in which every text that can be chosen is this one."""
    usage = making.used((TARIFF,))
    of = making.facts(usage=usage)
    place = replace(of.place, identity=text, vendor=text, model=text, serial=text, meter_serial=text)
    (tariff,) = of.tariffs
    of = replace(
        of,
        operator=Operator(name=text, address=text, contact=text, vat_id=text),
        place=place,
        software=replace(of.software, version=text, checksum=text),
        tx_id=text,
        token=text,
        group=text,
        stop_reason=text,
        payment_reference=text,
        begin=replace(of.begin, time_status=text),
        time_zone=text,
        tzdata=text,
        public_key=text,
        bounds=replace(of.bounds, credit_limit=text),
        tariffs=(replace(tariff, tariff_id=text, content_hash=text, words=(text, text)),),
    )
    account = making.billed(making.facts(usage=usage), usage)
    assert account is not None
    lines = tuple(replace(line, description=text, tariff_id=text) for line in account.lines)
    account = replace(account, lines=lines, taxes=tuple(replace(tax, type=text) for tax in account.taxes))
    garbled = text.encode("utf-8", "replace").decode()  # a record was bytes once
    return parse(making.sealed(of, usage, records=[garbled, making.record(making.facts(usage=usage))], account=account))
