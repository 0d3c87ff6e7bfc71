"""The fold in trouble: readings that come late, gaps, clock steps, tariffs that change, thresholds of energy."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from agent.tariff import fold
from agent.tariff.calendar import next_change_ms
from agent.tariff.fold import GAP_BOUNDARIES, MAX_STRETCHES, Session
from agent.tariff.model import DAY_MINUTES, Dimension, Tariff
from agent.tariff.parse import parse_tariff
from agent.tariff.usage import Activity, Point, Register, Volume
from tests.support.tariff_json import HOUR_MS, MINUTE_MS, kwh, minute, tariff, window

NOON_MS = 1_781_085_600_000  # 2026-06-10T10:00Z, 12:00 in Berlin
BUSY = Activity.CHARGING


def parsed(**parts: Any) -> Tariff:
    return parse_tariff(tariff(**parts))


def session(first: Tariff | None) -> Session:
    return Session(first, zone="Europe/Berlin", evse_kind="AC")


def at(
    at_ms: int, energy_mwh: int | None = None, activity: Activity = BUSY, power_w: int | None = None, **how: Any
) -> Point:
    register = None
    if energy_mwh is not None:
        register = Register(how.pop("read_ms", at_ms), energy_mwh, None if power_w is None else power_w * 1000)
    return Point(at_ms, how.pop("wall_ms", NOON_MS + at_ms), activity, register, **how)


def run(first: Tariff | None, *points: Point) -> Session:
    found = session(first)
    for each in points:
        found.add(each)
    return found


def energies(found: Session) -> dict[tuple[int, int], int]:
    volumes = (each for each in found.usage().volumes if each.dimension is Dimension.ENERGY)
    return {(each.tariff, each.price): each.amount for each in volumes}


def clock(minute_of_day: int) -> str:
    return f"{minute_of_day // 60:02d}:{minute_of_day % 60:02d}"


# -------------------------------------------------------------------------------------------- energy

AFTERNOON = parsed(energy=kwh((0.5, window("12:00", "13:00")), (0.2, window("13:00", "14:00")), 0.4))


def test_energy_over_a_boundary_without_reading_goes_to_the_cheapest_price_and_is_marked() -> None:
    found = run(AFTERNOON, at(0, 0), at(90 * MINUTE_MS, 9_000))
    assert energies(found) == {(0, 1): 9_000}
    assert [period.estimated_split for period in found.usage().periods] == [False, True]


BY_POWER = parsed(energy=kwh((0.9, {"minPower": 5_000}), 0.3))


@pytest.mark.parametrize("lag_ms, unsure", [(0, False), (1, False), (3_000, False), (3_001, True)])
def test_what_a_reading_chooses_holds_from_the_reading_on_though_its_row_comes_later(lag_ms: int, unsure: bool) -> None:
    """A wire and a meter take their time. Where the row comes much later, nobody knows."""
    rows = [at(0, 0, power_w=1_000)]
    for number, power_w in enumerate((9_000, 1_000, 9_000, 1_000), 1):
        rows.append(at(number * MINUTE_MS, number * 1_000, power_w=power_w, read_ms=number * MINUTE_MS - lag_ms))
    found = run(BY_POWER, *rows)
    assert energies(found) == ({(0, 1): 4_000} if unsure else {(0, 0): 2_000, (0, 1): 2_000})
    assert found.usage().estimated_split is unsure


def test_a_reading_just_beside_the_boundary_is_as_good_as_one_at_it() -> None:
    found = run(AFTERNOON, at(0, 0), at(HOUR_MS - 1_000, 5_000), at(HOUR_MS + 1_000, 5_010), at(HOUR_MS + 9_000, 6_000))
    assert energies(found) == {(0, 0): 5_000, (0, 1): 1_000}
    assert not found.usage().estimated_split


def test_three_prices_in_one_reading_choose_the_cheapest_of_all() -> None:
    found = run(AFTERNOON, at(0, 0), at(3 * HOUR_MS, 9_000))
    assert energies(found) == {(0, 1): 9_000}


def test_equal_prices_need_no_estimate() -> None:
    found = run(parsed(energy=kwh((0.5, window("12:00", "13:00")), 0.5)), at(0, 0), at(2 * HOUR_MS, 9_000))
    assert not found.usage().estimated_split


def test_no_price_is_the_cheapest() -> None:
    found = run(parsed(energy=kwh((0.5, window("12:00", "13:00")))), at(0, 0), at(2 * HOUR_MS, 9_000))
    assert energies(found) == {}
    assert found.usage().periods[-1].energy_mwh == 9_000


def test_late_reading_belongs_to_the_time_when_it_was_taken() -> None:
    before = 59 * MINUTE_MS
    found = run(AFTERNOON, at(0, 0), at(HOUR_MS + 5_000, 7_000, read_ms=before), at(HOUR_MS + 9_000, 7_500))
    assert energies(found) == {(0, 0): 7_000, (0, 1): 500}


def test_reading_taken_at_the_boundary_needs_no_estimate_however_late_it_is_written() -> None:
    found = run(AFTERNOON, at(0, 0), at(HOUR_MS + 5_000, 7_000, read_ms=HOUR_MS), at(HOUR_MS + 9_000, 7_500))
    assert energies(found) == {(0, 0): 7_000, (0, 1): 500}
    assert not found.usage().estimated_split


def test_time_after_a_late_reading_waits_for_the_next_one() -> None:
    two = 2 * HOUR_MS  # from 14:00 on it is dearer
    start = at(0, 0, wall_ms=NOON_MS + HOUR_MS)
    late = at(HOUR_MS + 5_000, 7_000, read_ms=HOUR_MS - 60_000, wall_ms=NOON_MS + two + 5_000)
    found = run(AFTERNOON, start, late, at(HOUR_MS + 9_000, 7_500, wall_ms=NOON_MS + two + 9_000))
    assert energies(found) == {(0, 1): 7_500}
    assert found.usage().estimated_split


def test_energy_threshold_divides_a_reading_exactly() -> None:
    plan = parsed(energy=kwh((0, {"maxEnergy": 5}), (0.4, {"minEnergy": 5, "maxEnergy": 8}), 0.6))
    found = run(plan, at(0, 100), at(10, 4_100), at(20, 9_102))
    assert energies(found) == {(0, 0): 5_000, (0, 1): 3_000, (0, 2): 1_002}
    periods = found.usage().periods
    assert [(each.energy, each.energy_mwh, each.from_ms, each.to_ms) for each in periods] == [
        (0, 5_000, 0, 20),
        (1, 3_000, 20, 20),
        (2, 1_002, 20, 20),
    ]


def test_reading_next_to_a_threshold_is_divided_as_well() -> None:
    plan = parsed(energy=kwh((0.1, {"maxEnergy": 5}), 0.6))
    found = run(plan, at(0, 0), at(10, 4_999), at(20, 5_001), at(30, 5_002))
    assert energies(found) == {(0, 0): 5_000, (0, 1): 2}


def test_power_condition_holds_from_the_reading_on_and_never_without_one() -> None:
    plan = parsed(energy=kwh((0.2, {"maxPower": 5_000}), (0.5, {"minPower": 5_000}), 0.9))
    found = run(plan, at(0, 0), at(10, 10, power_w=4_999), at(20, 30, power_w=5_000), at(30, 60), at(40, 100))
    assert energies(found) == {(0, 2): 10 + 40, (0, 0): 20, (0, 1): 30}


def test_negative_bounds_mirror_for_discharging() -> None:
    plan = parsed(energy=kwh((0.1, {"minPower": -1_000, "maxPower": -5_000}), 0.9))
    for power_w, price in ((-999, 1), (-1_000, 0), (-4_999, 0), (-5_000, 1), (3_000, 1)):
        assert energies(run(plan, at(0, 0, power_w=power_w), at(9, 5))) == {(0, price): 5}


def test_current_is_the_sum_over_the_phases() -> None:
    plan = parsed(energy=kwh((0.1, {"minCurrent": 48}), 0.9))
    found = session(plan)
    found.add(Point(0, NOON_MS, BUSY, Register(0, 0, None, 48_000)))
    found.add(Point(1, NOON_MS, BUSY, Register(1, 7, None, None)))
    found.add(Point(2, NOON_MS, BUSY, Register(2, 9, None, None)))
    assert energies(found) == {(0, 0): 7, (0, 1): 2}


def test_many_boundaries_without_a_reading_stay_few() -> None:
    quarters = [(0.1 + hour, window(f"{hour:02d}:00", f"{hour:02d}:30")) for hour in range(24)]
    found = run(parsed(energy=kwh(*quarters, 0.05)), at(0, 0), at(240 * HOUR_MS))
    assert len(found._stretches) == MAX_STRETCHES
    found.add(at(241 * HOUR_MS, 77))
    assert energies(found) == {(0, 24): 77}


# ---------------------------------------------------------------------------------------------- gaps


def test_gap_is_not_billed_and_its_energy_is_at_the_cheapest_price_in_it() -> None:
    plan = parsed(energy=AFTERNOON_PRICES, chargingTime=minute(1))
    found = run(plan, at(0, 0), at(MINUTE_MS, 50), at(3 * HOUR_MS, 900, gap=True), at(3 * HOUR_MS + 7, 1_000))
    usage = found.usage()
    assert energies(found) == {(0, 0): 50 + 850, (0, 2): 100}  # in the gap 13:00 to 14:00 was none of the dearer
    assert (usage.charging_ms, usage.unbilled_ms) == (MINUTE_MS + 7, 3 * HOUR_MS - MINUTE_MS)


AFTERNOON_PRICES = kwh((0.3, window("12:00", "13:00")), (0.9, window("13:00", "14:00")), 0.4)


def test_gap_that_takes_no_monotonic_time_looks_at_the_wall() -> None:
    plan = parsed(energy=kwh((0.5, window("12:00", "13:00")), (0.2, window("13:00", "14:00")), 0.4))
    found = run(plan, at(0, 0), at(0, 900, gap=True, wall_ms=NOON_MS + 3 * HOUR_MS))
    assert energies(found) == {(0, 1): 900}
    assert found.usage().estimated_split


def test_gap_without_reading_and_time_is_still_known_when_the_reading_comes() -> None:
    back = at(HOUR_MS, gap=True, wall_ms=NOON_MS)  # at 13:00 the clock goes back to 12:00
    found = run(AFTERNOON, at(0, 0), at(HOUR_MS), back, at(HOUR_MS + 5, 900, wall_ms=NOON_MS + 5))
    assert energies(found) == {(0, 1): 900}
    assert sum(each.energy_mwh for each in found.usage().periods) == 900


def test_gap_of_a_clock_that_was_never_set_ends() -> None:
    found = run(AFTERNOON, at(0, 0, wall_ms=0), at(5, 900, gap=True, wall_ms=NOON_MS))
    assert energies(found) == {(0, 1): 900}


def test_energy_goes_on_counting_after_a_gap() -> None:
    plan = parsed(energy=kwh((0.1, {"maxEnergy": 1}), 0.5))
    found = run(plan, at(0, 0), at(1, 900), at(2, 900, gap=True), at(3, 1_100))
    assert energies(found) == {(0, 0): 1_000, (0, 1): 100}


WINDOWS = [window(clock(number), clock((number + 6) % DAY_MINUTES)) for number in range(0, DAY_MINUTES, 6)]


@pytest.mark.parametrize(
    ("cheap", "hours", "found"),
    [
        (window("18:00", "19:00") | {"validFromDate": "2026-06-12"}, 56, 0),  # 12 June 20:00: behind 500 boundaries
        (window("18:00", "19:00") | {"validFromDate": "2026-06-12"}, 49, 1),  # 12 June 13:00: all are looked at
        ({"startTimeOfDay": "18:00", "minEnergy": 500}, 744, 1),  # not so much energy
        ({"startTimeOfDay": "18:00", "evseKind": "DC"}, 744, 1),  # of others
    ],
)
def test_a_gap_with_very_many_boundaries_looks_at_some_and_then_all_prices_count(
    cheap: dict[str, Any], hours: int, found: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A week without power, with a price for each minute, kept the station from its watchdog, start after start."""
    looked = 0

    def look(minutes: Sequence[int], zone: ZoneInfo, wall_ms: int) -> int | None:
        nonlocal looked
        looked += 1
        return next_change_ms(minutes, zone, wall_ms)

    monkeypatch.setattr(fold, "next_change_ms", look)
    others = [(0.3 + number % 7 / 10, each) for number, each in enumerate(WINDOWS)]
    plan = parsed(energy=kwh((0.1, cheap), *others))
    gap = run(plan, at(0, 0), at(hours * HOUR_MS, 900, gap=True))
    assert looked <= GAP_BOUNDARIES
    ((_, price),) = energies(gap)
    assert plan.prices(Dimension.ENERGY)[price].amount == (Fraction(1, 10) if found == 0 else Fraction(3, 10))


