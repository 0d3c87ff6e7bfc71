"""16-SC-08, 09, 13, 16 and 16-CMD-05: profiles to the neutral form and schedules back."""

from __future__ import annotations

from typing import Any

import pytest

from agent.charging.composite import Feed, Transaction
from agent.charging.records import criteria_from_plain, profile_from_plain, profile_to_plain
from agent.charging.rules import Capabilities, Rules
from agent.core.commands import RemoteStart
from agent.core.facts import Token
from agent.core.status import Outcome
from agent.ipc.port import CommandAnswer
from agent.ipc.profiles import CompositeSchedule, ProfileAnswer, ProfileOutcome, SchedulePeriod
from agent.ocpp.v16.charging import read_profile
from agent.sim.virtual_time import run_virtual
from agent.station.limits import Limits
from tests.conformance.v16.rig import Rig
from tests.support.fake_station import T0_MS, session_facts


def profile(purpose: str = "TxDefaultProfile", **changes: Any) -> dict[str, Any]:
    schedule = {
        "chargingRateUnit": "A",
        "startSchedule": "2026-11-24T08:00:00+00:00",
        "duration": 3600,
        "minChargingRate": 6.5,
        "chargingSchedulePeriod": [
            {"startPeriod": 0, "limit": 8.1, "numberPhases": 3},
            {"startPeriod": 600, "limit": 16},
        ],
    }
    plain = {
        "chargingProfileId": 7,
        "stackLevel": 2,
        "chargingProfilePurpose": purpose,
        "chargingProfileKind": "Recurring",
        "recurrencyKind": "Daily",
        "validTo": "2026-12-24T00:00:00Z",
        "chargingSchedule": schedule,
    }
    return plain | changes


def test_16_sc_13_the_neutral_form_is_exact() -> None:
    async def main() -> None:
        rig = Rig()
        async with rig.online():
            request = {"connectorId": 0, "csChargingProfiles": profile("ChargePointMaxProfile")}
            assert await rig.csms.ask("SetChargingProfile", request) == {"status": "Accepted"}
        [(evse, plain, rules)] = rig.station.profiles
        assert (evse, rules) == (0, "1.6")
        neutral = profile_from_plain(plain)
        assert neutral.purpose.value == "ChargingStationMaxProfile"
        assert [(period.start_s, period.limit_milli, period.number_phases) for period in neutral.schedule.periods] == [
            (0, 8_100, 3),
            (600, 16_000, None),
        ]
        assert (neutral.schedule.start_ms, neutral.schedule.duration_s) == (T0_MS, 3600)
        assert neutral.schedule.min_charging_rate_milli == 6_500
        assert neutral.valid_to_ms == 1_798_070_400_000

    run_virtual(main())


@pytest.mark.parametrize(
    "change",
    [
        {"chargingSchedule": {"chargingRateUnit": "A", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 6.25}]}},
        {"chargingSchedule": {"chargingRateUnit": "V", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 6}]}},
        {"chargingSchedule": {"chargingRateUnit": "A", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": -1}]}},
        {"validFrom": "tomorrow"},
    ],
)
def test_16_sc_16_what_cannot_be_is_a_callerror(change: dict[str, Any]) -> None:
    async def main() -> None:
        rig = Rig()
        async with rig.online():
            frame = await rig.csms.call(
                "SetChargingProfile", {"connectorId": 1, "csChargingProfiles": profile(**change)}
            )
        assert frame[:1] + frame[2:3] == [4, "PropertyConstraintViolation"]
        assert rig.station.profiles == []

    run_virtual(main())


@pytest.mark.parametrize("action", ["SetChargingProfile", "GetCompositeSchedule"])
def test_16_sc_16_unknown_connector_is_a_callerror(action: str) -> None:
    async def main() -> None:
        rig = Rig()
        request: dict[str, Any] = {"connectorId": 3}
        request |= {"csChargingProfiles": profile()} if action == "SetChargingProfile" else {"duration": 60}
        async with rig.online():
            frame = await rig.csms.call(action, request)
        assert frame[:1] + frame[2:3] == [4, "PropertyConstraintViolation"]

    run_virtual(main())


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (ProfileOutcome.ACCEPTED, "Accepted"),
        (ProfileOutcome.REJECTED, "Rejected"),
        (ProfileOutcome.NOT_SUPPORTED, "NotSupported"),
        (ProfileOutcome.UNKNOWN, "Rejected"),
    ],
)
def test_16_sc_01_the_station_decides(outcome: ProfileOutcome, status: str) -> None:
    async def main() -> None:
        rig = Rig()
        rig.station.profile_answer = ProfileAnswer(outcome)
        async with rig.online():
            request = {"connectorId": 1, "csChargingProfiles": profile()}
            assert await rig.csms.ask("SetChargingProfile", request) == {"status": status}

    run_virtual(main())


def test_16_sc_01_transaction_id_is_translated_and_an_unknown_one_rejected() -> None:
    async def main() -> None:
        rig = Rig()
        await rig.station.append(*session_facts("tx-1")[:1])
        async with rig.online():
            await rig.drained()
            for csms_id, status in ((100, "Accepted"), (99, "Rejected")):
                request = {"connectorId": 1, "csChargingProfiles": profile("TxProfile", transactionId=csms_id)}
                assert await rig.csms.ask("SetChargingProfile", request) == {"status": status}
        [(_, plain, _)] = rig.station.profiles
        assert plain["transaction_id"] == "tx-1"

    run_virtual(main())


