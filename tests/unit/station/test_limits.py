"""Profiles and shared supply as limits for the core; direct current and mixed phases at one supply."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.charging.composite import Feed, Transaction
from agent.charging.profiles import ChargingProfile, Kind, Period, Purpose, RateUnit, Schedule
from agent.charging.rules import Capabilities, Rules
from agent.charging.store import Criteria
from agent.config.load import load
from agent.core.events import LimitSet
from agent.sim.stage import Stage
from agent.station.limits import Limits
from agent.station.making import feed_of, make_limits

NOW_MS = 1_800_000_000_000
CAPABILITIES = Capabilities(evse_count=2, max_stack_level=3, max_periods=24, max_installed=8)
CAPABILITIES_3 = replace(CAPABILITIES, evse_count=3)


def limits(supply_ma: int | None = None) -> Limits:
    feeds = tuple(Feed(evse, 16_000, 230_000, 3) for evse in (1, 2))
    return Limits(feeds, supply_ma, CAPABILITIES)


def profile(amperes: int, purpose: Purpose = Purpose.STATION_MAX, duration_s: int | None = None) -> ChargingProfile:
    schedule = Schedule(
        unit=RateUnit.AMPERE,
        periods=(Period(0, amperes * 1_000),),
        duration_s=duration_s,
        start_ms=NOW_MS,
    )
    return ChargingProfile(1, 0, purpose, Kind.ABSOLUTE, (schedule,))


def running(*evses: int) -> dict[int, Transaction]:
    return {evse: Transaction(f"tx{evse}", NOW_MS + evse) for evse in evses}


def test_without_profiles_nothing_is_limited() -> None:
    outlook = limits().outlook(running(1, 2), NOW_MS, clock_known=True)
    assert outlook.limits == (LimitSet(1, None), LimitSet(2, None)) and outlook.next_change_ms is None


def test_supply_is_shared_among_those_who_charge() -> None:
    """16-SC-01, K04: the sum never exceeds the supply; who came first is served first."""

    def shares(supply_ma: int, *evses: int) -> list[int | None]:
        outlook = limits(supply_ma).outlook(running(*evses), NOW_MS, clock_known=True)
        return [each.share_ma for each in outlook.limits]

    assert shares(20_000, 1, 2) == [10_000, 10_000] and shares(20_000, 2) == [None, 16_000]
    assert shares(10_000, 1, 2) == [10_000, 0]


@pytest.mark.parametrize(
    ("supply_ma", "runs", "shares"),
    [
        (16_000, (2,), [None, 10_000]),
        (16_000, (1, 2), [8_000, 8_000]),
        (30_000, (1, 2), [15_000, 15_000]),
        (11_000, (2,), [None, 0]),
        (11_000, (2, 1), [11_000, 0]),
        (5_000, (1, 2), [5_000, 0]),
    ],
)
@pytest.mark.parametrize("by_profile", [False, True])
def test_a_board_that_is_not_seen_has_its_least_first(
    supply_ma: int, runs: tuple[int, ...], shares: list[int | None], by_profile: bool
) -> None:
    """With a transaction it keeps its share as well: it falls back to its least only some seconds later."""
    made = limits(None if by_profile else supply_ma)
    if by_profile:
        assert made.install(profile(supply_ma // 1_000), 0, Rules.OCPP16, {}, NOW_MS) is None
    in_order = {evse: Transaction(f"tx{evse}", NOW_MS - 10 + number) for number, evse in enumerate(runs)}
    outlook = made.outlook(in_order, NOW_MS, clock_known=True, unseen={1})
    assert [each.share_ma for each in outlook.limits] == shares


def test_profile_limits_and_says_when_it_ends() -> None:
    made = limits()
    assert made.install(profile(10, Purpose.TX_DEFAULT, duration_s=60), 1, Rules.OCPP16, {}, NOW_MS) is None
    outlook = made.outlook(running(1), NOW_MS + 1_000, clock_known=True)
    assert outlook.limits[0].limit_ma == 10_000 and outlook.next_change_ms == NOW_MS + 60_000
    assert made.outlook(running(1), NOW_MS + 60_000, clock_known=True).limits[0].limit_ma is None


def test_each_evse_has_its_offline_limit_when_a_limit_has_ended() -> None:
    """Field fault 9: whatever the link does, without a word of the CSMS; and what is left of the supply goes by it."""
    feeds = (Feed(1, 16_000, 230_000, 3, offline_limit_ma=8_000), Feed(2, 32_000, 230_000, 3, offline_limit_ma=8_000))
    for purpose in (Purpose.TX_DEFAULT, Purpose.STATION_MAX):
        made = Limits(feeds, None, CAPABILITIES)
        assert made.install(profile(10, purpose, duration_s=60), 0, Rules.OCPP201, {}, NOW_MS) is None
        before = made.outlook(running(1, 2), NOW_MS + 59_999, clock_known=True)
        assert [each.limit_ma for each in before.limits] == [10_000, 10_000]
        assert before.next_change_ms == NOW_MS + 60_000
        after = made.outlook(running(1, 2), NOW_MS + 60_000, clock_known=True)
        assert after.limits == (LimitSet(1, 8_000), LimitSet(2, 8_000)) and after.next_change_ms is None
    made = Limits(feeds, 20_000, CAPABILITIES)
    assert made.install(profile(10, Purpose.TX_DEFAULT, duration_s=60), 1, Rules.OCPP201, {}, NOW_MS) is None
    after = made.outlook(running(1, 2), NOW_MS + 60_000, clock_known=True)
    assert [(each.limit_ma, each.share_ma) for each in after.limits] == [(8_000, 8_000), (None, 12_000)]


def test_refused_profile_changes_nothing() -> None:
    made = limits()
    refusal = made.install(profile(10, Purpose.TX), 1, Rules.OCPP16, {}, NOW_MS)
    assert refusal is not None and made.profiles.entries == ()


def test_cleared_profile_no_longer_limits() -> None:
    made = limits()
    made.install(profile(10), 0, Rules.OCPP16, {}, NOW_MS)
    assert made.outlook(running(1, 2), NOW_MS, clock_known=True).limits[0].share_ma is not None
    assert made.clear(Criteria(ids=frozenset({1}))) == 1 and made.clear(Criteria()) == 0
    assert made.outlook(running(1, 2), NOW_MS, clock_known=True).limits[0].share_ma is None


def test_composite_schedule_of_an_unknown_evse_is_none() -> None:
    assert limits().composite(9, 60, RateUnit.AMPERE, {}, NOW_MS, clock_known=True) is None
    schedule = limits().composite(0, 60, RateUnit.AMPERE, {}, NOW_MS, clock_known=True)
    assert schedule is not None and schedule.periods[0].limit_milli == 32_000


AC_ONE, AC_THREE = Feed(1, 32_000, 230_000, 1), Feed(2, 32_000, 230_000, 3)
DC = Feed(3, 30_000, 400_000, 1, minimum_ma=1_000, dc=True)


def station_watt(watt: int, unit: RateUnit = RateUnit.WATT) -> ChargingProfile:
    schedule = Schedule(unit, (Period(0, watt * 1_000),), start_ms=NOW_MS)
    return ChargingProfile(1, 0, Purpose.STATION_MAX, Kind.ABSOLUTE, (schedule,))


def allowed(made: Limits, feeds: tuple[Feed, ...]) -> list[int]:
    outlook = made.outlook(running(*(feed.evse_id for feed in feeds)), NOW_MS, clock_known=True)
    return [
        min(ma for ma in (feed.hard_limit_ma, limit.limit_ma, limit.share_ma) if ma is not None)
        for feed, limit in zip(feeds, outlook.limits, strict=True)
    ]


def test_watt_of_a_dc_output_count_at_its_own_voltage() -> None:
    made = Limits((DC,), None, CAPABILITIES_3)
    assert made.install(station_watt(5_000), 0, Rules.OCPP201, {}, NOW_MS) is None
    assert allowed(made, (DC,)) == [11_624], "4650 W, for which the modules take 5000 W"
    told = made.composite(3, 60, RateUnit.WATT, running(3), NOW_MS, clock_known=True)
    assert told is not None and told.periods[0].limit_milli == 5_000_000


def test_a_dc_evse_is_fed_as_its_fixed_output_says(tmp_path: Path) -> None:
    stage = Stage(tmp_path, None, boards=("mcu_dc", "mcu_ac"), extra="[auth]\nfree = true\n")
    stage.lay_out()
    dc, ac = (feed_of(evse, 8_000) for evse in load(stage.config_file).evse)
    assert dc == Feed(1, 30_000, 400_000, 1, minimum_ma=1_000, dc=True, offline_limit_ma=8_000)
    assert (ac.uw_per_ma, ac.dc) == (3 * 230_000, False)


def taken_ma(feed: Feed, current_ma: int, mains_mv: int = 230_000) -> Fraction:
    """From each phase of the supply. The modules of a DC EVSE lose seven percent."""
    return Fraction(current_ma * feed.uw_per_ma * 100, 3 * mains_mv * 93) if feed.dc else Fraction(current_ma)


def test_direct_current_is_taken_from_the_supply_as_well() -> None:
    feeds = (AC_ONE, AC_THREE, DC)
    made = Limits(feeds, 20_000, CAPABILITIES_3)
    given_ma = allowed(made, feeds)
    assert given_ma == [8_459, 8_459, 4_944]
    assert 19_900 < sum(map(taken_ma, feeds, given_ma)) <= 20_000
    told = made.composite(0, 60, RateUnit.AMPERE, running(1, 2, 3), NOW_MS, clock_known=True)
    assert told is not None and told.periods[0].limit_milli == 20_000
    # 12 kW of the output are 12.9 kW over three phases of 230 V: 18.7 A beside 64 A.
    assert allowed(Limits(feeds, 64_000 + 18_701, CAPABILITIES_3), feeds) == [32_000, 32_000, 30_000]
    assert allowed(Limits(feeds, 64_000 + 18_700, CAPABILITIES_3), feeds) != [32_000, 32_000, 30_000]


FAST = Feed(1, 75_000, 400_000, 1, minimum_ma=1_000, dc=True)
HIGH = Feed(2, 30_000, 1_000_000, 1, minimum_ma=1_000, dc=True)


@pytest.mark.parametrize("mains_mv", [120_000, 230_000])
@pytest.mark.parametrize("by_profile", [False, True])
def test_ampere_of_a_station_with_nothing_but_dc_are_those_of_the_supply(by_profile: bool, mains_mv: int) -> None:
    made = Limits((FAST, HIGH), None if by_profile else 26_000, CAPABILITIES, mains_mv)
    if by_profile:
        assert made.install(station_watt(26, RateUnit.AMPERE), 0, Rules.OCPP201, {}, NOW_MS) is None
    given_ma = allowed(made, (FAST, HIGH))
    assert 25_900 < sum(taken_ma(feed, ma, mains_mv) for feed, ma in zip((FAST, HIGH), given_ma, strict=True)) <= 26_000
    told = made.composite(0, 60, RateUnit.AMPERE, running(1, 2), NOW_MS, clock_known=True)
    assert told is not None and told.periods[0].limit_milli == 26_000


def test_modules_are_fed_with_the_voltage_that_is_configured(tmp_path: Path) -> None:
    stage = Stage(
        tmp_path, None, boards=("mcu_dc",), extra="[auth]\nfree = true\n[limits]\nsupply_current_ma = 26_000\n"
    )
    stage.lay_out()
    stage.config_file.write_text(stage.config_file.read_text().replace("phases = 1\n", "phases = 1\nvoltage_v = 120\n"))
    build: Any = SimpleNamespace(config=load(stage.config_file))
    archive: Any = SimpleNamespace(state=lambda _: {})
    model: Any = SimpleNamespace(integer=lambda _: 8, spec=lambda _: SimpleNamespace(maximum=8))
    outlook = make_limits(build, archive, model).outlook(running(1), NOW_MS, clock_known=True)
    assert outlook.limits[0].share_ma == 26_000 * 3 * 120 * 93 // 100 // 400


@pytest.mark.parametrize("first", [AC_ONE, AC_THREE, DC])
def test_watt_of_the_station_are_not_exceeded_whatever_evse_comes_first(first: Feed) -> None:
    feeds = (first, *(feed for feed in (AC_ONE, AC_THREE, DC) if feed is not first))
    made = Limits(feeds, None, CAPABILITIES_3)
    assert made.install(station_watt(11_000), 0, Rules.OCPP201, {}, NOW_MS) is None
    given = allowed(made, feeds)
    taken_uw = sum(ma * feed.uw_per_ma for ma, feed in zip(given, feeds, strict=True))
    assert 5_000 * 10**6 < taken_uw <= 11_000 * 10**6


hard_ma = st.sampled_from((10_000, 16_000, 32_000, 63_000))
ac_feeds = st.builds(Feed, st.just(0), hard_ma, st.sampled_from((120_000, 230_000)), st.integers(1, 3))
dc_feeds = st.builds(
    Feed, st.just(0), hard_ma, st.sampled_from((200_000, 400_000, 850_000)), st.just(1), minimum_ma=st.just(1_000)
).map(lambda feed: replace(feed, dc=True))
stations = st.lists(ac_feeds | dc_feeds, min_size=1, max_size=4).map(
    lambda feeds: tuple(replace(feed, evse_id=number) for number, feed in enumerate(feeds, 1))
)


@given(stations, st.none() | st.integers(6_000, 80_000), st.integers(0, 60_000), st.sampled_from(RateUnit))
def test_no_mix_of_evses_takes_more_than_supply_and_station_may(
    feeds: tuple[Feed, ...], supply_ma: int | None, limit: int, unit: RateUnit
) -> None:
    """Watt and ampere of all, whatever they are."""
    made = Limits(feeds, supply_ma, CAPABILITIES_3)
    asked = limit if unit is RateUnit.WATT else limit // 1_000
    assert made.install(station_watt(asked, unit), 0, Rules.OCPP201, {}, NOW_MS) is None
    given_ma = allowed(made, feeds)
    all_ma = sum(map(taken_ma, feeds, given_ma))
    assert supply_ma is None or all_ma <= supply_ma
    told = made.composite(0, 60, unit, running(*(feed.evse_id for feed in feeds)), NOW_MS, clock_known=True)
    assert told is not None
    if unit is RateUnit.AMPERE:
        assert all_ma <= asked * 1_000
    else:
        taken_uw = sum(ma * feed.uw_per_ma for ma, feed in zip(given_ma, feeds, strict=True))
        assert taken_uw // 1_000 <= told.periods[0].limit_milli <= asked * 1_000


def counted(feed: Feed, current_ma: int, unit: RateUnit) -> Fraction:
    """In uW, or in mA of each phase."""
    return Fraction(current_ma * feed.uw_per_ma) if unit is RateUnit.WATT else taken_ma(feed, current_ma)


@given(stations, st.integers(0, 80_000), st.sampled_from(RateUnit), st.data())
def test_what_unseen_boards_take_is_left_to_them(
    feeds: tuple[Feed, ...], limit: int, unit: RateUnit, data: st.DataObject
) -> None:
    """Whoever is in hand takes no more than the limit and what the unseen draw leave."""
    numbers = st.sets(st.sampled_from([feed.evse_id for feed in feeds]))
    of_ac = [feed.evse_id for feed in feeds if not feed.dc]
    unseen = data.draw(st.sets(st.sampled_from(of_ac)) if of_ac else st.just(set()))
    runs = data.draw(numbers)
    made = Limits(feeds, None, CAPABILITIES_3)
    asked = limit if unit is RateUnit.WATT else limit // 1_000
    assert made.install(station_watt(asked, unit), 0, Rules.OCPP201, {}, NOW_MS) is None
    outlook = made.outlook(running(*runs), NOW_MS, clock_known=True, unseen=unseen)
    taken, stray, limit_of_all = Fraction(0), Fraction(0), asked * (1_000_000 if unit is RateUnit.WATT else 1_000)
    for feed, each in zip(feeds, outlook.limits, strict=True):
        share_ma = min(ma for ma in (feed.hard_limit_ma, each.limit_ma, each.share_ma) if ma is not None)
        if feed.evse_id in unseen:
            stray += counted(feed, feed.minimum_ma, unit)
        elif feed.evse_id in runs and share_ma >= feed.minimum_ma:
            taken += counted(feed, share_ma, unit)
    assert taken == 0 or taken + stray <= limit_of_all


def test_a_clock_that_nobody_knows_lifts_no_limit_of_the_station() -> None:
    made = limits()
    assert made.install(profile(10), 0, Rules.OCPP201, {}, NOW_MS) is None
    outlook = made.outlook(running(1), 1_000, clock_known=False)
    assert (outlook.limits[0].limit_ma, outlook.limits[0].share_ma) == (10_000, 10_000)
    told = made.composite(0, 60, RateUnit.AMPERE, {}, 1_000, clock_known=False)
    assert told is not None and told.periods[0].limit_milli == 10_000
