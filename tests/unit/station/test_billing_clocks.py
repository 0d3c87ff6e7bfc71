"""Prices by the hour go by no clock that nobody vouches for, and a restart forgets none that somebody did."""

from __future__ import annotations

import json

import pytest

from agent.billing.read import Receipt
from tests.support.billing_world import NOON_MS, BillingWorld, Site
from tests.support.tariff_json import HOUR_MS, kwh, minute, tariff, window

DAY = window("07:00", "22:00")
SITE = Site.selling(json.dumps(tariff(energy=kwh((0.8, DAY), 0.3), idleTime=minute((0.1, DAY)))))
EVENING_MS = NOON_MS + 7 * HOUR_MS  # 18:00 in Berlin


def cut_power(made: BillingWorld, hours: int, *, clock_stands: bool) -> None:
    assert made.machine_clock is not None
    made.machine_clock -= hours * HOUR_MS * clock_stands
    made.crash(power=True, away_ms=hours * HOUR_MS)


def sold(made: BillingWorld) -> Receipt:
    made.swipe_to_stop()
    made.finish()
    assert made.audit() == []
    return made.receipts()[-1]


def prices(receipt: Receipt) -> set[float]:
    assert receipt.bill is not None
    return {float(line.unit_price) for line in receipt.bill.lines}


@pytest.mark.parametrize(("stood", "status"), [(True, "U"), (False, "I")])
def test_a_clock_that_stood_in_a_power_cut_sells_no_day_at_night(stood: bool, status: str) -> None:
    """Without a battery it goes on where it was: at 02:00 it shows 18:00. One with a battery bills time as ever."""
    with BillingWorld(SITE, wall_ms=EVENING_MS) as made:
        made.advance(5_000)
        made.link(False)
        cut_power(made, 8 if stood else 2, clock_stands=stood)
        assert made.core.ctx.time_status == status
        made.charge(600)
        made.rest()
        made.advance(600_000)
        receipt = sold(made)
    assert prices(receipt) == ({0.3} if stood else {0.8, 0.1})
    assert receipt.facts.begin.time_status == status and receipt.facts.flags.time_not_billable is stood


def test_what_a_clock_that_stood_dates_is_put_right_when_the_time_is_told() -> None:
    with BillingWorld(SITE, wall_ms=EVENING_MS) as made:
        cut_power(made, 8, clock_stands=True)
        began_ms = made.wall_ms
        made.charge(60)
        made.set_clock()
        made.advance(2_000)
        sold(made)
        (begun,) = (record for record in made.records() if record.kind == "tx_started")
        assert begun.trusted_time and 0 <= begun.wall_ms - began_ms < 2_000


def test_a_restart_that_finds_the_clock_vouched_for_dates_what_was_written_before() -> None:
    """The proof came while no process ran: nobody else would tell the time of these rows, ever."""
    with BillingWorld(SITE, wall_ms=EVENING_MS, online=False) as made:
        cut_power(made, 8, clock_stands=True)
        began_ms = made.wall_ms
        made.charge(60)
        made.machine_clock = made.hardware_clock = made.wall_ms
        for _ in range(2):
            made.crash()
            assert (made.core.ctx.time_status, made.core.ctx.wall_ms) == ("I", made.wall_ms)
        sold(made)
        (begun,) = (record for record in made.records() if record.kind == "tx_started")
        assert begun.trusted_time and 0 <= begun.wall_ms - began_ms < 2_000
        assert [row.kind for row in made.all_rows() if row.boot_id == made.boot_id].count("clock") == 1, "it is known"


@pytest.mark.parametrize("restarts", [1, 3])
def test_a_restart_in_mid_charge_goes_on_with_the_time_that_the_csms_told_this_boot(restarts: int) -> None:
    """The machine's clock was eight hours behind all along, and nobody may set it."""
    with BillingWorld(SITE, wall_ms=EVENING_MS + 8 * HOUR_MS, clock="S") as made:
        assert made.machine_clock is not None
        made.machine_clock -= 8 * HOUR_MS
        made.charge(600)
        made.link(False)
        for _ in range(restarts):
            made.crash()
            assert (made.core.ctx.time_status, made.core.ctx.wall_ms) == ("S", made.wall_ms)
            made.advance(10_000)
            made.draw()
        made.advance(600_000)
        receipt = sold(made)
        assert prices(receipt) == {0.3} and 0 < receipt.facts.end.wall_ms - receipt.facts.begin.wall_ms < HOUR_MS
        assert [row.kind for row in made.all_rows()].count("clock") == 1, "it is there already"
