"""Where a limit has ended and nothing is to come, the offline limit holds; a start just ahead is now."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.charging.composite import CurrentLimit, Feed, Transaction, composite_schedule, current_limit
from agent.charging.profiles import ChargingProfile, Kind, LimitSource, Period, Purpose, RateUnit, Recurrency, Schedule
from agent.charging.records import set_from_plain, set_to_plain
from agent.charging.rules import Capabilities, Reason, Refusal, Rules
from agent.charging.store import Criteria, Installed, ProfileSet

NOON = 1_800_000_000_000
HOUR = 3_600_000
DAY = 24 * HOUR
OFFLINE, HARD = 8_000, 32_000
FEED = Feed(1, HARD, 230_000, 3, Transaction("tx-1", NOON), offline_limit_ma=OFFLINE)
STATION = Feed(0, 64_000, 230_000, 3)
TX, TX_DEFAULT, STATION_MAX = Purpose.TX, Purpose.TX_DEFAULT, Purpose.STATION_MAX
BOTH = (Rules.OCPP16, Rules.OCPP201)


def profile(
    id: int = 1,
    ma: int = 10_000,
    purpose: Purpose = TX_DEFAULT,
    *,
    stack: int = 0,
    kind: Kind = Kind.ABSOLUTE,
    start_ms: int | None = NOON,
    duration_s: int | None = 120,
    **fields: Any,
) -> ChargingProfile:
    schedule = Schedule(RateUnit.AMPERE, (Period(0, ma),), duration_s, None if kind is Kind.RELATIVE else start_ms)
    recurrency = Recurrency.DAILY if kind is Kind.RECURRING else None
    transaction_id = "tx-1" if purpose is TX else None
    return ChargingProfile(id, stack, purpose, kind, (schedule,), recurrency, transaction_id=transaction_id, **fields)


def installed(*profiles: ChargingProfile, evse_id: int = 0) -> ProfileSet:
    return ProfileSet(
        tuple(Installed(1 if each.purpose is TX else evse_id, each, installed_ms=NOON) for each in profiles)
    )


def limits_at(profiles: ProfileSet, *seconds: int, feed: Feed = FEED, **more: bool) -> list[int]:
    return [current_limit(profiles, feed, NOON + second * 1_000, **more).limit_ma for second in seconds]


def install(into: ProfileSet, new: ChargingProfile, rules: Rules, at_ms: int, evse_id: int = 0) -> ProfileSet | Refusal:
    return into.install(
        new,
        1 if new.purpose is TX else evse_id,
        rules=rules,
        capabilities=Capabilities(evse_count=2, max_stack_level=9, max_periods=9, max_installed=3),
        running={1: "tx-1"},
        wall_ms=at_ms,
    )


def accepted(answer: ProfileSet | Refusal) -> ProfileSet:
    assert isinstance(answer, ProfileSet), answer
    return answer


def ids(profiles: ProfileSet) -> list[int]:
    return [entry.profile.id for entry in profiles.entries]


# ---------------------------------------------------------------------------------------- a limit that has ended


@pytest.mark.parametrize(
    ("one", "after_s"),
    [
        (profile(), 120),
        (profile(purpose=TX), 120),
        (profile(purpose=STATION_MAX), 120),
        (profile(kind=Kind.RELATIVE), 120),
        (profile(duration_s=None, valid_to_ms=NOON + 60_000), 60),
        (profile(valid_to_ms=NOON + DAY), 120),
        (profile(kind=Kind.RECURRING, valid_to_ms=NOON + 60_000), 60),
        (profile(kind=Kind.RELATIVE, duration_s=None, valid_to_ms=NOON + 60_000), 60),
    ],
)
def test_the_offline_limit_holds_when_a_limit_has_ended(one: ChargingProfile, after_s: int) -> None:
    profiles = installed(one)
    ended = NOON + after_s * 1_000
    assert current_limit(profiles, FEED, ended - 1) == CurrentLimit(10_000, ended)
    assert current_limit(profiles, FEED, ended) == CurrentLimit(OFFLINE, None)
    assert current_limit(profiles, FEED, ended + 30 * DAY) == CurrentLimit(OFFLINE, None)


def test_without_an_offline_limit_nothing_changes() -> None:
    feed = replace(FEED, offline_limit_ma=None)
    assert limits_at(installed(profile()), 119, 120, feed=feed) == [10_000, HARD]


def test_without_profiles_there_is_nothing_that_could_end() -> None:
    assert limits_at(ProfileSet(), 0) == [HARD]


@pytest.mark.parametrize(("offline_ma", "limit_ma"), [(0, 0), (5_000, 0), (6_000, 6_000), (63_000, HARD)])
def test_the_offline_limit_may_pause_and_never_lifts(offline_ma: int, limit_ma: int) -> None:
    assert limits_at(installed(profile()), 120, feed=replace(FEED, offline_limit_ma=offline_ma)) == [limit_ma]


def test_limits_of_another_kind_hold_beside_it() -> None:
    """The least of all, as ever: a station's lasting 25 A do not lift what ended below them."""
    ended = profile(1)
    for ma, after in ((25_000, OFFLINE), (6_000, 6_000)):
        lasting = profile(2, ma, STATION_MAX, duration_s=None)
        assert limits_at(installed(ended, lasting), 120) == [after]


