"""Prices of a running transaction on a whole station: boundaries, changes, limits, and what a restart does to them."""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from agent.billing.read import Receipt
from agent.config.money import Assignment, PriceConfig, TimePolicy
from agent.core.facts import LimitFact, PriceCause, PriceFact, StopReason, TransactionFact, Trigger, TxKind
from agent.core.settings import Behaviour
from agent.ocmf.parse import parse as parse_record
from agent.station import tariffs
from agent.tariff.model import Dimension
from tests.support.billing_world import CARD, NOON_MS, BillingWorld, Site
from tests.support.tariff_oracle import Second, simulate, total

MINUTE_MS = 60_000


def text(tariff_id: str = "T", currency: str = "EUR", **parts: list[dict[str, Any]]) -> str:
    plain = {name: {"prices": prices} for name, prices in parts.items()}
    return json.dumps({"tariffId": tariff_id, "currency": currency, **plain})


def kwh(price: float, **conditions: Any) -> dict[str, Any]:
    return {"priceKwh": price} | ({"conditions": conditions} if conditions else {})


FLAT = text(energy=[kwh(0.5)], chargingTime=[{"priceMinute": 0.1}], idleTime=[{"priceMinute": 0.2}])
DEAR = text("D", energy=[kwh(0.9)])
# NOON_MS is 11:00 in Berlin.
LATER = text("L", energy=[kwh(9, startTimeOfDay="11:01"), kwh(1)])


def prices(made: BillingWorld, cause: PriceCause | None = None) -> list[PriceFact]:
    return [f for f in made.facts() if isinstance(f, PriceFact) and cause in (None, f.cause)]


def ended(made: BillingWorld) -> TransactionFact:
    return next(fact for fact in made.transactions() if fact.kind is TxKind.ENDED)


def only(made: BillingWorld) -> Receipt:
    made.unplug()
    made.finish()
    [receipt] = made.receipts()
    assert made.audit() == [] and not made.billing.busy
    return receipt


def energy(receipt: Receipt) -> list[int]:
    """mWh by price, in order of use."""
    assert receipt.usage is not None
    return [volume.amount for volume in receipt.usage.volumes if volume.dimension is Dimension.ENERGY]


def letters(receipt: Receipt) -> str:
    return "".join(entry.tx or "?" for record in receipt.records for entry in parse_record(record.encode()).readings)


# ------------------------------------------------------------------------------------------ boundaries


@pytest.mark.parametrize(
    "behaviour",
    [
        Behaviour(),
        Behaviour(aligned_interval_ms=MINUTE_MS),
        Behaviour(sample_interval_ms=1_000),
        Behaviour(sample_interval_ms=0, checkpoint_ms=2_000),
    ],
    ids=["alone", "clock-aligned sample", "periodic sample", "checkpoint"],
)
def test_a_boundary_divides_the_energy_whatever_other_row_comes_with_it(behaviour: Behaviour) -> None:
    """Metering reference 3.7: a reading at the boundary, signed as T."""
    with BillingWorld(Site.selling(LATER, behaviour=behaviour)) as made:
        made.charge(80)
        at_boundary = prices(made, PriceCause.BOUNDARY)
        receipt = only(made)
        per_second = 16 * 230 * 1_000 / 3_600
        assert len(at_boundary) == 1 and len(at_boundary[0].samples) == 2
        assert energy(receipt)[1] == pytest.approx(59.8 * per_second, abs=per_second), "before 11:01"
        assert letters(receipt) == "BTE"
        assert receipt.usage is not None and not receipt.usage.estimated_split


def test_a_change_of_state_at_the_boundary_hides_it_from_nobody() -> None:
    with BillingWorld(Site.selling(LATER)) as made:
        made.charge(59)
        made.meter_silent = True
        made.advance(1_200)
        made.limit_current(0)  # its row has no reading, and stands behind the boundary
        made.advance(100)
        made.meter_silent = False
        made.advance(2_000)
        made.limit_current(None)
        made.advance(20_000)
        receipt = only(made)
        assert "T" in letters(receipt) and receipt.usage is not None and not receipt.usage.estimated_split


