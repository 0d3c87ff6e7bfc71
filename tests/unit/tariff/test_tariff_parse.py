"""Reading tariffs: what is refused, where and with which words; the content hash."""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from agent.tariff.canonical import MAX_BYTES, canonical, load
from agent.tariff.model import Conditions, Description, EvseKind, Price, TaxRate
from agent.tariff.parse import MAX_PRICES, content_hash, parse_tariff
from agent.tariff.problem import TariffError

HEAD: dict[str, Any] = {"tariffId": "T", "currency": "EUR"}


def problems(data: Any) -> list[str]:
    with pytest.raises(TariffError) as caught:
        parse_tariff(data)
    return [str(each) for each in caught.value.problems]


def energy(**price: Any) -> dict[str, Any]:
    return HEAD | {"energy": {"prices": [{"priceKwh": 0.3} | price]}}


def with_price(number: str) -> str:
    return json.dumps(energy(priceKwh="?")).replace('"?"', number)


def test_whole_tariff_is_read() -> None:
    text = """{"tariffId": "T", "currency": "EUR", "validFrom": "2026-01-01T00:00:00+01:00",
      "description": [{"format": "UTF8", "language": "de", "content": "Nachtstrom"}],
      "energy": {"prices": [{"priceKwh": 0.3, "stepSize": 100, "conditions": {
          "startTimeOfDay": "22:00", "endTimeOfDay": "00:00", "dayOfWeek": ["Monday", "Sunday"],
          "validFromDate": "2026-02-28", "validToDate": "2026-03-01", "evseKind": "DC",
          "minEnergy": 0.5, "maxEnergy": 2e3, "minCurrent": 6, "maxCurrent": 32.5, "minPower": -1, "maxPower": 11000,
          "minTime": 1, "maxTime": 2, "minChargingTime": 3, "maxChargingTime": 4, "minIdleTime": 5, "maxIdleTime": 6
        }, "customData": {"vendorId": "x", "anything": [1]}}],
        "taxRates": [{"type": "VAT", "tax": 19}, {"type": "City", "tax": 1.5, "stack": 1}]},
      "idleTime": {"prices": [{"priceMinute": 0.1, "stepSize": 60}]},
      "fixedFee": {"prices": [{"priceFixed": 1, "conditions": {"paymentBrand": "V", "paymentRecognition": "CC"}}]},
      "minCost": {"inclTax": 2}, "maxCost": {"exclTax": 50, "taxRates": [{"type": "VAT", "tax": 7}]}}"""
    tariff = parse_tariff(text)
    assert tariff.valid_from_ms == 1_767_222_000_000
    assert tariff.descriptions == (Description("de", "Nachtstrom"),)
    assert tariff.energy is not None
    price = tariff.energy.prices[0]
    assert (price.amount, price.step) == (Fraction(3, 10), 100_000)
    held = price.conditions
    assert (held.start_minute, held.end_minute, held.evse_kind) == (1320, 1440, EvseKind.DC)
    assert held.days == frozenset({0, 6})
    assert (str(held.from_date), str(held.to_date)) == ("2026-02-28", "2026-03-01")
    assert (held.min_energy_mwh, held.max_energy_mwh, held.min_current_ma, held.max_current_ma) == (
        *(500, 2_000_000),
        *(6_000, 32_500),
    )
    assert (held.min_power_mw, held.max_power_mw) == (-1_000, 11_000_000)
    assert [held.min_time_s, held.max_time_s, held.min_charging_s, held.max_charging_s] == [1, 2, 3, 4]
    assert [held.min_idle_s, held.max_idle_s] == [5, 6]
    assert tariff.energy.tax_rates == (TaxRate("VAT", Fraction(19)), TaxRate("City", Fraction(3, 2), 1))
    assert tariff.idle_time is not None
    assert tariff.idle_time.prices[0].step == 60_000
    assert tariff.fixed_fee is not None
    assert tariff.fixed_fee.prices[0].conditions == Conditions(payment_brand="V", payment_recognition="CC")
    assert tariff.min_cost == Price(None, Fraction(2))
    assert tariff.max_cost == Price(Fraction(50), None, (TaxRate("VAT", Fraction(7)),))


