"""Limits and composite schedules by worked tables, one test per rule row."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from agent.charging.composite import (
    MAX_CHANGES,
    CompositeSchedule,
    CurrentLimit,
    Feed,
    Transaction,
    composite_schedule,
    current_limit,
)
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
from agent.charging.rules import Capabilities, Rules
from agent.charging.store import Criteria, Installed, ProfileSet

A, W = RateUnit.AMPERE, RateUnit.WATT
HOUR = 3_600_000
DAY = 24 * HOUR
NOON = int(datetime(2026, 9, 7, 12, tzinfo=UTC).timestamp()) * 1000  # a Monday
TX = Transaction("tx-1", NOON - HOUR)
HARD = 32_000
FEED = Feed(evse_id=1, hard_limit_ma=HARD, voltage_mv=230_000, phases=3, transaction=TX)
STATION = Feed(evse_id=0, hard_limit_ma=63_000, voltage_mv=230_000, phases=3)


def profile(
    *periods: tuple[int, int] | Period,
    id: int = 1,
    purpose: Purpose = Purpose.TX_DEFAULT,
    stack: int = 0,
    kind: Kind = Kind.ABSOLUTE,
    start: int | None = NOON,
    duration: int | None = None,
    unit: RateUnit = A,
    **fields: Any,
) -> ChargingProfile:
    """Periods as (seconds, ampere or watt)."""
    steps = tuple(step if isinstance(step, Period) else Period(step[0], step[1] * 1000) for step in periods)
    schedule = Schedule(unit, steps, duration_s=duration, start_ms=None if kind is Kind.RELATIVE else start)
    if purpose is Purpose.TX:
        fields.setdefault("transaction_id", "tx-1")
    return ChargingProfile(id, stack, purpose, kind, (schedule,), **fields)


def installed(*places: tuple[int, ChargingProfile]) -> ProfileSet:
    return ProfileSet(
        tuple(
            Installed(evse_id, it, LimitSource.EMS if it.purpose is Purpose.STATION_EXTERNAL else LimitSource.CSO)
            for evse_id, it in places
        )
    )


def limits_at(profiles: ProfileSet, *seconds: float, feed: Feed = FEED) -> list[int]:
    """Limits in whole ampere at these seconds after noon."""
    found = [current_limit(profiles, feed, NOON + round(second * 1000)).limit_ma for second in seconds]
    assert all(limit % 1000 == 0 for limit in found)
    return [limit // 1000 for limit in found]


def steps(schedule: CompositeSchedule) -> list[tuple[int, int]]:
    return [(period.start_s, period.limit_milli // 1000) for period in schedule.periods]


def test_without_profiles_the_hard_limit_holds_for_ever() -> None:
    assert current_limit(ProfileSet(), FEED, NOON) == CurrentLimit(HARD, None)
    schedule = composite_schedule(ProfileSet(), FEED, NOON, 600, A)
    assert (schedule.evse_id, schedule.start_ms, schedule.duration_s, schedule.unit) == (1, NOON, 600, A)
    assert steps(schedule) == [(0, 32)]


def test_the_hard_limit_is_never_exceeded() -> None:
    assert limits_at(installed((1, profile((0, 80)))), 0) == [32]


# ------------------------------------------------------------------------------------- 16-SC-01


def test_16_sc_01_default_of_the_connector_overrides_that_of_all() -> None:
    profiles = installed((0, profile((0, 10), id=1, stack=5)), (1, profile((0, 20), id=2, stack=0)))
    assert limits_at(profiles, 0) == [20]
    assert limits_at(profiles, 0, feed=Feed(2, HARD, 230_000, 3)) == [10]


def test_16_sc_01_default_of_all_holds_where_that_of_the_connector_says_nothing() -> None:
    profiles = installed((0, profile((0, 10), id=1)), (1, profile((0, 20), id=2, duration=60)))
    assert limits_at(profiles, 0, 59.999, 60) == [20, 20, 10]


def test_16_sc_01_station_limit_caps_each_connector_and_is_the_limit_of_the_sum() -> None:
    profiles = installed((0, profile((0, 16), purpose=Purpose.STATION_MAX)))
    assert limits_at(profiles, 0) == [16]
    assert limits_at(profiles, 0, feed=STATION) == [16]


def test_16_sc_01_tx_profile_is_for_its_transaction_only() -> None:
    profiles = installed((1, profile((0, 8), purpose=Purpose.TX)))
    assert limits_at(profiles, 0) == [8]
    assert limits_at(profiles, 0, feed=Feed(1, HARD, 230_000, 3, Transaction("tx-2", NOON))) == [32]
    assert limits_at(profiles, 0, feed=Feed(1, HARD, 230_000, 3)) == [32]
    assert limits_at(profiles, 0, feed=Feed(2, HARD, 230_000, 3, TX)) == [32]


# ------------------------------------------------------------------------------------- 16-SC-02


def test_16_sc_02_replacement_valid_later_means_default_behaviour_until_then() -> None:
    def install(profiles: ProfileSet, new: ChargingProfile) -> ProfileSet:
        answer = profiles.install(
            new, 1, rules=Rules.OCPP16, capabilities=Capabilities(1, 9, 9, 9), running={}, wall_ms=NOON
        )
        assert isinstance(answer, ProfileSet)
        return answer

    profiles = install(ProfileSet(), profile((0, 10)))
    assert limits_at(profiles, 0) == [10]
    profiles = install(profiles, profile((0, 8), valid_from_ms=NOON + 60_000))
    assert current_limit(profiles, FEED, NOON) == CurrentLimit(HARD, NOON + 60_000)
    assert limits_at(profiles, 60) == [8]


# ------------------------------------------------------------------------------------- 16-SC-03


def test_16_sc_03_highest_stack_level_with_a_period_in_force_prevails() -> None:
    profiles = installed(
        (1, profile((0, 10), id=1, stack=0)),
        (1, profile((0, 30), id=2, stack=1, start=NOON + 10_000, duration=20)),
        (1, profile((0, 20), id=3, stack=2, valid_from_ms=NOON + 20_000, valid_to_ms=NOON + 40_000)),
    )
    assert steps(composite_schedule(profiles, FEED, NOON, 100, A)) == [(0, 10), (10, 30), (20, 20), (40, 10)]


def test_16_sc_03_without_duration_at_the_top_lower_levels_never_apply() -> None:
    profiles = installed((1, profile((0, 6), id=1)), (1, profile((0, 20), (60, 10), id=2, stack=1)))
    assert steps(composite_schedule(profiles, FEED, NOON, 10**9, A)) == [(0, 20), (60, 10)]
    assert current_limit(profiles, FEED, NOON + 60_000) == CurrentLimit(10_000, None)


# ------------------------------------------------------------------------------------- 16-SC-04


@pytest.mark.parametrize(
    ("station", "external", "tx", "default", "result"),
    [
        (None, None, None, 10, 10),
        (None, None, 20, 10, 20),  # a TxProfile replaces the default, also upwards
        (16, None, 20, 10, 16),
        (16, 12, 20, 10, 12),
        (16, 12, 8, 10, 8),
        (16, 12, None, 10, 10),
        (16, 12, None, None, 12),
        (0, 12, 20, 10, 0),
    ],
)
def test_16_sc_04_k02_least_of_all_purposes(
    station: int | None, external: int | None, tx: int | None, default: int | None, result: int
) -> None:
    given = {
        Purpose.STATION_MAX: station,
        Purpose.STATION_EXTERNAL: external,
        Purpose.TX: tx,
        Purpose.TX_DEFAULT: default,
    }
    profiles = installed(
        *(
            (
                0 if purpose in (Purpose.STATION_MAX, Purpose.STATION_EXTERNAL) else 1,
                profile((0, limit), purpose=purpose),
            )
            for purpose, limit in given.items()
            if limit is not None
        )
    )
    assert limits_at(profiles, 0) == [result]


def test_16_sc_04_tx_profile_out_of_force_gives_way_to_the_default() -> None:
    profiles = installed((1, profile((0, 20), purpose=Purpose.TX, duration=30)), (0, profile((0, 10), id=2)))
    assert steps(composite_schedule(profiles, FEED, NOON, 60, A)) == [(0, 20), (30, 10)]


def test_external_constraints_of_several_sources_and_places_all_count() -> None:
    def external(id: int, amps: int, evse_id: int, source: LimitSource) -> Installed:
        return Installed(evse_id, profile((0, amps), id=id, purpose=Purpose.STATION_EXTERNAL), source)

    entries = [
        external(1, 20, 0, LimitSource.EMS),
        external(2, 18, 0, LimitSource.SO),
        external(3, 9, 1, LimitSource.EMS),
    ]
    assert limits_at(ProfileSet(tuple(entries)), 0) == [9]
    assert limits_at(ProfileSet(tuple(entries[:2])), 0) == [18]
    assert limits_at(ProfileSet(tuple(entries)), 0, feed=Feed(2, HARD, 230_000, 3)) == [18]


@pytest.mark.parametrize(
    ("watt", "phases", "milliampere"),
    [
        (11_040, 3, 16_000),
        (11_039, 3, 15_998),  # 15.9985..., rounded down
        (3_680, 1, 16_000),
        (11_040, 1, 32_000),  # 48 A is above the hard limit
        (4_140, 3, 6_000),
        (4_139, 3, 0),  # 5.9985 A: cannot be offered (16-SC-12)
    ],
)
def test_16_sc_04_watt_becomes_ampere_per_phase_rounded_down(watt: int, phases: int, milliampere: int) -> None:
    feed = Feed(1, HARD, 230_000, phases)
    assert current_limit(installed((1, profile((0, watt), unit=W))), feed, NOON).limit_ma == milliampere


def test_16_sc_04_least_of_ampere_and_watt_in_either_unit() -> None:
    profiles = installed(
        (0, profile((0, 11_040), (60, 6_900), purpose=Purpose.STATION_MAX, unit=W)),
        (1, profile((0, 20), (30, 12), id=2)),
    )
    assert steps(composite_schedule(profiles, FEED, NOON, 90, A)) == [(0, 16), (30, 12), (60, 10)]
    assert steps(composite_schedule(profiles, FEED, NOON, 90, W)) == [(0, 11_040), (30, 8_280), (60, 6_900)]


# ------------------------------------------------------------------------------------- 16-SC-05


def test_16_sc_05_periods_follow_each_other_and_are_cut_by_the_duration() -> None:
    profiles = installed((1, profile((0, 10), (20, 12), (50, 14), (80, 16), duration=70)))
    assert steps(composite_schedule(profiles, FEED, NOON, 90, A)) == [(0, 10), (20, 12), (50, 14), (70, 32)]
    assert current_limit(profiles, FEED, NOON + 50_000) == CurrentLimit(14_000, NOON + 70_000)
    assert current_limit(profiles, FEED, NOON + 70_000) == CurrentLimit(HARD, None)


def test_16_sc_05_last_period_without_duration_lasts_for_ever() -> None:
    profiles = installed((1, profile((0, 10), (20, 12))))
    assert limits_at(profiles, -1, 0, 19.999, 20, 10**8) == [32, 10, 10, 12, 12]


# ------------------------------------------------------------------------------------- 16-SC-06


def test_16_sc_06_daily_repeats_and_falls_back_between() -> None:
    night = profile(
        (0, 16),
        (4 * 3600, 20),
        stack=1,
        kind=Kind.RECURRING,
        recurrency=Recurrency.DAILY,
        start=NOON - 30 * DAY + 10 * HOUR,
        duration=8 * 3600,
    )
    profiles = installed((1, night), (1, profile((0, 8), id=2)))
    expected = [(0, 8), (10, 16), (14, 20), (18, 8), (34, 16), (38, 20), (42, 8)]
    schedule = composite_schedule(profiles, FEED, NOON, 44 * 3600, A)
    assert [(start_s / 3600, limit) for start_s, limit in steps(schedule)] == expected
    # Alone it leaves the rest of the day unlimited.
    alone = composite_schedule(installed((1, night)), FEED, NOON, 20 * 3600, A)
    assert [limit for _, limit in steps(alone)] == [32, 16, 20, 32]


def test_16_sc_06_weekly_repeats_on_its_weekday() -> None:
    weekly = profile((0, 10), kind=Kind.RECURRING, recurrency=Recurrency.WEEKLY, start=NOON - 70 * DAY, duration=3600)
    profiles = installed((1, weekly))
    assert limits_at(profiles, 0, 3600, 86_400, 7 * 86_400, 7 * 86_400 + 3600) == [10, 32, 32, 10, 32]
    assert current_limit(profiles, FEED, NOON + HOUR).next_change_ms == NOON + 7 * DAY


@pytest.mark.parametrize(("recurrency", "days"), [(Recurrency.DAILY, 1), (Recurrency.WEEKLY, 7)])
@pytest.mark.parametrize("duration", [None, 30 * 86_400])
def test_16_sc_06_what_reaches_beyond_the_cycle_is_cut(recurrency: Recurrency, days: int, duration: int | None) -> None:
    cycle_s = days * 86_400
    late = cycle_s - 60
    steps_given = ((0, 10), (late, 12), (cycle_s + 60, 16))
    profiles = installed(
        (1, profile(*steps_given, kind=Kind.RECURRING, recurrency=recurrency, duration=duration, start=NOON))
    )
    assert limits_at(profiles, late - 1, late, cycle_s - 1, cycle_s, 2 * cycle_s - 1) == [10, 12, 12, 10, 12]
    assert current_limit(profiles, FEED, NOON + late * 1000).next_change_ms == NOON + cycle_s * 1000


def test_16_sc_06_recurring_does_not_begin_before_its_start() -> None:
    daily = profile((0, 10), kind=Kind.RECURRING, recurrency=Recurrency.DAILY, start=NOON + HOUR)
    assert limits_at(installed((1, daily)), 0, 3599, 3600) == [32, 32, 10]


@pytest.mark.parametrize("purpose", [Purpose.TX, Purpose.TX_DEFAULT])
@pytest.mark.parametrize("kind", [Kind.RELATIVE, Kind.ABSOLUTE])
def test_16_sc_06_without_start_it_counts_from_the_start_of_the_transaction(purpose: Purpose, kind: Kind) -> None:
    relative = profile((0, 10), (3600, 12), (3660, 14), purpose=purpose, kind=kind, start=None, duration=3700)
    assert limits_at(installed((1, relative)), -1, 0, 59, 60, 99, 100) == [10, 12, 12, 14, 14, 32]


def test_16_sc_06_relative_without_transaction_foretells_one_that_starts_now() -> None:
    relative = profile((0, 10), (60, 12), kind=Kind.RELATIVE)
    schedule = composite_schedule(installed((0, relative)), Feed(1, HARD, 230_000, 3), NOON, 90, A)
    assert steps(schedule) == [(0, 10), (60, 12)]


def test_relative_limit_holds_when_the_clock_was_set_back_before_the_start() -> None:
    """A step of the clock must not lift a limit."""
    relative = profile((0, 10), (60, 12), kind=Kind.RELATIVE)
    feed = Feed(1, HARD, 230_000, 3, Transaction("tx-1", NOON + HOUR))
    assert current_limit(installed((1, relative)), feed, NOON) == CurrentLimit(10_000, NOON + HOUR + 60_000)


# ------------------------------------------------------------------------------------- 16-SC-08


def test_16_sc_08_gaps_are_filled_with_the_default_limit_and_the_first_period_starts_at_0() -> None:
    profiles = installed((1, profile((0, 10), start=NOON + 60_000, duration=60)))
    assert steps(composite_schedule(profiles, FEED, NOON, 300, A)) == [(0, 32), (60, 10), (120, 32)]


def test_16_sc_08_equal_neighbours_are_merged() -> None:
    profiles = installed((1, profile((0, 10), (10, 10), (20, 12), (30, 12))), (0, profile((0, 40), (5, 50), id=2)))
    assert steps(composite_schedule(profiles, FEED, NOON, 300, A)) == [(0, 10), (20, 12)]


def test_16_sc_08_nothing_lies_beyond_the_asked_duration() -> None:
    profiles = installed((1, profile((0, 10), (60, 12))))
    assert steps(composite_schedule(profiles, FEED, NOON, 60, A)) == [(0, 10)]
    assert steps(composite_schedule(profiles, FEED, NOON, 61, A)) == [(0, 10), (60, 12)]
    assert steps(composite_schedule(profiles, FEED, NOON, 0, A)) == [(0, 10)]


def test_16_sc_08_a_change_between_two_seconds_shows_at_the_later_one() -> None:
    profiles = installed((1, profile((0, 10), start=NOON + 10_400)))
    assert steps(composite_schedule(profiles, FEED, NOON, 60, A)) == [(0, 32), (11, 10)]
    assert steps(composite_schedule(profiles, FEED, NOON + 400, 60, A)) == [(0, 32), (10, 10)]


def test_16_sc_08_connector_0_expects_the_sum_of_all_within_the_station_limit() -> None:
    profiles = installed(
        (0, profile((0, 32), (60, 12), purpose=Purpose.STATION_MAX)),
        (0, profile((0, 10), id=2)),
        (2, profile((0, 10), (30, 20), id=3)),
    )
    evses = [Feed(1, HARD, 230_000, 3), Feed(2, HARD, 230_000, 3)]
    schedule = composite_schedule(profiles, STATION, NOON, 90, A, evses=evses)
    assert schedule.evse_id == 0
    assert steps(schedule) == [(0, 20), (30, 30), (60, 12)]
    assert steps(composite_schedule(profiles, STATION, NOON, 90, W, evses=evses)) == [
        (0, 13_800),
        (30, 20_700),
        (60, 8_280),
    ]


def test_a_schedule_with_too_many_changes_is_cut_and_says_so() -> None:
    daily = profile((0, 10), (3600, 12), kind=Kind.RECURRING, recurrency=Recurrency.DAILY)
    schedule = composite_schedule(installed((1, daily)), FEED, NOON, 10**9, A)
    assert len(schedule.periods) == MAX_CHANGES
    assert schedule.duration_s == MAX_CHANGES // 2 * 86_400
    assert schedule.duration_s > schedule.periods[-1].start_s


def test_limits_are_told_in_tenths_rounded_down() -> None:
    schedule = composite_schedule(installed((1, profile((0, 11_039), unit=W))), FEED, NOON, 60, A)
    assert schedule.periods[0].limit_milli == 15_998
    assert schedule.periods[0].limit_tenths == 159


# --------------------------------------------------------------------------- 16-SC-11, -12, -14, -15


def test_16_sc_11_recurrence_has_no_daylight_saving_shift() -> None:
    spring = int(datetime(2026, 3, 28, 22, tzinfo=UTC).timestamp()) * 1000  # the night clocks go forward in Europe
    daily = profile((0, 10), kind=Kind.RECURRING, recurrency=Recurrency.DAILY, duration=3600, start=spring)
    for day in range(3):
        limit = current_limit(installed((1, daily)), FEED, spring + day * DAY)
        assert limit == CurrentLimit(10_000, spring + day * DAY + HOUR)


@pytest.mark.parametrize(
    ("milliampere", "minimum_ma", "result"),
    [(0, 6_000, 0), (5_900, 6_000, 0), (6_000, 6_000, 6_000), (6_100, 6_000, 6_100), (900, 0, 900), (0, 0, 0)],
)
def test_16_sc_12_below_the_minimum_is_suspended_never_rounded_up(
    milliampere: int, minimum_ma: int, result: int
) -> None:
    profiles = installed((1, profile(Period(0, milliampere))))
    feed = Feed(1, HARD, 230_000, 3, minimum_ma=minimum_ma)
    assert current_limit(profiles, feed, NOON).limit_ma == result
    assert composite_schedule(profiles, feed, NOON, 60, A).periods[0].limit_milli == milliampere


def test_16_sc_14_default_takes_effect_in_a_running_transaction_and_leaves_it() -> None:
    before = ProfileSet()
    during = before.install(
        profile((0, 10)),
        0,
        rules=Rules.OCPP16,
        capabilities=Capabilities(1, 0, 1, 1),
        running={1: TX.id},
        wall_ms=NOON,
    )
    assert isinstance(during, ProfileSet)
    after, _ = during.clear(Criteria(purpose=Purpose.TX_DEFAULT))
    assert [limits_at(profiles, 1) for profiles in (before, during, after)] == [[32], [10], [32]]


def test_16_sc_15_ampere_are_per_phase_as_given_whatever_number_phases_says() -> None:
    profiles = installed((1, profile(Period(0, 10_000, number_phases=3), Period(60, 10_000, number_phases=1))))
    one_phase = Feed(1, HARD, 230_000, 1)
    assert [current_limit(profiles, feed, NOON).limit_ma for feed in (FEED, one_phase)] == [10_000, 10_000]
    schedule = composite_schedule(profiles, one_phase, NOON, 90, A)
    assert [(p.start_s, p.limit_milli, p.number_phases) for p in schedule.periods] == [(0, 10_000, 3), (60, 10_000, 1)]


def test_number_phases_are_those_of_the_deciding_profile() -> None:
    profiles = installed(
        (0, profile(Period(0, 16_000, number_phases=3), purpose=Purpose.STATION_MAX)),
        (1, profile(Period(0, 10_000, number_phases=1), Period(60, 20_000, number_phases=1), id=2)),
    )
    schedule = composite_schedule(profiles, FEED, NOON, 90, A)
    assert [(p.limit_milli, p.number_phases) for p in schedule.periods] == [(10_000, 1), (16_000, 3)]


def test_number_phases_are_told_also_where_the_profile_equals_the_hard_limit() -> None:
    profiles = installed((1, profile(Period(0, HARD, number_phases=1))))
    (period,) = composite_schedule(profiles, FEED, NOON, 90, A).periods
    assert (period.limit_milli, period.number_phases) == (HARD, 1)


# ------------------------------------------------------------------------------------ field faults


@pytest.mark.parametrize("purpose", [Purpose.TX, Purpose.TX_DEFAULT, Purpose.STATION_MAX])
@pytest.mark.parametrize("kind", [Kind.ABSOLUTE, Kind.RELATIVE])
def test_field_fault_10_16_to_0_to_8_ampere_within_one_profile(purpose: Purpose, kind: Kind) -> None:
    start, transaction = (NOON, TX) if kind is Kind.ABSOLUTE else (None, Transaction("tx-1", NOON))
    evse_id = 0 if purpose is Purpose.STATION_MAX else 1
    profiles = installed((evse_id, profile((0, 16), (60, 0), (120, 8), purpose=purpose, kind=kind, start=start)))
    feed = Feed(1, HARD, 230_000, 3, transaction)
    walked, at_ms = [], NOON
    while True:
        limit = current_limit(profiles, feed, at_ms)
        walked.append((at_ms - NOON, limit.limit_ma))
        if limit.next_change_ms is None:
            break
        at_ms = limit.next_change_ms
    assert walked == [(0, 16_000), (60_000, 0), (120_000, 8_000)]
    assert steps(composite_schedule(profiles, feed, NOON, 180, A)) == [(0, 16), (60, 0), (120, 8)]


@pytest.mark.parametrize("rules", list(Rules))
def test_field_fault_10_16_to_0_to_8_ampere_by_replacing_the_profile(rules: Rules) -> None:
    profiles = ProfileSet()
    for amps in (16, 0, 8):
        answer = profiles.install(
            profile((0, amps)), 1, rules=rules, capabilities=Capabilities(1, 0, 1, 1), running={1: "tx-1"}, wall_ms=NOON
        )
        assert isinstance(answer, ProfileSet)
        profiles = answer
        assert limits_at(profiles, 0) == [amps]
