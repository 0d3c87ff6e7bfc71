"""One thing wrong with a receipt, and the verdict that says so. All of them are signed by the true key but where
the signature is what is wrong: a station with a fault of its own must be found too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.billing import html, verdicts
from agent.billing.facts import Flags, Moment
from agent.billing.read import Receipt, parse
from agent.billing.verdicts import State, exit_code, verify
from agent.ocmf.public_key import PublicKey
from agent.tariff.cost import Adjustment, AdjustmentKind, Bill, RoundedPer
from agent.tariff.currency import Rounding
from agent.tariff.usage import Activity
from tests.unit.billing import making
from tests.unit.billing.making import KEY, OTHER_KEY, TARIFF

PUBLIC = PublicKey(der=KEY.public_der)
USAGE = making.used((TARIFF,))
FACTS = making.facts(usage=USAGE)


def good_bill() -> Bill:
    found = making.billed(FACTS, USAGE)
    assert found is not None
    return found


def bad(found: Receipt, key: PublicKey | None = PUBLIC) -> dict[str, str]:
    return {each.name: each.text for each in verify(found, key) if each.state is not State.GOOD}


def receipt(of: Any = FACTS, usage: Any = USAGE, **given: Any) -> Receipt:
    return parse(making.sealed(of, usage, **given))


def test_a_good_receipt_is_good() -> None:
    verdicts_found = verify(receipt(), PUBLIC)
    assert [each.name for each in verdicts_found] == [
        *("signature", "records", "billable", "consistency", "tariff_hash", "cost_recomputed", "sums", "plausibility")
    ]
    assert {each.state for each in verdicts_found} == {State.GOOD}
    assert exit_code(verdicts_found) == 0


def test_without_a_key_the_signature_stays_open() -> None:
    found = receipt()
    assert list(bad(found, None)) == ["signature"]
    assert exit_code(verify(found)) == verdicts.EXIT_OPEN


def test_another_key() -> None:
    other = PublicKey(der=OTHER_KEY.public_der)
    assert set(bad(receipt(), other)) == {"signature", "records", "consistency"}
    assert exit_code(verify(receipt(), other)) == verdicts.EXIT_SIGNATURE


def test_a_forger_with_a_key_of_his_own_is_found_by_the_label() -> None:
    forged = replace(FACTS, public_key=OTHER_KEY.public_hex)
    found = receipt(forged, key=OTHER_KEY, records=[making.record(forged, OTHER_KEY)])
    assert list(bad(found, None)) == ["signature"]
    assert bad(found, PUBLIC)["signature"] == "not signed by this key, or changed since"


@pytest.mark.parametrize("named", ["", "00", "no key", "30" * 91])
def test_a_receipt_that_names_no_key(named: str) -> None:
    assert "signature" in bad(receipt(replace(FACTS, public_key=named)), None)
    assert "consistency" in bad(receipt(replace(FACTS, public_key=named)), PUBLIC)


# ------------------------------------------------------------------------------------------- records


def test_a_record_of_another_key() -> None:
    found = bad(receipt(records=[making.record(FACTS, OTHER_KEY)]))
    assert list(found) == ["records"]


@pytest.mark.parametrize("text", ["", "OCMF", "OCMF|{}|{}x", "é"])
def test_a_record_that_is_none(text: str) -> None:
    found = bad(receipt(records=[making.record(FACTS), text]))
    assert list(found) == ["records"]
    assert found["records"].startswith("record 2: ")


def test_white_space_around_a_record_is_not_verbatim() -> None:
    assert list(bad(receipt(records=[making.record(FACTS) + "\n"]))) == ["records"]


def test_no_record() -> None:
    found = receipt(records=[])
    assert set(bad(found)) == {"records", "billable"}


def test_begin_and_end_apart() -> None:
    records = [making.record(FACTS, letters="B", number="T7"), making.record(FACTS, letters="L", number="T9")]
    assert not bad(receipt(records=records))


def test_begin_record_beside_a_whole_one() -> None:
    records = [making.record(FACTS, letters="B", number="T7"), making.record(FACTS, number="T8")]
    assert not bad(receipt(records=records))


def test_no_end() -> None:
    assert list(bad(receipt(records=[making.record(FACTS, letters="B")]))) == ["billable"]


@pytest.mark.parametrize("change", [{"status": "M"}, {"error_flags": "E"}])
def test_readings_that_carry_no_bill(change: dict[str, Any]) -> None:
    found = receipt(records=[making.record(FACTS, **change)])
    assert list(bad(found)) == ["billable"]
    assert exit_code(verify(found, PUBLIC)) == verdicts.EXIT_NOT_BILLABLE


def test_the_station_says_that_it_is_not_billable() -> None:
    assert list(bad(receipt(replace(FACTS, flags=Flags(not_billable=True))))) == ["billable"]


# --------------------------------------------------------------------------------------- consistency


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"place": replace(FACTS.place, meter_serial="EM-43")}, "another meter"),
        ({"token": "04FFFFFFFFFFFF"}, "another token"),
        ({"begin": replace(FACTS.begin, wall_ms=FACTS.begin.wall_ms + 1)}, "time of the begin"),
        ({"begin": replace(FACTS.begin, offset_minutes=120)}, "time of the begin"),
        ({"begin": replace(FACTS.begin, time_status="S")}, "quality of the clock"),
        ({"end": replace(FACTS.end, wall_ms=FACTS.end.wall_ms - 1)}, "time of the end"),
        ({"begin_mwh": 1_234_567_891}, "register at the begin"),
        ({"end_mwh": 1_247_744_434}, "register at the end"),
        ({"end_mwh": None}, "register at the end"),
        ({"flags": Flags(estimated_split=True)}, "divided"),
    ],
)  # fmt: skip
def test_a_receipt_that_differs_from_its_record(change: dict[str, Any], word: str) -> None:
    found = receipt(replace(FACTS, **change), records=[making.record(FACTS)])
    assert list(bad(found)) == ["consistency"]
    assert word in bad(found)["consistency"]
    assert exit_code(verify(found, PUBLIC)) == verdicts.EXIT_INCONSISTENT


def test_energy_that_no_period_accounts_for() -> None:
    periods = (*USAGE.periods[:-1], replace(USAGE.periods[-1], energy_mwh=1))
    assert "energy of the periods" in bad(receipt(usage=replace(USAGE, periods=periods)))["consistency"]


def test_volumes_that_are_not_the_periods() -> None:
    first, *rest = USAGE.volumes
    usage = replace(USAGE, volumes=(replace(first, amount=first.amount + 1), *rest))
    assert "what is billed" in bad(receipt(usage=usage))["consistency"]


def test_a_bill_line_of_a_tariff_that_is_not_there() -> None:
    bill = good_bill()
    lines = (replace(bill.lines[0], tariff=1), *bill.lines[1:])
    assert "consistency" in bad(receipt(account=replace(bill, lines=lines)))


# ----------------------------------------------------------------------------------- tariff and cost


def test_a_tariff_with_another_hash() -> None:
    (tariff,) = FACTS.tariffs
    found = receipt(replace(FACTS, tariffs=(replace(tariff, content_hash="0" * 64),)))
    assert list(bad(found)) == ["tariff_hash"]


@pytest.mark.parametrize("text", ["", "no tariff", "[]", "\ud800"])
def test_a_tariff_that_is_none(text: str) -> None:
    (tariff,) = FACTS.tariffs
    found = receipt(replace(FACTS, tariffs=(replace(tariff, text=text),)), account=good_bill())
    assert set(bad(found)) >= {"tariff_hash", "cost_recomputed"}


def test_a_tariff_of_another_id() -> None:
    (tariff,) = FACTS.tariffs
    assert "consistency" in bad(receipt(replace(FACTS, tariffs=(replace(tariff, tariff_id="cheap"),))))


def test_another_price_than_the_tariffs() -> None:
    """Dearer in the line, consistently up to the total: only computing it again finds that."""
    dear = making.facts((TARIFF | {"fixedFee": {"prices": [{"priceFixed": 5}]}},), USAGE)
    found = receipt(account=making.billed(dear, USAGE))
    assert list(bad(found)) == ["cost_recomputed"]
    assert exit_code(verify(found, PUBLIC)) == verdicts.EXIT_COST


def test_a_missing_bill() -> None:
    found = receipt(account=None, usage=None)
    assert "cost_recomputed" in bad(found)


def test_bounds_belong_to_the_bill() -> None:
    bounds = replace(FACTS.bounds, credit_limit="5.00", min_energy_mwh=1)
    of = replace(FACTS, bounds=bounds)
    limited = making.billed(of, USAGE, credit_limit=5, min_energy_mwh=1)
    assert not bad(receipt(of, account=limited))
    assert list(bad(receipt(of))) == ["cost_recomputed"]
    assert list(bad(receipt(account=limited))) == ["cost_recomputed"]
    assert "cost_recomputed" in bad(receipt(replace(of, bounds=replace(bounds, credit_limit="much")), account=limited))


@pytest.mark.parametrize(
    "change",
    [
        lambda bill: replace(bill, lines=(replace(bill.lines[0], net=bill.lines[0].net + 1), *bill.lines[1:])),
        lambda bill: replace(bill, lines=bill.lines[1:]),
        lambda bill: replace(bill, lines=(replace(bill.lines[0], waived=True), *bill.lines[1:])),
        lambda bill: replace(bill, taxes=()),
        lambda bill: replace(bill, taxes=(replace(bill.taxes[0], amount=0),)),
        lambda bill: replace(bill, taxes=(replace(bill.taxes[0], base=0),)),
        lambda bill: replace(bill, adjustments=(Adjustment(AdjustmentKind.MIN_COST, 1, 0, "more"),)),
        lambda bill: replace(bill, adjustments=(Adjustment(AdjustmentKind.MIN_COST, 0, 1, "more"),)),
        lambda bill: replace(bill, total_excl=bill.total_excl + 1),
        lambda bill: replace(bill, total_incl=bill.total_incl + 1),
        lambda bill: replace(
            bill,
            lines=(
                replace(bill.lines[0], net=bill.lines[0].net + 1),
                replace(bill.lines[1], net=bill.lines[1].net - 1),
                *bill.lines[2:],
            ),
        ),
    ],
)  # fmt: skip
def test_a_bill_that_does_not_add_up(change: Any) -> None:
    found = bad(receipt(account=change(good_bill())))
    assert "sums" in found


QUARTERS = [
    {
        "tariffId": f"quarter-{number}",
        "currency": "EUR",
        "energy": {"prices": [{"priceKwh": 0.3}], "taxRates": [{"type": "VAT", "tax": 19}]},
    }
    for number in range(3)
]
QUARTERLY = making.used(QUARTERS, [(900_000, 17_500, Activity.CHARGING)] * 3)


def test_a_receipt_that_was_rounded_line_by_line_stays_true() -> None:
    """Written before ADR 32, byte for byte: 0.525 cents in each of three lines."""
    found = parse(Path(__file__).with_name("receipt_rounded_per_line.txt").read_bytes())
    assert found.bill is not None
    assert ([line.net for line in found.bill.lines], found.bill.total_excl) == ([1, 1, 1], 3)
    assert not bad(found)
    assert "Each line is rounded once (HALF_UP)" in html.render(found), "as on the pages that were given away"


def test_a_receipt_names_what_was_rounded_once() -> None:
    of = making.facts(QUARTERS, QUARTERLY)
    found = receipt(of, QUARTERLY)
    assert found.bill is not None
    assert ([line.net for line in found.bill.lines], found.bill.total_excl) == ([1, 0, 1], 2)
    assert b'"rounding":"HALF_UP","rounded_per":"dimension"' in found.payload
    assert not bad(found)
    for other in (replace(found.bill, rounded_per=RoundedPer.LINE), replace(found.bill, rounding=Rounding.DOWN)):
        assert set(bad(receipt(of, QUARTERLY, account=other))) == {"cost_recomputed", "sums"}


def test_no_tariff_is_no_mistake() -> None:
    found = receipt(making.facts(()), None)
    assert not bad(found)


@pytest.mark.parametrize("currency", ["JPY", "KWD", "EUR"])
def test_currencies_of_other_minor_units(currency: str) -> None:
    tariff = TARIFF | {"currency": currency}
    usage = making.used((tariff,))
    assert not bad(receipt(making.facts((tariff,), usage), usage))


def test_several_tariffs_and_taxes_on_taxes() -> None:
    rates = [{"type": "VAT", "tax": 7.7}, {"type": "city", "tax": 1.5}, {"type": "on top", "tax": 3, "stack": 1}]
    other = {
        "tariffId": "second",
        "currency": "EUR",
        "energy": {"prices": [{"priceKwh": 0.123456}], "taxRates": rates},
        "maxCost": {"inclTax": 3},
    }
    usage = making.used((TARIFF, other))
    assert not bad(receipt(making.facts((TARIFF, other), usage), usage))


# -------------------------------------------------------------------------------------- plausibility


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"end": Moment(wall_ms=FACTS.begin.wall_ms - 1, offset_minutes=60, time_status="I")}, "before it begins"),
        ({"end_mwh": making.BEGIN_MWH - 1}, "fell"),
        ({"end_mwh": 10**13}, "megawatt"),
        ({"unassigned_before_mwh": -1}, "below"),
    ],
)
def test_what_cannot_have_been(change: dict[str, Any], word: str) -> None:
    assert word in bad(receipt(replace(FACTS, **change)))["plausibility"]


@pytest.mark.parametrize(
    "change",
    [
        {"end": Moment(wall_ms=FACTS.begin.wall_ms - 1, offset_minutes=60, time_status="I")},
        {"end_mwh": making.BEGIN_MWH + 10**11, "end": FACTS.begin},
    ],
)
def test_a_clock_that_was_lost_with_the_power_makes_nothing_implausible(change: dict[str, Any]) -> None:
    """World 500: a transaction ended after a power cut, at a time 400 days before."""
    flags = replace(FACTS.flags, power_failure=True)
    found = receipt(replace(FACTS, flags=flags, **change))
    assert "megawatt" not in bad(found).get("plausibility", "") and "begins" not in bad(found).get("plausibility", "")


@pytest.mark.parametrize("change", [{"charging_ms": 10**9}, {"to_ms": 0}, {"from_ms": 5}])
def test_periods_that_cannot_have_been(change: dict[str, Any]) -> None:
    periods = (USAGE.periods[0], replace(USAGE.periods[1], **change), *USAGE.periods[2:])
    assert "plausibility" in bad(receipt(usage=replace(USAGE, periods=periods)))
