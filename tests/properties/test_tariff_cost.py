"""Properties of the cost: C1 to C6, C9 and P1 of the metering notes."""

from __future__ import annotations

import decimal
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.tariff.cost import Bill, bill
from agent.tariff.currency import from_minor, to_minor
from agent.tariff.fold import Session
from agent.tariff.prepaid import Ahead, Limit, TransactionLimits, exhausted
from agent.tariff.usage import Usage, from_plain, to_plain
from tests.support.tariff_worlds import ZONE, World, cut_worlds, drive, exact_cost, point, worlds

AMOUNTS = st.integers(0, 2_000).map(lambda cents: cents / 100)


def billed(session: Session, usage: Usage | None = None, **how: Any) -> Bill:
    found = bill(session.tariffs, session.usage() if usage is None else usage, **how)
    assert found is not None
    return found


def sampled_conditions(tariff: dict[str, Any]) -> bool:
    """Prices of time that depend on energy are looked at at the points: there the cut matters."""
    return any(
        {"minEnergy", "maxEnergy"} & set(price.get("conditions", {}))
        for name in ("chargingTime", "idleTime")
        for price in tariff.get(name, {}).get("prices", [])
    )


@settings(max_examples=60, deadline=None)
@given(cut_worlds())
def test_c1_cost_does_not_depend_on_how_the_session_was_cut(case: tuple[World, list[int]]) -> None:
    world, cuts = case
    if sampled_conditions(world.tariff):
        return
    whole, parts = drive(world)[0], drive(world, cuts)[0]
    assert whole.usage().volumes == parts.usage().volumes
    assert billed(whole) == billed(parts)


@settings(max_examples=60, deadline=None)
@given(cut_worlds(local_only=True, fees=False))
def test_c2_cost_of_two_parts_is_that_of_the_whole(case: tuple[World, list[int]]) -> None:
    world, cuts = case
    edges = sorted({0, world.duration_s, *cuts})
    parts = [drive(world, from_s=low, to_s=high)[0] for low, high in pairwise(edges)]
    whole = drive(world)[0]
    assert exact_cost(billed(whole)) == sum((exact_cost(billed(part)) for part in parts), Fraction(0))


@settings(max_examples=60, deadline=None)
@given(cut_worlds())
def test_a_tariff_in_the_place_of_its_like_changes_no_total(case: tuple[World, list[int]]) -> None:
    """However often the price of a market changes: each dimension is rounded once."""
    world, cuts = case
    prices = {name: {"prices": [{"priceMinute": 0.0333}]} for name in ("chargingTime", "idleTime")}
    world = replace(world, tariff=world.tariff | prices | {"energy": {"prices": [{"priceKwh": 0.3333}]}})
    _, seconds = drive(world, cuts)
    one, many = (Session(world.parsed(), zone=world.zone, evse_kind=world.kind) for _ in range(2))
    for second in sorted(seconds):
        one.add(point(world, second))
        many.add(replace(point(world, second), tariff=world.parsed() if second in cuts and second else None))
    assert (billed(one).total_excl, billed(one).total_incl) == (billed(many).total_excl, billed(many).total_incl)


@settings(max_examples=60, deadline=None)
@given(cut_worlds())
def test_c3_going_on_never_costs_less(case: tuple[World, list[int]]) -> None:
    world, cuts = case
    totals = []
    for end_s in sorted({0, *cuts, world.duration_s}):
        session = drive(world, cuts, to_s=end_s)[0]
        totals.append((billed(session).total_excl, billed(session).total_incl))
    assert totals == sorted(totals)
    assert [incl for _, incl in totals] == sorted(incl for _, incl in totals)


@settings(max_examples=60, deadline=None)
@given(cut_worlds(), AMOUNTS, AMOUNTS)
def test_c4_total_lies_within_the_bounds_and_a_cap_leaves_the_usage(
    case: tuple[World, list[int]], one: float, other: float
) -> None:
    world, cuts = case
    least, most = min(one, other), max(one, other)
    bounds = {"minCost": {"exclTax": least}, "maxCost": {"exclTax": most, "inclTax": most * 2}}
    bounded = replace(world, tariff=world.tariff | bounds)
    session, free = drive(bounded, cuts)[0], drive(world, cuts)[0]
    assert session.usage() == free.usage()
    found = billed(session)
    low, high = (to_minor(Fraction(str(each)), found.currency) for each in (least, most))
    assert low <= found.total_excl <= high
    assert found.total_incl <= to_minor(Fraction(str(most * 2)), found.currency)
    assert billed(session, final=False).total_excl == min(high, billed(free, final=False).total_excl)


@settings(max_examples=60, deadline=None)
@given(worlds(), st.sampled_from(("minCost", "maxCost")), AMOUNTS, AMOUNTS)
def test_a_bound_with_both_sides_invents_no_tax_and_no_cost(world: World, name: str, excl: float, incl: float) -> None:
    def with_bound(**sides: float) -> Bill:
        return billed(drive(replace(world, tariff=free | ({name: sides} if sides else {})))[0])

    free = {key: each for key, each in world.tariff.items() if key not in ("minCost", "maxCost")}
    without, both = with_bound(), with_bound(exclTax=excl, inclTax=incl)
    singles = with_bound(exclTax=excl), with_bound(inclTax=incl)
    totals = [(each.total_excl, each.total_incl) for each in singles]
    if name == "maxCost":
        assert all(both.total_excl <= net and both.total_incl <= gross for net, gross in totals)
    else:
        assert all(both.total_excl >= net and both.total_incl >= gross for net, gross in totals)
    if both.total_excl == without.total_excl:
        cents = abs(both.total_incl - without.total_incl)
        assert cents <= 1 + len(without.taxes), "where the net stays, the tax moves by what was rounded"


