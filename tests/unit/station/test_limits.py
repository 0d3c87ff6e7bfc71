"""Profiles and shared supply as limits for the core."""

from __future__ import annotations

from agent.charging.composite import Feed, Transaction
from agent.charging.profiles import ChargingProfile, Kind, Period, Purpose, RateUnit, Schedule
from agent.charging.rules import Capabilities, Rules
from agent.charging.store import Criteria
from agent.core.events import LimitSet
from agent.station.limits import Limits

NOW_MS = 1_800_000_000_000
CAPABILITIES = Capabilities(evse_count=2, max_stack_level=3, max_periods=24, max_installed=8)


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
    outlook = limits().outlook(running(1, 2), NOW_MS)
    assert outlook.limits == (LimitSet(1, None), LimitSet(2, None)) and outlook.next_change_ms is None


def test_supply_is_shared_among_those_who_charge() -> None:
    """16-SC-01, K04: the sum never exceeds the supply; who came first is served first."""
    shared = limits(20_000)
    assert [each.share_ma for each in shared.outlook(running(1, 2), NOW_MS).limits] == [10_000, 10_000]
    assert [each.share_ma for each in shared.outlook(running(2), NOW_MS).limits] == [None, 16_000]
    tight = limits(10_000)
    assert [each.share_ma for each in tight.outlook(running(1, 2), NOW_MS).limits] == [10_000, 0]


def test_profile_limits_and_says_when_it_ends() -> None:
    made = limits()
    assert made.install(profile(10, Purpose.TX_DEFAULT, duration_s=60), 1, Rules.OCPP16, {}, NOW_MS) is None
    outlook = made.outlook(running(1), NOW_MS + 1_000)
    assert outlook.limits[0].limit_ma == 10_000 and outlook.next_change_ms == NOW_MS + 60_000
    assert made.outlook(running(1), NOW_MS + 60_000).limits[0].limit_ma is None


def test_refused_profile_changes_nothing() -> None:
    made = limits()
    refusal = made.install(profile(10, Purpose.TX), 1, Rules.OCPP16, {}, NOW_MS)
    assert refusal is not None and made.profiles.entries == ()


def test_cleared_profile_no_longer_limits() -> None:
    made = limits()
    made.install(profile(10), 0, Rules.OCPP16, {}, NOW_MS)
    assert made.outlook(running(1, 2), NOW_MS).limits[0].share_ma is not None
    assert made.clear(Criteria(ids=frozenset({1}))) == 1 and made.clear(Criteria()) == 0
    assert made.outlook(running(1, 2), NOW_MS).limits[0].share_ma is None


def test_composite_schedule_of_an_unknown_evse_is_none() -> None:
    assert limits().composite(9, 60, RateUnit.AMPERE, {}, NOW_MS) is None
    schedule = limits().composite(0, 60, RateUnit.AMPERE, {}, NOW_MS)
    assert schedule is not None and schedule.periods[0].limit_milli == 32_000