def test_what_is_below_takes_over_and_nothing_has_ended() -> None:
    lower = profile(1, 16_000, duration_s=None)
    assert limits_at(installed(lower, profile(2, stack=1)), 119, 120) == [10_000, 16_000]
    assert limits_at(installed(lower, profile(2, purpose=TX)), 119, 120) == [10_000, 16_000]


def test_16_sc_06_gaps_and_what_is_to_come_are_unlimited_as_before() -> None:
    daily = installed(profile(kind=Kind.RECURRING))
    assert limits_at(daily, 0, 120, 86_400) == [10_000, HARD, 10_000]
    later = installed(profile(1), profile(2, 16_000, stack=1, start_ms=NOON + HOUR))
    assert limits_at(later, 119, 120, 3_599, 3_600, 3_720) == [10_000, HARD, HARD, 16_000, OFFLINE]


def test_a_relative_limit_ends_with_its_duration_in_each_transaction_anew() -> None:
    profiles = installed(profile(kind=Kind.RELATIVE))
    assert limits_at(profiles, 120) == [OFFLINE]
    next_one = replace(FEED, transaction=Transaction("tx-2", NOON + 120_000))
    assert limits_at(profiles, 120, 240, feed=next_one) == [10_000, OFFLINE]
    assert limits_at(profiles, 500, feed=replace(FEED, transaction=None)) == [10_000]


def test_a_tx_profile_that_ended_goes_with_its_transaction() -> None:
    profiles = installed(profile(purpose=TX))
    assert limits_at(profiles, 120) == [OFFLINE]
    next_one = replace(FEED, transaction=Transaction("tx-2", NOON + 120_000))
    assert limits_at(profiles, 120, feed=next_one) == [HARD]


def test_while_the_time_is_unknown_its_least_limit_holds_and_then_the_offline_limit_again() -> None:
    profiles = installed(profile())
    assert limits_at(profiles, 120, clock_known=False) == [10_000]
    assert limits_at(profiles, -60, 120) == [10_000, OFFLINE]


def test_16_sc_08_the_composite_schedule_tells_it() -> None:
    profiles = installed(profile())
    told = composite_schedule(profiles, FEED, NOON, 600, RateUnit.AMPERE)
    assert [(each.start_s, each.limit_milli) for each in told.periods] == [(0, 10_000), (120, OFFLINE)]
    told = composite_schedule(profiles, FEED, NOON, 600, RateUnit.WATT)
    assert [each.limit_milli for each in told.periods] == [6_900_000, 5_520_000]
    evses = (FEED, replace(FEED, evse_id=2, transaction=None))
    told = composite_schedule(profiles, STATION, NOON, 600, RateUnit.AMPERE, evses=evses)
    assert [(each.start_s, each.limit_milli) for each in told.periods] == [(0, 20_000), (120, 2 * OFFLINE)]


def test_each_evse_falls_back_by_itself_where_the_stations_own_limit_ended() -> None:
    profiles = installed(profile(purpose=STATION_MAX))
    assert limits_at(profiles, 119, 120) == [10_000, OFFLINE]
    assert limits_at(profiles, 119, 120, feed=replace(FEED, evse_id=2, offline_limit_ma=12_000)) == [10_000, 12_000]
    assert limits_at(profiles, 119, 120, feed=STATION) == [10_000, 64_000]


# ----------------------------------------------------------------------------- it stays until something is in its place

ENDED = NOON + 120_000


@pytest.mark.parametrize("rules", BOTH)
def test_a_profile_that_ended_stays_beside_others(rules: Rules) -> None:
    profiles = installed(profile(1))
    for other, evse_id in ((profile(2, 20_000, STATION_MAX, duration_s=None), 0), (profile(3, duration_s=None), 2)):
        profiles = accepted(install(profiles, other, rules, ENDED, evse_id))
    assert ids(profiles) == [1, 2, 3]
    assert limits_at(profiles, 120) == [OFFLINE]
    stored, wrong = set_from_plain(set_to_plain(profiles))
    assert not wrong and limits_at(stored, 120) == [OFFLINE]


