"""What is rounded once, and when a grace begins: what a driver pays for many small pieces of one charge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from agent.billing.verdicts import State, verify
from agent.config.money import PriceConfig
from agent.ocmf.public_key import PublicKey
from tests.support.billing_world import BillingWorld, Site

QUARTER_MS = 900_000


def spot(number: int) -> str:
    part = {"prices": [{"priceKwh": 0.3}]}
    return json.dumps({"tariffId": f"spot-{number}", "currency": "EUR", "energy": part})


def test_a_market_price_for_each_quarter_of_an_hour_costs_no_cent_more() -> None:
    with BillingWorld(Site(PriceConfig(live_tariff=Path("live")))) as world:
        world.live_tariff(spot(0))
        world.charge(1, 304)  # 70 W: half a cent in a quarter of an hour
        for number in range(1, 7):
            world.advance(QUARTER_MS)
            world.live_tariff(spot(number))
            world.advance(2_000)
        world.unplug()
        world.finish()
        receipt = world.receipts()[-1]
        assert receipt.bill is not None and receipt.energy_mwh is not None
        assert len(receipt.bill.lines) == 7
        assert receipt.bill.total_incl == round(receipt.energy_mwh * 30 / 1_000_000) == 3
        assert {each.state for each in verify(receipt, PublicKey(der=world.key.public_der))} == {State.GOOD}


def test_a_car_that_pauses_for_a_while_again_and_again_does_not_block_the_place() -> None:
    idle: dict[str, Any] = {"prices": [{"priceMinute": 0.5, "conditions": {"minIdleTime": 900}}]}
    with BillingWorld(Site.selling(json.dumps({"tariffId": "T", "currency": "EUR", "idleTime": idle}))) as world:
        world.charge(30)
        for minutes in (5, 5, 5, 5, 17):
            world.rest()
            world.advance(minutes * 60_000)
            world.draw()
            world.advance(600_000)
        world.unplug()
        world.finish()
        receipt = world.receipts()[-1]
        assert receipt.bill is not None
        assert receipt.bill.total_incl == 100, "2 minutes beyond the grace of the last pause"