@settings(max_examples=60, deadline=None)
@given(worlds(), AMOUNTS, AMOUNTS, st.none() | AMOUNTS)
def test_c5_printed_lines_add_up(world: World, least: float, most: float, credit: float | None) -> None:
    tariff = world.tariff | {"minCost": {"inclTax": least}, "maxCost": {"exclTax": most}}
    limit = None if credit is None else Fraction(str(credit))
    found = billed(drive(replace(world, tariff=tariff))[0], credit_limit=limit)
    net = sum(line.net for line in found.lines)
    taxes = sum(tax.amount for tax in found.taxes)
    assert found.total_excl == net + sum(each.net for each in found.adjustments)
    assert found.total_incl == found.total_excl + taxes + sum(each.tax for each in found.adjustments)
    for tax in found.taxes:
        assert tax.amount == to_minor(from_minor(tax.base, found.currency) * tax.percent / 100, found.currency)
    for rates in {line.tax_rates for line in found.lines}:
        bases = {tax.base for tax in found.taxes if tax.stack == min(rate.stack for rate in rates)} if rates else set()
        assert not rates or sum(line.net for line in found.lines if line.tax_rates == rates) in bases


@contextmanager
def elsewhere() -> Iterator[None]:
    """Another process's surroundings."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "Pacific/Kiritimati"
    time.tzset()
    try:
        with decimal.localcontext(decimal.Context(prec=2, rounding=decimal.ROUND_UP)):
            yield
    finally:
        os.environ.pop("TZ")
        if before is not None:
            os.environ["TZ"] = before
        time.tzset()


@settings(max_examples=50, deadline=None)
@given(cut_worlds())
def test_c6_cost_is_the_same_under_any_time_zone_variable_and_decimal_context(case: tuple[World, list[int]]) -> None:
    world, cuts = case
    here = drive(world, cuts)[0]
    with elsewhere():
        there = drive(world, cuts)[0]
        assert (billed(here), here.usage()) == (billed(there), there.usage())


SPLITS = st.sampled_from(
    (
        ({"startTimeOfDay": "00:03", "endTimeOfDay": "18:00"}, {"startTimeOfDay": "18:00", "endTimeOfDay": "00:03"}),
        ({"startTimeOfDay": "02:30"}, {"endTimeOfDay": "02:30"}),
        (
            {"dayOfWeek": ["Sunday", "Monday"]},
            {"dayOfWeek": ["Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]},
        ),
        ({"validToDate": "2027-01-01"}, {"validFromDate": "2027-01-01"}),
        ({"maxTime": 300}, {"minTime": 300}),
        ({"maxChargingTime": 61}, {"minChargingTime": 61}),
        ({"maxIdleTime": 7}, {"minIdleTime": 7}),
        ({"maxPower": 11_000}, {"minPower": 11_000}),
        ({"maxEnergy": 333}, {"minEnergy": 333}),
    )
)


@settings(max_examples=60, deadline=None)
@given(cut_worlds(), SPLITS, st.sampled_from(("energy", "chargingTime", "idleTime")))
def test_c9_two_complementary_conditions_are_no_condition(
    case: tuple[World, list[int]], split: tuple[dict[str, Any], dict[str, Any]], dimension: str
) -> None:
    world, cuts = case
    name = "priceKwh" if dimension == "energy" else "priceMinute"
    one = world.tariff | {dimension: {"prices": [{name: 0.333}]}}
    two = world.tariff | {dimension: {"prices": [{name: 0.333, "conditions": each} for each in split]}}
    found = [billed(drive(replace(world, tariff=tariff), cuts)[0]) for tariff in (one, two)]
    assert found[0].lines == found[1].lines
    assert (found[0].total_excl, found[0].total_incl) == (found[1].total_excl, found[1].total_incl)


@settings(max_examples=60, deadline=None)
@given(worlds(), AMOUNTS, st.integers(1, 120))
def test_p1_prepaid_stops_in_time_and_bills_no_more_than_the_credit(world: World, credit: float, every_s: int) -> None:
    limit = Fraction(str(credit))
    session = Session(world.parsed(), zone=ZONE, evse_kind=world.kind)
    highest_mw = max(power_w for _, _, power_w in world.spans) * 1000
    limits = TransactionLimits(max_cost=limit)
    for second in range(0, world.duration_s, every_s):
        session.add(point(world, second))
        stop = exhausted(limits, session.tariffs, session.usage(), Ahead(every_s * 1000, highest_mw))
        if stop is Limit.COST:
            break
    unlimited = billed(session, final=False)
    fee = from_minor(billed(session, Usage(volumes=_fees(session))).total_incl, unlimited.currency)
    roundings = Fraction(12, 1) * from_minor(1, unlimited.currency)
    assert from_minor(unlimited.total_incl, unlimited.currency) <= max(limit, fee) + roundings
    final = billed(session, credit_limit=limit)
    assert from_minor(final.total_incl, final.currency) <= limit


def _fees(session: Session) -> Any:
    return tuple(each for each in session.usage().volumes if each.dimension == "fixedFee")


@settings(max_examples=50, deadline=None)
@given(cut_worlds())
def test_usage_survives_being_written_down(case: tuple[World, list[int]]) -> None:
    usage = drive(*case)[0].usage()
    assert from_plain(to_plain(usage)) == usage


def test_elsewhere_is_elsewhere() -> None:
    with elsewhere():
        assert time.timezone == -14 * 3600
        with pytest.raises(AssertionError):
            assert decimal.Decimal(1) / 3 == decimal.Decimal("0.3333")
