"""Clearing, selecting and keeping installed profiles; their plain form on disk."""

from __future__ import annotations

import json
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
from agent.charging.records import (
    MalformedRecord,
    criteria_from_plain,
    criteria_to_plain,
    profile_from_plain,
    set_from_plain,
    set_to_plain,
)
from agent.charging.rules import Capabilities, Reason, Refusal, Rules
from agent.charging.store import Criteria, Installed, ProfileSet


def profile(id: int, purpose: Purpose, stack_level: int, **fields: Any) -> ChargingProfile:
    schedule = Schedule(RateUnit.AMPERE, (Period(0, 10_000),), start_ms=0)
    return ChargingProfile(id, stack_level, purpose, Kind.ABSOLUTE, (schedule,), **fields)


EVERYTHING = ChargingProfile(
    id=6,
    stack_level=3,
    purpose=Purpose.TX_DEFAULT,
    kind=Kind.RECURRING,
    schedules=(
        Schedule(
            RateUnit.WATT,
            (Period(0, 11_000_000, number_phases=3), Period(3600, 0, number_phases=1, phase_to_use=2)),
            duration_s=7200,
            start_ms=1_790_000_000_123,
            id=44,
            min_charging_rate_milli=1_380_000,
        ),
    ),
    recurrency=Recurrency.WEEKLY,
    valid_from_ms=1,
    valid_to_ms=2_000_000_000_000,
)
PROFILES = ProfileSet(
    (
        Installed(0, profile(1, Purpose.STATION_MAX, 0)),
        Installed(0, profile(2, Purpose.TX_DEFAULT, 0)),
        Installed(1, profile(3, Purpose.TX_DEFAULT, 1)),
        Installed(1, profile(4, Purpose.TX, 1, transaction_id="tx-1")),
        Installed(2, profile(5, Purpose.TX, 0, transaction_id="tx-2")),
        Installed(2, EVERYTHING),
        Installed(0, profile(7, Purpose.STATION_EXTERNAL, 0), LimitSource.EMS, installed_ms=1_790_000_000_456),
    )
)


def ids(entries: tuple[Installed, ...]) -> list[int]:
    return [entry.profile.id for entry in entries]


@pytest.mark.parametrize(
    ("criteria", "cleared"),
    [
        (Criteria(), [1, 2, 3, 4, 5, 6]),
        (Criteria(ids=frozenset({3})), [3]),
        (Criteria(ids=frozenset({3}), evse_id=2, purpose=Purpose.TX, stack_level=8), [3]),  # an id stands alone
        (Criteria(ids=frozenset({99})), []),
        (Criteria(evse_id=0), [1, 2]),
        (Criteria(evse_id=1), [3, 4]),
        (Criteria(purpose=Purpose.TX), [4, 5]),
        (Criteria(stack_level=1), [3, 4]),
        (Criteria(purpose=Purpose.TX_DEFAULT, stack_level=0), [2]),
        (Criteria(evse_id=2, purpose=Purpose.TX_DEFAULT, stack_level=3), [6]),
        (Criteria(evse_id=2, purpose=Purpose.TX_DEFAULT, stack_level=4), []),
        (Criteria(ids=frozenset({7})), []),  # K10: external constraints are not the CSMS's
        (Criteria(purpose=Purpose.STATION_EXTERNAL), []),
    ],
)
def test_16_sc_09_k10_clear(criteria: Criteria, cleared: list[int]) -> None:
    left, count = PROFILES.clear(criteria)
    assert count == len(cleared)
    assert ids(left.entries) == [id for id in range(1, 8) if id not in cleared]


def test_k10_who_set_external_constraints_clears_them_and_nothing_else() -> None:
    left, count = PROFILES.clear(Criteria(), source=LimitSource.EMS)
    assert (count, ids(left.entries)) == (1, [1, 2, 3, 4, 5, 6])


@pytest.mark.parametrize(
    ("criteria", "selected"),
    [
        (Criteria(), [1, 2, 3, 4, 5, 6, 7]),
        (Criteria(ids=frozenset({3, 7})), [3, 7]),
        (Criteria(ids=frozenset({3, 7}), evse_id=0), [7]),
        (Criteria(sources=frozenset({LimitSource.EMS, LimitSource.SO})), [7]),
        (Criteria(evse_id=0, sources=frozenset({LimitSource.CSO})), [1, 2]),
        (Criteria(purpose=Purpose.TX, stack_level=3), []),
    ],
)
def test_k09_select(criteria: Criteria, selected: list[int]) -> None:
    assert ids(PROFILES.select(criteria)) == selected
    assert criteria_from_plain(json.loads(json.dumps(criteria_to_plain(criteria)))) == criteria


def test_16_sc_10_tx_profiles_live_as_long_as_their_transaction() -> None:
    assert ids(PROFILES.keep_transactions({"tx-2"}).entries) == [1, 2, 3, 5, 6, 7]
    assert ids(PROFILES.keep_transactions(()).entries) == [1, 2, 3, 6, 7]
    assert PROFILES.keep_transactions({"tx-1", "tx-2"}) == PROFILES


def test_16_sc_10_field_fault_9_profiles_survive_a_reboot_unchanged() -> None:
    on_disk = json.dumps(set_to_plain(PROFILES))
    assert set_from_plain(json.loads(on_disk)) == (PROFILES, [])


def test_none_is_left_out_of_records() -> None:
    assert "null" not in json.dumps(set_to_plain(PROFILES))


@pytest.mark.parametrize(
    ("path", "value", "detail"),
    [
        (("format",), 2, "not 1"),
        (("format",), None, "is None"),
        (("installed",), {}, "not a list"),
    ],
)
def test_what_is_no_set_is_refused(path: tuple[str | int, ...], value: object, detail: str) -> None:
    with pytest.raises(MalformedRecord, match=detail) as caught:
        set_from_plain(_changed(path, value))
    assert caught.value.path.startswith("profiles")


