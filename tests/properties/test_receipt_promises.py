"""What a receipt promises, for any tariff and any course of a transaction (metering reference, section 5).

R2: it verifies with only the printed key; changing any displayed number, or any bit, breaks it.
R3: cost recomputed from receipt and tariff is the cost on the receipt.
C5: the printed lines add up to the printed total.
O1: the receipt of an offline session differs from that of an online one in the flag alone.
"""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.billing import html, text
from agent.billing.account import exact_text
from agent.billing.errors import ReceiptError
from agent.billing.facts import Bounds, Flags, Moment, Operator, ReceiptFacts
from agent.billing.page import find, verify_found
from agent.billing.prices import bill_again
from agent.billing.read import Receipt, parse
from agent.billing.receipt import payload, seal
from agent.billing.seal import opened, signed_by
from agent.billing.verdicts import State, verify
from agent.billing.view import view
from agent.ocmf.public_key import parse_key
from agent.tariff.currency import Rounding
from agent.tariff.usage import Usage
from tests.support.tariff_worlds import World, drive, worlds
from tests.unit.billing import making
from tests.unit.billing.making import KEY

PRINTED_KEY = parse_key(KEY.public_hex)
TEXTS = st.text(max_size=30)


@dataclass(frozen=True)
class Made:
    """A receipt and what it was made from."""

    facts: ReceiptFacts
    usage: Usage
    rounding: Rounding

    def sealed(self) -> bytes:
        bounds = self.facts.bounds
        credit = None if bounds.credit_limit is None else Fraction(bounds.credit_limit)
        bill = making.billed(
            self.facts,
            self.usage,
            rounding=self.rounding,
            credit_limit=credit,
            min_energy_mwh=bounds.min_energy_mwh,
        )
        records = [making.record(self.facts)]
        line = payload(self.facts, self.usage, bill, seq=9, prev_hash=bytes(32), number=3, records=records)
        return seal(line, KEY)


def _facts(world: World, tariff: dict[str, Any], usage: Usage, words: tuple[str, ...], bounds: Bounds) -> ReceiptFacts:
    begin_ms, end_ms = world.start_utc_s * 1_000, (world.start_utc_s + world.duration_s) * 1_000
    name, token, group = words
    return making.facts(
        (tariff,),
        usage,
        operator=Operator(name=name, address=group, contact=token),
        token=token,
        group=group,
        begin=Moment(wall_ms=begin_ms, offset_minutes=60, time_status="I"),
        end=Moment(wall_ms=end_ms, offset_minutes=120, time_status="I"),
        bounds=bounds,
    )


@st.composite
def receipts(draw: st.DrawFn) -> Made:
    world = draw(worlds())
    limits = st.none() | st.sampled_from((0.5, 1, 20.25))
    tariff = world.tariff | {
        name: {"inclTax": limit}
        for name, limit in (("minCost", draw(limits)), ("maxCost", draw(limits)))
        if limit is not None
    }
    session, _ = drive(replace(world, tariff=tariff))
    usage = session.usage()
    credit = draw(st.none() | st.sampled_from(("0.01", "1", "5.555")))
    bounds = Bounds(min_energy_mwh=draw(st.sampled_from((0, 0, 50_000))), credit_limit=credit)
    words = (draw(TEXTS), draw(TEXTS), draw(TEXTS))
    return Made(_facts(world, tariff, usage, words, bounds), usage, draw(st.sampled_from(Rounding)))


def bad(found: Receipt) -> set[str]:
    return {each.name for each in verify(found, PRINTED_KEY) if each.state is not State.GOOD}


# ------------------------------------------------------------------------------------------------ R2


@given(receipts())
@settings(max_examples=35)
def test_r2_verifies_with_only_the_printed_key(made: Made) -> None:
    found = parse(made.sealed())
    assert (found.facts, found.usage) == (made.facts, made.usage)
    assert bad(found) == set()
    page = find(html.render(found).encode())
    assert {each.state for each in verify_found(page, PRINTED_KEY)} == {State.GOOD}
    assert all(line.isprintable() for line in text.render(found).split("\n"))


def _is_good(sealed: bytes) -> bool:
    try:
        line, signature = opened(sealed)
    except ReceiptError:
        return False
    return signed_by(line, signature, KEY.public_der)


