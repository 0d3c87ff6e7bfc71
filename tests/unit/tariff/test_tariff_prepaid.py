"""Limits of a transaction: which of them what lies ahead could exceed, steps that are paid as they begin."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from agent.tariff.model import Tariff
from agent.tariff.prepaid import Ahead, Limit, TransactionLimits, exhausted
from agent.tariff.usage import Usage
from tests.support.tariff_json import HOUR_MS, MINUTE_MS, kwh, minute
from tests.unit.tariff.test_tariff_cost import VAT, parsed, stepped, used


def stop(limits: TransactionLimits, usage: Usage, plan: Tariff | None = None) -> Limit | None:
    """At 6 kW: 100 Wh a minute."""
    tariffs = [] if plan is None else [plan]
    return exhausted(limits, tariffs, usage, Ahead(MINUTE_MS, 6_000_000))


def test_energy_and_time_are_used_up_when_an_interval_would_exceed_them() -> None:
    limits = TransactionLimits(max_energy_mwh=1_000_000, max_time_ms=HOUR_MS)
    assert stop(limits, used(900_000, 59 * MINUTE_MS)) is None
    assert stop(limits, used(900_001, 59 * MINUTE_MS)) is Limit.ENERGY
    assert stop(limits, used(900_000, 59 * MINUTE_MS + 1)) is Limit.TIME


def test_cost_is_used_up_at_the_highest_price_that_could_come() -> None:
    plan = parsed(energy=kwh((1, {"maxPower": 1}), (2, {"minPower": 1}), taxRates=VAT), idleTime=minute(0.5))
    limits = TransactionLimits(max_cost=Fraction(10))
    # 0.1 kWh at 2 with tax, and a minute of idling, are 0.738.
    assert stop(limits, used(7_782_000), plan) is None  # 9.26 with tax
    assert stop(limits, used(7_793_000), plan) is Limit.COST  # 9.27


def test_cost_cannot_be_used_up_where_the_tariff_is_capped_or_free() -> None:
    limits = TransactionLimits(max_cost=Fraction(10))
    assert stop(limits, used(90_000_000), parsed(energy=kwh(1), maxCost={"exclTax": 10})) is None
    assert stop(TransactionLimits(max_cost=Fraction(0)), used(90_000_000), parsed(energy=kwh(0))) is None


def test_a_credit_that_nothing_prices_is_used_up() -> None:
    assert stop(TransactionLimits(max_cost=Fraction(10)), used()) is Limit.COST
    assert stop(TransactionLimits(max_energy_mwh=1_000_000), used()) is None


def test_step_may_use_up_the_credit_at_once() -> None:
    plan = parsed(energy={"prices": [{"priceKwh": 1, "stepSize": 1000}]})
    assert stop(TransactionLimits(max_cost=Fraction("1.99")), used(1_000_000), plan) is Limit.COST
    assert stop(TransactionLimits(max_cost=Fraction(2)), used(1_000_000), plan) is None


def ends_at(plan: Tariff, cost: str, usage: Usage, *before: Tariff) -> bool:
    """Looked at each second, at 3.6 kW (1 Wh a second); an end takes ten seconds, and three of energy."""
    limits, ahead = TransactionLimits(max_cost=Fraction(cost)), Ahead(2_000, 3_600_000, 10_000, 3_000)
    return exhausted(limits, [*before, plan], usage, ahead) is Limit.COST


@pytest.mark.parametrize(
    ("plan", "cost", "usage", "ends"),
    [
        # A begun hour costs 2: what it pays for costs nothing more, and the third may not begin.
        ({"chargingTime": {"prices": [stepped(0.033333333, 3600)]}}, "4.00", used(0, 1), False),
        ({"chargingTime": {"prices": [stepped(0.033333333, 3600)]}}, "4.00", used(0, HOUR_MS + 1), False),
        ({"chargingTime": {"prices": [stepped(0.0333334, 3600)]}}, "4.00", used(0, HOUR_MS + 1), False),
        ({"chargingTime": {"prices": [stepped(1, 3600)]}}, "120.00", used(0, 2 * HOUR_MS - 12_000), False),
        ({"chargingTime": {"prices": [stepped(1, 3600)]}}, "120.00", used(0, 2 * HOUR_MS - 11_999), True),
        # A begun kWh costs 1.
        ({"energy": {"prices": [{"priceKwh": 1, "stepSize": 1000}]}}, "2.00", used(1_000_001), False),
        ({"energy": {"prices": [{"priceKwh": 1, "stepSize": 1000}]}}, "2.00", used(1_995_000), False),
        ({"energy": {"prices": [{"priceKwh": 1, "stepSize": 1000}]}}, "2.00", used(1_995_001), True),
        ({"energy": {"prices": [{"priceKwh": 1, "stepSize": 1000}]}}, "2.99", used(1_995_000), False),
        ({"energy": {"prices": [{"priceKwh": 1, "stepSize": 1000}]}}, "2.99", used(1_995_001), True),
        # Prices that differ: whichever comes next, a whole step of it may be new.
        ({"chargingTime": {"prices": [stepped(1, 600), stepped(2, 600)]}}, "30.21", used(0, 1), True),
        ({"chargingTime": {"prices": [stepped(1, 600), stepped(2, 600)]}}, "30.40", used(0, 1), False),
        # The vehicle may stop at once: an hour of idling must be left.
        ({"idleTime": {"prices": [stepped(1, 3600)]}, "energy": kwh(1)}, "60.50", used(498_000), False),
        ({"idleTime": {"prices": [stepped(1, 3600)]}, "energy": kwh(1)}, "60.50", used(504_000), True),
    ],
)
def test_the_next_step_is_paid_only_once_it_begins_and_nobody_is_let_into_it(
    plan: dict[str, Any], cost: str, usage: Usage, ends: bool
) -> None:
    assert ends_at(parsed(**plan), cost, usage) is ends


def test_a_step_that_another_tariff_has_begun_is_paid_only_where_the_price_is_the_same() -> None:
    hourly, other = {"chargingTime": {"prices": [stepped(1, 3600)]}}, {"chargingTime": {"prices": [stepped(2, 3600)]}}
    assert not ends_at(parsed(**hourly), "60.00", used(0, 1_000), parsed(**hourly))
    assert ends_at(parsed(**other), "60.00", used(0, 1_000), parsed(**hourly))


def test_two_steps_that_may_begin_are_both_left_room_for() -> None:
    """Else the one that begins leaves none for the other, and ends the transaction as soon as it is paid."""
    both = parsed(chargingTime={"prices": [stepped(1, 3600)]}, idleTime={"prices": [stepped(1, 3600)]})
    assert ends_at(both, "119.99", used())
    assert not ends_at(both, "120.00", used())
    assert not ends_at(both, "120.00", used(0, 1_000))