def test_a_meter_that_is_silent_over_a_boundary_gives_the_energy_to_the_cheaper_price() -> None:
    with BillingWorld(Site.selling(LATER)) as made:
        made.charge(50)
        read_mwh = made.reading().energy_import_mwh
        made.meter_silent = True  # no answer yet: not yet known as lost
        made.advance(30_000)
        made.meter_back()
        made.advance(10_000)
        receipt = only(made)
        assert len(prices(made, PriceCause.BOUNDARY)) == 1
        assert receipt.usage is not None and receipt.usage.estimated_split and receipt.facts.flags.estimated_split
        assert energy(receipt)[1] > read_mwh - 5_000_000


@pytest.mark.parametrize("power", [False, True])
def test_a_restart_between_boundary_and_reading_loses_nothing(power: bool) -> None:
    with BillingWorld(Site.selling(LATER)) as made:
        made.charge(59)
        made.meter_silent = True
        made.advance(1_500)
        made.crash(power=power)
        made.meter_back()
        made.advance(20_000)
        receipt = only(made)
        assert receipt.energy_mwh == made.drawn_mwh


def test_the_next_boundary_is_looked_for_after_one_that_nobody_read() -> None:
    several = text("S", energy=[kwh(n, startTimeOfDay=f"11:0{n}") for n in range(5, 0, -1)] + [kwh(9)])
    with BillingWorld(Site.selling(several)) as made:
        made.charge(50)
        made.meter_silent = True
        made.advance(130_000)
        made.meter_back()
        made.advance(120_000)
        receipt = only(made)
        assert len(prices(made, PriceCause.BOUNDARY)) == 3, "11:01 and 11:02 as one, 11:03, 11:04"
        assert letters(receipt) == "BTTTE"


