"""B11, B12, C11, E14, F01 to F06, G03, G04, P01: what the CSMS asks of the station."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agent.charging.records import profile_from_plain
from agent.core.commands import ChangeAvailability, Command, RemoteStart, RemoteStop, Reset, TakeSample, Unlock
from agent.core.facts import Token
from agent.core.status import Outcome
from agent.ipc.port import CommandAnswer
from agent.ocpp import schema
from agent.ocpp.version import Version
from agent.sim.virtual_time import run_virtual
from tests.conformance.v201.rig import Rig
from tests.support.fake_station import session_facts

START: dict[str, Any] = {"idToken": {"idToken": "AA", "type": "Central"}, "remoteStartId": 7}
TOKEN = Token("AA", "Central")
PROFILE: dict[str, Any] = {
    "id": 3,
    "stackLevel": 0,
    "chargingProfilePurpose": "TxProfile",
    "chargingProfileKind": "Relative",
    "chargingSchedule": [
        {"id": 1, "chargingRateUnit": "A", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 8.1}]}
    ],
}
EVSE_1 = {"evse": {"id": 1}}
CONNECTOR_1 = {"evse": {"id": 1, "connectorId": 1}}
CONNECTOR_2 = {"evse": {"id": 1, "connectorId": 2}}  # there is none
EVSE_9 = {"evse": {"id": 9}}  # nor this

# action, request, outcome of the station, command to the station, status answered
Row = tuple[str, dict[str, Any], Outcome, Command | None, str]

COMMANDS: list[Row] = [
    ("RequestStartTransaction", START, Outcome.ACCEPTED, RemoteStart(TOKEN, None, 7), "Accepted"),
    ("RequestStartTransaction", START | {"evseId": 2}, Outcome.REJECTED, RemoteStart(TOKEN, 2, 7), "Rejected"),
    (
        "RequestStartTransaction",
        START | {"groupIdToken": {"idToken": "FLEET", "type": "Central"}},
        Outcome.ACCEPTED,
        RemoteStart(TOKEN, None, 7, "FLEET"),
        "Accepted",
    ),
    ("RequestStartTransaction", START | {"evseId": 9}, Outcome.ACCEPTED, None, "Rejected"),
    ("RequestStopTransaction", {"transactionId": "tx-1"}, Outcome.ACCEPTED, RemoteStop("tx-1"), "Accepted"),
    ("RequestStopTransaction", {"transactionId": "x"}, Outcome.UNKNOWN_TRANSACTION, RemoteStop("x"), "Rejected"),
    (
        "ChangeAvailability",
        {"operationalStatus": "Inoperative"},
        Outcome.SCHEDULED,
        ChangeAvailability(False, None),
        "Scheduled",
    ),
    (
        "ChangeAvailability",
        {"operationalStatus": "Operative"} | EVSE_1,
        Outcome.ACCEPTED,
        ChangeAvailability(True, 1),
        "Accepted",
    ),
    (
        "ChangeAvailability",
        {"operationalStatus": "Operative"} | CONNECTOR_1,
        Outcome.ACCEPTED,
        ChangeAvailability(True, 1),
        "Accepted",
    ),
    ("ChangeAvailability", {"operationalStatus": "Operative"} | CONNECTOR_2, Outcome.ACCEPTED, None, "Rejected"),
    ("ChangeAvailability", {"operationalStatus": "Operative"} | EVSE_9, Outcome.ACCEPTED, None, "Rejected"),
    ("Reset", {"type": "Immediate"}, Outcome.ACCEPTED, Reset(immediate=True, hard=True), "Accepted"),
    ("Reset", {"type": "OnIdle"}, Outcome.SCHEDULED, Reset(immediate=False), "Scheduled"),
    ("Reset", {"type": "OnIdle", "evseId": 1}, Outcome.REJECTED, Reset(immediate=False, evse=1), "Rejected"),
    ("Reset", {"type": "OnIdle", "evseId": 9}, Outcome.ACCEPTED, None, "Rejected"),
    ("UnlockConnector", {"evseId": 1, "connectorId": 1}, Outcome.UNLOCKED, Unlock(1, False), "Unlocked"),
    ("UnlockConnector", {"evseId": 1, "connectorId": 1}, Outcome.UNLOCK_FAILED, Unlock(1, False), "UnlockFailed"),
    ("UnlockConnector", {"evseId": 1, "connectorId": 1}, Outcome.NOT_SUPPORTED, Unlock(1, False), "UnlockFailed"),
    (
        "UnlockConnector",
        {"evseId": 1, "connectorId": 1},
        Outcome.ONGOING_TRANSACTION,
        Unlock(1, False),
        "OngoingAuthorizedTransaction",
    ),
    ("UnlockConnector", {"evseId": 1, "connectorId": 2}, Outcome.UNLOCKED, None, "UnknownConnector"),
    ("UnlockConnector", {"evseId": 9, "connectorId": 1}, Outcome.UNLOCKED, None, "UnknownConnector"),
    ("ClearCache", {}, Outcome.ACCEPTED, None, "Accepted"),
    ("DataTransfer", {"vendorId": "com.other"}, Outcome.ACCEPTED, None, "UnknownVendorId"),
    ("DataTransfer", {"vendorId": "Example", "messageId": "x"}, Outcome.ACCEPTED, None, "UnknownMessageId"),
]


@pytest.mark.parametrize(("action", "request_", "outcome", "command", "status"), COMMANDS)
def test_commands(
    action: str, request_: dict[str, Any], outcome: Outcome, command: Command | None, status: str
) -> None:
    """F03, F05 (and the other ones above): what the station says becomes the answer of 2.0.1."""

    async def main() -> None:
        rig = Rig()
        if command is not None:
            rig.station.outcomes[type(command)] = CommandAnswer(outcome)
        async with rig.registered():
            answer = await rig.csms.ask(action, request_)
        assert answer["status"] == status
        assert rig.station.commands == ([] if command is None else [command])

    run_virtual(main())


def test_c11_without_a_cache_clear_cache_is_rejected() -> None:
    async def main() -> None:
        rig = Rig()
        rig.station.cache_enabled = False
        async with rig.registered():
            assert await rig.csms.ask("ClearCache", {}) == {"status": "Rejected"}

    run_virtual(main())


# ------------------------------------------------------------------------------ F01, F02 with a profile


@pytest.mark.parametrize("started", [Outcome.ACCEPTED, Outcome.REJECTED])
def test_f01_a_profile_goes_with_the_start_and_touches_nothing_else(started: Outcome) -> None:
    """K05: the profile comes with the remote start."""

    async def main() -> None:
        rig = Rig()
        rig.station.outcomes[RemoteStart] = CommandAnswer(started, None if started is Outcome.ACCEPTED else "running")
        async with rig.registered():
            answer = await rig.csms.ask("RequestStartTransaction", START | {"evseId": 1, "chargingProfile": PROFILE})
        refused = {"status": "Rejected", "transactionId": "running"}
        assert answer == ({"status": "Accepted"} if started is Outcome.ACCEPTED else refused)
        [command] = rig.station.commands
        assert isinstance(command, RemoteStart) and command.profile is not None
        assert (command.evse, command.remote_start_id, command.rules) == (1, 7, "2.0.1")
        assert profile_from_plain(command.profile).schedule.periods[0].limit_milli == 8_100
        assert rig.station.profiles == [] and rig.station.cleared == []

    run_virtual(main())


def test_f01_a_profile_the_station_refuses_is_named_as_the_reason() -> None:
    async def main() -> None:
        rig = Rig()
        rig.station.outcomes[RemoteStart] = CommandAnswer(Outcome.REJECTED, reason="too many profiles")
        async with rig.registered():
            answer = await rig.csms.ask("RequestStartTransaction", START | {"evseId": 1, "chargingProfile": PROFILE})
        assert answer["status"] == "Rejected"
        assert answer["statusInfo"] == {"reasonCode": "InvalidProfile", "additionalInfo": "too many profiles"}

    run_virtual(main())


def test_tc_k_38_without_smart_charging_the_profile_is_ignored() -> None:
    async def main() -> None:
        rig = Rig()
        async with rig.registered():
            await rig.station.set("SmartChargingCtrlr.Enabled", "false")
            answer = await rig.csms.ask("RequestStartTransaction", START | {"chargingProfile": PROFILE})
        assert answer == {"status": "Accepted"}
        assert rig.station.commands == [RemoteStart(TOKEN, None, 7)]

    run_virtual(main())


# ------------------------------------------------------------------------------------------------ E14


def test_e14_transaction_status() -> None:
    async def main() -> None:
        rig = Rig()
        rig.station.running = {1: "tx-2"}
        async with rig.registered():
            await rig.station.append(*session_facts("tx-1"))
            await rig.drained()
            rig.csms.on["TransactionEvent"] = ["InternalError"]  # from here on things wait for a retry
            await rig.station.append(*session_facts("tx-2")[:2])
            ask = rig.csms.ask
            assert await ask("GetTransactionStatus", {}) == {"messagesInQueue": True}
            assert await ask("GetTransactionStatus", {"transactionId": "tx-1"}) == {
                "ongoingIndicator": False,
                "messagesInQueue": False,
            }
            assert await ask("GetTransactionStatus", {"transactionId": "tx-2"}) == {
                "ongoingIndicator": True,
                "messagesInQueue": True,
            }
            await rig.drained()
            assert await ask("GetTransactionStatus", {}) == {"messagesInQueue": False}

    run_virtual(main())


# ------------------------------------------------------------------------------------------------ F06

TRIGGERS: list[tuple[dict[str, Any], str]] = [
    ({"requestedMessage": "Heartbeat"}, "Accepted"),
    ({"requestedMessage": "StatusNotification"} | CONNECTOR_1, "Accepted"),
    ({"requestedMessage": "StatusNotification"} | EVSE_1, "Rejected"),
    ({"requestedMessage": "StatusNotification"}, "Rejected"),
    ({"requestedMessage": "StatusNotification"} | CONNECTOR_2, "Rejected"),
    ({"requestedMessage": "MeterValues"} | EVSE_9, "Rejected"),
    ({"requestedMessage": "TransactionEvent"}, "Rejected"),  # none runs
    ({"requestedMessage": "BootNotification"}, "Rejected"),
    ({"requestedMessage": "FirmwareStatusNotification"}, "NotImplemented"),
    ({"requestedMessage": "SignChargingStationCertificate"}, "NotImplemented"),
]


@pytest.mark.parametrize(("request_", "status"), TRIGGERS)
def test_f06_triggers_answer_first_then_send(request_: dict[str, Any], status: str) -> None:
    async def main() -> None:
        rig = Rig()
        async with rig.registered():
            rig.csms.received.clear()
            answer = await rig.csms.ask("TriggerMessage", request_)
            assert answer["status"] == status
            assert rig.csms.received == []
            await asyncio.sleep(1)
        expected = [request_["requestedMessage"]] if status == "Accepted" else []
        assert rig.csms.actions() == expected

    run_virtual(main())


@pytest.mark.parametrize(
    ("request_", "sampled"),
    [
        ({"requestedMessage": "MeterValues"}, [None]),
        ({"requestedMessage": "MeterValues"} | EVSE_1, [1]),
        ({"requestedMessage": "TransactionEvent"}, [1, 2]),
        ({"requestedMessage": "TransactionEvent", "evse": {"id": 2}}, [2]),
    ],
)
def test_f06_triggered_readings(request_: dict[str, Any], sampled: list[int | None]) -> None:
    async def main() -> None:
        rig = Rig()
        rig.station.running = {1: "tx-1", 2: "tx-2"}
        async with rig.registered():
            assert await rig.csms.ask("TriggerMessage", request_) == {"status": "Accepted"}
            await asyncio.sleep(1)
        assert rig.station.commands == [TakeSample(evse) for evse in sampled]

    run_virtual(main())


# -------------------------------------------------------------------------------------- what is not offered


def test_every_other_action_is_known_and_not_supported() -> None:
    async def main() -> None:
        rig = Rig()
        async with rig.registered():
            for action in sorted(schema.actions(Version.V201) - rig.dialect.supported):
                frame = await rig.csms.call(action, {})
                assert frame[:1] + frame[2:3] == [4, "NotSupported"], action
            frame = await rig.csms.call("MakeCoffee", {})
            assert frame[2] == "NotImplemented"

    run_virtual(main())