@pytest.mark.parametrize(
    ("request_", "criteria"),
    [
        ({"id": 7, "stackLevel": 1}, {"ids": [7]}),
        ({}, {}),
        (
            {"connectorId": 0, "chargingProfilePurpose": "ChargePointMaxProfile", "stackLevel": 0},
            {"evse_id": 0, "purpose": "ChargingStationMaxProfile", "stack_level": 0},
        ),
    ],
)
def test_16_sc_09_clear(request_: dict[str, Any], criteria: dict[str, Any]) -> None:
    async def main() -> None:
        rig = Rig()
        async with rig.online():
            assert await rig.csms.ask("ClearChargingProfile", request_) == {"status": "Accepted"}
            rig.station.profile_answer = ProfileAnswer(ProfileOutcome.UNKNOWN)
            assert await rig.csms.ask("ClearChargingProfile", request_) == {"status": "Unknown"}
        assert rig.station.cleared == [criteria] * 2
        criteria_from_plain(criteria)

    run_virtual(main())


def test_16_sc_02_evcc_steers_two_connectors_with_one_id() -> None:
    """evcc calls each TxDefaultProfile by MaxChargingProfilesInstalled, whatever the connector. What it says of one
    must not lift what it said of the other, as by the letter of 16-SC-02 it would: it is to work with no switch set."""

    def limit(amperes: int) -> dict[str, Any]:
        period = {"startPeriod": 0, "limit": amperes, "numberPhases": 3}
        schedule = {"startSchedule": "2026-11-24T07:59:00Z", "chargingRateUnit": "A"}
        steered = {"chargingProfileId": 20, "stackLevel": 9, "chargingProfilePurpose": "TxDefaultProfile"}
        absolute = {
            "chargingProfileKind": "Absolute",
            "chargingSchedule": schedule | {"chargingSchedulePeriod": [period]},
        }
        return steered | absolute

    charging = {evse: Transaction(f"tx-{evse}", T0_MS) for evse in (1, 2)}
    limits = Limits(tuple(Feed(evse, 32_000, 230_000, 3) for evse in charging), None, Capabilities(2, 9, 24, 20))

    def currents_ma() -> list[int | None]:
        """With what the station was told."""
        for evse, plain, rules in rig.station.profiles:
            assert limits.install(profile_from_plain(plain), evse, Rules(rules), charging, T0_MS) is None
        return [each.limit_ma for each in limits.outlook(charging, T0_MS, clock_known=True).limits]

    rig = Rig()

    async def main() -> None:
        async with rig.online():
            for connector, amperes in ((1, 0), (2, 16)):
                request = {"connectorId": connector, "csChargingProfiles": limit(amperes)}
                assert await rig.csms.ask("SetChargingProfile", request) == {"status": "Accepted"}
            assert currents_ma() == [0, 16_000]
            rig.station.profiles.clear()
            await rig.csms.ask("SetChargingProfile", {"connectorId": 1, "csChargingProfiles": limit(10)})
            assert currents_ma() == [10_000, 16_000]
            assert await rig.csms.ask("ClearChargingProfile", {"id": 20}) == {"status": "Accepted"}
        assert limits.clear(criteria_from_plain(rig.station.cleared[0])) == 2

    run_virtual(main())


def test_16_sc_08_composite_schedule() -> None:
    async def main() -> None:
        rig = Rig()
        async with rig.online():
            assert await rig.csms.ask("GetCompositeSchedule", {"connectorId": 1, "duration": 60}) == {
                "status": "Rejected"
            }
            rig.station.schedule = CompositeSchedule(
                T0_MS, 600, "A", (SchedulePeriod(0, 161, 3), SchedulePeriod(300, 60))
            )
            request = {"connectorId": 1, "duration": 600, "chargingRateUnit": "A"}
            assert await rig.csms.ask("GetCompositeSchedule", request) == {
                "status": "Accepted",
                "connectorId": 1,
                "scheduleStart": "2026-11-24T08:00:00.000Z",
                "chargingSchedule": {
                    "duration": 600,
                    "startSchedule": "2026-11-24T08:00:00.000Z",
                    "chargingRateUnit": "A",
                    "chargingSchedulePeriod": [
                        {"startPeriod": 0, "limit": 16.1, "numberPhases": 3},
                        {"startPeriod": 300, "limit": 6.0},
                    ],
                },
            }

    run_virtual(main())


@pytest.mark.parametrize(
    ("plain", "started", "status"),
    [
        (profile("TxProfile"), Outcome.ACCEPTED, "Accepted"),
        (profile("TxProfile"), Outcome.REJECTED, "Rejected"),
        (profile("TxProfile", transactionId=1), Outcome.ACCEPTED, "Rejected"),
    ],
)
def test_16_cmd_05_a_profile_goes_with_the_remote_start_and_touches_nothing_else(
    plain: dict[str, Any], started: Outcome, status: str
) -> None:
    async def main() -> None:
        rig = Rig()
        rig.station.outcomes[RemoteStart] = CommandAnswer(started)
        request = {"idTag": "A", "connectorId": 1, "chargingProfile": plain}
        async with rig.online():
            # the start is refused before the registration, so wait for it
            while not rig.station.link_states:
                await rig.csms.ask("GetConfiguration", {"key": ["NumberOfConnectors"]})
            assert await rig.csms.ask("RemoteStartTransaction", request) == {"status": status}
        assert rig.station.profiles == [] and rig.station.cleared == []
        if "transactionId" not in plain:
            neutral = profile_to_plain(read_profile(plain, None))
            assert rig.station.commands == [RemoteStart(Token("A"), 1, profile=neutral, rules="1.6")]

    run_virtual(main())
