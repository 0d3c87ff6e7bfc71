"""Limits of a transaction: how they are told, and that nobody lifts the site's."""

from __future__ import annotations

import pytest

from agent.core.facts import LimitFact
from agent.station.prepaid import amount_of, lesser, told_limit


def limit(cost: str | None, energy_mwh: int | None, time_ms: int | None, source: str = "told") -> LimitFact:
    return LimitFact("t", 1, cost, energy_mwh, time_ms, source)


@pytest.mark.parametrize(
    ("told", "site", "kept"),
    [
        (limit("9.50", None, None), limit("20", None, None, "site"), limit("9.50", None, None)),
        (limit("100", 5, 7), limit("20.00", 9, None, "site"), limit("20.00", 5, 7)),
        (limit(None, None, 60), limit("20", 3, 30, "site"), limit("20", 3, 30)),
        (limit("0", None, None), limit("0.0", None, None, "site"), limit("0", None, None)),
        (limit("1", 2, 3), None, limit("1", 2, 3)),
    ],
)
def test_of_each_limit_the_smaller_holds(told: LimitFact, site: LimitFact | None, kept: LimitFact) -> None:
    assert lesser(told, site) == kept


@pytest.mark.parametrize("cost", ["", "x", "NaN", "-1", "Infinity", "1e999999999", "1e-999999999", "1_0x"])
def test_what_is_no_amount_is_no_limit(cost: str) -> None:
    assert told_limit("t", 1, cost, None, None, "told") is None


@pytest.mark.parametrize(("energy_mwh", "time_ms"), [(-1, None), (None, -1)])
def test_negative_limits_are_none(energy_mwh: int | None, time_ms: int | None) -> None:
    assert told_limit("t", 1, None, energy_mwh, time_ms, "told") is None


def test_a_limit_is_written_without_exponent() -> None:
    found = told_limit("t", 1, "2E+1", None, None, "told")
    assert found is not None
    assert found.max_cost == "20"
    assert amount_of("12.50") is not None
