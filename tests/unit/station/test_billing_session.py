"""One session in two transactions, since the register began anew: what is charged once, and what bounds both."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from agent.billing.read import Receipt, parse
from agent.billing.text import render
from agent.billing.verdicts import State, verify
from agent.config.money import Assignment, PriceConfig
from agent.core.facts import Forerunner, TransactionFact, TxKind
from agent.ipc.codec import decode_fact, encode_fact
from agent.ocmf.public_key import PublicKey
from agent.station.prepaid import TECHNICIAN
from agent.tariff.currency import from_minor
from agent.tariff.model import Dimension
from tests.support.asked import at_once
from tests.support.billing_world import BillingWorld, Site

MODULUS_MWH = 1_000_000_000_000
VAT = {"taxRates": [{"type": "VAT", "tax": 19}]}


def tariff(price: float = 1, **more: Any) -> str:
    energy = {"energy": {"prices": [{"priceKwh": price}]} | VAT}
    return json.dumps({"tariffId": "T", "currency": "EUR"} | energy | more)


def site(text: str, **limits: Any) -> Site:
    price = PriceConfig(tariff=Path("site"), assign=(Assignment(evse=1, **limits),) if limits else ())
    return Site(price, {"site": text}, rollover_mwh=MODULUS_MWH)


def session(of: Site, *, crash: bool = False, change: str | None = None) -> list[Receipt]:
    """Some 9 Wh before the register began anew, some 31 Wh after."""
    with BillingWorld(of) as world:
        world.register_mwh = MODULUS_MWH - 10_000
        world.read_meter()
        world.charge(10)
        if change is not None:
            world.change_tariff(change)
        world.advance(10_000)
        if crash:
            world.crash()
        world.advance(20_000)
        world.unplug()
        world.finish()
        assert world.audit() == []
        starts = [each for each in world.transactions() if each.kind is TxKind.STARTED]
        assert [each.follows and each.follows.tx_id for each in starts] == [None, "tx-1"]
        receipts, key = world.receipts(), PublicKey(der=world.key.public_der)
    bad = {verdict.name for each in receipts for verdict in verify(each, key) if verdict.state is not State.GOOD}
    assert bad == ({"billable"} if crash else set()), "time is not known over a restart"
    return receipts


def said_of_limit(
    world: BillingWorld, cost: str | None, energy_wh: int | None = None, time_s: int | None = None, *, source: str
) -> str:
    return at_once(world.money.limit(world.tx_id or "none", cost, energy_wh, time_s, source))


def costs(receipts: list[Receipt]) -> list[Fraction]:
    return [from_minor(each.bill.total_incl, "EUR") for each in receipts if each.bill is not None]


@pytest.mark.parametrize("crash", [False, True])
def test_a_start_fee_counts_once(crash: bool) -> None:
    receipts = session(site(tariff(fixedFee={"prices": [{"priceFixed": 1.0}]})), crash=crash)
    fees = [[line.dimension for line in each.bill.lines].count(Dimension.FIXED_FEE) for each in receipts if each.bill]
    assert fees == [1, 0]


@pytest.mark.parametrize("crash", [False, True])
@pytest.mark.parametrize("side, most", [("inclTax", "5"), ("exclTax", "5.95")])
def test_the_maximum_bounds_both_together(side: str, most: str, crash: bool) -> None:
    """At 200 EUR/kWh the first part costs 2.14, the second would cost 7.40."""
    first, second = costs(session(site(tariff(200, maxCost={side: 5.0})), crash=crash))
    assert 2 < first < 3 and first + second == Fraction(most)


def test_a_maximum_that_comes_in_between_bounds_both_together() -> None:
    bounded = tariff(200, maxCost={"inclTax": 5.0})
    assert sum(costs(session(site(tariff(200)), change=bounded))) == 5


def test_the_minimum_is_of_both_together() -> None:
    first, second = costs(session(site(tariff(100, minCost={"inclTax": 4.0}))))
    assert 1 < first < 2 and second > 3, "the second brings the session above it"
    first, second = costs(session(site(tariff(10, minCost={"inclTax": 4.0}))))
    assert first < 1 and first + second == 4


# ------------------------------------------------------- while end and start are on their way to disk

STEPS: dict[str, Callable[[BillingWorld], None]] = {
    "goes on": lambda world: world.advance(20_000),
    "leaves": lambda world: world.unplug(),
    "swipes": lambda world: world.swipe_to_stop(),
    "silent meter": lambda world: world.meter_lost(),
    **{f"crash {kept}": lambda world, kept=kept: world.crash(kept=kept) for kept in range(6)},  # type: ignore[misc]
    "power cut": lambda world: world.crash(power=True, away_ms=600_000, kept=9),
}


def anew(of: Site, what: str) -> list[Receipt]:
    """This happens when the register has begun anew and nothing of it is on disk yet."""
    with BillingWorld(of) as world:
        world.register_mwh = MODULUS_MWH - 10_000
        world.read_meter()
        world.charge(8)
        world.slow_disk = True
        while world.core.evses[1].flow.active:
            world.advance(100)
        assert world.log().count("meter_rollover") == 0
        STEPS[what](world)
        world.slow_disk = False
        world.flush()
        world.advance(60_000 if "crash" in what else 1_000)
        world.finish()
        assert world.audit() == []
        receipts = world.receipts()
        # To a process that finds nothing of it on disk the register fell, and no bill may rest on that.
        assert receipts[-1].facts.flags.not_billable is (what in ("crash 0", "crash 1", "crash 2"))
        assert receipts[-1].bill and receipts[-1].bill.final is not receipts[-1].facts.flags.not_billable
        return receipts


@pytest.mark.parametrize("what", STEPS)
def test_whatever_happens_meanwhile_the_minimum_is_paid_once(what: str) -> None:
    receipts = anew(site(tariff(0.1, minCost={"inclTax": 4.0})), what)
    assert sum(costs(receipts)) == (0 if receipts[-1].facts.flags.not_billable else 4)


@pytest.mark.parametrize("what", STEPS)
def test_whatever_happens_meanwhile_the_maximum_and_the_credit_are_given_once(what: str) -> None:
    """At 200 EUR/kWh, 60 s more would cost 12."""
    assert sum(costs(anew(site(tariff(200, maxCost={"inclTax": 5.0})), what))) <= 5
    receipts = anew(site(tariff(200, minCost={"inclTax": 4.0}), max_cost=5), what)
    prepaid = sum(costs(receipts))
    assert prepaid == 0 if receipts[-1].facts.flags.not_billable else 4 <= prepaid <= 5


def test_the_bounds_hold_for_a_session_in_three() -> None:
    """A small register: it begins anew every 200 seconds."""
    for text, total in (
        (tariff(0.1, minCost={"inclTax": 4.0}), 4),
        (tariff(20, maxCost={"inclTax": 5.0}), 5),
        (tariff(0, fixedFee={"prices": [{"priceFixed": 1.0}]}), 1),
    ):
        with BillingWorld(replace(site(text), rollover_mwh=200_000)) as world:
            world.register_mwh = 190_000
            world.read_meter()
            world.charge(260)
            world.unplug()
            world.finish()
            receipts = world.receipts()
        assert len(receipts) == 3 and sum(costs(receipts)) == total


@pytest.mark.parametrize("who", ["told", TECHNICIAN])
@pytest.mark.parametrize("crash", [False, True])
def test_nobody_lifts_what_the_site_has_left(crash: bool, who: str) -> None:
    with BillingWorld(site(tariff(20), max_cost=5, max_time_s=3_600)) as world:
        world.register_mwh = MODULUS_MWH - 10_000
        world.read_meter()
        world.charge(5)
        before = world.tx_id
        assert before is not None and world.tell_limit(None, 20_000)
        world.advance(30_000)
        assert world.tx_id not in (None, before) and (left := world.books.limits) is not None
        if crash:
            world.crash()
        for energy_wh in (1, 50):  # a limit of the CSMS alone may be lifted again, by the CSMS
            assert said_of_limit(world, "50", energy_wh, 7_200, source=who) == "Accepted"
            holds = world.books.limits
            assert holds is not None and holds.max_energy_mwh == energy_wh * 1_000
            assert (holds.max_cost, holds.max_time_ms) == (left.max_cost, left.max_time_ms)


def test_a_prepaid_session_that_cannot_cost_more_than_its_credit_is_not_ended() -> None:
    receipts = session(site(tariff(200, maxCost={"inclTax": 5.0}), max_cost=5))
    assert sum(costs(receipts)) == 5
    assert receipts[-1].facts.stop_reason == "EVDisconnected"


def test_a_receipt_says_what_it_goes_on_from() -> None:
    first, second = session(site(tariff(200)))
    assert first.facts.bounds.follows is None and b"follows" not in first.payload
    assert first.bill is not None and second.facts.bounds.follows == Forerunner("tx-1", "1.8", "2.14")
    assert parse(second.sealed) == second
    page = render(second)
    assert "Goes on with the session of" in page and "tx-1, which came to 2.14 by then" in page


def test_a_row_of_before_is_read_as_that_of_a_session_of_its_own() -> None:
    with BillingWorld(site(tariff())) as world:
        world.charge(10)
        [started] = [each for each in world.transactions() if each.kind is TxKind.STARTED]
    plain = json.loads(encode_fact(started))
    assert plain.pop("follows") is None
    old = decode_fact("tx_started", json.dumps(plain).encode())
    assert old == replace(started, follows=None) and isinstance(old, TransactionFact)
