"""No clock lifts a limit: one that is not known, and one that lies before a profile's installation."""

from __future__ import annotations

import pytest

from agent.charging.composite import CurrentLimit, Feed, Transaction, composite_schedule, current_limit
from agent.charging.profiles import ChargingProfile, Kind, Period, Purpose, RateUnit, Recurrency, Schedule
from agent.charging.rules import Capabilities, Rules
from agent.charging.store import ProfileSet

NOON = 1_800_000_000_000
HOUR = 3_600_000
HARD = 32_000
FEED = Feed(1, HARD, 230_000, 3, Transaction("tx-1", NOON))
CAPABILITIES = Capabilities(evse_count=1, max_stack_level=9, max_periods=9, max_installed=9)
DAY_AND_NIGHT = (Period(0, 20_000), Period(600, 8_000), Period(1_200, 16_000))


def profile(
    *periods: Period,
    id: int = 1,
    kind: Kind = Kind.ABSOLUTE,
    start_ms: int | None = NOON,
    stack: int = 0,
    purpose: Purpose = Purpose.TX_DEFAULT,
    valid_to_ms: int | None = None,
) -> ChargingProfile:
    recurrency = Recurrency.DAILY if kind is Kind.RECURRING else None
    schedule = Schedule(RateUnit.AMPERE, periods, start_ms=None if kind is Kind.RELATIVE else start_ms)
    return ChargingProfile(id, stack, purpose, kind, (schedule,), recurrency, valid_to_ms=valid_to_ms)


def installed(*profiles: ChargingProfile, rules: Rules = Rules.OCPP201, at_ms: int = NOON) -> ProfileSet:
    found = ProfileSet()
    for each in profiles:
        evse = 0 if each.purpose is Purpose.STATION_MAX else 1
        answer = found.install(each, evse, rules=rules, capabilities=CAPABILITIES, running={1: "tx-1"}, wall_ms=at_ms)
        assert isinstance(answer, ProfileSet), answer
        found = answer
    return found


@pytest.mark.parametrize(
    ("one", "rules"),
    [
        (profile(Period(0, 10_000), start_ms=None, purpose=Purpose.STATION_MAX), Rules.OCPP16),  # from now on, for ever
        (profile(Period(0, 10_000), start_ms=NOON - 10_000, purpose=Purpose.STATION_MAX), Rules.OCPP201),
        (profile(Period(0, 20_000), Period(600, 10_000)), Rules.OCPP201),
        (profile(Period(0, 10_000), Period(600, 20_000), kind=Kind.RECURRING), Rules.OCPP201),
        (profile(Period(0, 10_000), kind=Kind.RELATIVE, valid_to_ms=NOON + HOUR), Rules.OCPP201),
    ],
)
def test_the_least_period_holds_while_the_clock_cannot_be_right(one: ChargingProfile, rules: Rules) -> None:
    profiles = installed(one, rules=rules)
    for wall_ms in (1_000, NOON + 1, NOON + 10**12):
        limit = current_limit(profiles, FEED, wall_ms, clock_known=False)
        assert limit == CurrentLimit(10_000, None)
    set_back = current_limit(profiles, FEED, NOON - HOUR)
    assert set_back == CurrentLimit(10_000, NOON)


def test_a_clock_that_was_set_back_counts_again_from_the_installation_on() -> None:
    profiles = installed(profile(*DAY_AND_NIGHT, start_ms=NOON - 300_000))
    walked = [current_limit(profiles, FEED, NOON + s * 1_000).limit_ma for s in (-900, -1, 0, 299, 300, 900)]
    assert walked == [8_000, 8_000, 20_000, 20_000, 8_000, 16_000]
    schedule = composite_schedule(profiles, FEED, NOON - 60_000, 300, RateUnit.AMPERE)
    assert [(period.start_s, period.limit_milli) for period in schedule.periods] == [(0, 8_000), (60, 20_000)]


def test_what_goes_by_the_transaction_needs_no_clock() -> None:
    profiles = installed(profile(*DAY_AND_NIGHT, kind=Kind.RELATIVE))
    for known in (True, False):
        limit = current_limit(profiles, FEED, NOON + 900_000, clock_known=known)
        assert limit == CurrentLimit(8_000, NOON + 1_200_000)


@pytest.mark.parametrize(("upper_ma", "lower_ma", "limit_ma"), [(20_000, 10_000, 10_000), (8_000, 10_000, 8_000)])
def test_profiles_below_one_that_may_be_over_count_beside_it(upper_ma: int, lower_ma: int, limit_ma: int) -> None:
    profiles = installed(
        profile(Period(0, lower_ma), id=1, kind=Kind.RELATIVE),
        profile(Period(0, upper_ma), id=2, stack=1),
        profile(Period(0, HARD), id=3, stack=2),
    )
    assert current_limit(profiles, FEED, NOON, clock_known=False).limit_ma == limit_ma
    assert current_limit(profiles, FEED, NOON).limit_ma == HARD
    schedule = composite_schedule(profiles, FEED, NOON, 60, RateUnit.AMPERE, clock_known=False)
    assert [period.limit_milli for period in schedule.periods] == [limit_ma]
