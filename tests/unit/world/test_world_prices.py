"""The world's own reading of tariffs: within which amounts a bill must lie."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import pytest

from agent.sim.world.prices import ROUNDING_CENTS, Charged, Prices, bounds

VAT = [{"type": "VAT", "tax": 20}]
SITE = {
    "tariffId": "site",
    "energy": {
        "prices": [
            {"priceKwh": 0.55, "conditions": {"startTimeOfDay": "07:00", "endTimeOfDay": "21:00"}},
            {"priceKwh": 0.35},
        ],
        "taxRates": VAT,
    },
    "idleTime": {"prices": [{"priceMinute": 0.1}]},
    "fixedFee": {"prices": [{"priceFixed": 0.5}]},
}
DAY, NIGHT, FEE = 66, 42, 50  # cents, tax included


def at(hour: int, minute: int = 0) -> int:
    return round(datetime(2030, 1, 2, hour, minute, tzinfo=UTC).timestamp() * 1_000)


def prices(plain: dict[str, Any]) -> Prices:
    return Prices(json.dumps(plain), "Europe/Berlin")


def flat(price: float, **more: Any) -> Prices:
    """So much for a kWh, with 20 % tax."""
    return prices({"tariffId": "flat", "energy": {"prices": [{"priceKwh": price}], "taxRates": VAT}} | more)


def right(*tariffs: Prices, kwh: int = 1, **more: Any) -> tuple[object, object]:
    """Least and most but for rounding, at noon."""
    charged = Charged(kwh * 1_000_000, (at(11), at(11)), clock_sound=True, **more)
    low, high = bounds(tariffs, charged)
    return low + ROUNDING_CENTS, high - ROUNDING_CENTS


@pytest.mark.parametrize(
    ("span", "sound", "least", "most"),
    [
        ((at(11), at(12)), True, DAY, DAY),
        ((at(2), at(3)), True, NIGHT, NIGHT),
        ((at(6, 59), at(7, 30)), True, DAY, DAY),  # in Berlin it is an hour later
        ((at(5, 30), at(6, 30)), True, NIGHT, DAY),
        ((at(11), at(12)), False, NIGHT, DAY),
        ((at(2), at(20)), True, NIGHT, DAY),
    ],
)
def test_a_price_lies_within_what_the_hours_allow(span: tuple[int, int], sound: bool, least: int, most: int) -> None:
    low, high = bounds([prices(SITE)], Charged(1_000_000, span, sound))
    idle = Fraction(span[1] - span[0], 60_000) * 10
    assert low + ROUNDING_CENTS == least + FEE
    assert most + idle + FEE <= high - ROUNDING_CENTS <= most + idle + FEE + 20


def test_hours_may_go_over_midnight() -> None:
    night = {"priceKwh": 1, "conditions": {"startTimeOfDay": "22:00", "endTimeOfDay": "06:00"}}
    tariff = flat(0.5, energy={"prices": [night, {"priceKwh": 0.5}]})
    for hour, cents in ((20, 50), (22, 100), (1, 100), (6, 50)):
        charged = Charged(1_000_000, (at(hour), at(hour, 10)), clock_sound=True)
        low, high = bounds([tariff], charged)
        assert low + ROUNDING_CENTS == cents == high - ROUNDING_CENTS


def test_least_and_greatest_cost_bound_the_bill() -> None:
    assert right(flat(0.5, minCost={"inclTax": 2})) == (200, 200)
    assert right(flat(0.5, minCost={"exclTax": 2})) == (200, 240)  # its tax is not known
    assert right(flat(0.5, maxCost={"inclTax": 0.4})) == (40, 40)
    assert right(flat(0.5, maxCost={"exclTax": 0.4})) == (40, 48)


def test_what_is_no_session_of_its_own_may_cost_less() -> None:
    fee = {"prices": [{"priceFixed": 0.5}]}
    assert right(flat(0.5, fixedFee=fee), whole=False) == (60, 110)
    assert right(flat(0.5, minCost={"inclTax": 2}), whole=False) == (60, 200)
    assert right(flat(0.5, maxCost={"inclTax": 0.4}), whole=False) == (0, 40)


def test_where_nothing_flowed_there_need_be_neither_fee_nor_least_cost() -> None:
    fee = {"prices": [{"priceFixed": 0.5}]}
    assert right(flat(0.5, fixedFee=fee, minCost={"inclTax": 2}), kwh=0) == (0, 200)


def test_of_several_tariffs_each_may_have_priced_any_part() -> None:
    assert right(flat(0.5), flat(1), kwh=10) == (600, 1_200)


def test_what_had_flowed_before_the_last_tariff_has_the_price_before() -> None:
    assert right(flat(0.5), flat(1), kwh=10, before_mwh=(2_000_000, 3_000_000)) == (1_020, 1_080)
    assert right(flat(0.5), flat(1), kwh=1, before_mwh=(2_000_000, 3_000_000)) == (60, 60)  # it never took over