NUMBER = "a number of at most 1e12, with exponent up to 12 and 30 digits"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("[", "$: expected JSON, found Expecting value in line 1, column 2"),
        ("[1]", "$: expected an object, found a list of 1"),
        (
            b"\xff",
            "$: expected UTF-8 text, found 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte",
        ),
        ("[" * 60_000, "$: expected at most 16 levels, found many more"),
        (" " * (MAX_BYTES + 1), "$: expected at most 65536 bytes, found 65537 bytes"),
        ({}, "$.tariffId: expected a value, found nothing"),
        (HEAD | {"tariffId": ""}, '$.tariffId: expected a text of 1 to 60 characters, found ""'),
        (HEAD | {"tariffId": "x" * 61}, "$.tariffId: expected a text of 1 to 60 characters"),
        (HEAD | {"tariffId": "a\x00"}, "$.tariffId: expected a text without control characters"),
        (HEAD | {"currency": "XXX"}, '$.currency: expected a currency code of ISO 4217 such as EUR, found "XXX"'),
        (HEAD | {"currency": 5}, "$.currency: expected a currency code of ISO 4217 such as EUR, found 5"),
        (HEAD | {"validFrom": "2026-01-01"}, "$.validFrom: expected an instant with zone"),
        (HEAD | {"validFrom": "2026-13-01T00:00:00Z"}, "$.validFrom: expected an instant with zone"),
        (HEAD | {"minCost": {}}, "$.minCost: expected exclTax or inclTax, found an object of 0"),
        (HEAD | {"maxCost": {"exclTax": -1}}, "$.maxCost.exclTax: expected 0 or more"),
        (HEAD | {"energy": {}}, "$.energy.prices: expected a value, found nothing"),
        (HEAD | {"energy": {"prices": []}}, f"$.energy.prices: expected a list of 1 to {MAX_PRICES}"),
        (HEAD | {"energy": {"prices": [{}]}}, "$.energy.prices[0].priceKwh: expected a value, found nothing"),
        (energy(priceKwh="0.3"), f'$.energy.prices[0].priceKwh: expected {NUMBER}, found "0.3"'),
        (energy(priceKwh=True), f"$.energy.prices[0].priceKwh: expected {NUMBER}, found true"),
        (energy(priceKwh=1e13), f"$.energy.prices[0].priceKwh: expected {NUMBER}, found 10000000000000.0"),
        (energy(priceKwh=-0.01), "$.energy.prices[0].priceKwh: expected 0 or more"),
        (energy(stepSize=0), "$.energy.prices[0].stepSize: expected a whole number from 1 to 1000000, found 0"),
        (energy(stepSize=1.5), "$.energy.prices[0].stepSize: expected a whole number from 1 to 1000000, found 1.5"),
        (energy(priceMinute=1), "$.energy.prices[0].priceMinute: expected one of priceKwh, conditions, stepSize"),
        (
            energy(conditions={"startTimeOfDay": "24:00"}),
            "$.energy.prices[0].conditions.startTimeOfDay: expected a time",
        ),
        (energy(conditions={"endTimeOfDay": "9:00"}), "$.energy.prices[0].conditions.endTimeOfDay: expected a time"),
        (
            energy(conditions={"dayOfWeek": ["monday"]}),
            "$.energy.prices[0].conditions.dayOfWeek[0]: expected one of Mond",
        ),
        (
            energy(conditions={"validToDate": "2026-02-30"}),
            "$.energy.prices[0].conditions.validToDate: expected a date t",
        ),
        (
            energy(conditions={"minEnergy": 0.0005}),
            "$.energy.prices[0].conditions.minEnergy: expected at most three dec",
        ),
        (energy(conditions={"minTime": -1}), "$.energy.prices[0].conditions.minTime: expected a whole number from 0"),
        (
            energy(conditions={"paymentBrand": "V"}),
            "$.energy.prices[0].conditions.paymentBrand: expected one of startT",
        ),
        (
            energy(conditions={"evseKind": "ac"}),
            '$.energy.prices[0].conditions.evseKind: expected one of AC, DC, found "ac"',
        ),
        (
            HEAD | {"fixedFee": {"prices": [{"priceFixed": 1, "conditions": {"minTime": 1}}]}},
            "$.fixedFee.prices[0].conditions.minTime: expected one of startTimeOfDay",
        ),
        (
            HEAD | {"energy": {"prices": [{"priceKwh": 1}], "taxRates": [{"type": "VAT", "tax": -1}]}},
            "$.energy.taxRates[0].tax: expected a percentage from 0 to 1000, found -1",
        ),
        (
            HEAD | {"energy": {"prices": [{"priceKwh": 1}], "taxRates": [{"type": "VAT", "tax": 1, "stack": 10}]}},
            "$.energy.taxRates[0].stack: expected a whole number from 0 to 9, found 10",
        ),
        (HEAD | {"description": [{"format": "X", "content": "a"}]}, "$.description[0].format: expected one of ASCII"),
    ],
)
def test_problem_names_place_expectation_and_finding(data: Any, expected: str) -> None:
    assert any(each.startswith(expected) for each in problems(data)), problems(data)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e13", "1E-13", "1e999999999", "1" * 31])
