"""The periods of the fold in full, with both clocks; clocks that nobody set; fees and previews."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.tariff.fold import ESTIMATE_ABOVE_MS, GAP_LOOK_BACK_MS, Session
from agent.tariff.model import Dimension, EvseKind, Payment
from agent.tariff.parse import parse_tariff
from agent.tariff.usage import Activity, Period, Register, Usage, Volume
from tests.support.tariff_json import HOUR_MS, MINUTE_MS, kwh, minute, tariff, window
from tests.unit.tariff.test_tariff_fold import NOON_MS, at, energies, parsed, run

IDLE, PAUSED = Activity.IDLE, Activity.PAUSED
HOURLY = parsed(
    energy=kwh((0.5, window("12:00", "13:00")), 0.4),
    chargingTime=minute((1, window("13:00", "14:00"))),
    idleTime=minute((1, {"minIdleTime": 600})),
)


def period(
    from_ms: int, to_ms: int, energy: int | None, charging: int | None, idle: int | None, **spent: Any
) -> Period:
    return Period(from_ms, to_ms, NOON_MS + from_ms, NOON_MS + to_ms, 0, energy, charging, idle, **spent)


def test_periods_tell_all_that_was_spent_and_begin_where_a_price_changes() -> None:
    half = 30 * MINUTE_MS
    found = run(
        HOURLY,
        at(0, 1_000),
        at(half, 1_500, IDLE),
        at(half + 9 * MINUTE_MS, 1_500, PAUSED),
        at(half + 12 * MINUTE_MS, 1_500, IDLE),
        at(half + 14 * MINUTE_MS, 1_500, time_billable=False),
        at(half + 16 * MINUTE_MS, 1_700),
        at(HOUR_MS, 2_000),
        at(HOUR_MS + MINUTE_MS, 2_600),
    )
    minute_10, charges_again = half + 13 * MINUTE_MS, half + 14 * MINUTE_MS
    assert found.usage() == Usage(
        (
            period(
                *(0, minute_10, 0, None, None),
                energy_mwh=500,
                charging_ms=half,
                idle_ms=10 * MINUTE_MS,
                unbilled_ms=3 * MINUTE_MS,
            ),
            period(minute_10, charges_again, 0, None, 0, idle_ms=MINUTE_MS),
            period(
                *(charges_again, HOUR_MS, 0, None, None),
                energy_mwh=500,
                charging_ms=14 * MINUTE_MS,
                unbilled_ms=2 * MINUTE_MS,
            ),
            period(HOUR_MS, HOUR_MS + MINUTE_MS, 1, 0, None, energy_mwh=600, charging_ms=MINUTE_MS),
        ),
        (
            Volume(0, Dimension.ENERGY, 0, 1_000),
            Volume(0, Dimension.ENERGY, 1, 600),
            Volume(0, Dimension.CHARGING_TIME, 0, MINUTE_MS),
            Volume(0, Dimension.IDLE_TIME, 0, MINUTE_MS),
        ),
        1_000,
        2_600,
    )


def test_a_gap_is_part_of_the_period_before_it_and_ends_when_the_point_says() -> None:
    later_wall_ms = NOON_MS + 10 * MINUTE_MS
    found = run(HOURLY, at(0, 0), at(100, 10), at(160, 20, gap=True, wall_ms=later_wall_ms))
    [only] = found.usage().periods
    expected = period(0, 160, 0, None, None, energy_mwh=20, charging_ms=100, unbilled_ms=60)
    assert only == replace(expected, to_wall_ms=later_wall_ms)
    found.add(at(170, 20, wall_ms=later_wall_ms + 10))
    assert found.usage().periods[-1].to_wall_ms == later_wall_ms + 10


@pytest.mark.parametrize(
    ("before", "after", "price"),
    [
        (True, True, 0),  # 12:30 lies in between
        (True, False, 1),  # nobody knows how long: what holds before, and what holds without a clock
        (False, True, 1),
        (False, False, 1),
    ],
)
def test_a_gap_looks_at_the_wall_clock_only_where_both_ends_know_it(before: bool, after: bool, price: int) -> None:
    plan = parsed(energy=kwh((0.1, window("12:20", "12:40")), 0.4))
    found = run(plan, at(0, 0, wall_known=before), at(HOUR_MS, 900, gap=True, wall_known=after), at(HOUR_MS + 1, 900))
    assert energies(found) == {(0, price): 900}


def test_a_gap_sees_the_price_of_its_last_instant() -> None:
    plan = parsed(energy=kwh((0.1, window("13:00", "14:00")), 0.4))
    assert energies(run(plan, at(0, 0), at(HOUR_MS, 900, gap=True))) == {(0, 0): 900}
    assert energies(run(plan, at(0, 0), at(HOUR_MS - 1, 900, gap=True))) == {(0, 1): 900}


def test_a_gap_looks_no_further_back_than_a_month() -> None:
    plan = parsed(energy=kwh((0.1, {"validToDate": "2026-06-20"}), (0.2, {"validFromDate": "2026-06-21"}), 0.4))
    long_ms = GAP_LOOK_BACK_MS + 30 * 24 * HOUR_MS
    start = at(0, 0, wall_ms=NOON_MS + 10 * 24 * HOUR_MS)  # on the 20th: the dearest price
    end = at(9, 900, gap=True, wall_ms=NOON_MS + 10 * 24 * HOUR_MS + long_ms)
    assert energies(run(plan, start, end)) == {(0, 1): 900}


def test_without_a_clock_no_local_condition_is_met_and_no_boundary_of_it_foretold() -> None:
    plan = parsed(energy=kwh((0.1, window("12:00", "13:00")), 0.4), chargingTime=minute((1, {"minTime": 60})))
    found = run(plan, at(0, 0, wall_known=False))
    assert found.next_boundary_ms() == 60_000
    found.add(at(2 * MINUTE_MS, 500))
    assert energies(found) == {(0, 1): 500}
    assert found.next_boundary_ms() == HOUR_MS
    assert [each.energy for each in found.usage().periods] == [1, 1]


@pytest.mark.parametrize(("over_ms", "unsure"), [(ESTIMATE_ABOVE_MS, False), (ESTIMATE_ABOVE_MS + 1, True)])
def test_a_split_is_an_estimate_when_the_readings_are_further_apart(over_ms: int, unsure: bool) -> None:
    found = run(HOURLY, at(0, 0), at(HOUR_MS - 1_000, 500), at(HOUR_MS - 1_000 + over_ms, 600))
    assert found.usage().estimated_split is unsure


def test_the_first_reading_may_come_late() -> None:
    found = run(HOURLY, at(0), at(10), at(20, 5_000), at(30, 5_100))
    usage = found.usage()
    assert (usage.begin_mwh, usage.end_mwh, usage.energy_mwh) == (5_000, 5_100, 100)
    assert energies(found) == {(0, 0): 100}
    assert run(HOURLY, at(0)).usage().begin_mwh is None


def fees() -> Session:
    plan = parse_tariff(
        tariff(
            fixedFee={"prices": [{"priceFixed": 1, "conditions": {"paymentBrand": "V"}}, {"priceFixed": 2}]},
            reservationTime=minute(0.2),
            reservationFixed={"prices": [{"priceFixed": 3}]},
        )
    )
    return Session(plan, zone="Europe/Berlin", evse_kind=EvseKind.DC, payment=Payment("V"), reservation_ms=90_000)


def test_fees_are_chosen_once_at_the_first_point() -> None:
    found = fees()
    assert found.usage() == Usage(reservation_ms=90_000)
    found.add(at(0, 0))
    found.add(at(10, 5))
    assert found.usage().volumes == (
        Volume(0, Dimension.FIXED_FEE, 0, 1),
        Volume(0, Dimension.RESERVATION_TIME, 0, 90_000),
        Volume(0, Dimension.RESERVATION_FIXED, 0, 1),
    )
    assert found.usage().reservation_ms == 90_000


def test_the_tariff_of_the_first_point_takes_the_place_of_the_one_given() -> None:
    other = parsed(tariffId="U", energy=kwh(0.7))
    found = run(HOURLY, at(0, 0, tariff=other), at(10, 5))
    assert found.tariffs == (other,) and found.tariff is other
    assert energies(found) == {(0, 0): 5}
    found.add(at(20, 9, tariff=other))
    assert list(found.tariffs) == [other, other], "given again, used again"


def test_a_preview_is_what_would_be_and_changes_nothing() -> None:
    found = run(HOURLY, at(0, 0), at(10, 5))
    before = found.usage()
    shown = found.preview(at(HOUR_MS, 500, tariff=parsed(tariffId="U", energy=kwh(1))))
    assert found.usage() == before and found.tariffs == (HOURLY,)
    assert shown.end_mwh == 500 and shown.periods[-1].to_ms == HOUR_MS
    found.add(at(HOUR_MS, 500))
    assert found.usage().volumes == shown.volumes


def test_a_reading_before_the_first_point_changes_no_price() -> None:
    assert not Session(HOURLY, zone="Europe/Berlin", evse_kind="AC").price_changes(Register(0, 5))


def test_a_reading_that_would_change_a_price_is_only_looked_at() -> None:
    found = run(parsed(idleTime=minute((1, {"minEnergy": 1}))), at(0))
    assert not found.price_changes(Register(1, 5_000))  # it would be the first
    found.add(at(2, 1_000))
    assert found.price_changes(Register(3, 2_000)) and not found.price_changes(Register(3, 1_999))
    assert found.usage().end_mwh == 1_000


def test_a_first_reading_with_power_may_change_a_price() -> None:
    found = run(parsed(idleTime=minute((1, {"minPower": 5}))), at(0))
    assert found.price_changes(Register(1, 5_000, 5_000)) and not found.price_changes(Register(1, 5_000, 4_999))


def test_prices_of_an_instant_that_took_no_time_leave_no_period() -> None:
    other = parsed(tariffId="U", energy=kwh(0.7))
    found = run(HOURLY, at(0, 0), at(10, 5), at(10, 5, tariff=other), at(10, 5, tariff=HOURLY), at(20, 9))
    assert [(each.tariff, each.from_ms, each.to_ms) for each in found.usage().periods] == [(0, 0, 10), (2, 10, 20)]


def test_energy_of_an_instant_that_was_read_before_belongs_to_the_time_before() -> None:
    early = HOUR_MS - 10  # at 13:00 it becomes cheaper
    found = run(HOURLY, at(0, 0), at(early, 500), at(HOUR_MS, 700, read_ms=early))
    assert energies(found) == {(0, 0): 700}


@pytest.mark.parametrize(("known", "price"), [(True, 0), (False, 1)])
def test_energy_that_took_no_time_is_at_the_price_of_its_point(known: bool, price: int) -> None:
    assert energies(run(HOURLY, at(0, 0), at(0, 500, wall_known=known))) == {(0, price): 500}
