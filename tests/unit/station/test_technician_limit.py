"""Limits that a technician sets on a running transaction: beside those of CSMS and site, never instead of them."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from agent.config.money import Assignment, PriceConfig
from agent.core.facts import LimitFact
from agent.station.prepaid import TECHNICIAN
from tests.support.billing_world import CARD, BillingWorld, Site
from tests.unit.station.test_billing_money import FLAT
from tests.unit.station.test_billing_session import MODULUS_MWH, said_of_limit

Values = tuple[str | None, int | None, int | None]


def by_technician(world: BillingWorld, cost: str | None = None, energy_wh: int | None = None) -> bool:
    return said_of_limit(world, cost, energy_wh, source=TECHNICIAN) == "Accepted"


def holds(world: BillingWorld) -> Values:
    limits = world.books.limits
    assert limits is not None
    return limits.max_cost, limits.max_energy_mwh, limits.max_time_ms


@pytest.mark.parametrize("crash", [False, True])
def test_a_technician_lifts_no_limit_of_the_csms(crash: bool) -> None:
    with BillingWorld(Site.selling(FLAT)) as world:
        world.charge(5)
        assert world.tell_limit("5", None, 7_200)
        assert by_technician(world, "50", 20_000)
        assert holds(world) == ("5", 20_000_000, 7_200_000)
        if crash:
            world.crash()
        assert by_technician(world, None, 30_000), "he may loosen what he has set himself"
        assert holds(world) == ("5", 30_000_000, 7_200_000)
        assert world.tell_limit("9"), "and the CSMS all but the site's"
        assert holds(world) == ("9", None, None)


@pytest.mark.parametrize("crash", [False, True])
def test_a_technician_lifts_no_limit_of_the_site(crash: bool) -> None:
    price = PriceConfig(tariff=Path("site"), assign=(Assignment(token=CARD.id_token, max_cost=Decimal("20.00")),))
    with BillingWorld(Site(price, {"site": FLAT})) as world:
        world.charge(5)
        assert by_technician(world, "10")
        if crash:
            world.crash()
        assert by_technician(world, "30", 1_000)
        assert holds(world) == ("20.00", 1_000_000, None)


def test_he_lifts_nothing_that_came_over_from_the_transaction_before() -> None:
    price = PriceConfig(tariff=Path("site"))
    with BillingWorld(Site(price, {"site": FLAT}, rollover_mwh=MODULUS_MWH)) as world:
        world.register_mwh = MODULUS_MWH - 10_000
        world.read_meter()
        world.charge(5)
        assert world.tell_limit(None, 1_000) and by_technician(world, None, 500)
        before = world.tx_id
        world.advance(30_000)
        assert world.tx_id not in (None, before), "the meter began anew"
        kept = holds(world)[1]
        assert kept is not None and kept < 500_000
        assert by_technician(world, "1", 2_000)
        assert holds(world) == ("1", kept, None)


def test_what_came_over_is_written_before_what_a_technician_sets() -> None:
    """Where he is quicker than the first reading."""
    with BillingWorld(Site.selling(FLAT)) as world:
        world.charge(5)
        tx_id = world.tx_id or ""
        world.billing._open[tx_id].limit = LimitFact(tx_id, 1, "3", source="rest")
        assert by_technician(world, "8", 900)
        assert holds(world) == ("3", 900_000, None)
        world.advance(5_000)
        world.crash()
        assert by_technician(world, "8")
        assert holds(world) == ("3", None, None)
