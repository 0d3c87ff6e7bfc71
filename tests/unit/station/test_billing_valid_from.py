"""A tariff of the future prices nobody before its time: at the whole station, over restarts and without a clock."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent.config.money import PriceConfig
from tests.support.billing_world import NOON_MS, VOLT, BillingWorld, Site

MINUTE_MS = 60_000


def text(tariff_id: str, price: float, **more: Any) -> str:
    return json.dumps({"tariffId": tariff_id, "currency": "EUR", "energy": {"prices": [{"priceKwh": price}]}} | more)


NOW, SOON = text("now", 0.4), text("soon", 0.8, validFrom="2026-12-01T10:10:00Z")  # in ten minutes
WITH_LIVE = Site(PriceConfig(tariff=Path("site"), live_tariff=Path("live")), {"site": text("site", 0.3)})


def billed(made: BillingWorld) -> dict[str, int]:
    """The energy by tariff, in mWh."""
    made.swipe_to_stop()
    made.finish()
    bill = made.receipts()[-1].bill
    return {} if bill is None else {line.tariff_id: line.quantity for line in bill.lines}


@pytest.mark.parametrize("restart", [False, True])
def test_a_live_tariff_that_comes_early_holds_from_its_instant_on(restart: bool) -> None:
    with BillingWorld(WITH_LIVE) as made:
        made.live_tariff(NOW)
        made.charge(20)
        made.live_tariff(SOON)
        if restart:
            made.crash()
            made.live_tariff(SOON)  # its file is read anew, and says no more what holds until then
        made.advance(NOON_MS + 15 * MINUTE_MS - made.wall_ms)
        energy = billed(made)
        assert list(energy) == ["now", "soon"]
        assert energy["soon"] == pytest.approx(5 * MINUTE_MS * 16 * VOLT * 1_000 / 3_600_000, rel=0.01)


def test_who_starts_while_it_waits_starts_with_the_one_before_and_goes_on_with_it() -> None:
    with BillingWorld(WITH_LIVE) as made:
        made.live_tariff(NOW)
        made.live_tariff(SOON)
        made.crash(power=True)
        made.live_tariff(SOON)
        made.charge(60)
        assert list(billed(made)) == ["now"]
        made.charge(1_000)
        assert list(billed(made)) == ["now", "soon"]


def test_with_a_clock_that_is_lost_it_does_not_hold_and_with_one_that_was_known_it_does() -> None:
    for known in (False, True):
        with BillingWorld(WITH_LIVE) as made:
            made.live_tariff(NOW)
            made.live_tariff(SOON)
            made.advance(20 * MINUTE_MS if known else MINUTE_MS)
            made.crash(power=True, clock_kept=False)
            made.live_tariff(SOON)
            made.charge(60)
            assert list(billed(made)) == ["soon" if known else "now"]


TODAY = text("today", 0.4, validFrom="2026-12-01T09:00:00Z")
LIVE_ONLY = Site(PriceConfig(live_tariff=Path("live")))


@pytest.mark.parametrize("cut", [{}, {"power": True, "away_ms": 5 * MINUTE_MS, "clock_kept": False}])
def test_a_live_tariff_that_holds_is_not_lost_where_its_file_changes_while_the_station_is_down(
    cut: dict[str, Any],
) -> None:
    with BillingWorld(LIVE_ONLY) as made:
        made.live_tariff(TODAY)
        made.advance(1_000)
        made.online = not cut
        made.crash(**cut)
        made.live_tariff(SOON)
        made.charge(60)
        assert list(billed(made)) == ["today"]


def test_a_price_of_each_quarter_is_billed_where_no_clock_is_ever_known() -> None:
    """chrony alone, no battery, no CSMS."""
    with BillingWorld(replace(LIVE_ONLY, has_csms=False), clock="I", online=False) as made:
        made.hardware_clock = 0
        made.crash(power=True)
        assert made.core.ctx.time_status == "U"
        for number in range(3):
            since = datetime.fromtimestamp(made.wall_ms // 1_000 - 60, UTC)
            made.live_tariff(text(f"quarter-{number}", 0.4, validFrom=f"{since:%Y-%m-%dT%H:%M:%SZ}"))
            if number == 0:
                made.charge(60)
            made.advance(15 * MINUTE_MS)
        made.live_tariff(text("tomorrow", 0.8, validFrom="2026-12-02T00:00:00Z"))
        assert list(billed(made)) == ["quarter-0", "quarter-1", "quarter-2"]
        made.unplug()
        made.advance(5_000)
        made.charge(60)
        assert list(billed(made)) == ["quarter-2"], "it still waits"


def test_the_tariff_of_the_site_prices_nothing_before_its_time() -> None:
    with BillingWorld(Site.selling(SOON)) as made:
        made.charge(60)
        assert billed(made) == {}
        made.advance(10 * MINUTE_MS)
        made.charge(60)
        assert list(billed(made)) == ["soon"]


def test_a_change_to_a_tariff_of_the_future_is_rejected() -> None:
    with BillingWorld(Site.selling(NOW)) as made:
        made.charge(60)
        answer = made.change_tariff(SOON).answer
        assert answer is not None and answer.startswith("Rejected: $.validFrom: expected a time that has come")
        made.advance(10 * MINUTE_MS)
        changed = made.change_tariff(SOON)
        made.advance(2_000)
        assert changed.answer == "Accepted"
        assert list(billed(made)) == ["now", "soon"] and made.log().count("tariff_refused") == 1


def test_the_default_of_a_csms_that_is_configured_no_more_prices_nobody() -> None:
    with BillingWorld(Site.selling(text("site", 0.3))) as made:
        assert made.set_default_tariff(text("of-the-csms", 0.79)) == "Accepted"
        made.site = Site.selling(text("site-2027", 0.35), has_csms=False)
        made.crash(power=True)
        made.charge(60)
        assert list(billed(made)) == ["site-2027"]
