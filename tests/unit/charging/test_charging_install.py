"""Installing profiles: every rule refuses what it must, and names itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

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
from agent.charging.rules import Capabilities, Reason, Refusal, Rules, check_profile
from agent.charging.store import ProfileSet

NOW = 1_790_000_000_000
DAY = 86_400_000
CAPABILITIES = Capabilities(evse_count=2, max_stack_level=8, max_periods=3, max_installed=4)
RUNNING = {1: "tx-1"}
BOTH = (Rules.OCPP16, Rules.OCPP201)


def schedule(*periods: Period, **fields: Any) -> Schedule:
    return Schedule(RateUnit.AMPERE, periods or (Period(0, 10_000),), **({"start_ms": NOW} | fields))


def profile(id: int = 1, purpose: Purpose = Purpose.TX_DEFAULT, **fields: Any) -> ChargingProfile:
    defaults: dict[str, Any] = {"stack_level": 0, "kind": Kind.ABSOLUTE, "schedules": (schedule(),)}
    return ChargingProfile(id=id, purpose=purpose, **(defaults | fields))


def install(
    new: ChargingProfile,
    evse_id: int = 1,
    rules: Rules = Rules.OCPP201,
    into: ProfileSet = ProfileSet(),  # noqa: B008 - immutable
    running: Mapping[int, str] = RUNNING,
    source: LimitSource = LimitSource.CSO,
    wall_ms: int = NOW,
) -> ProfileSet | Refusal:
    return into.install(
        new, evse_id, rules=rules, capabilities=CAPABILITIES, running=running, wall_ms=wall_ms, source=source
    )


def accepted(answer: ProfileSet | Refusal) -> ProfileSet:
    assert isinstance(answer, ProfileSet), str(answer)
    return answer


def ids(profiles: ProfileSet) -> list[int]:
    return [entry.profile.id for entry in profiles.entries]


TX, TX_DEFAULT, STATION_MAX, EXTERNAL = Purpose.TX, Purpose.TX_DEFAULT, Purpose.STATION_MAX, Purpose.STATION_EXTERNAL
RELATIVE = schedule(start_ms=None)

REFUSED_BY_BOTH = [
    # rule row, EVSE, profile, reason
    ("16-SC-01", 1, profile(purpose=STATION_MAX), Reason.INVALID_PROFILE),
    ("16-SC-01", 0, profile(purpose=TX, transaction_id="tx-1"), Reason.INVALID_PROFILE),
    ("16-SC-01", 2, profile(purpose=TX, transaction_id="tx-1"), Reason.TX_NOT_FOUND),
    ("16-SC-01", 1, profile(purpose=TX, transaction_id="tx-0"), Reason.TX_NOT_FOUND),
    ("16-SC-01", 1, profile(transaction_id="tx-1"), Reason.INVALID_PROFILE),
    ("16-SC-03", 1, profile(valid_from_ms=NOW + DAY, valid_to_ms=NOW + DAY), Reason.INVALID_PROFILE),
    ("16-SC-05", 1, profile(schedules=(schedule(Period(1, 0)),)), Reason.INVALID_SCHEDULE),
    ("16-SC-05", 1, profile(schedules=(schedule(Period(0, 0), Period(9, 0), Period(9, 1)),)), Reason.INVALID_SCHEDULE),
    ("16-SC-05", 1, profile(schedules=(schedule(Period(0, 0), Period(9, 0), Period(8, 1)),)), Reason.INVALID_SCHEDULE),
    ("16-SC-05", 1, profile(schedules=(schedule(duration_s=0),)), Reason.INVALID_SCHEDULE),
    ("16-SC-05", 1, profile(schedules=(Schedule(RateUnit.AMPERE, (), start_ms=NOW),)), Reason.INVALID_SCHEDULE),
    ("16-SC-06", 1, profile(kind=Kind.RECURRING), Reason.MISSING_PARAM),
    (
        "16-SC-06",
        1,
        profile(kind=Kind.RECURRING, recurrency=Recurrency.DAILY, schedules=(RELATIVE,)),
        Reason.MISSING_PARAM,
    ),
    ("16-SC-06", 1, profile(kind=Kind.RELATIVE), Reason.INVALID_SCHEDULE),
    ("16-SC-07", 1, profile(stack_level=9), Reason.INVALID_STACK_LEVEL),
    ("16-SC-07", 1, profile(stack_level=-1), Reason.INVALID_STACK_LEVEL),
    ("16-SC-07", 1, profile(schedules=(schedule(*[Period(s, 0) for s in range(4)]),)), Reason.TOO_MANY),
    ("16-SC-07", 1, profile(schedules=(schedule(Period(0, 6_000, number_phases=4)),)), Reason.INVALID_SCHEDULE),
    ("16-SC-13", 1, profile(schedules=(schedule(Period(0, -1)),)), Reason.INVALID_SCHEDULE),
    ("16-SC-16", 3, profile(), Reason.UNKNOWN_EVSE),
    ("16-SC-16", -1, profile(), Reason.UNKNOWN_EVSE),
    ("K01.FR.22", 0, profile(purpose=EXTERNAL), Reason.INVALID_PROFILE),
    ("K01.FR.34", 1, profile(schedules=(schedule(), schedule())), Reason.INVALID_SCHEDULE),
    ("K01.FR.34", 1, profile(schedules=()), Reason.INVALID_SCHEDULE),
    ("K01.FR.48", 1, profile(schedules=(schedule(Period(0, 6_000, 1, phase_to_use=2)),)), Reason.UNSUPPORTED_PARAM),
    ("K01 validTo", 1, profile(valid_to_ms=NOW), Reason.INVALID_PROFILE),
    ("K01 validTo", 1, profile(schedules=(schedule(start_ms=NOW - DAY, duration_s=86_400),)), Reason.INVALID_PROFILE),
]


@pytest.mark.parametrize("rules", BOTH)
@pytest.mark.parametrize(("rule", "evse_id", "wrong", "reason"), REFUSED_BY_BOTH)
def test_refused_by_both(rule: str, evse_id: int, wrong: ChargingProfile, reason: Reason, rules: Rules) -> None:
    answer = install(wrong, evse_id, rules)
    assert isinstance(answer, Refusal)
    assert answer.reason is reason
    assert rule in answer.rule
    assert answer.detail


REFUSED_BY_201 = [
    ("K01.FR.03", 1, profile(purpose=TX), Reason.MISSING_PARAM),
    ("K01.FR.38", 0, profile(purpose=STATION_MAX, kind=Kind.RELATIVE, schedules=(RELATIVE,)), Reason.INVALID_PROFILE),
    ("K01.FR.40", 1, profile(schedules=(RELATIVE,)), Reason.MISSING_PARAM),
]


@pytest.mark.parametrize(("rule", "evse_id", "wrong", "reason"), REFUSED_BY_201)
def test_refused_by_201_only(rule: str, evse_id: int, wrong: ChargingProfile, reason: Reason) -> None:
    accepted(install(wrong, evse_id, Rules.OCPP16))
    answer = install(wrong, evse_id, Rules.OCPP201)
    assert isinstance(answer, Refusal)
    assert (answer.reason, answer.rule.split(",")[-1].strip()) == (reason, rule)


def test_16_sc_07_rate_unit_not_offered() -> None:
    ampere_only = replace(CAPABILITIES, rate_units=frozenset({RateUnit.AMPERE}))
    watts = profile(schedules=(Schedule(RateUnit.WATT, (Period(0, 1),), start_ms=NOW),))
    refusal = check_profile(watts, 1, rules=Rules.OCPP16, capabilities=ampere_only, wall_ms=NOW)
    assert refusal is not None
    assert refusal.reason is Reason.UNSUPPORTED_RATE_UNIT
    assert check_profile(watts, 1, rules=Rules.OCPP16, capabilities=CAPABILITIES, wall_ms=NOW) is None


@pytest.mark.parametrize("rules", BOTH)
@pytest.mark.parametrize(
    ("evse_id", "right"),
    [
        (0, profile(purpose=STATION_MAX)),
        (0, profile()),
        (2, profile()),
        (1, profile(purpose=TX, transaction_id="tx-1")),
        (1, profile(kind=Kind.RELATIVE, schedules=(RELATIVE,))),
        (1, profile(kind=Kind.RECURRING, recurrency=Recurrency.WEEKLY)),
        (1, profile(valid_from_ms=NOW + DAY)),
        (1, profile(stack_level=8, schedules=(schedule(Period(0, 0), Period(1, 5), Period(2, 0, 3)),))),
    ],
)
def test_accepted_by_both(evse_id: int, right: ChargingProfile, rules: Rules) -> None:
    (entry,) = accepted(install(right, evse_id, rules)).entries
    assert (entry.evse_id, entry.profile, entry.source) == (evse_id, right, LimitSource.CSO)


def test_16_sc_01_tx_profile_without_transaction_belongs_to_the_running_one() -> None:
    (entry,) = accepted(install(profile(purpose=TX), 1, Rules.OCPP16)).entries
    assert entry.profile.transaction_id == "tx-1"


@pytest.mark.parametrize("kind", [Kind.ABSOLUTE, Kind.RELATIVE])
def test_16_sc_06_station_limit_without_start_starts_when_installed(kind: Kind) -> None:
    """No transaction could start it, and to keep it without effect would be worse."""
    new = profile(purpose=STATION_MAX, kind=kind, schedules=(RELATIVE,))
    (entry,) = accepted(install(new, 0, Rules.OCPP16)).entries
    assert (entry.profile.kind, entry.profile.schedule.start_ms) == (Kind.ABSOLUTE, NOW)


# --------------------------------------------------------------------------------- replacement


def with_first(rules: Rules) -> ProfileSet:
    return accepted(install(profile(1, stack_level=2), 1, rules))


@pytest.mark.parametrize(
    ("row", "new", "evse_id", "expected"),
    [
        ("same id, same place", profile(1, stack_level=2), 1, [1]),
        ("same id, other level", profile(1, stack_level=5), 1, [1]),
        ("same id, other connector", profile(1, stack_level=5), 2, [1, 1]),
        ("same id, other purpose", profile(1, TX, stack_level=2, transaction_id="tx-1"), 1, [1, 1]),
        ("same key, other id", profile(9, stack_level=2), 1, [9]),
        ("other stack level", profile(9, stack_level=3), 1, [1, 9]),
        ("other connector", profile(9, stack_level=2), 2, [1, 9]),
        ("connector 0 is another key", profile(9, stack_level=2), 0, [1, 9]),
        ("other purpose", profile(9, TX, stack_level=2, transaction_id="tx-1"), 1, [1, 9]),
    ],
)
def test_16_sc_02_replacement(row: str, new: ChargingProfile, evse_id: int, expected: list[int]) -> None:
    """The id replaces in its own place only; why, ``test_charging_ids`` says."""
    assert ids(accepted(install(new, evse_id, Rules.OCPP16, with_first(Rules.OCPP16)))) == expected


@pytest.mark.parametrize(
    ("rule", "new", "evse_id", "expected"),
    [
        ("K01.FR.05", profile(1, stack_level=2), 1, [1]),
        ("K01.FR.05", profile(1, stack_level=5), 0, [1]),
        ("K01.FR.06", profile(9, stack_level=2), 1, None),
        ("K01.FR.52", profile(9, stack_level=2), 0, None),
        ("", profile(9, stack_level=2), 2, [1, 9]),
        ("", profile(9, stack_level=3), 0, [1, 9]),
        ("", profile(9, TX, stack_level=2, transaction_id="tx-1"), 1, [1, 9]),
    ],
)
def test_k01_replacement(rule: str, new: ChargingProfile, evse_id: int, expected: list[int] | None) -> None:
    answer = install(new, evse_id, Rules.OCPP201, with_first(Rules.OCPP201))
    if expected is None:
        assert isinstance(answer, Refusal)
        assert (answer.reason, answer.rule) == (Reason.DUPLICATE, rule)
    else:
        assert ids(accepted(answer)) == expected


def test_k01_fr_53_default_of_one_evse_beside_that_of_all() -> None:
    station_wide = accepted(install(profile(1), 0))
    answer = install(profile(2), 1, into=station_wide)
    assert isinstance(answer, Refusal)
    assert answer.rule == "K01.FR.53"


def test_k01_fr_39_second_tx_profile_of_a_stack_level_whatever_its_validity() -> None:
    first = accepted(install(profile(1, TX, transaction_id="tx-1", valid_to_ms=NOW + DAY)))
    answer = install(profile(2, TX, transaction_id="tx-1", valid_from_ms=NOW + DAY), into=first)
    assert isinstance(answer, Refusal)
    assert answer.rule == "K01.FR.39"


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        ((None, None), (None, None), True),
        ((None, 5), (5, None), False),
        ((5, None), (None, 5), False),
        ((None, 6), (5, None), True),
        ((1, 9), (3, 4), True),
        ((3, 4), (1, 9), True),
        ((1, 3), (4, 9), False),
    ],
)
@pytest.mark.parametrize("evse_id", [0, 1])
def test_k01_fr_06_only_overlapping_validity_conflicts(
    first: tuple[int | None, int | None], second: tuple[int | None, int | None], together: bool, evse_id: int
) -> None:
    def valid(id: int, days: tuple[int | None, int | None]) -> ChargingProfile:
        begin, end = (None if day is None else NOW + day * DAY for day in days)
        return profile(id, valid_from_ms=begin, valid_to_ms=end)

    answer = install(valid(2, second), evse_id, into=accepted(install(valid(1, first), evse_id)))
    assert isinstance(answer, Refusal) is together


def test_k01_an_expired_profile_is_in_nobodys_way_and_leaves() -> None:
    old = accepted(install(profile(1, valid_to_ms=NOW + 1)))
    assert ids(accepted(install(profile(2), into=old, wall_ms=NOW + 1))) == [2]


@pytest.mark.parametrize("rules", BOTH)
def test_16_sc_07_max_installed_counts_what_remains(rules: Rules) -> None:
    full = ProfileSet()
    for id in range(4):
        full = accepted(install(profile(id, stack_level=id), 1, rules, full))
    answer = install(profile(9, stack_level=8), 1, rules, full)
    assert isinstance(answer, Refusal)
    assert answer.reason is Reason.TOO_MANY
    assert ids(accepted(install(profile(3, stack_level=8), 1, rules, full))) == [0, 1, 2, 3]


# ------------------------------------------------------------------------- external constraints


def test_external_constraints_come_from_others_than_the_csms() -> None:
    external = profile(7, EXTERNAL)
    profiles = accepted(install(external, 0, source=LimitSource.EMS))
    assert profiles.entries[0].source is LimitSource.EMS
    answer = install(profile(7), 1, into=profiles)
    assert isinstance(answer, Refusal)
    assert (answer.reason, answer.rule) == (Reason.DUPLICATE, "K01.FR.05")
    assert isinstance(install(profile(8), 1, into=profiles, source=LimitSource.EMS), Refusal)
    assert ids(accepted(install(profile(8, EXTERNAL), 0, into=profiles, source=LimitSource.SO))) == [7, 8]
    assert ids(accepted(install(profile(8, EXTERNAL), 0, Rules.OCPP16, profiles, source=LimitSource.EMS))) == [8]