def test_numbers_that_no_price_needs_are_refused(number: str) -> None:
    assert [each.split(":")[0] for each in problems(with_price(number))] == ["$.energy.prices[0].priceKwh"]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), Decimal("NaN")])
def test_so_are_those_of_a_dict(number: Any) -> None:
    assert problems(energy(priceKwh=number))


@pytest.mark.parametrize(("number", "value"), [("0.30", "3/10"), ("1e-12", "1/1000000000000"), ("2E+2", "200")])
def test_numbers_are_exact(number: str, value: str) -> None:
    tariff = parse_tariff(with_price(number))
    assert tariff.energy is not None
    assert tariff.energy.prices[0].amount == Fraction(value)


def test_all_problems_come_at_once() -> None:
    text = '{"tariffId":"","tariffId":"","x":1,"energy":{"prices":[{"priceKwh":NaN},{"priceKwh":-1}]}}'
    assert [each.split(":")[0] for each in problems(text)] == [
        "$.tariffId",
        "$.energy.prices[0].priceKwh",
        "$.x",
        "$.currency",
        "$.energy.prices[1].priceKwh",
    ]


def test_negative_prices_are_read_where_allowed() -> None:
    tariff = parse_tariff(energy(priceKwh=-0.01), allow_negative=True)
    assert tariff.energy is not None
    assert tariff.energy.prices[0].amount == Fraction(-1, 100)


WITH_ALL_TEXTS = """{"tariffId": "t#", "currency": "EUR",
  "description": [{"format": "UTF8", "language": "de#", "content": "Nacht#"}],
  "energy": {"prices": [{"priceKwh": 0.3}], "taxRates": [{"type": "VAT#", "tax": 19}]},
  "fixedFee": {"prices": [{"priceFixed": 1, "conditions": {"paymentBrand": "V#", "paymentRecognition": "CC#"}}]},
  "maxCost": {"exclTax": 50, "taxRates": [{"type": "VAT#", "tax": 19}]}}"""
HALVES = ("\\ud83d", "\\udd0c", "\\uDD0C\\uD83D")


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("place", range(WITH_ALL_TEXTS.count("#")))
def test_half_a_character_is_refused_in_every_text(place: int, half: str) -> None:
    """As an escape it is good JSON, and whoever would store or send it could not."""
    before, after = WITH_ALL_TEXTS.split("#")[: place + 1], WITH_ALL_TEXTS.split("#")[place + 1 :]
    [found] = problems("".join(before) + half + "".join(after))
    assert "expected a text without half characters" in found
    assert found.isascii()
    assert parse_tariff("".join(before) + "\\ud83d\\udd0c" + "".join(after))  # the two halves of one


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize(
    "more", ['"#": 1', '"#": 1, "#": 1', '"customData": {"#": {"x": 1, "x": 1}}', '"customData": {"#": NaN}']
)
def test_a_problem_can_be_stored_whatever_the_names_of_the_text_are(more: str, half: str) -> None:
    for each in problems('{"tariffId": "T", "currency": "EUR", ' + more.replace("#", half) + "}"):
        assert each.encode()


def test_custom_data_may_hold_anything() -> None:
    """It is in the canonical form, which is ASCII, and nowhere else."""
    text = '{"tariffId": "T", "currency": "EUR", "customData": {"\\ud83d": "\\ud83d"}}'
    assert parse_tariff(text).tariff_id == "T"
    assert canonical(load(text)).isascii()


# --------------------------------------------------------------------------------------------- hash


def test_hash_does_not_see_spaces_and_order_but_the_written_number() -> None:
    one = content_hash('{"tariffId":"T","currency":"EUR","minCost":{"inclTax":0.30}}')
    assert content_hash(b'{ "currency": "EUR", "minCost": {"inclTax": 0.30}, "tariffId": "\\u0054" }') == one
    assert content_hash('{"tariffId":"T","currency":"EUR","minCost":{"inclTax":0.3}}') != one
    assert content_hash({"minCost": {"inclTax": 0.3}, **HEAD}) == content_hash(
        '{"tariffId":"T","currency":"EUR","minCost":{"inclTax":0.3}}'
    )


def test_canonical_form_is_stable_and_reads_as_itself() -> None:
    form = canonical(load('{"b": [1.50, -0, 1E+2, true, null, "\u20ac\\n\\/"], "a": {"\U0001f50c": ""}}'))
    assert form == '{"a":{"\\ud83d\\udd0c":""},"b":[1.50,-0,1E+2,true,null,"\\u20ac\\n/"]}'
    assert canonical(load(form)) == form
    assert json.loads(form)["a"] == {"\U0001f50c": ""}


def test_hash_refuses_what_has_two_readings() -> None:
    with pytest.raises(TariffError, match="the name twice"):
        content_hash('{"a":1,"a":2}')
