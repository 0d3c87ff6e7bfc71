"""C10: the cost of a transaction against a second-by-second simulation with its own reading of the tariff."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.tariff.cost import bill
from tests.support.tariff_oracle import simulate, total
from tests.support.tariff_worlds import TAXES, World, cut_worlds, drive, exact_cost, seconds_of


def check_against_oracle(world: World, cuts: list[int]) -> None:
    session, samples = drive(world, cuts)
    usage = session.usage()
    expected = simulate(world.tariff, world.zone, world.kind, seconds_of(world, samples), world.start_utc_s)
    found = bill(session.tariffs, usage)
    assert found is not None
    assert exact_cost(found) == expected.exact()
    assert (found.total_excl, found.total_incl) == total(world.tariff, expected)


@settings(max_examples=120, deadline=None)
@given(cut_worlds())
def test_c10_cost_equals_that_of_the_oracle(case: tuple[World, list[int]]) -> None:
    check_against_oracle(*case)


SIDES = st.dictionaries(
    st.sampled_from(("exclTax", "inclTax")), st.integers(0, 800).map(lambda cents: cents / 100), min_size=1
)
BOUNDS = st.tuples(st.sampled_from(("minCost", "maxCost")), SIDES).map(lambda drawn: {drawn[0]: drawn[1]})


@settings(max_examples=120, deadline=None)
@given(cut_worlds(), BOUNDS, st.none() | TAXES)
def test_c10_holds_for_a_bound_given_on_one_side_or_both(
    case: tuple[World, list[int]], bound: dict[str, Any], own_rates: list[dict[str, Any]] | None
) -> None:
    world, cuts = case
    if own_rates is not None and "minCost" in bound:
        bound = {"minCost": bound["minCost"] | {"taxRates": own_rates}}
    check_against_oracle(replace(world, tariff=world.tariff | bound), cuts)


NIGHT = {"startTimeOfDay": "22:00", "endTimeOfDay": "06:00"}
HOURS_OF_DST: dict[str, Any] = {
    "tariffId": "T",
    "currency": "EUR",
    "energy": {
        "prices": [
            {"priceKwh": 0.11, "conditions": {"startTimeOfDay": "02:00", "endTimeOfDay": "03:00"}},
            {"priceKwh": 0.22, "conditions": {"startTimeOfDay": "02:30", "endTimeOfDay": "04:00"}},
            {"priceKwh": 0.33, "conditions": NIGHT},
            {"priceKwh": 0.44},
        ],
        "taxRates": [{"type": "VAT", "tax": 19}],
    },
    "chargingTime": {"prices": [{"priceMinute": 0.01, "conditions": {"dayOfWeek": ["Sunday"]}}, {"priceMinute": 0.02}]},
}


@pytest.mark.parametrize("start", ["2026-03-28T22:30:00+00:00", "2026-10-24T21:30:00+00:00"])
def test_c10_holds_through_the_nights_of_the_clock_changes(start: str) -> None:
    start_s = int(datetime.fromisoformat(start).timestamp())
    check_against_oracle(World(HOURS_OF_DST, start_s, ((6 * 3600, "charging", 7_207),)), [1000, 9000])
