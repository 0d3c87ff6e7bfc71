"""Composite schedule and current limit against a brute-force model that looks at every second.

The model shares no code with the implementation: it asks, for one instant, every installed profile what it
says, counting recurrences one by one and converting with exact fractions. (OCPP checklist part 8, test 10.)
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from math import floor

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.charging.composite import Feed, Transaction, composite_schedule, current_limit
from agent.charging.profiles import (
    ChargingProfile,
    Kind,
    LimitSource,
    Period,
    Purpose,
    RateUnit,
    Recurrency,
    Schedule,
)
from agent.charging.store import Installed, ProfileSet

BASE_MS = 1_790_000_000_000
WINDOW_S = 90
DAY_S = 86_400
CYCLE_MS = {Recurrency.DAILY: DAY_S * 1000, Recurrency.WEEKLY: 7 * DAY_S * 1000}
A, W = RateUnit.AMPERE, RateUnit.WATT


# ------------------------------------------------------------------------------------- the model


def says(profile: ChargingProfile, at_ms: int, started_ms: int) -> tuple[int, int] | None:
    """(which run, which period) of the profile holds at the instant, or None."""
    if profile.valid_from_ms is not None and at_ms < profile.valid_from_ms:
        return None
    if profile.valid_to_ms is not None and not at_ms < profile.valid_to_ms:
        return None
    schedule = profile.schedules[0]
    run_ms = schedule.start_ms if schedule.start_ms is not None else started_ms
    if schedule.start_ms is None and at_ms < started_ms:
        return run_ms, 0
    if at_ms < run_ms:
        return None
    if profile.kind == Kind.RECURRING:
        assert profile.recurrency is not None
        while run_ms + CYCLE_MS[profile.recurrency] <= at_ms:
            run_ms += CYCLE_MS[profile.recurrency]
    if schedule.duration_s is not None and at_ms >= run_ms + 1000 * schedule.duration_s:
        return None
    begun = [index for index, period in enumerate(schedule.periods) if run_ms + 1000 * period.start_s <= at_ms]
    return run_ms, begun[-1]


def is_over(profile: ChargingProfile, at_ms: int, started_ms: int) -> bool:
    """Nothing that it says is still to come, for this transaction."""
    if profile.valid_from_ms is not None and at_ms < profile.valid_from_ms:
        return False  # nobody gets one accepted whose validity ends before it begins
    if profile.valid_to_ms is not None and at_ms >= profile.valid_to_ms:
        return True
    schedule = profile.schedules[0]
    if profile.kind == Kind.RECURRING or schedule.duration_s is None:
        return False
    run_ms = schedule.start_ms if schedule.start_ms is not None else started_ms
    return at_ms >= run_ms + 1000 * schedule.duration_s


def model_limit(profiles: ProfileSet, feed: Feed, unit: RateUnit, at_ms: int, started_ms: int) -> Fraction:
    """The exact limit in milliampere or milliwatt at one instant."""
    watt_per_ampere = Fraction(feed.voltage_mv, 1000) * feed.phases

    def of(purpose: Purpose, place: int, source: LimitSource) -> Fraction | None:
        best: tuple[tuple[int, int], Fraction] | None = None
        for entry in profiles.entries:
            it = entry.profile
            if (it.purpose, entry.evse_id, entry.source) != (purpose, place, source):
                continue
            if it.purpose == Purpose.TX and (feed.transaction is None or it.transaction_id != feed.transaction.id):
                continue
            found = says(it, at_ms, started_ms)
            if found is None:
                continue
            limit = Fraction(it.schedules[0].periods[found[1]].limit_milli)
            if it.schedules[0].unit != unit:
                limit = limit * watt_per_ampere if unit == W else limit / watt_per_ampere
            rank = (it.stack_level, -it.id)
            if best is None or rank > best[0]:
                best = (rank, limit)
        return None if best is None else best[1]

    def counts(entry: Installed, kinds: list[tuple[Purpose, int, LimitSource]]) -> bool:
        if (entry.profile.purpose, entry.evse_id, entry.source) not in kinds:
            return False
        running = None if feed.transaction is None else feed.transaction.id
        return entry.profile.purpose != Purpose.TX or entry.profile.transaction_id == running

    cso, evse = LimitSource.CSO, feed.evse_id
    caps = [[(Purpose.STATION_MAX, 0, cso)]]
    caps += [[(Purpose.STATION_EXTERNAL, place, source)] for source in LimitSource for place in {0, evse}]
    if evse != 0:
        caps.append([(Purpose.TX, evse, cso), (Purpose.TX_DEFAULT, evse, cso), (Purpose.TX_DEFAULT, 0, cso)])
    in_unit = watt_per_ampere if unit == W else 1
    limits = [Fraction(feed.hard_limit_ma) * in_unit]
    for cap in caps:
        said = [found for each in cap if (found := of(*each)) is not None]
        if said:
            limits.append(said[0])
        all_over = [is_over(entry.profile, at_ms, started_ms) for entry in profiles.entries if counts(entry, cap)]
        if all_over and all(all_over) and feed.offline_limit_ma is not None:
            limits.append(Fraction(feed.offline_limit_ma) * in_unit)
    return min(limits)


def started(feed: Feed, wall_ms: int) -> int:
    return wall_ms if feed.transaction is None else feed.transaction.started_ms


# ---------------------------------------------------------------------------------- the situations

# Strategies are built once, here: building them inside every draw takes most of the tests' time.

near_ms = st.integers(-120, 120).map(lambda s: s * 1000) | st.integers(-120_000, 120_000)
instants = near_ms.map(lambda ms: BASE_MS + ms)
walls = instants
late_s = st.sampled_from((DAY_S - 30, DAY_S - 1, DAY_S, DAY_S + 30, 7 * DAY_S - 10, 7 * DAY_S + 10))
offsets = st.lists(st.integers(1, 150) | late_s, max_size=4, unique=True).map(lambda late: [0, *sorted(late)])
steps = {
    RateUnit.AMPERE: st.sampled_from((0, 5_900, 6_000, 8_100, 10_000, 16_000, 40_000)),
    RateUnit.WATT: st.sampled_from((0, 1_380_000, 4_139_000, 4_140_000, 7_000_000, 11_039_900, 30_000_000)),
}
number_phases = st.sampled_from((None, 1, 3))
durations = st.none() | st.integers(1, 150) | late_s
starts = st.builds(lambda days, ms: BASE_MS + days * DAY_S * 1000 + ms, st.integers(-15, 0), near_ms)
starts_by_kind = {Kind.RECURRING: starts, Kind.ABSOLUTE: starts | st.none(), Kind.RELATIVE: st.none()}
kinds = st.sampled_from(Kind)
units = st.sampled_from(RateUnit)
recurrencies = st.sampled_from(Recurrency)
purposes = st.sampled_from((Purpose.TX_DEFAULT, Purpose.TX_DEFAULT, *Purpose))
stack_levels = st.integers(0, 2)
validities = st.none() | instants
transaction_ids = st.sampled_from(("tx-1", "tx-1", "tx-2"))
evse_ids = {Purpose.STATION_MAX: st.just(0), Purpose.TX: st.integers(1, 2)}
any_evse_id = st.integers(0, 2)
outside_sources = st.sampled_from((LimitSource.EMS, LimitSource.SO))


@st.composite
def entries(draw: st.DrawFn) -> Installed:
    purpose, kind, unit = draw(purposes), draw(kinds), draw(units)
    periods = tuple(Period(start_s, draw(steps[unit]), draw(number_phases)) for start_s in draw(offsets))
    profile = ChargingProfile(
        id=0,
        stack_level=draw(stack_levels),
        purpose=purpose,
        kind=kind,
        schedules=(Schedule(unit, periods, draw(durations), draw(starts_by_kind[kind])),),
        recurrency=draw(recurrencies) if kind is Kind.RECURRING else None,
        valid_from_ms=draw(validities),
        valid_to_ms=draw(validities),
        transaction_id=draw(transaction_ids) if purpose is Purpose.TX else None,
    )
    source = draw(outside_sources) if purpose is Purpose.STATION_EXTERNAL else LimitSource.CSO
    return Installed(draw(evse_ids.get(purpose, any_evse_id)), profile, source)


def numbered(found: list[Installed]) -> ProfileSet:
    return ProfileSet(tuple(replace(it, profile=replace(it.profile, id=id)) for id, it in enumerate(found)))


profile_sets = st.lists(entries(), min_size=1, max_size=5).map(numbered)
evses = {
    evse_id: st.builds(
        Feed,
        evse_id=st.just(evse_id),
        hard_limit_ma=st.sampled_from((16_000, 32_000, 63_000)),
        voltage_mv=st.sampled_from((230_000, 229_700, 120_000)),
        phases=st.sampled_from((1, 3)),
        transaction=st.none() | instants.map(lambda ms: Transaction("tx-1", ms)) if evse_id else st.none(),
        minimum_ma=st.sampled_from((6_000, 6_000, 0)),
        offline_limit_ma=st.sampled_from((None, None, 0, 7_000, 20_000)) if evse_id else st.none(),
    )
    for evse_id in range(3)
}
feeds = evses[0] | evses[1] | evses[2]


# ---------------------------------------------------------------------------------- the properties


@settings(max_examples=100, deadline=None)
@given(profile_sets, feeds, walls, units, st.integers(0, WINDOW_S))
def test_composite_schedule_is_the_model_at_every_second(
    profiles: ProfileSet, feed: Feed, wall_ms: int, unit: RateUnit, duration_s: int
) -> None:
    schedule = composite_schedule(profiles, feed, wall_ms, duration_s, unit)
    assert (schedule.start_ms, schedule.duration_s, schedule.unit) == (wall_ms, duration_s, unit)
    starts = [period.start_s for period in schedule.periods]
    assert starts[0] == 0
    assert starts == sorted(set(starts))
    assert starts[-1] < max(duration_s, 1)
    pairs = [(period.limit_milli, period.number_phases) for period in schedule.periods]
    assert all(one != other for one, other in pairwise(pairs))
    told = {period.start_s: period.limit_milli for period in schedule.periods}
    now = told[0]
    for second in range(max(duration_s, 1)):
        now = told.get(second, now)
        at_ms = wall_ms + second * 1000
        assert now == floor(model_limit(profiles, feed, unit, at_ms, started(feed, wall_ms)))


@settings(max_examples=50, deadline=None)
@given(profile_sets, evses[0], evses[1], evses[2], walls, units)
def test_station_schedule_is_the_models_sum_within_the_station_limit(
    profiles: ProfileSet, station: Feed, first: Feed, second: Feed, wall_ms: int, unit: RateUnit
) -> None:
    schedule = composite_schedule(profiles, station, wall_ms, WINDOW_S, unit, evses=(first, second))
    told = {period.start_s: period.limit_milli for period in schedule.periods}
    now = told[0]
    for at_s in range(WINDOW_S):
        now = told.get(at_s, now)
        own, *parts = [
            floor(model_limit(profiles, feed, unit, wall_ms + at_s * 1000, started(feed, wall_ms)))
            for feed in (station, first, second)
        ]
        assert now == min(own, sum(parts))


@settings(max_examples=100, deadline=None)
@given(profile_sets, feeds, walls)
def test_current_limit_is_the_model_and_holds_until_its_next_change(
    profiles: ProfileSet, feed: Feed, wall_ms: int
) -> None:
    start_ms = started(feed, wall_ms)

    def model(at_ms: int) -> int:
        limit_ma = floor(model_limit(profiles, feed, A, at_ms, start_ms))
        return limit_ma if limit_ma >= feed.minimum_ma else 0

    limit = current_limit(profiles, feed, wall_ms)
    assert limit.limit_ma == model(wall_ms)
    if limit.next_change_ms is None:
        until_ms = wall_ms + 15 * DAY_S * 1000
        watched = [wall_ms + second * 1000 for second in (*range(WINDOW_S), *range(0, 15 * DAY_S, 7 * DAY_S // 8))]
    else:
        until_ms = limit.next_change_ms
        assert until_ms > wall_ms
        watched = list(range(wall_ms, min(until_ms, wall_ms + WINDOW_S * 1000), 1000))
    for at_ms in (*watched, until_ms - 1):
        assert model(at_ms) == limit.limit_ma


@settings(max_examples=100, deadline=None)
@given(profile_sets, feeds, walls)
def test_next_change_is_a_moment_where_some_profile_changes_what_it_says(
    profiles: ProfileSet, feed: Feed, wall_ms: int
) -> None:
    """A timer is never set for nothing: a validity, run or period begins or ends just then."""
    at_ms = current_limit(profiles, feed, wall_ms).next_change_ms
    if at_ms is None:
        return
    start_ms = started(feed, wall_ms)
    edges = {edge for entry in profiles.entries for edge in (entry.profile.valid_from_ms, entry.profile.valid_to_ms)}
    moves = [
        says(entry.profile, at_ms - 1, start_ms) != says(entry.profile, at_ms, start_ms) for entry in profiles.entries
    ]
    assert any(moves) or at_ms in edges


@settings(max_examples=100, deadline=None)
@given(profile_sets, feeds, walls)
def test_following_the_timer_sees_every_change(profiles: ProfileSet, feed: Feed, wall_ms: int) -> None:
    """What a station does: ask, wait until next_change, ask again. It never misses a second of the model."""
    if feed.transaction is None:  # without one, each question assumes a start of its own
        feed = replace(feed, transaction=Transaction("tx-1", wall_ms))
    start_ms = started(feed, wall_ms)
    limit = current_limit(profiles, feed, wall_ms)
    for second in range(WINDOW_S):
        at_ms = wall_ms + second * 1000
        while limit.next_change_ms is not None and limit.next_change_ms <= at_ms:
            limit = current_limit(profiles, feed, limit.next_change_ms)
        exact = floor(model_limit(profiles, feed, A, at_ms, start_ms))
        assert limit.limit_ma == (exact if exact >= feed.minimum_ma else 0)
