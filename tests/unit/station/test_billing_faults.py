"""What a transaction costs that a fault of the station has ended."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from agent.billing.prices import bill_again
from agent.billing.verdicts import State, verify
from agent.core.effects import AllowPower, Effect
from agent.core.events import Event, FromPilot
from agent.core.facts import TxKind
from agent.ocmf.public_key import PublicKey
from agent.tariff.currency import from_minor
from hal.ports import BoardFault, BoardFaults
from tests.support.billing_world import BillingWorld, Site
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
    assert {each.state for each in verdicts} == {State.GOOD}
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
