"""Exact limits from JSON numbers (16-SC-13)."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from agent.charging.profiles import LimitNumberError, exact_milli


@pytest.mark.parametrize(
    ("text", "milli"),
    [
        ("8.1", 8_100),
        ("0", 0),
        ("16", 16_000),
        ("16.0", 16_000),
        ("6.10", 6_100),
        ("0.1", 100),
        ("11040.3", 11_040_300),
    ],
)
def test_16_sc_13_one_decimal_is_exact_as_float_and_as_decimal(text: str, milli: int) -> None:
    assert exact_milli(json.loads(text)) == milli
    assert exact_milli(json.loads(text, parse_float=Decimal)) == milli


def test_16_sc_13_every_tenth_of_an_ampere_is_exact() -> None:
    assert [exact_milli(tenths / 10) for tenths in range(1000)] == [tenths * 100 for tenths in range(1000)]


@pytest.mark.parametrize("number", [6.25, 16.15, Decimal("6.01"), 1e-5])
def test_16_sc_13_more_than_one_decimal_is_refused(number: float | Decimal) -> None:
    with pytest.raises(LimitNumberError, match="decimal"):
        exact_milli(number)


def test_more_decimals_where_the_caller_allows_them() -> None:
    assert exact_milli(6.25, decimals=3) == 6_250
    with pytest.raises(LimitNumberError):
        exact_milli(6.2501, decimals=3)


@pytest.mark.parametrize(
    "number", [float("nan"), float("inf"), Decimal("sNaN"), -1, -0.1, 1e300, 10**30, True, "8", None]
)
def test_what_is_no_limit_is_refused(number: float) -> None:
    with pytest.raises(LimitNumberError):
        exact_milli(number)
