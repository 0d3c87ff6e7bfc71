"""Which price counts: every bound at its very value, for charging and for discharging, and what nobody knows."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from agent.tariff import calendar
from agent.tariff.calendar import local_time, next_change_ms
from agent.tariff.energy import Choice, Stretch, cheapest, pieces
from agent.tariff.model import (
    ALWAYS,
    Component,
    Conditions,
    Dimension,
    EvseKind,
    Payment,
    Tariff,
    TaxRate,
    UnitPrice,
)
from agent.tariff.select import Situation, energy_candidates, first_for_energy, selected, sometime_candidates

ZONE = ZoneInfo("Europe/Berlin")
NOON = local_time(ZONE, int(datetime(2026, 6, 10, 12, tzinfo=ZONE).timestamp() * 1000))
NOW = Situation(NOON, EvseKind.AC)


def plan(*all_conditions: Conditions, amounts: tuple[int, ...] = (), taxes: Any = ()) -> Tariff:
    amounts = amounts or tuple(range(1, len(all_conditions) + 1))
    prices = (UnitPrice(Fraction(amount), held) for amount, held in zip(amounts, all_conditions, strict=True))
    return Tariff("T", "EUR", energy=Component(tuple(prices), taxes))


def counts(conditions: Conditions, **now: Any) -> bool:
    return selected(plan(conditions), Dimension.ENERGY, replace(NOW, **now)) == 0


@pytest.mark.parametrize("unit", ["power_mw", "current_ma", "energy_mwh"])
@pytest.mark.parametrize(
    ("least", "below", "holding", "others"),
    [
        (10, None, (10, 11), (0, 9)),
        (None, 10, (0, 9), (10, 11)),
        (5, 10, (5, 9), (4, 10)),
        (0, None, (0, 5), ()),
        (0, 5, (0, 4), (5,)),
        (1, None, (1, 5), (0,)),
    ],
)
def test_minimum_is_inclusive_and_maximum_exclusive(
    unit: str, least: int | None, below: int | None, holding: tuple[int, ...], others: tuple[int, ...]
) -> None:
    bounds: dict[str, Any] = {f"min_{unit}": least, f"max_{unit}": below}
    for value in holding:
        assert counts(Conditions(**bounds), **{unit: value}), value
    for value in others:
        assert not counts(Conditions(**bounds), **{unit: value}), value


@pytest.mark.parametrize(
    ("least", "below", "holding", "others"),
    [
        (-5, None, (-5, -6), (-4, 0, 5)),
        (None, -10, (-9, -1, 0), (-10, -11, 1, 5)),
        (-5, -10, (-5, -9), (-4, -10, 5)),
        (0, None, (0, 7), (-1,)),
    ],
)
def test_bounds_for_discharging_mirror(
    least: int | None, below: int | None, holding: tuple[int, ...], others: tuple[int, ...]
) -> None:
    conditions = Conditions(min_power_mw=least, max_power_mw=below)
    for value in holding:
        assert counts(conditions, power_mw=value), value
    for value in others:
        assert not counts(conditions, power_mw=value), value


@pytest.mark.parametrize("bound", ["min_power_mw", "max_power_mw", "min_current_ma", "max_current_ma"])
def test_a_value_that_nobody_knows_meets_no_condition(bound: str) -> None:
    bounds: dict[str, Any] = {bound: 0}
    assert not counts(Conditions(**bounds))
    assert counts(ALWAYS)


@pytest.mark.parametrize(("unit", "kind"), [("time", "elapsed_ms"), ("charging", "charging_ms"), ("idle", "idle_ms")])
def test_times_count_to_the_millisecond(unit: str, kind: str) -> None:
    bounds: dict[str, Any] = {f"min_{unit}_s": 60, f"max_{unit}_s": 120}
    held = Conditions(**bounds)
    assert [counts(held, **{kind: ms}) for ms in (59_999, 60_000, 119_999, 120_000)] == [False, True, True, False]


def test_kind_and_payment() -> None:
    assert counts(Conditions(evse_kind=EvseKind.AC)) and not counts(Conditions(evse_kind=EvseKind.DC))
    card = Payment("V", "CC")
    for held in (Conditions(payment_brand="V"), Conditions(payment_recognition="CC")):
        assert counts(held, payment=card)
        assert not counts(held, payment=Payment("M", "DC"))
        assert not counts(held)
    assert not counts(Conditions(payment_brand="V", payment_recognition="DC"), payment=card)


def test_a_clock_that_nobody_set_meets_no_local_condition() -> None:
    for held in (Conditions(start_minute=0), Conditions(days=frozenset(range(7)))):
        assert counts(held) and not counts(held, at=None)
    assert counts(Conditions(min_time_s=0), at=None)


def test_candidates_end_with_the_first_price_that_asks_for_no_energy() -> None:
    below, above = Conditions(max_energy_mwh=5), Conditions(min_energy_mwh=9)
    dc = Conditions(evse_kind=EvseKind.DC)
    tariff = plan(dc, below, above, ALWAYS, ALWAYS)
    assert energy_candidates(tariff, NOW) == (1, 2, 3)
    prices = tariff.prices(Dimension.ENERGY)
    assert [first_for_energy(prices, (1, 2, 3), mwh) for mwh in (4, 5, 8, 9)] == [1, 3, 3, 2]
    assert first_for_energy(prices, (1, 2), 7) is None
    assert energy_candidates(plan(dc), NOW) == () and selected(plan(dc), Dimension.ENERGY, NOW) is None


def test_at_some_time_a_price_holds_whatever_its_hours_and_days_but_not_behind_one_that_always_does() -> None:
    evening, dc = Conditions(start_minute=1_080), Conditions(evse_kind=EvseKind.DC)
    summer, below = Conditions(from_date=date(2027, 6, 1)), Conditions(max_energy_mwh=5)
    tariff = plan(evening, dc, summer, below, ALWAYS, evening)
    assert energy_candidates(tariff, NOW) == (3, 4)
    assert sometime_candidates(tariff, NOW) == sometime_candidates(tariff, replace(NOW, at=None)) == (0, 2, 3, 4)


# ------------------------------------------------------------------------------- the next boundary


def test_of_a_thousand_boundaries_the_next_is_found_at_a_glance(monkeypatch: pytest.MonkeyPatch) -> None:
    """A station asks so often that to look at each of them would keep it from its watchdog."""
    local, looked = calendar._local, 0

    def look(zone: ZoneInfo, wall_ms: int) -> datetime:
        nonlocal looked
        looked += 1
        return local(zone, wall_ms)

    monkeypatch.setattr(calendar, "_local", look)
    at = datetime(2026, 6, 10, 12, 0, 30, tzinfo=ZONE)
    found = next_change_ms(range(1_440), ZONE, int(at.timestamp() * 1_000))
    assert found == int(at.timestamp() * 1_000) + 30_000 and looked <= 4


# -------------------------------------------------------------------------- energy between readings

ANY = Choice(0, 0, (0,))


@pytest.mark.parametrize(
    ("from_ms", "to_ms", "is_gap", "overlaps"),
    [
        (0, 10, False, False),  # ends where the time begins
        (0, 11, False, True),
        (19, 30, False, True),
        (20, 30, False, False),
        (10, 20, False, True),
        (15, 15, False, True),
        (10, 10, False, False),
        (10, 10, True, True),  # a gap that took no time on a clock that began anew
        (20, 20, True, True),
        (9, 9, True, False),
        (21, 21, True, False),
        (0, 10, True, False),
    ],
)
def test_which_stretches_lie_between_two_readings(from_ms: int, to_ms: int, is_gap: bool, overlaps: bool) -> None:
    assert Stretch(from_ms, to_ms, (ANY,), is_gap).overlaps(10, 20) is overlaps


def test_stretches_of_one_choice_join_and_others_do_not() -> None:
    one, two = Stretch(0, 5, (ANY,)), Stretch(5, 9, (ANY,))
    other = Stretch(9, 12, (Choice(1, 0, (1,)), ANY), is_gap=True)
    assert one.joins(two) and not one.joins(other) and not one.joins(replace(two, is_gap=True))
    assert not one.joins(replace(two, choices=other.choices))
    assert one.joined(two) == Stretch(0, 9, (ANY,))
    assert one.joined(other) == Stretch(0, 12, (ANY, Choice(1, 0, (1,))), is_gap=True)
    assert other.joined(one).is_gap


def test_energy_is_cut_where_a_condition_on_energy_changes_and_only_inside() -> None:
    tariff = plan(Conditions(min_energy_mwh=10, max_energy_mwh=30), Conditions(max_energy_mwh=20), ALWAYS)
    choices = [Choice(0, None, ()), Choice(0, 0, (0, 2)), Choice(1, 0, (1,))]
    assert pieces([tariff], choices, 5, 40) == [(5, 10), (10, 20), (20, 30), (30, 40)]
    assert pieces([tariff], choices, 10, 30) == [(10, 20), (20, 30)]
    assert pieces([tariff], choices[:2], 15, 25) == [(15, 25)]


def test_the_cheapest_counts_the_first_of_equals_and_says_whether_they_differ() -> None:
    tariff = plan(ALWAYS, ALWAYS, ALWAYS, amounts=(3, 2, 2))
    first, second, third = (Choice(n, 0, (n,)) for n in range(3))
    assert cheapest([tariff], [first, second, third], 0) == (second, 1, True)
    assert cheapest([tariff], [second, third], 0) == (second, 1, False)
    assert cheapest([tariff], [second, first], 0) == (second, 1, True)
    assert cheapest([tariff], [first, second, first], 0) == (second, 1, True)
    free = Choice(3, None, ())
    assert cheapest([tariff], [first, free], 0) == (free, None, True)
    nothing_fits = Choice(4, 0, ())
    assert cheapest([tariff], [first, nothing_fits], 0) == (nothing_fits, None, True)
    assert cheapest([tariff], [free, nothing_fits], 0) == (free, None, False)


def test_the_cheapest_is_the_one_with_the_least_price_with_tax() -> None:
    dear = plan(ALWAYS, amounts=(10,), taxes=(TaxRate("VAT", Fraction(50)),))
    cheap = plan(ALWAYS, amounts=(12,))
    one, other = Choice(0, 0, (0,)), Choice(1, 1, (0,))
    assert cheapest([dear, cheap], [one, other], 0) == (other, 0, True)
