"""What a transaction costs that station or CSMS kept from any energy."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from agent.billing.prices import bill_again
from agent.billing.verdicts import State, verify
from agent.config.money import Assignment, PriceConfig
from agent.core.commands import Reset
from agent.core.effects import AllowPower, Effect
from agent.core.events import Commanded, Deauthorized, Event, FromPilot
from agent.core.facts import TxKind
from agent.ocmf.public_key import PublicKey
from agent.tariff.currency import from_minor
from hal.ports import BoardFault, BoardFaults
from tests.support.billing_world import CARD, BillingWorld, Site
from tests.unit.station.test_billing_session import MODULUS_MWH, costs, site, tariff

FEE: dict[str, Any] = {"fixedFee": {"prices": [{"priceFixed": 1.0}]}}
SOLD = tariff(0.5, minCost={"inclTax": 3.0}, idleTime={"prices": [{"priceMinute": 0.1}]}, **FEE)


class Broken(BillingWorld):
    """Its contactor never closes."""

    def _carry_out(self, effect: Effect) -> list[Event]:
        return [] if isinstance(effect, AllowPower) else super()._carry_out(effect)


def cost(world: BillingWorld) -> Fraction:
    """Of the only transaction; ledger, receipt and the row of the end say the same."""
    world.unplug()
    world.finish()
    [receipt] = world.receipts()
    assert world.audit() == [] and receipt.bill is not None and bill_again(receipt) == receipt.bill
    verdicts = verify(receipt, PublicKey(der=world.key.public_der))
    gap = receipt.facts.flags.power_failure  # nothing may be billed by time alone after it, and records say so
    assert {each.state for each in verdicts if not (gap and each.name == "billable")} == {State.GOOD}
    [end] = [each for each in world.transactions() if each.kind is TxKind.ENDED]
    total = from_minor(receipt.bill.total_incl, "EUR")
    assert Fraction(end.total_cost or "-1") == total
    return total


def test_a_charger_that_never_gives_power_sells_nothing() -> None:
    with Broken(Site.selling(SOLD)) as world:
        world.charge(120)
        assert cost(world) == 0


def test_nor_does_one_that_a_power_cut_ends_before_the_first_energy() -> None:
    with BillingWorld(Site.selling(SOLD)) as world:
        world.charge(0, current_ma=0)
        world.crash(power=True, away_ms=86_400_000)
        assert cost(world) == 0


def fault(world: BillingWorld) -> None:
    world.give(FromPilot(1, BoardFaults(frozenset({BoardFault.RESIDUAL_CURRENT}))))
    world.advance(5_000)


@pytest.mark.parametrize("withheld_s, cents", [(30, 300), (1_800, 0)])
def test_who_was_never_offered_anything_pays_no_fee(withheld_s: int, cents: int) -> None:
    """No current to share; the driver gives up. Who leaves at once has changed his mind."""
    with BillingWorld(Site.selling(SOLD)) as world:
        world.limit_current(0)
        world.plug()
        world.authorize()
        world.draw()
        world.advance(withheld_s * 1_000)
        assert cost(world) * 100 == cents


def test_a_meter_that_is_silent_bills_no_fee_where_the_contactor_never_closed() -> None:
    """The power is away for half a minute, and the meter needs longer to come up."""
    with BillingWorld(Site.selling(SOLD)) as world:
        world.plug()
        world.authorize()
        world.advance(1_000)
        world.meter_silent = True
        world.crash(power=True, away_ms=30_000)
        world.advance(90_000)
        assert cost(world) == 0


def test_time_is_billed_whatever_ends_it() -> None:
    """A car that is full blocks the place all the same."""
    with BillingWorld(Site.selling(SOLD)) as world:
        world.charge(0, current_ma=0)
        world.rest()
        world.advance(600_000)
        fault(world)
        assert 1 <= cost(world) < Fraction("1.05")


def test_what_is_sold_has_its_fee_and_its_minimum() -> None:
    with BillingWorld(Site.selling(SOLD)) as world:
        world.charge(60)
        fault(world)
        assert cost(world) == 3
    with Broken(Site.selling(SOLD)) as world:
        world.charge(1)
        assert cost(world) == 3, "the driver left by himself"


def test_a_register_that_begins_anew_at_once_saves_nobody_the_fee() -> None:
    """The first of both transactions has no energy, and the second no fee."""
    with BillingWorld(site(SOLD)) as world:
        world.meter_step_mwh = 100_000
        world.register_mwh = MODULUS_MWH - 10_000
        world.read_meter()
        world.charge(60)
        world.unplug()
        world.finish()
        first, second = world.receipts()
    assert first.energy_mwh == 0 and costs([first]) == [1] and sum(costs([first, second])) == 3


# --------------------------------------------------------------------------------- refused from the beginning

BY_THE_HOUR = tariff(
    0.5,
    minCost={"inclTax": 3.0},
    chargingTime={"prices": [{"priceMinute": 0.1, "stepSize": 3600}]},
    idleTime={"prices": [{"priceMinute": 0.1, "stepSize": 600}]},
    **FEE,
)


def refuse(world: BillingWorld) -> None:
    world.give(Deauthorized(world.tx_id or "", stop=True))


def block(world: BillingWorld) -> None:
    world.give(Deauthorized(world.tx_id or "", stop=False))


def reset(world: BillingWorld) -> None:
    world.give(Commanded(1, Reset(immediate=True)))


def unplug(world: BillingWorld) -> None:
    world.unplug()


def limits(world: BillingWorld) -> None:
    assert world.tell_limit("0.80")


def lasts(world: BillingWorld) -> None:
    assert world.tell_limit(None, None, 5)


def little(world: BillingWorld) -> None:
    assert world.tell_limit(None, 1)


Step = Callable[[BillingWorld], None]


@pytest.mark.parametrize("crash", [False, True])
@pytest.mark.parametrize("offered_ms", [0, 20_000])
@pytest.mark.parametrize("happens", [refuse, block, limits, little, lasts])
def test_whom_card_or_credit_gets_nothing_pays_nothing(happens: Step, offered_ms: int, crash: bool) -> None:
    """Also where the CSMS says so some seconds late, and the driver stays on."""
    with BillingWorld(Site.selling(BY_THE_HOUR)) as world:
        world.plug()
        world.authorize(source="cache")
        if offered_ms:
            world.draw(current_ma=0)
            world.advance(offered_ms)
        happens(world)
        world.advance(1_000)
        if crash:
            world.crash()
        world.advance(1_800_000)
        assert cost(world) == 0


def test_a_credit_of_the_site_below_the_start_fee_buys_nothing_and_costs_nothing() -> None:
    assign = (Assignment(token=CARD.id_token, max_cost=Decimal("0.80")),)
    with BillingWorld(Site(PriceConfig(tariff=Path("site"), assign=assign), {"site": SOLD})) as world:
        world.charge(60)
        assert world.drawn_mwh == 0 and cost(world) == 0


@pytest.mark.parametrize(("happens", "most"), [(refuse, 1), (block, 1), (reset, 1), (limits, 0.8)])
def test_who_was_offered_energy_and_wanted_none_pays_his_time(happens: Step, most: float) -> None:
    """The place was taken; but where station or CSMS ended it there is no fee. A credit that was used up is."""
    with BillingWorld(Site.selling(BY_THE_HOUR)) as world:
        world.plug()
        world.authorize()
        world.advance(300_000)
        happens(world)
        world.advance(30_000)
        assert cost(world) == Fraction(str(most))


def test_a_reset_before_the_first_energy_costs_no_fee() -> None:
    with BillingWorld(Site.selling(SOLD)) as world:
        world.charge(0, current_ma=0)
        reset(world)
        world.advance(30_000)
        assert cost(world) == 0


@pytest.mark.parametrize("happens", [refuse, block, reset, limits])
def test_what_has_flowed_before_is_sold(happens: Step) -> None:
    with BillingWorld(Site.selling(SOLD)) as world:
        world.charge(60)
        happens(world)
        world.advance(30_000)
        assert cost(world) == (Fraction("0.8") if happens is limits else 3)


@pytest.mark.parametrize("happens", [unplug, BillingWorld.swipe_to_stop])
def test_who_leaves_by_himself_pays_fee_and_minimum(happens: Step) -> None:
    with BillingWorld(Site.selling(SOLD)) as world:
        world.charge(0, current_ma=0)
        happens(world)
        world.advance(30_000)
        assert cost(world) == 3
