"""Warnings: which price hides which, to the bound, and at which local times there is none."""

from __future__ import annotations

from typing import Any

import pytest

from agent.tariff.check import check, not_yet
from agent.tariff.parse import parse_tariff
from tests.support.tariff_json import kwh, minute, tariff, window


def warnings(**parts: Any) -> list[str]:
    return [str(each) for each in check(parse_tariff(tariff(**parts)))]


def hidden(index: int, *by: int) -> str:
    return f"$.energy.prices[{index}]: never counts: always hidden by earlier prices {list(by)}"


NIGHT, DAY = window("00:00", "12:00"), window("12:00", "00:00")


@pytest.mark.parametrize(
    ("prices", "expected"),
    [
        ((1, 2, 3), [hidden(1, 0), hidden(2, 0)]),
        (((1, {"minEnergy": 6}), 2, 3), [hidden(2, 1)]),
        (((1, NIGHT), (2, DAY), (3, DAY)), [hidden(2, 1)]),
        (((1, NIGHT), 2, (3, DAY)), [hidden(2, 1)]),
        (((1, {"dayOfWeek": ["Monday"]}), 2), []),
        ((2, (1, {"dayOfWeek": ["Monday"]})), [hidden(1, 0)]),
        (((1, {"minEnergy": 0}), (2, {"minEnergy": 5}), 3), [hidden(1, 0)]),
        (((1, {"maxPower": 5}), (2, {"maxPower": 0}), 3), [hidden(1, 0)]),
        (((1, {"minPower": 5}), (2, {"minPower": 5}), 3), [hidden(1, 0)]),
        (((1, {"minPower": -5}), (2, {"minPower": -5}), 3), [hidden(1, 0)]),
        (((1, {"minPower": -5}), (2, {"minPower": 5}), 3), []),  # the one is for discharging
        (((1, {"minPower": -6}), (2, {"minPower": -5}), 3), []),
        (((1, {"minPower": 5}), (2, {"minPower": -5}), 3), []),
        (((1, {"maxPower": 5}), (2, {"maxPower": -5}), 3), []),
        (((1, {"minPower": 5}), (2, {"minEnergy": 5}), 3), []),
        (((1, {"maxPower": 5}), 2), []),
        (((1, {"evseKind": "AC"}), (2, {"evseKind": "AC", "minEnergy": 1}), 3), [hidden(1, 0)]),
    ],
)
def test_which_price_hides_which(prices: tuple[Any, ...], expected: list[str]) -> None:
    assert warnings(energy=kwh(*prices)) == expected


@pytest.mark.parametrize(
    ("first", "second", "hides"),
    [
        ({"paymentBrand": "V"}, {"paymentBrand": "V"}, True),
        ({"paymentBrand": "V"}, {"paymentBrand": "M"}, False),
        ({"paymentBrand": "V"}, {}, False),
        ({}, {"paymentBrand": "V"}, True),
        ({"paymentRecognition": "C"}, {"paymentRecognition": "D"}, False),
        ({"paymentRecognition": "C"}, {"paymentRecognition": "C", "evseKind": "AC"}, True),
        ({"evseKind": "DC"}, {"evseKind": "AC"}, False),
    ],
)
def test_fees_for_some_customers_hide_only_what_is_theirs(
    first: dict[str, Any], second: dict[str, Any], hides: bool
) -> None:
    prices = [{"priceFixed": 1, **({"conditions": held} if held else {})} for held in (first, second)]
    found = warnings(fixedFee={"prices": prices})
    assert ("$.fixedFee.prices[1]: never counts: always hidden by earlier prices [0]" in found) is hides


def gap(when: str) -> str:
    return f"$.energy: no price{when}: this costs nothing then"


@pytest.mark.parametrize(
    ("prices", "expected"),
    [
        (((1, window("06:00", "22:00")),), [gap(" at 00:00-06:00, 22:00-24:00")]),
        (
            ((1, window("06:00", "08:00")), (1, window("10:01", "23:59"))),
            [gap(" at 00:00-06:00, 08:00-10:01, 23:59-24:00")],
        ),
        (((1, window("00:01", "00:00")),), [gap(" at 00:00-00:01")]),
        (
            (
                (1, {"validToDate": "2026-06-01"}),
                (2, {"validFromDate": "2026-06-03", "validToDate": "2026-06-10"}),
                (3, {"validFromDate": "2026-07-01"}),
            ),
            [gap(" from 2026-06-01 until before 2026-06-03"), gap(" from 2026-06-10 until before 2026-07-01")],
        ),
        # Monday 1 June to Wednesday 3 June: the other weekdays do not occur, so nothing is missing on them.
        (
            (
                (1, {"validFromDate": "2026-06-01", "validToDate": "2026-06-04", "dayOfWeek": ["Monday", "Wednesday"]}),
                (2, {"validToDate": "2026-06-01"}),
                (3, {"validFromDate": "2026-06-04"}),
            ),
            [gap(" from 2026-06-01 until before 2026-06-04 on Tuesday")],
        ),
        (
            (
                (1, {"validFromDate": "2026-06-01", "validToDate": "2026-06-08", "dayOfWeek": ["Sunday"]}),
                (2, {"validToDate": "2026-06-01"}),
                (3, {"validFromDate": "2026-06-08"}),
            ),
            [gap(" from 2026-06-01 until before 2026-06-08 on Monday, Tuesday, Wednesday, Thursday, Friday, Saturday")],
        ),
    ],
)
def test_when_there_is_no_price(prices: tuple[Any, ...], expected: list[str]) -> None:
    assert warnings(energy=kwh(*prices)) == expected


