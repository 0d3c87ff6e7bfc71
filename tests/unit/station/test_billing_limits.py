"""Limits of money: steps that are paid as they begin, and transactions that nothing prices."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from agent.config.money import Assignment, PriceConfig
from agent.core.facts import StopReason, TxKind
from agent.core.session import SessionState
from agent.station.prepaid import TECHNICIAN
from tests.support.billing_world import CARD, BillingWorld, Site
from tests.unit.station.test_billing_money import FLAT
from tests.unit.station.test_billing_session import said_of_limit

HOUR_S = 3_600


def stepped(dimension: str, **price: Any) -> str:
    return json.dumps({"tariffId": "T", "currency": "EUR", dimension: {"prices": [price]}})


def until_it_ends(world: BillingWorld, most_s: int) -> None:
    for _ in range(most_s // 30):
        if world.core.evses[1].flow.state is not SessionState.ACTIVE:
            break
        world.advance(30_000)
    world.advance(15_000)
    world.finish()


@pytest.mark.parametrize(
    ("tariff", "limit", "cost", "quantity"),
    [
        (stepped("chargingTime", priceMinute=0.1, stepSize=600), "2.00", 200, 1_200_000),
        (stepped("chargingTime", priceMinute=0.1, stepSize=600), "2.99", 200, 1_200_000),
        (stepped("energy", priceKwh=0.5, stepSize=1_000), "1.00", 100, 2_000_000),
        (stepped("energy", priceKwh=0.5, stepSize=1_000), "1.49", 100, 2_000_000),
    ],
)
def test_a_step_that_is_paid_is_given_and_the_next_does_not_begin(
    tariff: str, limit: str, cost: int, quantity: int
) -> None:
    with BillingWorld(Site.selling(tariff)) as world:
        world.charge(3, 32_000)
        assert world.tell_limit(limit)
        until_it_ends(world, HOUR_S)
        [receipt] = world.receipts()
    assert receipt.facts.stop_reason == "LocalOutOfCredit"
    assert receipt.bill is not None and receipt.bill.total_incl == cost and not receipt.bill.adjustments
    [line] = receipt.bill.lines
    used = receipt.energy_mwh if tariff == stepped("energy", priceKwh=0.5, stepSize=1_000) else receipt.lasted_ms
    assert line.quantity == quantity and used is not None and used > 0.98 * quantity


# ------------------------------------------------------------------------------------- without a price


def prepaid(**limits: Any) -> Site:
    return Site(PriceConfig(assign=(Assignment(token=CARD.id_token, **limits),)))


@pytest.mark.parametrize("source", ["told", TECHNICIAN])
def test_a_limit_of_money_is_refused_where_nothing_prices_the_transaction(source: str) -> None:
    with BillingWorld() as world:
        world.charge(10)
        assert said_of_limit(world, "5.00", source=source).startswith("Rejected: no tariff prices this transaction")
        assert said_of_limit(world, "5.00", 20_000, source=source).startswith("Rejected: "), "as a whole"
        assert world.books.limits is None
        assert said_of_limit(world, None, 20_000, source=source) == "Accepted"


def test_what_is_no_number_is_refused_and_of_no_transaction_there_is_no_limit() -> None:
    with BillingWorld(Site.selling(FLAT)) as world:
        assert said_of_limit(world, "5.00", source="told") == "TxNotFound"
        world.charge(10)
        assert said_of_limit(world, "five", source="told") == "Rejected: a limit is no number from 0 on"


@pytest.mark.parametrize("crash", [False, True])
def test_a_limit_is_taken_as_soon_as_a_tariff_is(crash: bool) -> None:
    with BillingWorld() as world:
        world.charge(10)
        asked = world.change_tariff(FLAT)
        assert said_of_limit(world, "2.00", source="told") == "Accepted", "it holds from the next reading on"
        world.advance(3_000)
        assert asked.answer == "Accepted"
        if crash:
            world.crash()
        until_it_ends(world, 600)
        [receipt] = world.receipts()
    assert receipt.bill is not None and 100 < receipt.bill.total_incl <= 200
    assert receipt.facts.stop_reason == "LocalOutOfCredit"


@pytest.mark.parametrize("draws_first", [False, True])
def test_no_energy_is_given_on_a_credit_that_nothing_prices(draws_first: bool) -> None:
    with BillingWorld(prepaid(max_cost=Decimal("0.50"))) as world:
        world.plug()
        if draws_first:
            world.draw()
        world.authorize()
        world.draw()
        world.advance(600_000)
        assert world.log().count("limit_without_price") == 1
        world.finish()
        [end] = [each for each in world.transactions() if each.kind is TxKind.ENDED]
        [receipt] = world.receipts()
        assert world.audit() == []
    assert (world.drawn_mwh, end.stopped_reason, receipt.bill) == (0, StopReason.LOCAL_OUT_OF_CREDIT, None)


def test_other_limits_of_the_site_need_no_price() -> None:
    with BillingWorld(prepaid(max_energy_wh=100)) as world:
        world.charge(60)
        until_it_ends(world, 600)
        assert 50_000 < world.drawn_mwh <= 100_000 and "limit_without_price" not in world.log()


def test_with_a_price_the_limit_of_the_site_holds() -> None:
    price = PriceConfig(tariff=Path("site"), assign=(Assignment(token=CARD.id_token, max_cost=Decimal("2.00")),))
    with BillingWorld(Site(price, {"site": FLAT})) as world:
        world.charge(60)
        until_it_ends(world, 600)
        [receipt] = world.receipts()
        assert receipt.bill is not None and 100 < receipt.bill.total_incl <= 200
        assert "limit_without_price" not in world.log()
