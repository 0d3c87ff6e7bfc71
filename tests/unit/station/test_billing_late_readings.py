"""Meters on a wire: each reading is a moment older than the row that it comes with."""

from __future__ import annotations

import pytest

from tests.support.billing_world import BillingWorld, Site
from tests.unit.station.test_billing_prices import energy, kwh, only, text


@pytest.mark.parametrize("lag_ms", [0, 1, 150])
@pytest.mark.parametrize("first, then", [(0.1, 1.0), (1.0, 0.1)])
def test_a_meter_on_a_wire_bills_each_price_all_that_flows_under_it(first: float, then: float, lag_ms: int) -> None:
    """The next reading that is a row may be minutes away."""
    with BillingWorld(Site.selling(text("A", energy=[kwh(first)]))) as made:
        made.meter_lag_ms = lag_ms
        made.charge(600)
        before_mwh = made.drawn_mwh
        made.live_tariff(text("B", energy=[kwh(then)]))
        made.advance(600_000)
        after_mwh = made.drawn_mwh - before_mwh
        receipt = only(made)
        step_mwh = made.drawn_mwh // 1_000  # what a second or so takes
        assert energy(receipt) == pytest.approx([before_mwh, after_mwh], abs=step_mwh)
        assert not receipt.facts.flags.estimated_split


@pytest.mark.parametrize("lag_ms", [0, 1, 150])
def test_a_price_by_power_is_not_lost_on_a_meter_on_a_wire(lag_ms: int) -> None:
    with BillingWorld(Site.selling(text(energy=[kwh(0.3, maxPower=4_000), kwh(0.9)]))) as made:
        made.meter_lag_ms = lag_ms
        made.charge(30, 10_000)
        for _ in range(5):
            made.draw(30_000)  # 6.9 kW
            made.advance(90_000)
            made.draw(10_000)
            made.advance(90_000)
        receipt = only(made)
        assert energy(receipt) == pytest.approx([300_000, 870_000], rel=0.05)
        assert not receipt.facts.flags.estimated_split