@pytest.mark.parametrize("rules", BOTH)
@pytest.mark.parametrize(
    "new", [profile(1, 16_000, stack=3, duration_s=None), profile(2, 16_000, duration_s=None)], ids=("id", "place")
)
def test_it_goes_when_something_takes_its_place(rules: Rules, new: ChargingProfile) -> None:
    profiles = accepted(install(installed(profile(1)), new, rules, ENDED))
    assert ids(profiles) == [new.id]
    assert limits_at(profiles, 120) == [16_000]


@pytest.mark.parametrize("rules", BOTH)
def test_it_goes_when_it_is_cleared(rules: Rules) -> None:
    profiles, count = installed(profile(1)).clear(Criteria(ids=frozenset({1})))
    assert (count, limits_at(profiles, 120)) == (1, [HARD])


@pytest.mark.parametrize("rules", BOTH)
def test_it_is_in_nobodys_way(rules: Rules) -> None:
    """K01.FR.05, 06, 52, 53: neither its id nor its level keeps one out; the oldest makes way where all is full."""
    profiles = installed(profile(1))
    profiles = accepted(install(profiles, profile(2, stack=2, duration_s=None), rules, ENDED, 2))
    assert ids(profiles) == [1, 2]
    profiles = accepted(install(profiles, profile(3, stack=3, duration_s=60, start_ms=ENDED), rules, ENDED))
    assert ids(profiles) == [1, 2, 3]
    profiles = accepted(install(profiles, profile(4, stack=4, duration_s=None), rules, ENDED + 60_000))
    assert ids(profiles) == [2, 3, 4]
    profiles = accepted(install(profiles, profile(5, stack=5, duration_s=None), rules, ENDED + 60_000))
    assert ids(profiles) == [2, 4, 5]
    refused = install(profiles, profile(6, stack=6), rules, ENDED + 60_000)
    assert isinstance(refused, Refusal)


@pytest.mark.parametrize("rules", BOTH)
def test_the_last_of_its_kind_makes_way_for_nobody(rules: Rules) -> None:
    """Else the limit that lapsed would be lifted, and nobody told."""
    profiles = installed(profile(1, purpose=Purpose.STATION_MAX), evse_id=0)
    for number in (2, 3):
        profiles = accepted(install(profiles, profile(number, stack=number, duration_s=None), rules, ENDED))
    refused = install(profiles, profile(4, stack=4, duration_s=None), rules, ENDED)
    assert isinstance(refused, Refusal) and refused.reason is Reason.TOO_MANY


def test_an_id_is_used_once_whoever_set_what_ended() -> None:
    external = Installed(0, profile(1, purpose=Purpose.STATION_EXTERNAL), LimitSource.EMS)
    profiles = accepted(install(ProfileSet((external,)), profile(1, duration_s=None), Rules.OCPP201, ENDED))
    assert [entry.source for entry in profiles.entries] == [LimitSource.CSO]


def test_a_full_store_of_lasting_profiles_still_refuses() -> None:
    profiles = ProfileSet()
    for id in range(3):
        profiles = accepted(install(profiles, profile(id, stack=id, duration_s=None), Rules.OCPP16, NOON))
    refused = install(profiles, profile(9, stack=9), Rules.OCPP16, NOON)
    assert isinstance(refused, Refusal) and refused.reason is Reason.TOO_MANY


# --------------------------------------------------------------------------------------------- a start just ahead


@pytest.mark.parametrize("rules", BOTH)
@pytest.mark.parametrize(
    ("ahead_ms", "at_once_ma"), [(-1, 7_000), (0, 7_000), (1, 7_000), (800, 7_000), (5_000, 7_000), (5_001, HARD)]
)
def test_what_begins_just_ahead_of_the_stations_clock_begins_now(rules: Rules, ahead_ms: int, at_once_ma: int) -> None:
    profiles = accepted(install(ProfileSet(), profile(1, 6_000, duration_s=None), rules, NOON))
    begins_ms = NOON + 60_000 + ahead_ms
    for new in (
        profile(1, 7_000, duration_s=None, start_ms=begins_ms),
        profile(1, 7_000, duration_s=None, valid_from_ms=begins_ms),
    ):
        replaced = accepted(install(profiles, new, rules, NOON + 60_000))
        assert limits_at(replaced, 60) == [at_once_ma]
        assert limits_at(replaced, 66) == [7_000]
        assert replaced.entries[0].profile == new, "the CSMS may ask for what it sent"


def test_its_steps_and_its_end_stay_where_they_are() -> None:
    steps = (Period(0, 7_000), Period(60, 9_000))
    new = replace(profile(), schedules=(Schedule(RateUnit.AMPERE, steps, 120, NOON + 4_000),))
    profiles = accepted(install(ProfileSet(), new, Rules.OCPP16, NOON))
    assert current_limit(profiles, FEED, NOON) == CurrentLimit(7_000, NOON + 64_000)
    assert limits_at(profiles, 63, 64, 123, 124) == [7_000, 9_000, 9_000, OFFLINE]