@pytest.mark.parametrize("start_ms", [NOON_MS, 1_774_745_930_000, 1_792_889_930_000])
@pytest.mark.parametrize(
    "parts",
    [
        {"energy": [kwh(0.6, minEnergy=30), kwh(0.3)], "chargingTime": [{"priceMinute": 0.07}]},
        {"energy": [kwh(0.4)], "chargingTime": [{"priceMinute": 1, "conditions": {"minTime": 30}}]},
        {"energy": [kwh(0.2, dayOfWeek=["Tuesday"]), kwh(0.3)], "fixedFee": [{"priceFixed": 0.5}]},
    ],
)
def test_c10_the_station_bills_what_the_oracle_adds_up(start_ms: int, parts: dict[str, Any]) -> None:
    tariff = text("C10", **parts)
    with BillingWorld(Site.selling(tariff), wall_ms=start_ms - 500) as made:
        made.plug()
        made.draw()
        made.advance(100)
        made.authorize()
        made.advance(90_000)
        receipt = only(made)
        assert receipt.usage is not None and receipt.bill is not None and receipt.energy_mwh is not None
        seconds, mwh = receipt.usage.charging_ms // 1_000, receipt.energy_mwh
        begin_s = receipt.facts.begin.wall_ms // 1_000
        second = [
            Second("charging", 3_680, mwh * (n + 1) // seconds, mwh * n // seconds, n, n, 0, begin_s + n)
            for n in range(seconds)
        ]
        oracle = simulate(json.loads(tariff), "Europe/Berlin", "AC", second, begin_s)
        assert receipt.bill.total_incl == pytest.approx(total(json.loads(tariff), oracle)[1], abs=1)


# --------------------------------------------------------------------------------------------- changes


def test_another_tariff_holds_from_the_next_reading_on() -> None:
    """I11: what has been used stays at the tariff of its time."""
    with BillingWorld(Site.selling(FLAT)) as made:
        made.charge(30)
        assert made.change_tariff(DEAR).answer == "Accepted"
        made.advance(30_000)
        receipt = only(made)
        assert letters(receipt) == "BTE" and [each.tariff_id for each in receipt.facts.tariffs] == ["T", "D"]
        before, after = energy(receipt)
        assert before == pytest.approx(after, rel=0.05)
        assert receipt.usage is not None and not receipt.usage.estimated_split


def test_the_same_tariff_again_begins_no_other() -> None:
    """Its maximum cost would count anew."""
    with BillingWorld(Site.selling(FLAT)) as made:
        made.charge(10)
        assert made.change_tariff(FLAT).answer == "Accepted"
        made.live_tariff(FLAT)
        made.advance(10_000)
        assert prices(made) == [] and len(only(made).facts.tariffs) == 1


def test_what_cannot_be_changed_is_refused() -> None:
    with BillingWorld(Site.selling(FLAT)) as made:
        assert made.change_tariff(DEAR).answer == "TxNotFound"
        made.charge(10)
        assert made.change_tariff(text("J", "JPY", energy=[kwh(50)])).answer == "NoCurrencyChange"
        assert (made.change_tariff("{}").answer or "").startswith("Rejected")
        made.slow_disk = True
        made.swipe_to_stop()
        assert made.change_tariff(DEAR).answer == "Rejected", "it is ending"
        assert len(only(made).facts.tariffs) == 1 and "tariff_refused" in made.log()


def test_a_silent_meter_does_not_keep_a_tariff_off() -> None:
    with BillingWorld(Site.selling(FLAT)) as made:
        made.charge(10)
        made.meter_silent = True
        asked = made.change_tariff(DEAR)
        assert asked.answer is None
        made.advance(6_000)
        assert asked.answer == "Accepted"
        assert [fact.cause for fact in prices(made)] == [PriceCause.TARIFF]
        made.meter_back()
        only(made)


@pytest.mark.parametrize("stop", ["unplug", "swipe_to_stop"])
def test_a_tariff_that_was_accepted_holds_although_the_end_comes_first(stop: str) -> None:
    with BillingWorld(Site.selling(FLAT)) as made:
        made.charge(10)
        made.meter_silent = True  # its next answer is a second away
        asked = made.change_tariff(DEAR)
        getattr(made, stop)()
        made.advance(300)
        assert asked.answer == "Accepted"
        made.meter_silent = False
        made.advance(10_000)
        receipt = only(made)
        assert [each.tariff_id for each in receipt.facts.tariffs] == ["T", "D"]


def test_a_look_at_the_cost_parses_no_tariff_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A price that follows a market, and a car that stays: more tariffs than are kept parsed."""
    monkeypatch.setattr(tariffs, "PARSED_MAX", 8)
    with BillingWorld(Site.selling(FLAT)) as made:
        made.charge(5)
        for n in range(20):
            made.live_tariff(text(energy=[kwh(0.2 + n / 100)]))
            made.advance(2_000)
        monkeypatch.setattr(tariffs, "parse_tariff", None)
        assert made.billing.cost_now("tx-1") is not None and len(made.books.tariffs) == 21
        assert only(made).bill is not None


def test_a_live_tariff_reaches_what_a_restart_has_cut_off_once_it_goes_on() -> None:
    """Its file is read before any device has answered; the time of the gap must not be charged by it."""
    site = Site.selling(FLAT)
    with BillingWorld(site) as made:
        made.charge(20)
        made.meter_silent = True
        made.crash(away_ms=20_000)
        made.live_tariff(DEAR)
        assert prices(made) == []
        made.meter_back()
        made.advance(20_000)
        receipt = only(made)
        assert receipt.usage is not None and receipt.facts.tariffs[-1].tariff_id == "D"
        assert receipt.usage.charging_ms < 42_000 and receipt.usage.unbilled_ms >= 20_000


def test_only_a_clock_that_moves_is_worth_a_row() -> None:
    """A CSMS tells the time with every heartbeat."""
    with BillingWorld(Site.selling(FLAT)) as made:
        made.charge(10)
        for _ in range(5):
            made.set_clock()
            made.step_clock(400)
            made.advance(2_000)
        assert prices(made) == []
        made.step_clock(60_000)
        made.advance(2_000)
        assert [fact.cause for fact in prices(made)] == [PriceCause.CLOCK]
        only(made)


def test_the_cost_so_far_of_a_transaction_that_was_cut_off_leaves_the_gap_out() -> None:
    with BillingWorld(Site.selling(FLAT)) as made:
        made.charge(20)
        made.meter_silent = True
        made.crash(away_ms=59_000)
        bill = made.billing.cost_now("tx-1")
        assert bill is not None and sum(line.quantity for line in bill.lines if line.unit == "ms") < 22_000
        made.meter_back()
        only(made)


# ---------------------------------------------------------------------------------------------- limits


def limited(**limits: Any) -> Site:
    assign = (Assignment(token=CARD.id_token, **limits),)
    return Site(PriceConfig(tariff=Path("site"), assign=assign), {"site": FLAT})


LIMITS: dict[str, tuple[dict[str, Any], Trigger, StopReason]] = {
    "cost": ({"max_cost": Decimal("0.12")}, Trigger.COST_LIMIT_REACHED, StopReason.LOCAL_OUT_OF_CREDIT),
    "energy": ({"max_energy_wh": 30}, Trigger.ENERGY_LIMIT_REACHED, StopReason.ENERGY_LIMIT_REACHED),
    "time": ({"max_time_s": 40}, Trigger.TIME_LIMIT_REACHED, StopReason.TIME_LIMIT_REACHED),
}


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("crash", [None, "start", "later", "later, by power"])
def test_p1_a_limit_of_the_site_ends_the_transaction_in_time(name: str, crash: str | None) -> None:
    limits, trigger, reason = LIMITS[name]
    with BillingWorld(limited(**limits)) as made:
        made.plug()
        made.slow_disk = crash == "start"
        made.authorize()
        if crash == "start":
            made.crash(kept=1)  # the start is on disk, its limit is not
        made.slow_disk = False
        made.draw()
        made.advance(20_000)
        if crash in ("later", "later, by power"):
            made.crash(power="power" in crash, away_ms=3_000)
        made.advance(60_000)
        receipt, end = only(made), ended(made)
        assert (end.trigger, end.stopped_reason) == (trigger, reason)
        assert receipt.bill is not None and receipt.usage is not None
        if name == "cost":
            assert receipt.facts.bounds.credit_limit == "0.12" and 9 <= receipt.bill.total_incl <= 12
        elif name == "energy":
            assert 25_000 < receipt.usage.energy_mwh <= 30_000
        else:
            assert 35_000 < receipt.usage.elapsed_ms <= 46_000, "a car has six seconds to stop drawing"


def test_what_lies_above_the_credit_is_not_billed() -> None:
    """It goes on flowing until the contactor has opened, and the credit may be smaller than one interval."""
    with BillingWorld(Site.selling(FLAT)) as made:
        made.charge(30)
        assert made.tell_limit("0.03")
        made.advance(10_000)
        receipt = only(made)
        assert receipt.bill is not None and receipt.bill.total_incl == 3
        assert [each.kind for each in receipt.bill.adjustments] == ["CreditLimit"]


@pytest.mark.parametrize("power", [False, True])
def test_years_that_an_unset_clock_tells_are_no_time_that_was_used_up(power: bool) -> None:
    site = Site.selling(FLAT)
    with BillingWorld(site, clock="U") as made:
        made.charge(10)
        assert made.tell_limit(time_s=300)
        made.advance(5_000)
        made.set_clock()
        made.crash(power=power, clock_kept=False, away_ms=2_000)
        made.advance(2_000)
        made.set_clock()
        made.advance(20_000)
        only(made)
        assert ended(made).trigger is not Trigger.TIME_LIMIT_REACHED


@pytest.mark.parametrize(
    "cost, kept",
    [("20", "20"), ("2E1", "20"), ("+5.50", "5.50"), ("0", "0")]
    + [(bad, None) for bad in ("-1", "NaN", "Infinity", "1e-999999999", "1e999999999", "1/3", "", "five", "1e9")],
)
def test_only_an_amount_of_money_is_a_limit(cost: str, kept: str | None) -> None:
    """A number of a billion digits, told by a CSMS, would stop the station's one thread for ever."""
    with BillingWorld(Site.selling(FLAT)) as made:
        made.charge(5)
        assert made.tell_limit(cost) is (kept is not None)
        limits = [fact for fact in made.facts() if isinstance(fact, LimitFact)]
        assert [fact.max_cost for fact in limits] == ([] if kept is None else [kept])


def test_no_limit_for_what_does_not_run() -> None:
    with BillingWorld(Site.selling(FLAT)) as made:
        assert not made.tell_limit("1")
        made.charge(5)
        assert not made.tell_limit(None, -1) and not made.tell_limit(None, None, -1)
        only(made)
        assert not made.tell_limit("1")


def test_no_limit_overtakes_the_start_of_its_transaction() -> None:
    """That may wait a minute for a meter that signs; a row before it would keep the station from starting."""
    with BillingWorld(Site.selling(FLAT)) as made:
        made.slow_disk = True
        made.plug()
        made.authorize()
        made.advance(100)
        assert made.tx_id is not None and not made.tell_limit("1")
        made.slow_disk = False
        made.flush()
        assert made.tell_limit("1")


# ------------------------------------------------------------------------------------------------ clock


@pytest.mark.parametrize(
    "policy, clock, billed",
    [
        (TimePolicy.ANY, "U", True),
        (TimePolicy.INFORMATIVE, "U", False),
        (TimePolicy.INFORMATIVE, "I", True),
        (TimePolicy.INFORMATIVE, "S", True),
        (TimePolicy.NEVER, "S", False),
    ],
)
def test_the_policy_says_which_clock_is_good_enough_to_bill_time(policy: TimePolicy, clock: str, billed: bool) -> None:
    site = Site(PriceConfig(tariff=Path("site"), time_policy=policy), {"site": FLAT})
    with BillingWorld(site, clock=clock) as made:
        made.charge(20)
        receipt = only(made)
        assert receipt.usage is not None
        assert (receipt.usage.charging_ms > 0) is billed
        assert receipt.facts.flags.time_not_billable is not billed
        assert receipt.facts.begin.time_status == ("I" if clock == "S" else clock)


# ------------------------------------------------------------------------------------------- surviving


def test_rows_that_make_no_sense_do_not_keep_the_station_from_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same rows would stop it at every start; the transaction ends without a bill instead."""

    def broken(*_: object, **__: object) -> None:
        raise ValueError("no such point")

    with BillingWorld(Site.selling(FLAT)) as made:
        made.charge(20)
        with monkeypatch.context() as patch:
            patch.setattr("agent.tariff.fold.Session.add", broken)
            made.crash()
            made.advance(5_000)
        made.unplug()
        made.finish()
        assert made.receipts() == [] and ended(made).total_cost is None
        assert "record_failed" in made.log() and not made.billing.busy
        made.charge(10)
        made.unplug()
        made.finish()
        assert len(made.receipts()) == 1, "the next one is none the worse"


@pytest.mark.parametrize("place", ["add", "preview"])
def test_a_mistake_in_the_books_ends_no_charging(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by zero")

    with BillingWorld(Site.selling(FLAT)) as made:
        made.charge(5)
        assert made.tell_limit("5")
        monkeypatch.setattr(f"agent.tariff.fold.Session.{place}", broken)
        made.advance(70_000)
        assert made.closed
        monkeypatch.undo()
        made.unplug()
        made.finish()
        assert made.receipts() == [] and made.log().count("record_failed") == 1
        assert ended(made).samples[-1].energy_import_mwh == made.reading().energy_import_mwh, "the energy is told"


@pytest.mark.parametrize("signs_begin", [False, True])
def test_a_record_that_cannot_be_made_does_not_keep_the_end_off_the_disk(signs_begin: bool) -> None:
    """A meter without a serial: no signed record can name it, and the writer's thread would end the ledger."""
    with BillingWorld(Site.selling(FLAT, signs_begin=signs_begin)) as made:
        made.serial = ""
        made.read_meter()
        made.charge(10)
        made.unplug()
        made.finish()
        assert ended(made).kind is TxKind.ENDED and made.receipts() == []
        assert "record_failed" in made.log()


def test_a_minimum_of_billable_energy_stands_in_the_receipt() -> None:
    site = Site(PriceConfig(tariff=Path("site"), minimum_billable_wh=500), {"site": FLAT})
    with BillingWorld(site) as made:
        made.charge(10)
        receipt = only(made)
        assert receipt.facts.bounds.min_energy_mwh == 500_000 and receipt.bill is not None
        assert Fraction(receipt.bill.total_incl, 100) <= Fraction(2, 100), "time alone"
