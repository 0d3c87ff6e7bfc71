"""16-CMD-01 to 09, 16-TX-18, RPC-09: what the CSMS may ask, and what the station makes of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agent.core.commands import ChangeAvailability, Command, RemoteStart, RemoteStop, Reset, TakeSample, Unlock
from agent.core.facts import MeterFact, SampleContext, Token
from agent.core.status import Outcome
from agent.ipc.port import AuthorizeWanted, CommandAnswer, Record, SampleTaken
from agent.sim.virtual_time import run_virtual
from tests.conformance.v16.rig import Rig
from tests.support.fake_csms import until
from tests.support.fake_station import T0_MS, TOKEN, sample, session_facts

OUT = Outcome
AVAIL = "ChangeAvailability"
START = "RemoteStartTransaction"


def test_16_cmd_01_a_station_that_becomes_operative_takes_all_its_connectors_along() -> None:
    """Section 5.2; else one that was taken out of service by itself stays so, and nobody knows why."""

    async def main() -> None:
        rig = Rig()
        async with rig.online():
            await until(lambda: len(rig.csms.of("StatusNotification")) == 3)
            assert await rig.csms.ask(AVAIL, {"connectorId": 0, "type": "Operative"}) == {"status": "Accepted"}
        assert rig.station.commands == [ChangeAvailability(True, evse) for evse in (None, 1, 2)]

    run_virtual(main())


@pytest.mark.parametrize(
    ("action", "request_", "command", "outcome", "status"),
    [
        (AVAIL, {"connectorId": 0, "type": "Inoperative"}, ChangeAvailability(False), OUT.ACCEPTED, "Accepted"),
        (AVAIL, {"connectorId": 2, "type": "Operative"}, ChangeAvailability(True, 2), OUT.SCHEDULED, "Scheduled"),
        (AVAIL, {"connectorId": 9, "type": "Operative"}, None, OUT.ACCEPTED, "Rejected"),
        (START, {"idTag": "A"}, RemoteStart(Token("A")), OUT.ACCEPTED, "Accepted"),
        (START, {"idTag": "A", "connectorId": 1}, RemoteStart(Token("A"), 1), OUT.REJECTED, "Rejected"),
        (START, {"idTag": "A", "connectorId": 3}, None, OUT.ACCEPTED, "Rejected"),
        ("RemoteStopTransaction", {"transactionId": 77}, None, OUT.ACCEPTED, "Rejected"),
        ("Reset", {"type": "Soft"}, Reset(immediate=True), OUT.ACCEPTED, "Accepted"),
        ("Reset", {"type": "Hard"}, Reset(immediate=True, hard=True), OUT.SCHEDULED, "Accepted"),
        ("Reset", {"type": "Hard"}, Reset(immediate=True, hard=True), OUT.REJECTED, "Rejected"),
        ("UnlockConnector", {"connectorId": 1}, Unlock(1, end_transaction=True), OUT.UNLOCKED, "Unlocked"),
        ("UnlockConnector", {"connectorId": 1}, Unlock(1, end_transaction=True), OUT.UNLOCK_FAILED, "UnlockFailed"),
        ("UnlockConnector", {"connectorId": 1}, Unlock(1, end_transaction=True), OUT.NOT_SUPPORTED, "NotSupported"),
        ("UnlockConnector", {"connectorId": 0}, None, OUT.UNLOCKED, "NotSupported"),
        ("ClearCache", {}, None, OUT.ACCEPTED, "Accepted"),
        ("DataTransfer", {"vendorId": "Other", "data": "{}"}, None, OUT.ACCEPTED, "UnknownVendorId"),
        ("DataTransfer", {"vendorId": "Example", "messageId": "x"}, None, OUT.ACCEPTED, "UnknownMessageId"),
    ],
)  # fmt: skip
def test_16_cmd_answers(
    action: str, request_: dict[str, Any], command: Command | None, outcome: Outcome, status: str
) -> None:
    async def main() -> None:
        rig = Rig()
        if command is not None:
            rig.station.outcomes[type(command)] = CommandAnswer(outcome)
        async with rig.online():
            await until(lambda: len(rig.csms.of("StatusNotification")) == 3)
            assert await rig.csms.ask(action, request_) == {"status": status}
        assert rig.station.commands == ([] if command is None else [command])

    run_virtual(main())


def test_16_cmd_06_remote_stop_names_our_transaction() -> None:
    async def main() -> None:
        rig = Rig()
        await rig.station.append(*session_facts("tx-1")[:1], *session_facts("tx-2", evse=2)[:1])
        async with rig.online():
            await rig.drained()
            assert await rig.csms.ask("RemoteStopTransaction", {"transactionId": 101}) == {"status": "Accepted"}
        assert rig.station.commands == [RemoteStop("tx-2")]

    run_virtual(main())


def test_clear_cache_without_cache_is_rejected() -> None:
    async def main() -> None:
        rig = Rig()
        rig.station.cache_enabled = False
        async with rig.online():
            assert await rig.csms.ask("ClearCache", {}) == {"status": "Rejected"}

    run_virtual(main())


@pytest.mark.parametrize(
    ("request_", "status", "sent"),
    [
        ({"requestedMessage": "Heartbeat"}, "Accepted", ["Heartbeat"]),
        ({"requestedMessage": "StatusNotification"}, "Accepted", ["StatusNotification"] * 3),
        ({"requestedMessage": "StatusNotification", "connectorId": 2}, "Accepted", ["StatusNotification"]),
        ({"requestedMessage": "StatusNotification", "connectorId": 3}, "Rejected", []),
        ({"requestedMessage": "MeterValues", "connectorId": 3}, "Rejected", []),
        ({"requestedMessage": "BootNotification"}, "Rejected", []),
        ({"requestedMessage": "FirmwareStatusNotification"}, "NotImplemented", []),
        ({"requestedMessage": "DiagnosticsStatusNotification"}, "NotImplemented", []),
    ],
)
def test_16_cmd_08_trigger_answers_first(request_: dict[str, Any], status: str, sent: list[str]) -> None:
    async def main() -> None:
        rig = Rig()
        async with rig.online():
            await until(lambda: len(rig.csms.of("StatusNotification")) == 3)
            await asyncio.sleep(1)
            before = len(rig.csms.received)
            assert await rig.csms.ask("TriggerMessage", request_) == {"status": status}
            assert len(rig.csms.received) == before  # the answer came before the message
            await asyncio.sleep(2)
            assert [call.action for call in rig.csms.received[before:]] == sent

    run_virtual(main())


def test_16_cmd_08_triggered_meter_values_outside_a_transaction() -> None:
    async def main() -> None:
        rig = Rig()
        async with rig.online():
            await until(lambda: len(rig.csms.of("StatusNotification")) == 3)
            trigger = {"requestedMessage": "MeterValues", "connectorId": 1}
            assert await rig.csms.ask("TriggerMessage", trigger) == {"status": "Accepted"}
            await until(lambda: rig.station.commands == [TakeSample(1)])
            reading = MeterFact(1, sample(SampleContext.TRIGGER, 5_000, 7_999_999))
            await rig.station.tell(SampleTaken(Record(0, "meter", reading, T0_MS, T0_MS, True)))
            await until(lambda: len(rig.csms.of("MeterValues")) == 1)
        payload = rig.csms.of("MeterValues")[0].payload
        assert "transactionId" not in payload
        values = payload["meterValue"][0]["sampledValue"]
        assert {value["context"] for value in values} == {"Trigger"}
        assert values[0]["value"] == "7999"
        assert len(values) == 4

    run_virtual(main())


@pytest.mark.parametrize(
    ("action", "payload", "code"),
    [
        ("MakeCoffee", {}, "NotImplemented"),
        ("ReserveNow", {"connectorId": 1, "expiryDate": "x", "idTag": "A", "reservationId": 1}, "NotSupported"),
        ("GetDiagnostics", {"location": "ftp://x"}, "NotSupported"),
        ("CancelReservation", {"reservationId": 1}, "NotSupported"),
        ("GetLocalListVersion", {}, "NotSupported"),
        ("SendLocalList", {"listVersion": 1, "updateType": "Full"}, "NotSupported"),
        ("Reset", {"type": "Gentle"}, "PropertyConstraintViolation"),
        ("Reset", {}, "ProtocolError"),
        ("Reset", {"type": "Soft", "why": "x"}, "FormationViolation"),
    ],
)
def test_rpc_09_refusals(action: str, payload: dict[str, Any], code: str) -> None:
    async def main() -> None:
        rig = Rig()
        async with rig.online():
            frame = await rig.csms.call(action, payload)
        assert frame[:1] + frame[2:3] == [4, code]

    run_virtual(main())


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ({"idTagInfo": {"status": "Accepted", "parentIdTag": "G"}}, "Accepted"),
        ({"idTagInfo": {"status": "ConcurrentTx"}}, "ConcurrentTx"),
        ({"idTagInfo": {"status": "Accepted", "expiryDate": "soon"}}, "Accepted"),
        ("InternalError", ""),
        (None, ""),
        ({"idTagInfo": {"status": "Maybe"}}, "Invalid"),
        ({"idTagInfo": {"parentIdTag": "G"}}, "Invalid"),
    ],
)
def test_authorize_always_ends_in_a_verdict(answer: Any, status: str) -> None:
    async def main() -> None:
        rig = Rig()
        rig.csms.on["Authorize"] = [answer]
        async with rig.online():
            await until(lambda: len(rig.csms.of("StatusNotification")) == 3)
            await rig.station.tell(AuthorizeWanted(4, TOKEN, 1))
            await until(lambda: len(rig.station.verdicts) == 1)
        [(token, verdict, request_id, tx_id)] = rig.station.verdicts
        assert (token, verdict.status, request_id, tx_id) == (TOKEN, status, 4, None)

    run_virtual(main())


@pytest.mark.parametrize("online", [True, False])
def test_authorize_without_a_link_or_with_a_lost_one_ends_in_a_verdict(online: bool) -> None:
    async def main() -> None:
        rig = Rig()
        rig.csms.on["Authorize"] = [None]
        if online:
            async with rig.online():
                await until(lambda: len(rig.csms.of("StatusNotification")) == 3)
                await rig.station.tell(AuthorizeWanted(4, TOKEN, 1))
                await until(lambda: len(rig.csms.of("Authorize")) == 1)
        else:
            await rig.station.tell(AuthorizeWanted(4, TOKEN, 1))
        assert [verdict.status for _, verdict, _, _ in rig.station.verdicts] == [""]

    run_virtual(main())


def test_part_8_6_a_flood_of_requests_leaves_the_conversation_alive() -> None:
    async def main() -> None:
        rig = Rig()
        async with rig.online():
            await until(lambda: len(rig.csms.of("StatusNotification")) == 3)
            for _ in range(200):
                await rig.csms.ask("TriggerMessage", {"requestedMessage": "StatusNotification"})
            await rig.station.append(*session_facts("tx-1"))
            await rig.drained()
            for message in (b"{}", b"[]", b'[2,"a"]', b"[" * 100_000, b'[3,"nobody",{}]', b"\xff\xfe"):
                rig.csms.inject(message)
            assert (await rig.csms.ask("GetConfiguration", {}))["configurationKey"]
        assert len(rig.csms.of("StopTransaction")) == 1

    run_virtual(main())