TWO_MINUTES = [window(clock(at % DAY_MINUTES), clock((at + 2) % DAY_MINUTES)) for at in range(720, 1720, 2)]
SOLD = window("12:00", "04:40")


@pytest.mark.parametrize(
    ("prices", "hours", "price"),
    [
        (kwh((0.3, SOLD)), 15, 0),  # all boundaries are looked at, and there are no free hours in the gap
        (kwh((0.3, SOLD)), 24, None),
        (kwh((0.3, SOLD), 0.9), 24, 0),
        (kwh((0.3, SOLD), (0.9, {"maxEnergy": 5}), (0.8, {"minEnergy": 5})), 24, 0),  # never free
        (kwh((0.3, SOLD), (0.9, {"maxEnergy": 0.5})), 24, None),  # not so little energy
        (kwh((0.3, SOLD), (0.9, {"evseKind": "DC"})), 24, None),  # of others
        (kwh((0.3, {"validToDate": "2026-06-20"})), 200, 0),  # each day of the gap has prices
        (kwh((0.3, {"validToDate": "2026-06-20"})), 250, None),  # the last one has none
    ],
)
def test_free_hours_count_in_a_gap_with_very_many_boundaries(
    prices: dict[str, Any], hours: int, price: int | None
) -> None:
    """No price is the cheapest, also where it lies behind the boundaries that are looked at one by one."""
    plan = parsed(energy=prices, chargingTime=minute(*((0.1, each) for each in TWO_MINUTES)))
    found = run(plan, at(0, 0), at(MINUTE_MS, 600), at(hours * HOUR_MS, 1_500, gap=True), at(hours * HOUR_MS, 1_500))
    assert energies(found) == ({(0, 0): 600} if price is None else {(0, 0): 1_500})


