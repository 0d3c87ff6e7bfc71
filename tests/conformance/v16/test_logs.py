"""16-CMD-10, 16-SEC-11, 16-SEC-13: GetDiagnostics, GetLog, and what is told of uploads."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agent.ocpp.log_requests import LogKind, LogRequest, UploadStatus
from agent.sim.virtual_time import run_virtual
from tests.conformance.v16.rig import Rig
from tests.support.fake_station import T0_MS
from tests.support.log_uploader import FakeUploader

LOCATION = "ftp://bob:secret@files.example/in/"
CORE, WHITE_PAPER = "DiagnosticsStatusNotification", "LogStatusNotification"
GET_LOG: dict[str, Any] = {"logType": "DiagnosticsLog", "requestId": 7, "log": {"remoteLocation": LOCATION}}
DIAGNOSTICS_NAME = "evsed-CP-1-diagnostics-20261124T080000Z.tar.gz"
SECURITY_NAME = "evsed-CP-1-security-20261124T080000Z.log"
OPEN_END_MS = LogRequest(LogKind.SECURITY, 1, "").latest_wall_ms


def told(rig: Rig) -> list[tuple[str, dict[str, Any]]]:
    return [(call.action, call.payload) for call in rig.csms.of(CORE, WHITE_PAPER)]


def core(*statuses: str) -> list[tuple[str, dict[str, Any]]]:
    return [(CORE, {"status": status}) for status in statuses]


def white_paper(*statuses: str, request_id: int = 7) -> list[tuple[str, dict[str, Any]]]:
    return [(WHITE_PAPER, {"status": status, "requestId": request_id}) for status in statuses]


def play(scene: Any, uploader: FakeUploader | None = None) -> tuple[Rig, FakeUploader]:
    uploader = uploader or FakeUploader()

    async def main() -> Rig:
        rig = Rig(uploads=uploader.uploads())
        await scene(rig)
        return rig

    return run_virtual(main()), uploader


# ------------------------------------------------------------------------------------------ requests


@pytest.mark.parametrize(
    ("action", "request_", "answer", "asked"),
    [
        (
            "GetDiagnostics",
            {"location": LOCATION},
            {"fileName": DIAGNOSTICS_NAME},
            LogRequest(LogKind.DIAGNOSTICS, None, LOCATION),
        ),
        (
            "GetDiagnostics",
            {
                "location": LOCATION,
                "retries": 5,
                "retryInterval": 90,
                "startTime": "2026-11-24T08:00:00Z",
                "stopTime": "2026-11-24T09:00:00",
            },
            {"fileName": DIAGNOSTICS_NAME},
            LogRequest(LogKind.DIAGNOSTICS, None, LOCATION, T0_MS, T0_MS + 3_600_000, 5, 90),
        ),
        (
            "GetLog",
            GET_LOG,
            {"status": "Accepted", "filename": DIAGNOSTICS_NAME},
            LogRequest(LogKind.DIAGNOSTICS, 7, LOCATION),
        ),
        (
            "GetLog",
            {
                "logType": "SecurityLog",
                "requestId": 1_795_507_200_000,
                "retries": 0,
                "retryInterval": 2_000_000,
                "log": {"remoteLocation": LOCATION, "oldestTimestamp": "2026-11-24T09:00:00+01:00"},
            },
            {"status": "Accepted", "filename": SECURITY_NAME},
            LogRequest(LogKind.SECURITY, 1_795_507_200_000, LOCATION, T0_MS, OPEN_END_MS, 1, 86_400),
        ),
    ],
)
def test_16_cmd_10_16_sec_11_every_field_reaches_the_uploader(
    action: str, request_: dict[str, Any], answer: dict[str, Any], asked: LogRequest
) -> None:
    async def scene(rig: Rig) -> None:
        async with rig.online():
            assert await rig.csms.ask(action, request_) == answer
            await asyncio.sleep(1)

    _, uploader = play(scene)
    assert uploader.brought == [
        (asked, next(iter(answer[name] for name in ("fileName", "filename") if name in answer)))
    ]
    assert "secret" not in repr(asked)


@pytest.mark.parametrize(
    ("action", "request_", "field"),
    [
        ("GetDiagnostics", {"location": "bad:secret"}, "location: bad is not supported"),
        ("GetDiagnostics", {"location": LOCATION, "startTime": "now"}, "startTime"),
        ("GetDiagnostics", {"location": LOCATION, "retries": -1}, "retries"),
        (
            "GetDiagnostics",
            {"location": LOCATION, "startTime": "2026-11-24T09:00:00Z", "stopTime": "2026-11-24T08:00:00Z"},
            "stopTime: before startTime",
        ),
        (
            "GetLog",
            GET_LOG | {"log": {"remoteLocation": LOCATION, "latestTimestamp": "soon"}},
            "log.latestTimestamp",
        ),
        ("GetLog", GET_LOG | {"log": {"remoteLocation": "x" * 513}}, "log.remoteLocation"),
        ("GetLog", GET_LOG | {"logType": "OtherLog"}, "logType"),
    ],
)
def test_requests_that_make_no_sense_start_nothing(action: str, request_: dict[str, Any], field: str) -> None:
    async def scene(rig: Rig) -> None:
        async with rig.online():
            frame = await rig.csms.call(action, request_)
            assert frame[0] == 4 and field in frame[3], frame
            await asyncio.sleep(60)

    rig, uploader = play(scene)
    assert uploader.brought == [] and told(rig) == []


def test_get_log_to_where_nothing_can_be_brought_is_rejected() -> None:
    async def scene(rig: Rig) -> None:
        async with rig.online():
            request = GET_LOG | {"log": {"remoteLocation": "bad:x"}}
            assert await rig.csms.ask("GetLog", request) == {"status": "Rejected"}

    assert play(scene)[1].brought == []


def test_a_gateway_that_uploads_nowhere_says_so() -> None:
    async def main() -> None:
        rig = Rig()
        async with rig.online():
            for action, request in (("GetLog", GET_LOG), ("GetDiagnostics", {"location": LOCATION})):
                assert (await rig.csms.call(action, request))[2] == "NotSupported"
            for trigger, name in (("TriggerMessage", CORE), ("ExtendedTriggerMessage", WHITE_PAPER)):
                assert await rig.csms.ask(trigger, {"requestedMessage": name}) == {"status": "NotImplemented"}

    run_virtual(main())


# ---------------------------------------------------------------------------------------- how it ends


ENDS = [
    (UploadStatus.UPLOADED, "Uploaded", "Uploaded"),
    (UploadStatus.FAILED, "UploadFailed", "UploadFailure"),
    (UploadStatus.BAD_MESSAGE, "UploadFailed", "BadMessage"),
    (UploadStatus.PERMISSION_DENIED, "UploadFailed", "PermissionDenied"),
    (UploadStatus.NOT_SUPPORTED, "UploadFailed", "NotSupportedOperation"),
    (RuntimeError("a mistake of ours"), "UploadFailed", "UploadFailure"),
]


@pytest.mark.parametrize(("end", "in_core", "in_white_paper"), ENDS)
def test_every_end_is_told_in_the_words_of_the_request(
    end: UploadStatus | Exception, in_core: str, in_white_paper: str
) -> None:
    async def scene(rig: Rig) -> None:
        async with rig.online():
            await rig.csms.ask("GetDiagnostics", {"location": LOCATION})
            await asyncio.sleep(20)
            await rig.csms.ask("GetLog", GET_LOG)
            await asyncio.sleep(20)

    rig, _ = play(scene, FakeUploader(ends=[end, end]))
    assert told(rig) == core("Uploading", in_core) + white_paper("Uploading", in_white_paper)


def test_16_sec_11_a_second_request_takes_the_place_of_the_first() -> None:
    async def scene(rig: Rig) -> None:
        async with rig.online():
            await rig.csms.ask("GetLog", GET_LOG)
            await asyncio.sleep(1)
            answer = await rig.csms.ask("GetLog", GET_LOG | {"requestId": 8, "logType": "SecurityLog"})
            assert answer == {"status": "AcceptedCanceled", "filename": SECURITY_NAME}
            await asyncio.sleep(30)

    rig, uploader = play(scene)
    assert told(rig) == white_paper("Uploading") + white_paper("Uploading", "Uploaded", request_id=8)
    assert uploader.canceled == 1


def test_a_flood_of_requests_is_one_upload_at_a_time() -> None:
    async def scene(rig: Rig) -> None:
        async with rig.online():
            for number in range(30):
                await rig.csms.ask("GetLog", GET_LOG | {"requestId": number})
                await asyncio.sleep(0.1)
            await asyncio.sleep(60)

    rig, uploader = play(scene, FakeUploader(lingers_s=5))
    assert uploader.at_once_max == 1 and len(uploader.brought) < 10
    assert told(rig)[-2:] == white_paper("Uploading", "Uploaded", request_id=29)


def test_get_diagnostics_gives_place_too() -> None:
    async def scene(rig: Rig) -> None:
        async with rig.online():
            await rig.csms.ask("GetDiagnostics", {"location": LOCATION})
            await asyncio.sleep(1)
            assert (await rig.csms.ask("GetLog", GET_LOG))["status"] == "AcceptedCanceled"
            await asyncio.sleep(30)

    rig, _ = play(scene)
    assert told(rig) == core("Uploading") + white_paper("Uploading", "Uploaded")


# ----------------------------------------------------------------------------------- the link is away


def test_what_happened_while_the_link_was_away_is_told_when_it_is_back() -> None:
    async def scene(rig: Rig) -> None:
        async with rig.online():
            await rig.csms.ask("GetLog", GET_LOG)
            await asyncio.sleep(1)
            assert len(told(rig)) == 1
        await asyncio.sleep(60)
        async with rig.online():
            await asyncio.sleep(1)
        async with rig.online():
            await asyncio.sleep(1)

    rig, _ = play(scene)
    assert told(rig) == white_paper("Uploading", "Uploaded")


def test_a_status_that_was_not_answered_is_told_again() -> None:
    async def scene(rig: Rig) -> None:
        rig.csms.cut_on = lambda call: "before" if call.action == WHITE_PAPER else None
        async with rig.online():
            await rig.csms.ask("GetLog", GET_LOG)
            await asyncio.sleep(1)
        rig.csms.cut_on = lambda _call: None
        async with rig.online():
            await asyncio.sleep(20)

    rig, _ = play(scene)
    assert told(rig)[-2:] == white_paper("Uploading", "Uploaded")


def test_a_csms_that_refuses_or_ignores_a_status_does_not_hold_up_the_next() -> None:
    async def scene(rig: Rig) -> None:
        rig.csms.on[WHITE_PAPER] = [None, None, None, "InternalError"]
        async with rig.online(message_timeout_s=5):
            await rig.csms.ask("GetLog", GET_LOG)
            await asyncio.sleep(60)
            await rig.csms.ask("GetLog", GET_LOG | {"requestId": 8})
            await asyncio.sleep(60)

    rig, _ = play(scene)
    assert told(rig) == white_paper(*["Uploading"] * 3, "Uploaded") + white_paper("Uploading", "Uploaded", request_id=8)


def test_a_new_gateway_knows_of_no_upload() -> None:
    async def main() -> None:
        rig = Rig(uploads=FakeUploader(takes_s=1_000).uploads())
        async with rig.online():
            await rig.csms.ask("GetLog", GET_LOG)
            await asyncio.sleep(1)
        rig._uploads = FakeUploader().uploads()
        rig.start_gateway()
        async with rig.online():
            await rig.csms.ask("ExtendedTriggerMessage", {"requestedMessage": WHITE_PAPER})
            await asyncio.sleep(10)
        assert told(rig) == [*white_paper("Uploading"), (WHITE_PAPER, {"status": "Idle"})]

    run_virtual(main())


# ------------------------------------------------------------------------------------------- triggers


@pytest.mark.parametrize(
    ("action", "request_", "told_first", "in_white_paper"),
    [
        ("GetLog", GET_LOG, white_paper("Uploading"), {"status": "Uploading", "requestId": 7}),
        ("GetDiagnostics", {"location": LOCATION}, core("Uploading"), {"status": "Uploading"}),
    ],
)
def test_16_cmd_08_16_sec_13_triggers_tell_what_is_under_way(
    action: str, request_: dict[str, Any], told_first: Any, in_white_paper: dict[str, Any]
) -> None:
    async def scene(rig: Rig) -> None:
        async with rig.online():
            await rig.csms.ask(action, request_)
            for trigger, name in (("TriggerMessage", CORE), ("ExtendedTriggerMessage", WHITE_PAPER)):
                await asyncio.sleep(1)
                before = len(rig.csms.received)
                assert await rig.csms.ask(trigger, {"requestedMessage": name}) == {"status": "Accepted"}
                assert len(rig.csms.received) == before  # the answer goes first
            await asyncio.sleep(1)

    rig, _ = play(scene)
    assert told(rig) == told_first + core("Uploading") + [(WHITE_PAPER, in_white_paper)]


def test_triggers_say_idle_where_nothing_is_under_way() -> None:
    async def scene(rig: Rig) -> None:
        async with rig.online():
            await rig.csms.ask("TriggerMessage", {"requestedMessage": CORE})
            await rig.csms.ask("ExtendedTriggerMessage", {"requestedMessage": WHITE_PAPER})
            await asyncio.sleep(1)

    assert told(play(scene)[0]) == [(CORE, {"status": "Idle"}), (WHITE_PAPER, {"status": "Idle"})]


def test_file_transfer_protocols_are_told_without_any_update() -> None:
    async def main() -> None:
        rig = Rig(protocols="HTTPS,FTPS")
        rig._takes_updates = False
        rig.start_gateway()
        async with rig.online():
            names = ["SupportedFeatureProfiles", "SupportedFileTransferProtocols"]
            answer = await rig.csms.ask("GetConfiguration", {"key": names})
        values = {entry["key"]: entry["value"] for entry in answer["configurationKey"]}
        assert values == {
            "SupportedFeatureProfiles": "Core,SmartCharging,RemoteTrigger",
            "SupportedFileTransferProtocols": "HTTPS,FTPS",
        }

    run_virtual(main())