@pytest.mark.parametrize(
    ("conditions", "text"),
    [
        ({"minEnergy": 5, "maxEnergy": 4}, "minEnergy is not below maxEnergy: never holds"),
        ({"minCurrent": 5, "maxCurrent": 5}, "minCurrent is not below maxCurrent: never holds"),
        ({"minPower": -5, "maxPower": -4}, "minPower is not below maxPower: never holds"),
        ({"minPower": -5, "maxPower": 6}, "minPower is not below maxPower: never holds"),
        ({"minTime": 60, "maxTime": 60}, "minTime is not below maxTime: never holds"),
        ({"minChargingTime": 60, "maxChargingTime": 5}, "minChargingTime is not below maxChargingTime: never holds"),
        ({"minIdleTime": 60, "maxIdleTime": 60}, "minIdleTime is not below maxIdleTime: never holds"),
        ({"maxEnergy": 0}, "maxEnergy is 0: never holds"),
        ({"maxTime": 0}, "maxTime is 0: never holds"),
        ({"maxChargingTime": 0}, "maxChargingTime is 0: never holds"),
        ({"maxIdleTime": 0}, "maxIdleTime is 0: never holds"),
        (
            {"validFromDate": "2026-06-01", "validToDate": "2026-06-01"},
            "validFromDate is not before validToDate: never holds (validToDate is the first day without)",
        ),
    ],
)
def test_what_can_never_hold(conditions: dict[str, Any], text: str) -> None:
    # On the second price: one that can never hold is not told to be hidden as well.
    found = warnings(energy=kwh(3, (1, conditions)))
    assert f"$.energy.prices[1].conditions: {text}" in found
    assert all("hidden" not in each for each in found)


@pytest.mark.parametrize(
    "conditions",
    [
        {"minEnergy": 4, "maxEnergy": 5},
        {"minPower": -4, "maxPower": -5},
        {"maxPower": 0},
        {"maxCurrent": 0},
        {"minPower": 0, "maxPower": 5},
        {"validFromDate": "2026-06-01", "validToDate": "2026-06-02"},
    ],
)
def test_what_can_hold_is_not_warned_of(conditions: dict[str, Any]) -> None:
    assert warnings(energy=kwh((1, conditions), 3)) == []


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"minCost": {"exclTax": 5, "inclTax": 4}}, ["$.minCost: exclTax is above inclTax"]),
        ({"minCost": {"exclTax": 5, "inclTax": 5}}, []),
        ({"minCost": {"inclTax": 5}, "maxCost": {"inclTax": 5}}, []),
        (
            {"minCost": {"inclTax": 5.01}, "maxCost": {"inclTax": 5}},
            ["$.minCost.inclTax: above maxCost.inclTax: every session costs maxCost"],
        ),
        ({"minCost": {"exclTax": 5}, "maxCost": {"inclTax": 4}}, []),
    ],
)
def test_bounds_of_the_whole_cost(parts: dict[str, Any], expected: list[str]) -> None:
    assert warnings(energy=kwh(1), **parts) == expected


def test_what_is_of_the_future_is_told() -> None:
    made = parse_tariff(tariff(energy=kwh(1), validFrom="2026-12-02T00:00:00+01:00"))
    assert made.valid_from_ms is not None and not_yet(made, made.valid_from_ms) == []
    [found] = not_yet(made, made.valid_from_ms - 1)
    assert str(found) == "$.validFrom: 2026-12-01 23:00:00 UTC is in the future: it prices nothing before"
    assert not_yet(parse_tariff(tariff(energy=kwh(1))), 0) == []


def test_every_dimension_is_looked_at() -> None:
    assert warnings(energy=kwh(1), idleTime=minute(1, 2), chargingTime=minute(1, 2)) == [
        "$.chargingTime.prices[1]: never counts: always hidden by earlier prices [0]",
        "$.idleTime.prices[1]: never counts: always hidden by earlier prices [0]",
    ]