# --------------------------------------------------------------------------------------------- clock


def test_clock_step_moves_the_boundary_and_reprices_nothing() -> None:
    plan = parsed(chargingTime=minute((1, window("12:00", "13:00")), 2))
    found = run(plan, at(0), at(10 * MINUTE_MS, wall_ms=NOON_MS + 50 * MINUTE_MS))
    assert found.next_boundary_ms() == 20 * MINUTE_MS
    found.add(at(30 * MINUTE_MS, wall_ms=NOON_MS + 30 * MINUTE_MS))  # and back again
    found.add(at(40 * MINUTE_MS, wall_ms=NOON_MS + 40 * MINUTE_MS))
    assert found.usage().volumes == (
        Volume(0, Dimension.CHARGING_TIME, 0, 30 * MINUTE_MS),
        Volume(0, Dimension.CHARGING_TIME, 1, 10 * MINUTE_MS),
    )


def test_time_that_may_not_be_billed_counts_for_the_conditions_all_the_same() -> None:
    plan = parsed(idleTime=minute((1, {"minIdleTime": 600})))
    found = run(
        plan, at(0, activity=Activity.IDLE, time_billable=False), at(900_000, activity=Activity.IDLE), at(960_000)
    )
    assert found.usage().volumes == (Volume(0, Dimension.IDLE_TIME, 0, 60_000),)
    assert (found.usage().unbilled_ms, found.usage().idle_ms) == (900_000, 60_000)