def test_r2_any_changed_bit_of_one_receipt_breaks_it() -> None:
    """Each bit of frame and signature, and one bit of each byte of the payload."""
    sealed = making.sealed()
    assert _is_good(sealed)
    line = opened(sealed)[0]
    begin = sealed.index(line)
    for at in range(len(sealed)):
        within = begin <= at < begin + len(line)
        for bit in (at % 8,) if within else range(8):
            changed = bytearray(sealed)
            changed[at] ^= 1 << bit
            assert not _is_good(bytes(changed)), (at, bit)


@given(receipts(), st.data())
@settings(max_examples=35)
def test_r2_any_changed_bit_or_length_breaks_it(made: Made, data: st.DataObject) -> None:
    sealed = bytearray(made.sealed())
    at = data.draw(st.integers(0, len(sealed) - 1))
    how = data.draw(st.sampled_from(("flip", "drop", "double", "swap")))
    changed = bytearray(sealed)
    if how == "flip":
        changed[at] ^= 1 << data.draw(st.integers(0, 7))
    elif how == "drop":
        del changed[at]
    elif how == "double":
        changed.insert(at, changed[at])
    else:
        changed[at], changed[at - 1] = changed[at - 1], changed[at]
    if changed != sealed:
        with contextlib.suppress(ReceiptError):
            assert bad(parse(bytes(changed)))


@given(receipts(), st.data())
@settings(max_examples=35)
def test_r2_any_changed_digit_of_a_page_breaks_it(made: Made, data: st.DataObject) -> None:
    page = html.render(parse(made.sealed()))
    at = data.draw(st.sampled_from([match.start() for match in re.finditer("[0-9]", page)]))
    other = data.draw(st.sampled_from([digit for digit in "0123456789" if digit != page[at]]))
    try:
        found = find((page[:at] + other + page[at + 1 :]).encode())
    except ReceiptError:
        return
    assert State.BAD in {each.state for each in verify_found(found, PRINTED_KEY)}


# ------------------------------------------------------------------------------------------------ R3


@given(receipts())
@settings(max_examples=35)
def test_r3_the_cost_can_be_computed_again(made: Made) -> None:
    found = parse(made.sealed())
    assert found.bill is not None
    assert bill_again(found) == found.bill


@given(receipts(), st.data())
@settings(max_examples=35)
def test_r3_other_usage_than_billed_is_found(made: Made, data: st.DataObject) -> None:
    """By a station that signs what it did not compute so."""
    if not made.usage.volumes:
        return
    at = data.draw(st.integers(0, len(made.usage.volumes) - 1))
    more = replace(made.usage.volumes[at], amount=made.usage.volumes[at].amount + data.draw(st.integers(1, 10**6)))
    usage = replace(made.usage, volumes=(*made.usage.volumes[:at], more, *made.usage.volumes[at + 1 :]))
    bill = parse(made.sealed()).bill
    line = payload(made.facts, usage, bill, seq=9, prev_hash=bytes(32), number=3, records=[making.record(made.facts)])
    assert "cost_recomputed" in bad(parse(seal(line, KEY)))


@pytest.mark.parametrize("amount", [Fraction(0), Fraction(-1, 8), Fraction(1, 10**42), Fraction(10**20)])
def test_r3_prices_are_exact(amount: Fraction) -> None:
    assert Fraction(exact_text(amount)) == amount


# ------------------------------------------------------------------------------------------------ C5


@given(receipts())
@settings(max_examples=40)
def test_c5_printed_lines_add_up_to_the_printed_total(made: Made) -> None:
    table = view(parse(made.sealed())).bill
    assert table is not None
    amounts = [Decimal(row[-1]) for row in table.rows]
    assert sum(amounts) == Decimal(table.total[-1])
    net, tax = re.fullmatch(r"net (-?[0-9.]+), tax (-?[0-9.]+)", table.total[1]).groups()  # type: ignore[union-attr]
    assert Decimal(net) + Decimal(tax) == Decimal(table.total[-1])


# ------------------------------------------------------------------------------------------------ O1


@given(receipts())
@settings(max_examples=30)
def test_o1_offline_differs_in_the_flag_alone(made: Made) -> None:
    offline = replace(made, facts=replace(made.facts, flags=replace(made.facts.flags, offline=True)))
    one, other = (json.loads(opened(each.sealed())[0]) for each in (made, offline))
    assert one != other
    other["flags"]["offline"] = False
    assert one == other
    assert parse(offline.sealed()).bill == parse(made.sealed()).bill
    assert offline.facts.flags == Flags(offline=True, estimated_split=made.facts.flags.estimated_split)