@pytest.mark.parametrize(
    ("path", "value", "detail"),
    [
        (("installed", 0), 5, "not an object"),
        (("installed", 0, "evse_id"), "1", "not an integer"),
        (("installed", 0, "source"), "Me", "not one of"),
        (("installed", 0, "profile", "id"), True, "not an integer"),
        (("installed", 0, "profile", "purpose"), ["TxProfile"], "not one of"),
        (("installed", 0, "profile", "schedules"), [], "InvalidSchedule"),
        (("installed", 0, "profile", "schedules", 0, "unit"), "V", "not one of"),
        (("installed", 0, "profile", "schedules", 0, "periods"), [], "no period"),
        (("installed", 0, "profile", "schedules", 0, "periods", 0, "limit_milli"), 1.5, "not an integer"),
        (("installed", 0, "profile", "schedules", 0, "periods", 0, "limit_milli"), -1, "out of range"),
        (("installed", 0, "profile", "schedules", 0, "periods", 0, "start_s"), 3, "must be 0"),
        (("installed", 0, "profile", "kind"), "Recurring", "recurrencyKind"),
        (("installed", 3, "profile", "transaction_id"), 1, "not a string"),
    ],
)
def test_a_profile_that_cannot_be_read_is_left_out_and_its_place_named(
    path: tuple[str | int, ...], value: object, detail: str
) -> None:
    """The limits of the others must hold on (ADR 29)."""
    read, [wrong] = set_from_plain(_changed(path, value))
    left_out = PROFILES.entries[int(path[1])]
    assert read.entries == tuple(each for each in PROFILES.entries if each is not left_out)
    assert detail in str(wrong) and wrong.path.startswith(f"profiles.installed[{path[1]}]")


def test_what_cannot_be_read_is_stored_again_as_it_was() -> None:
    """The release that wrote it may come back: the CSMS was told Accepted."""
    plain = _changed(("installed", 0, "profile", "purpose"), "Magic")
    read, _ = set_from_plain(plain)
    unread = plain["installed"][0]
    cleared, _ = read.keep_transactions(()).clear(Criteria(evse_id=1))
    assert set_to_plain(cleared)["installed"][-1] == unread
    full = Capabilities(evse_count=1, max_stack_level=9, max_periods=9, max_installed=len(PROFILES.entries))
    new = replace(read.entries[0].profile, id=99, stack_level=9)
    refused = read.install(new, 1, rules=Rules.OCPP16, capabilities=full, running={}, wall_ms=0)
    assert isinstance(refused, Refusal) and refused.reason is Reason.TOO_MANY
    assert unread not in set_to_plain(read.clear(Criteria())[0])["installed"]


def test_of_two_profiles_with_one_id_in_one_place_the_first_holds() -> None:
    plain = set_to_plain(PROFILES)
    plain["installed"][1] |= {"profile": plain["installed"][0]["profile"]}
    read, [wrong] = set_from_plain(plain)
    assert ids(read.entries) == [1, 3, 4, 5, 6, 7] and "another profile in its place has the id 1" in str(wrong)


@pytest.mark.parametrize(
    "path",
    [
        ("colour",),
        ("installed", 0, "colour"),
        ("installed", 0, "profile", "colour"),
        ("installed", 0, "profile", "schedules", 0, "colour"),
        ("installed", 0, "profile", "schedules", 0, "periods", 0, "colour"),
    ],
)
def test_what_a_newer_release_adds_to_a_profile_is_left_out_of_it(path: tuple[str | int, ...]) -> None:
    assert set_from_plain(_changed(path, "red")) == (PROFILES, [])


def test_criteria_with_a_field_that_nobody_knows_clear_nothing() -> None:
    """They would clear more than was meant."""
    with pytest.raises(MalformedRecord, match="unknown field 'colour'"):
        criteria_from_plain({"evse_id": 1, "colour": "red"})


def _changed(path: tuple[str | int, ...], value: object) -> Any:
    """The profiles as they are stored, with one thing changed."""
    plain: Any = json.loads(json.dumps(set_to_plain(PROFILES)))
    *parents, last = path
    place = plain
    for key in parents:
        place = place[key]
    place[last] = value
    return plain


@pytest.mark.parametrize("key", ["id", "stack_level", "purpose", "kind", "schedules"])
def test_missing_fields_are_named(key: str) -> None:
    plain = set_to_plain(PROFILES)["installed"][0]["profile"]
    del plain[key]
    with pytest.raises(MalformedRecord) as caught:
        profile_from_plain(plain)
    assert (caught.value.path, caught.value.detail) == (f"profile.{key}", "is missing")


def test_a_set_of_older_software_was_installed_before_any_clock() -> None:
    """It did not say when."""
    plain = set_to_plain(PROFILES)
    for entry in plain["installed"]:
        del entry["installed_ms"]
    assert {entry.installed_ms for entry in set_from_plain(plain)[0].entries} == {0}


def test_a_profile_is_bound_in_place_of_one_with_its_id_on_its_evse_and_of_no_other() -> None:
    """4 is of the transaction on EVSE 1, and goes on limiting it."""
    for number, bound_ids in ((4, [1, 2, 3, 4, 5, 6, 7, 4]), (5, [1, 2, 3, 4, 6, 7, 5]), (6, [1, 2, 3, 4, 5, 6, 7, 6])):
        bound = PROFILES.bind(profile(number, Purpose.TX, 1), 2, "tx-3", 77)
        assert ids(bound.entries) == bound_ids
        assert bound.entries[-1] == Installed(2, profile(number, Purpose.TX, 1, transaction_id="tx-3"), installed_ms=77)