def test_each_idle_period_has_its_own_grace() -> None:
    """OCPP 2.1 minIdleTime: what the idle period, i.e. not charging, must last."""
    plan = parsed(idleTime=minute((1, {"minIdleTime": 600})))
    found, at_ms = session(plan), 0
    for _ in range(6):
        found.add(at(at_ms, activity=Activity.IDLE))
        found.add(at(at_ms + 5 * MINUTE_MS))
        at_ms += 6 * MINUTE_MS
    found.add(at(at_ms, activity=Activity.IDLE))
    assert found.next_boundary_ms() == at_ms + 10 * MINUTE_MS
    found.add(at(at_ms + 11 * MINUTE_MS))
    assert found.usage().idle_ms == 41 * MINUTE_MS
    assert found.usage().volumes == (Volume(0, Dimension.IDLE_TIME, 0, MINUTE_MS),)


def test_neither_the_stations_own_pause_nor_a_gap_counts_for_an_idle_period_or_ends_it() -> None:
    plan, idle = parsed(idleTime=minute((1, {"minIdleTime": 600}))), Activity.IDLE
    found = run(
        plan,
        at(0, activity=idle),
        at(6 * MINUTE_MS, activity=Activity.PAUSED),
        at(9 * MINUTE_MS, activity=idle),
        at(12 * MINUTE_MS, activity=idle),
        at(15 * MINUTE_MS, activity=idle, gap=True),
        at(18 * MINUTE_MS),
    )
    assert found.usage().volumes == (Volume(0, Dimension.IDLE_TIME, 0, 2 * MINUTE_MS),)


