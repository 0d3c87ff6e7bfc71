"""K01, K08, K10: profiles and composite schedules."""

from __future__ import annotations

from typing import Any

import pytest

from agent.charging.profiles import ChargingProfile, Kind, Period, Purpose, RateUnit, Recurrency, Schedule
from agent.charging.records import profile_from_plain
from agent.ipc.profiles import CompositeSchedule, ProfileAnswer, ProfileOutcome, SchedulePeriod
from agent.sim.virtual_time import run_virtual
from tests.conformance.v201.rig import Rig
from tests.support.fake_station import T0_MS

PROFILE: dict[str, Any] = {
    "id": 3,
    "stackLevel": 2,
    "chargingProfilePurpose": "TxDefaultProfile",
    "chargingProfileKind": "Recurring",
    "recurrencyKind": "Daily",
    "validFrom": "2026-11-24T08:00:00Z",
    "validTo": "2026-11-24T09:00:01+01:00",
    "chargingSchedule": [
        {
            "id": 11,
            "startSchedule": "2026-11-24T08:00:00.5Z",
            "duration": 3600,
            "chargingRateUnit": "A",
            "minChargingRate": 6,
            "chargingSchedulePeriod": [
                {"startPeriod": 0, "limit": 8.1, "numberPhases": 1, "phaseToUse": 2},
                {"startPeriod": 60, "limit": 16},
            ],
        }
    ],
}
NEUTRAL = ChargingProfile(
    id=3,
    stack_level=2,
    purpose=Purpose.TX_DEFAULT,
    kind=Kind.RECURRING,
    recurrency=Recurrency.DAILY,
    valid_from_ms=T0_MS,
    valid_to_ms=T0_MS + 1_000,
    schedules=(
        Schedule(
            unit=RateUnit.AMPERE,
            periods=(Period(0, 8_100, 1, 2), Period(60, 16_000)),
            duration_s=3_600,
            start_ms=T0_MS + 500,
            id=11,
            min_charging_rate_milli=6_000,
        ),
    ),
)


def with_limit(limit: float) -> dict[str, Any]:
    schedule = PROFILE["chargingSchedule"][0] | {"chargingSchedulePeriod": [{"startPeriod": 0, "limit": limit}]}
    return PROFILE | {"chargingSchedule": [schedule]}


def test_k01_a_profile_reaches_the_station_exactly() -> None:
    async def main() -> None:
        rig = Rig()
        async with rig.registered():
            answer = await rig.csms.ask("SetChargingProfile", {"evseId": 0, "chargingProfile": PROFILE})
        assert answer == {"status": "Accepted"}
        [(evse, plain, rules)] = rig.station.profiles
        assert (evse, profile_from_plain(plain), rules) == (0, NEUTRAL, "2.0.1")

    run_virtual(main())


def test_k01_the_transaction_is_ours_by_its_own_id() -> None:
    async def main() -> None:
        rig = Rig()
        profile = PROFILE | {"chargingProfilePurpose": "TxProfile", "transactionId": "tx-1"}
        async with rig.registered():
            await rig.csms.ask("SetChargingProfile", {"evseId": 1, "chargingProfile": profile})
        assert rig.station.profiles[0][1]["transaction_id"] == "tx-1"

    run_virtual(main())


@pytest.mark.parametrize("outcome", [ProfileOutcome.REJECTED, ProfileOutcome.NOT_SUPPORTED, ProfileOutcome.UNKNOWN])
def test_k01_what_the_station_refuses_is_rejected_with_its_reason(outcome: ProfileOutcome) -> None:
    async def main() -> None:
        rig = Rig()
        rig.station.profile_answer = ProfileAnswer(outcome, "K01.FR.06 ...")
        async with rig.registered():
            answer = await rig.csms.ask("SetChargingProfile", {"evseId": 1, "chargingProfile": PROFILE})
        assert answer == {
            "status": "Rejected",
            "statusInfo": {"reasonCode": "InvalidProfile", "additionalInfo": "K01.FR.06 ..."},
        }

    run_virtual(main())


@pytest.mark.parametrize(
    "profile", [with_limit(6.25), with_limit(-1), with_limit(1e300), PROFILE | {"validFrom": "tomorrow"}]
)
def test_k01_numbers_and_times_that_cannot_be(profile: dict[str, Any]) -> None:
    async def main() -> None:
        rig = Rig()
        async with rig.registered():
            frame = await rig.csms.call("SetChargingProfile", {"evseId": 1, "chargingProfile": profile})
        assert frame[0] == 4 and frame[2] == "PropertyConstraintViolation"
        assert rig.station.profiles == []

    run_virtual(main())


@pytest.mark.parametrize(
    ("request_", "criteria"),
    [
        ({"chargingProfileId": 3, "chargingProfileCriteria": {"stackLevel": 1}}, {"ids": [3]}),
        (
            {
                "chargingProfileCriteria": {
                    "evseId": 0,
                    "chargingProfilePurpose": "ChargingStationMaxProfile",
                    "stackLevel": 1,
                }
            },
            {"evse_id": 0, "purpose": "ChargingStationMaxProfile", "stack_level": 1},
        ),
        ({}, {}),
    ],
)
def test_k10_clear(request_: dict[str, Any], criteria: dict[str, Any]) -> None:
    async def main() -> None:
        rig = Rig()
        async with rig.registered():
            assert await rig.csms.ask("ClearChargingProfile", request_) == {"status": "Accepted"}
            rig.station.profile_answer = ProfileAnswer(ProfileOutcome.UNKNOWN)
            assert await rig.csms.ask("ClearChargingProfile", request_) == {"status": "Unknown"}
        assert rig.station.cleared == [criteria] * 2

    run_virtual(main())


def test_k08_composite_schedule() -> None:
    async def main() -> None:
        rig = Rig()
        rig.station.schedule = CompositeSchedule(T0_MS, 600, "A", (SchedulePeriod(0, 81, 3), SchedulePeriod(60, 160)))
        async with rig.registered():
            answer = await rig.csms.ask("GetCompositeSchedule", {"evseId": 1, "duration": 600})
        assert answer == {
            "status": "Accepted",
            "schedule": {
                "evseId": 1,
                "duration": 600,
                "scheduleStart": "2026-11-24T08:00:00.000Z",
                "chargingRateUnit": "A",
                "chargingSchedulePeriod": [
                    {"startPeriod": 0, "limit": 8.1, "numberPhases": 3},
                    {"startPeriod": 60, "limit": 16.0},
                ],
            },
        }

    run_virtual(main())


def test_unknown_evses_are_rejected() -> None:
    async def main() -> None:
        rig = Rig()
        async with rig.registered():
            for action, request in (
                ("SetChargingProfile", {"evseId": 9, "chargingProfile": PROFILE}),
                ("GetCompositeSchedule", {"evseId": 9, "duration": 600}),
            ):
                answer = await rig.csms.ask(action, request)
                assert answer == {"status": "Rejected", "statusInfo": {"reasonCode": "UnknownEvse"}}
            answer = await rig.csms.ask("GetCompositeSchedule", {"evseId": 1, "duration": 600})
            assert answer == {"status": "Rejected"}  # the station has none

    run_virtual(main())
