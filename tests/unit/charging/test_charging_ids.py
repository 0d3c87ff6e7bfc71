"""One chargingProfileId for more than one profile: no limit goes that nobody cleared.

16-SC-02 has the same id replace, and 1.6 does not say where. CSMSs use one id for all connectors, evcc among them,
which is to work with no switch set (field-faults.md). So the id replaces only in its own place: purpose and EVSE. In
2.0.1 an id is unique in the station (K01.FR.05) and replaces wherever it stands, but for what limits another
transaction or the whole station.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from agent.charging.composite import Feed, Transaction, current_limit
from agent.charging.profiles import ChargingProfile, Kind, Period, Purpose, RateUnit, Schedule
from agent.charging.records import profile_to_plain, set_from_plain, set_to_plain
from agent.charging.rules import Capabilities, Reason, Refusal, Rules
from agent.charging.store import Criteria, ProfileSet
from agent.station.limits import Limits

NOW = 1_790_000_000_000
HARD, OFFLINE = 32_000, 6_000
FEEDS = tuple(Feed(evse, HARD, 230_000, 3, offline_limit_ma=OFFLINE) for evse in (1, 2))
CAPABILITIES = Capabilities(evse_count=2, max_stack_level=9, max_periods=9, max_installed=9)
BOTH_CHARGE = {1: Transaction("tx-1", NOW), 2: Transaction("tx-2", NOW)}
TX, TX_DEFAULT, STATION_MAX = Purpose.TX, Purpose.TX_DEFAULT, Purpose.STATION_MAX
OF_16, OF_201 = Rules.OCPP16, Rules.OCPP201


def profile(id: int, amperes: int, purpose: Purpose = TX_DEFAULT, duration_s: int | None = None) -> ChargingProfile:
    schedule = Schedule(RateUnit.AMPERE, (Period(0, amperes * 1_000),), duration_s, NOW)
    return ChargingProfile(id, 9, purpose, Kind.ABSOLUTE, (schedule,))


def of_tx(id: int, amperes: int, tx_id: str, duration_s: int | None = None) -> ChargingProfile:
    return replace(profile(id, amperes, TX, duration_s), transaction_id=tx_id)


def station() -> Limits:
    return Limits(FEEDS, None, CAPABILITIES)


def install(limits: Limits, new: ChargingProfile, evse: int, rules: Rules = OF_16, at_ms: int = NOW) -> Refusal | None:
    return limits.install(new, evse, rules, BOTH_CHARGE, at_ms)


def currents(profiles: ProfileSet, at_ms: int = NOW) -> list[int]:
    """Of both EVSEs."""
    feeds = (replace(feed, transaction=BOTH_CHARGE[feed.evse_id]) for feed in FEEDS)
    return [current_limit(profiles, feed, at_ms).limit_ma for feed in feeds]


def evcc_with_one_connector_paused() -> Limits:
    limits = station()
    assert install(limits, profile(20, 0), 1) is None
    assert install(limits, profile(20, 16), 2) is None
    return limits


def test_16_sc_02_evcc_pauses_one_connector_and_limits_the_other_with_one_id() -> None:
    limits = evcc_with_one_connector_paused()
    assert currents(limits.profiles) == [0, 16_000]
    for amperes in (10, 0):
        assert install(limits, profile(20, amperes), 2) is None
    assert currents(limits.profiles) == [0, 0] and len(limits.profiles.entries) == 2
    assert install(limits, profile(20, 8), 1) is None
    assert currents(limits.profiles) == [8_000, 0] and len(limits.profiles.entries) == 2


def test_16_sc_10_profiles_with_one_id_outlive_a_restart() -> None:
    kept = evcc_with_one_connector_paused().profiles
    assert set_from_plain(json.loads(json.dumps(set_to_plain(kept)))) == (kept, [])


def test_16_sc_09_to_clear_an_id_clears_all_that_have_it() -> None:
    left, count = evcc_with_one_connector_paused().profiles.clear(Criteria(ids=frozenset({20})))
    assert (count, left.entries) == (2, ())


def test_16_sc_02_an_id_is_of_one_purpose() -> None:
    limits = station()
    for amperes, purpose, evse in ((20, STATION_MAX, 0), (10, TX_DEFAULT, 0), (8, TX, 1)):
        assert install(limits, profile(1, amperes, purpose), evse) is None
    assert currents(limits.profiles) == [8_000, 10_000] and len(limits.profiles.entries) == 3


def test_a_limit_that_lapsed_stays_when_its_id_is_used_elsewhere() -> None:
    """Else connector 1 would go from the offline limit to all that it has."""
    limits = station()
    assert install(limits, profile(20, 10, duration_s=60), 1) is None
    later = NOW + 60_000
    assert install(limits, profile(20, 16), 2, at_ms=later) is None
    assert currents(limits.profiles, later) == [OFFLINE, 16_000]


@pytest.mark.parametrize(("rules", "refused"), [(OF_16, False), (OF_201, True)])
def test_16_cmd_05_a_start_with_a_profile_leaves_the_limit_of_the_other_transaction(
    rules: Rules, refused: bool
) -> None:
    """A CSMS that calls the profile of each start 1. In 2.0.1 such a start is refused (F01, K01.FR.05)."""
    limits, plain = station(), profile_to_plain(profile(1, 10, TX))
    limits.bind(profile_to_plain(profile(1, 8, TX)), 1, "tx-1", NOW)
    answer = limits.judge_start(plain, 2, rules, NOW)
    assert isinstance(answer, Refusal) is refused
    assert answer is None or answer.reason is Reason.DUPLICATE
    limits.bind(plain, 2, "tx-2", NOW)  # the id may have been given away since it was judged
    assert currents(limits.profiles) == [8_000, 10_000]
    assert currents(set_from_plain(set_to_plain(limits.profiles))[0]) == [8_000, 10_000]


def test_a_start_with_a_profile_leaves_the_limit_of_those_after_it() -> None:
    limits = station()
    assert install(limits, profile(1, 10), 2) is None
    limits.bind(profile_to_plain(profile(1, 8, TX)), 2, "tx-2", NOW)
    assert currents(limits.profiles) == [HARD, 8_000]
    limits.keep_transactions(set())
    assert currents(limits.profiles) == [HARD, 10_000]


@pytest.mark.parametrize("duration_s", [None, 60], ids=("lasts", "is over"))
@pytest.mark.parametrize(
    ("old", "old_evse", "new", "new_evse"),
    [
        (of_tx(1, 8, "tx-1"), 1, of_tx(1, 10, "tx-2"), 2),
        (of_tx(1, 8, "tx-1"), 1, profile(1, 10), 1),
        (of_tx(1, 8, "tx-1"), 1, profile(1, 10, STATION_MAX), 0),
        (profile(1, 20, STATION_MAX), 0, profile(1, 10), 0),
        (profile(1, 20, STATION_MAX), 0, of_tx(1, 10, "tx-2"), 2),
    ],
)
def test_k01_fr_05_an_id_does_not_take_away_a_transactions_or_the_stations_limit(
    old: ChargingProfile, old_evse: int, new: ChargingProfile, new_evse: int, duration_s: int | None
) -> None:
    """Nor what holds in its place when it is over."""
    old = replace(old, schedules=(replace(old.schedule, duration_s=duration_s),))
    limits, later = station(), NOW + 60_000
    assert install(limits, old, old_evse, OF_201) is None
    before = limits.profiles
    refusal = install(limits, new, new_evse, OF_201, later)
    assert refusal is not None and limits.profiles == before
    assert (refusal.reason, refusal.rule) == (Reason.DUPLICATE, "K01.FR.05")
    assert f"id 1 is a {old.purpose} of CSO on EVSE {old_evse}" in refusal.detail
    assert install(limits, replace(old, stack_level=3, schedules=new.schedules), old_evse, OF_201, later) is None
    assert install(limits, replace(new, id=2), new_evse, OF_201, later) is None


def test_k01_fr_05_any_other_profile_goes_wherever_its_id_is_used_again() -> None:
    limits = station()
    assert install(limits, profile(1, 8), 1, OF_201) is None
    assert install(limits, profile(1, 10), 0, OF_201) is None
    assert currents(limits.profiles) == [10_000, 10_000]
    assert install(limits, of_tx(1, 12, "tx-2"), 2, OF_201) is None
    assert currents(limits.profiles) == [HARD, 12_000]