def test_time_needs_no_point_at_its_boundaries() -> None:
    windows = [(1, window("12:10", "12:25")), (2, window("12:25", "13:50")), (3, {"minTime": 6_600}), 4]
    found = run(parsed(chargingTime=minute(*windows)), at(0), at(2 * HOUR_MS))
    minutes = {each.price: each.amount // MINUTE_MS for each in found.usage().volumes}
    assert minutes == {3: 10, 0: 15, 1: 85, 2: 10}


def test_elapsed_time_is_exact_to_the_millisecond() -> None:
    plan = parsed(idleTime=minute((1, {"maxIdleTime": 1}), 2))
    idle = Activity.IDLE
    found = run(plan, at(0, activity=idle), at(400, activity=Activity.PAUSED), at(500, activity=idle), at(9_000))
    assert [(each.price, each.amount) for each in found.usage().volumes] == [(0, 1_000), (1, 7_900)]


def test_pause_is_charged_to_nobody_but_lasts() -> None:
    plan = parsed(chargingTime=minute((1, {"maxTime": 60}), 2), idleTime=minute(5))
    found = run(plan, at(0, activity=Activity.PAUSED), at(50_000), at(70_000))
    assert found.usage().volumes == (
        Volume(0, Dimension.CHARGING_TIME, 0, 10_000),
        Volume(0, Dimension.CHARGING_TIME, 1, 10_000),
    )


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (at(9), "comes after"),
        (at(20, 4, read_ms=21), "reading at 21 ms"),
        (at(20, 2), "falls behind"),
        (at(20, 5, read_ms=8), "falls behind"),
        (at(20, wall_ms=-1), "no date"),
        (at(20, wall_ms=10**18), "no date"),
        (at(20, tariff=parse_tariff(tariff(currency="JPY"))), "one currency"),
    ],
)
def test_point_that_cannot_follow_is_refused(bad: Point, said: str) -> None:
    found = run(AFTERNOON, at(0, 3), at(10, 3))
    before = found.usage()
    with pytest.raises(ValueError, match=said):
        found.add(bad)
    assert found.usage() == before


# -------------------------------------------------------------------------------------------- tariffs


def test_new_tariff_counts_from_then_on_and_brings_no_fee() -> None:
    fee = {"prices": [{"priceFixed": 1}]}
    first, second = parsed(energy=kwh(0.3), fixedFee=fee), parsed(tariffId="U", energy=kwh(0.4), fixedFee=fee)
    found = run(first, at(0, 0), at(10, 100, tariff=second), at(20, 300))
    assert energies(found) == {(0, 0): 100, (1, 0): 200}
    assert [each.tariff for each in found.usage().volumes if each.dimension is Dimension.FIXED_FEE] == [0]
    assert found.tariffs == (first, second)


def test_tariff_that_comes_to_a_session_without_one_prices_what_follows() -> None:
    found = run(None, at(0, 0), at(10, 100, tariff=AFTERNOON), at(20, 300))
    assert energies(found) == {(0, 0): 200}
    assert [each.tariff for each in found.usage().periods] == [None, 0]


def test_reading_across_a_change_of_tariff_is_at_the_cheaper_one() -> None:
    dear, cheap = parsed(energy=kwh(0.4)), parsed(tariffId="U", energy=kwh(0.3))
    found = run(dear, at(0, 0), at(5_000, tariff=cheap), at(9_000, 300))
    assert energies(found) == {(1, 0): 300}
    assert found.usage().estimated_split


def test_the_cheaper_tariff_is_the_one_that_costs_less_with_tax() -> None:
    taxed = parsed(energy=kwh(0.35, taxRates=[{"type": "VAT", "tax": 19}]))
    found = run(taxed, at(0, 0), at(5_000, tariff=parsed(tariffId="U", energy=kwh(0.4))), at(9_000, 300))
    assert energies(found) == {(1, 0): 300}


def test_reading_across_the_coming_of_a_tariff_is_free() -> None:
    assert energies(run(None, at(0, 0), at(5_000, tariff=AFTERNOON), at(9_000, 300))) == {}


# ------------------------------------------------------------------------------------------- outlook


def test_reading_that_changes_a_price_is_worth_a_point() -> None:
    found = run(parsed(idleTime=minute((1, {"minPower": 5}), (2, {"minEnergy": 1}))), at(0, 0, power_w=0))
    assert not found.price_changes(Register(1, 999, 4_999, None))
    assert found.price_changes(Register(1, 999, 5_000, None))
    assert found.price_changes(Register(1, 1_000, 0, None))


def test_only_times_that_run_foretell_a_boundary() -> None:
    plan = parsed(idleTime=minute((1, {"minIdleTime": 60})), chargingTime=minute((1, {"maxChargingTime": 30})))
    assert run(plan, at(0, activity=Activity.IDLE)).next_boundary_ms() == 60_000
    assert run(plan, at(0)).next_boundary_ms() == 30_000
    assert run(plan, at(0, activity=Activity.PAUSED)).next_boundary_ms() is None
    assert run(plan, at(0), at(30_000)).next_boundary_ms() is None
    assert session(plan).next_boundary_ms() is None
