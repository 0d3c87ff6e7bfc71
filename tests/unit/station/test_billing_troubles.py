"""What a receipt says where something was amiss: no more than was so, and nothing is billed that is not proved."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction

import pytest

from agent.billing.read import Receipt
from agent.billing.report import By, report
from agent.billing.text import render
from agent.billing.verdicts import State, verify
from agent.config.money import PriceConfig, TimePolicy
from agent.core.facts import TransactionFact, TxKind
from agent.core.settings import Behaviour
from agent.ocmf.public_key import PublicKey
from agent.tariff.cost import Unit
from tests.support.billing_world import BillingWorld, Site
from tests.unit.station.test_billing_session import tariff

SOLD = tariff(
    0.5,
    minCost={"inclTax": 3.0},
    fixedFee={"prices": [{"priceFixed": 1.0}]},
    chargingTime={"prices": [{"priceMinute": 0.1, "stepSize": 3600}]},
    idleTime={"prices": [{"priceMinute": 0.1}]},
)
"""What is billed at all costs 3 EUR at least."""

Trouble = Callable[[BillingWorld], None]


def fall(world: BillingWorld) -> None:
    world.register_mwh -= 2_000_000
    world.read_meter()


def exchange(world: BillingWorld) -> None:
    world.serial, world.register_mwh = "M2", 77_000_000
    world.read_meter()


def jump(world: BillingWorld) -> None:
    world.register_mwh += 50_000_000
    world.read_meter()


def exchange_unseen(world: BillingWorld) -> None:
    world.serial, world.register_mwh = "M2", 77_000_000
    world.crash(power=True, away_ms=20_000)


def silence(world: BillingWorld) -> None:
    world.meter_lost()


def ended(world: BillingWorld) -> tuple[Receipt, TransactionFact]:
    world.unplug()
    world.advance(45_000)
    world.finish()
    assert world.audit() == []
    [receipt], [end] = world.receipts(), [each for each in world.transactions() if each.kind is TxKind.ENDED]
    return receipt, end


def gross(receipt: Receipt) -> Fraction:
    [total] = json.loads(report([receipt], By.MONTH).json())["totals"]
    return Fraction(total["gross"])


def lines(receipt: Receipt) -> str:
    """The page's text without its line breaks."""
    return " ".join(render(receipt).split())


@pytest.mark.parametrize("policy", [TimePolicy.INFORMATIVE, TimePolicy.NEVER])
@pytest.mark.parametrize("trouble", [fall, exchange, jump, exchange_unseen])
def test_nothing_is_billed_by_a_meter_that_cannot_be_believed(trouble: Trouble, policy: TimePolicy) -> None:
    """No fee, no time and no minimum either: receipt, the end that the CSMS is told, and report say 0.00."""
    site = Site.selling(SOLD)
    with BillingWorld(Site(PriceConfig(tariff=site.price.tariff, time_policy=policy), site.texts)) as world:
        world.charge(600)
        world.rest()
        world.advance(120_000)
        trouble(world)
        receipt, end = ended(world)
        key = PublicKey(der=world.key.public_der)
    assert receipt.facts.flags.not_billable and receipt.energy_mwh and receipt.usage is not None
    assert (receipt.usage.charging_ms > 0) is (policy is not TimePolicy.NEVER), "how long it took is true all the same"
    assert receipt.bill is not None and (receipt.bill.total_incl, receipt.bill.lines) == (0, ())
    assert (end.total_cost, end.currency) == ("0.00", "EUR")
    assert gross(receipt) == 0
    assert {each.name for each in verify(receipt, key) if each.state is not State.GOOD} == {"billable"}
    shown = lines(receipt)
    assert "Total nothing is billed" in shown and "What it costs" not in shown and "EUR/kWh" not in shown
    assert "are not good enough for a bill" in shown and "The last good reading counts" not in shown


@pytest.mark.parametrize("trouble", [exchange, silence])
def test_energy_is_divided_between_prices_only_where_it_is_billed(trouble: Trouble) -> None:
    """The station is away as the price changes, at 11:10."""
    later = {"priceKwh": 0.5, "conditions": {"startTimeOfDay": "11:10"}}
    text, goes_on = tariff(energy={"prices": [later, {"priceKwh": 0.4}]}), Behaviour(resume_window_ms=600_000)
    with BillingWorld(Site.selling(text, behaviour=goes_on)) as world:
        world.charge(595)
        world.crash(away_ms=10_000)
        world.advance(60_000)
        trouble(world)
        receipt, _ = ended(world)
    divided = trouble is silence
    assert ("Energy was divided between two prices" in lines(receipt)) is divided is receipt.facts.flags.estimated_split


def test_a_meter_that_was_silent_at_the_end_is_believed_up_to_there() -> None:
    with BillingWorld(Site.selling(SOLD)) as world:
        world.charge(600)
        silence(world)
        receipt, end = ended(world)
    assert receipt.bill is not None and Fraction(end.total_cost or 0) == gross(receipt) >= 3
    assert "The last good reading before it does." in lines(receipt) and f"Total {end.total_cost} EUR" in lines(receipt)


# ------------------------------------------------------------------------------------ in other words

NOTHING = "The station's clock was not good enough to bill time: time costs nothing here."
SOME = "For some of the time the station's clock was not good enough to bill time: that time costs nothing."
POWER = "The power failed during this transaction."
INTERRUPTED = "The station was restarted, or had no power, during this transaction. The time in between is not billed."


@pytest.mark.parametrize(
    ("set_after_s", "said", "silent"), [(300, SOME, NOTHING), (None, NOTHING, SOME)], ids=["set", "never"]
)
def test_a_clock_that_was_set_in_mid_session_is_good_for_the_time_from_then_on(
    set_after_s: int | None, said: str, silent: str
) -> None:
    with BillingWorld(Site.selling(SOLD), clock="U") as world:
        world.charge(300)
        if set_after_s is not None:
            world.set_clock()
            world.advance(set_after_s * 1_000)
        receipt, _ = ended(world)
    assert receipt.bill is not None and receipt.facts.flags.time_not_billable
    assert any(line.unit is Unit.TIME for line in receipt.bill.lines) is (set_after_s is not None)
    assert said in lines(receipt) and silent not in lines(receipt)


@pytest.mark.parametrize(
    ("power", "away_ms", "said", "silent"),
    [
        (False, 2_000, INTERRUPTED, POWER),
        (True, 20_000, INTERRUPTED, POWER),
        (True, 86_400_000, POWER, INTERRUPTED),
    ],
    ids=["restart", "short power cut", "ended by a power cut"],
)
def test_only_what_ended_for_a_power_cut_says_for_sure_that_there_was_one(
    power: bool, away_ms: int, said: str, silent: str
) -> None:
    """Of a gap, the rows of a transaction do not tell why nobody was there."""
    with BillingWorld(Site.selling(SOLD)) as world:
        world.charge(20)
        world.crash(power=power, away_ms=away_ms)
        world.advance(60_000)
        receipt, _ = ended(world)
    assert receipt.facts.flags.power_failure and said in lines(receipt) and silent not in lines(receipt)
