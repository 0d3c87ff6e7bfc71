"""Properties of time and energy: E1, E2, C7, C8 and T1 of the metering notes."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.tariff.fold import Session
from agent.tariff.model import Dimension
from agent.tariff.usage import Activity, Point, Register, Usage
from tests.support.tariff_worlds import (
    ACTIVITIES,
    ZONE,
    World,
    cut_worlds,
    drive,
    running_conditions,
    starts,
    tariffs,
    worlds,
)

MINUTE_MS = 60_000


@st.composite
def rough_sessions(draw: st.DrawFn) -> tuple[Session, list[Point]]:
    """Points as trouble makes them: late and missing readings, gaps, clock steps, pauses, changed tariffs."""
    start_s = draw(starts())
    tariff = tariffs(start_s, running_conditions(start_s))
    parse = tariff.map(lambda each: World(each | {"currency": "EUR"}, start_s, ((1, "idle", 0),)).parsed())
    at_ms, wall_ms, energy_mwh, read_ms = 5_000, start_s * 1000, 123, 0
    points: list[Point] = []
    for _ in range(draw(st.integers(1, 9))):
        register = None
        if draw(st.booleans()):
            read_ms = draw(st.integers(read_ms, at_ms)) if read_ms else at_ms
            energy_mwh += draw(st.sampled_from((0, 1, 999, 250_000)))
            register = Register(read_ms, energy_mwh, draw(st.none() | st.sampled_from((0, 4_000_000, 11_000_000))))
        points.append(
            Point(
                at_ms,
                wall_ms,
                draw(st.sampled_from(Activity)),
                register,
                draw(st.none() | parse) if draw(st.integers(0, 3)) == 0 else None,
                gap=bool(points) and draw(st.integers(0, 4)) == 0,
                time_billable=draw(st.integers(0, 3)) > 0,
            )
        )
        step_ms = draw(st.sampled_from((0, 0, 0, 0, 2_500, -2_500, 3_600_000, -3_600_000)))
        spent_ms = draw(st.sampled_from((0, 1, 700, 1_000, 59_999, 7 * MINUTE_MS, 50 * MINUTE_MS)))
        at_ms, wall_ms = at_ms + spent_ms, wall_ms + spent_ms + step_ms
    return Session(draw(st.none() | parse), zone=ZONE, evse_kind="AC"), points


def check_tiling(usage: Usage, points: list[Point]) -> None:
    assert usage.periods[0].from_ms == points[0].at_ms
    assert usage.periods[-1].to_ms == points[-1].at_ms
    assert all(one.to_ms == other.from_ms for one, other in pairwise(usage.periods))
    for period in usage.periods:
        assert period.charging_ms + period.idle_ms + period.unbilled_ms == period.to_ms - period.from_ms
        assert min(period.charging_ms, period.idle_ms, period.unbilled_ms, period.energy_mwh) >= 0


def of_periods(usage: Usage) -> Counter[tuple[int, Dimension, int]]:
    found: Counter[tuple[int, Dimension, int]] = Counter()
    for period in usage.periods:
        for dimension, price, amount in (
            (Dimension.ENERGY, period.energy, period.energy_mwh),
            (Dimension.CHARGING_TIME, period.charging_time, period.charging_ms),
            (Dimension.IDLE_TIME, period.idle_time, period.idle_ms),
        ):
            if period.tariff is not None and price is not None and amount:
                found[period.tariff, dimension, price] += amount
    return found


def of_volumes(usage: Usage) -> Counter[tuple[int, Dimension, int]]:
    fees = {Dimension.FIXED_FEE, Dimension.RESERVATION_FIXED, Dimension.RESERVATION_TIME}
    return Counter({(each.tariff, each.dimension, each.price): each.amount for each in usage.volumes}) - Counter(
        {(each.tariff, each.dimension, each.price): each.amount for each in usage.volumes if each.dimension in fees}
    )


def run(session: Session, points: list[Point]) -> Usage:
    for each in points:
        session.add(each)
    return session.usage()


@settings(max_examples=120, deadline=None)
@given(rough_sessions())
def test_e1_energies_of_the_periods_are_the_difference_of_the_registers(case: tuple[Session, list[Point]]) -> None:
    session, points = case
    usage = run(session, points)
    read = [each.register.energy_mwh for each in points if each.register is not None]
    assert sum(period.energy_mwh for period in usage.periods) == (read[-1] - read[0] if read else 0)
    assert (usage.begin_mwh, usage.end_mwh) == ((read[0], read[-1]) if read else (None, None))


@settings(max_examples=50, deadline=None)
@given(worlds(), st.integers(1, 10_000))
def test_e2_a_register_that_falls_is_refused_and_changes_nothing(world: World, fall_mwh: int) -> None:
    session = drive(world)[0]
    before = session.usage()
    at_ms = world.duration_s * 1000
    fallen = Register(at_ms, 7_000 + world.energy_mwh(world.duration_s) - fall_mwh)
    with pytest.raises(ValueError, match="falls behind"):
        session.add(Point(at_ms, world.start_utc_s * 1000 + at_ms, Activity.IDLE, fallen))
    assert session.usage() == before
    assert all(period.energy_mwh >= 0 for period in before.periods)


@settings(max_examples=120, deadline=None)
@given(rough_sessions())
def test_c7_periods_tile_the_session_each_with_one_price_per_dimension(case: tuple[Session, list[Point]]) -> None:
    session, points = case
    usage = run(session, points)
    check_tiling(usage, points)
    assert of_periods(usage) == of_volumes(usage)
    for volume in usage.volumes:
        assert volume.price < len(session.tariffs[volume.tariff].prices(volume.dimension))


@settings(max_examples=60, deadline=None)
@given(cut_worlds())
def test_c8_what_is_charged_is_elapsed_time_also_when_the_clocks_change(case: tuple[World, list[int]]) -> None:
    world, cuts = case
    usage = drive(world, cuts)[0].usage()
    spent = Counter[str]()
    for seconds, activity, _ in world.spans:
        spent[activity] += seconds * 1000
    assert (usage.charging_ms, usage.idle_ms, usage.unbilled_ms) == (
        spent["charging"],
        spent["idle"],
        spent["paused"],
    )


@settings(max_examples=120, deadline=None)
@given(rough_sessions())
def test_t1_no_time_is_charged_twice_whatever_the_clock_does(case: tuple[Session, list[Point]]) -> None:
    session, points = case
    usage = run(session, points)
    billable: Counter[Activity] = Counter()
    for one, other in pairwise(points):
        if one.time_billable and not other.gap:
            billable[one.activity] += other.at_ms - one.at_ms
    assert (usage.charging_ms, usage.idle_ms) == (billable[Activity.CHARGING], billable[Activity.IDLE])
    for dimension, most in ((Dimension.CHARGING_TIME, usage.charging_ms), (Dimension.IDLE_TIME, usage.idle_ms)):
        assert sum(each.amount for each in usage.volumes if each.dimension is dimension) <= most


@settings(max_examples=60, deadline=None)
@given(rough_sessions())
def test_preview_shows_what_would_be_and_changes_nothing(case: tuple[Session, list[Point]]) -> None:
    session, points = case
    for each in points:
        before = session.usage()
        shown = session.preview(each)
        assert session.usage() == before
        session.add(each)
        assert session.usage() == shown


@settings(max_examples=60, deadline=None)
@given(cut_worlds(), st.integers(1, 86_400_000))
def test_prices_change_at_no_other_time_than_the_boundary_foretold(
    case: tuple[World, list[int]], later_ms: int
) -> None:
    world, cuts = case
    session = drive(world, cuts)[0]
    activity = ACTIVITIES[world.spans[-1][1]]
    end_ms, boundary_ms = world.duration_s * 1000, session.next_boundary_ms()
    later_ms += end_ms
    if boundary_ms is not None:
        assert boundary_ms > end_ms
        later_ms = min(later_ms, boundary_ms - 1)
    going_on = session.preview(Point(later_ms, world.start_utc_s * 1000 + later_ms, activity))
    assert going_on.periods[-1].from_ms <= end_ms
