"""Prices that power chooses: looked at now and then, so that a swinging car does not wear the flash."""

from __future__ import annotations

from agent.core.facts import PriceCause
from tests.support.billing_world import BillingWorld, Site
from tests.unit.station.test_billing_prices import kwh, only, prices, text

FAST_IS_DEAR = text(energy=[kwh(0.9, minPower=5_000), kwh(0.3)])


def test_power_that_swings_writes_no_row_a_second() -> None:
    with BillingWorld(Site.selling(FAST_IS_DEAR)) as made:
        made.plug()
        made.authorize()
        for _ in range(30):
            made.charge(1, 32_000)
            made.charge(1, 6_000)
        assert 2 <= len(prices(made, PriceCause.CHOICE)) <= 7
        receipt = only(made)
        assert receipt.usage is not None
        assert receipt.usage.energy_mwh == sum(volume.amount for volume in receipt.usage.volumes)


def test_power_that_stays_chooses_its_price_at_once() -> None:
    with BillingWorld(Site.selling(FAST_IS_DEAR)) as made:
        made.plug()
        made.authorize()
        made.charge(20, 6_000)
        made.charge(20, 32_000)
        assert len(prices(made, PriceCause.CHOICE)) >= 1
        receipt = only(made)
        assert receipt.usage is not None
        assert {volume.price for volume in receipt.usage.volumes} == {0, 1}
