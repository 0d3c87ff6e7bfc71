"""N01: GetLog and LogStatusNotification (TC_N_25, 26, 34 to 36)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agent.ocpp.log_requests import UNTOLD_MAX, LogKind, LogRequest, UploadStatus
from agent.sim.virtual_time import run_virtual
from tests.conformance.v201.rig import Rig
from tests.support.fake_station import T0_MS
from tests.support.log_uploader import FakeUploader

LOCATION = "https://files.example/in/"
STATUS = "LogStatusNotification"
GET_LOG: dict[str, Any] = {"logType": "DiagnosticsLog", "requestId": 7, "log": {"remoteLocation": LOCATION}}
NAME = "evsed-CP-1-diagnostics-20261124T080000Z.tar.gz"


def told(rig: Rig) -> list[dict[str, Any]]:
    return [call.payload for call in rig.csms.of(STATUS)]


def statuses(*of: str, request_id: int = 7) -> list[dict[str, Any]]:
    return [{"status": status, "requestId": request_id} for status in of]


def play(scene: Any, uploader: FakeUploader | None = None) -> tuple[Rig, FakeUploader]:
    uploader = uploader or FakeUploader()

    async def main() -> Rig:
        rig = Rig(uploads=uploader.uploads())
        await scene(rig)
        return rig

    return run_virtual(main()), uploader


@pytest.mark.parametrize(
    "end", [end for end in UploadStatus if end not in (UploadStatus.UPLOADING, UploadStatus.CANCELED)]
)
def test_tc_n_25_26_a_log_is_uploaded_and_its_steps_are_told(end: UploadStatus) -> None:
    async def scene(rig: Rig) -> None:
        async with rig.online():
            request = GET_LOG | {
                "retries": 2,
                "retryInterval": 30,
                "log": {
                    "remoteLocation": LOCATION,
                    "oldestTimestamp": "2026-11-24T08:00:00Z",
                    "latestTimestamp": "2026-11-24T09:00:00Z",
                },
            }
            assert await rig.csms.ask("GetLog", request) == {"status": "Accepted", "filename": NAME}
            await asyncio.sleep(30)

    rig, uploader = play(scene, FakeUploader(ends=[end]))
    wanted = LogRequest(LogKind.DIAGNOSTICS, 7, LOCATION, T0_MS, T0_MS + 3_600_000, 2, 30)
    assert uploader.brought == [(wanted, NAME)]
    assert told(rig) == statuses("Uploading", end.value)


def test_tc_n_36_a_second_request_cancels_the_first() -> None:
    async def scene(rig: Rig) -> None:
        async with rig.online():
            await rig.csms.ask("GetLog", GET_LOG)
            await asyncio.sleep(1)
            answer = await rig.csms.ask("GetLog", GET_LOG | {"requestId": 8})
            assert answer == {"status": "AcceptedCanceled", "filename": NAME}
            await asyncio.sleep(30)

    rig, uploader = play(scene)
    assert told(rig) == [
        *statuses("Uploading", "AcceptedCanceled"),
        *statuses("Uploading", "Uploaded", request_id=8),
    ]
    assert uploader.canceled == 1 and uploader.at_once_max == 1


def test_a_location_that_nothing_can_be_brought_to_is_rejected_with_the_reason() -> None:
    async def scene(rig: Rig) -> None:
        async with rig.online():
            answer = await rig.csms.ask("GetLog", GET_LOG | {"log": {"remoteLocation": "bad:x"}})
            assert answer == {
                "status": "Rejected",
                "statusInfo": {"reasonCode": "InvalidURL", "additionalInfo": "location: bad is not supported"},
            }

    assert play(scene)[1].brought == []


def test_what_happened_while_the_link_was_away_is_told_when_it_is_back() -> None:
    async def scene(rig: Rig) -> None:
        async with rig.online():
            await rig.csms.ask("GetLog", GET_LOG)
            await asyncio.sleep(1)
            assert len(told(rig)) == 1
        await asyncio.sleep(60)
        async with rig.online():
            await asyncio.sleep(1)

    assert told(play(scene)[0]) == statuses("Uploading", "Uploaded")


def test_what_cannot_be_told_for_long_is_bounded_and_its_end_is_told() -> None:
    async def scene(rig: Rig) -> None:
        rig.csms.on[STATUS] = [None]  # the first is not answered; meanwhile many more come
        async with rig.online(message_timeout_s=20):
            for number in range(20):
                await rig.csms.ask("GetLog", GET_LOG | {"requestId": number})
                await asyncio.sleep(0.5)
            await asyncio.sleep(60)

    rig, _ = play(scene)
    of_last = [each for each in told(rig) if each["requestId"] == 19]
    assert of_last == statuses("Uploading", "Uploaded", request_id=19)
    # The oldest went; what was left came once each, in order.
    assert len(told(rig)[2:]) == UNTOLD_MAX and told(rig)[-2:] == of_last


def test_f06_a_trigger_tells_what_is_under_way() -> None:
    async def scene(rig: Rig) -> None:
        async with rig.online():
            trigger = {"requestedMessage": STATUS}
            assert await rig.csms.ask("TriggerMessage", trigger) == {"status": "Accepted"}
            await asyncio.sleep(1)
            await rig.csms.ask("GetLog", GET_LOG)
            await asyncio.sleep(1)
            await rig.csms.ask("TriggerMessage", trigger)
            await asyncio.sleep(1)

    assert told(play(scene)[0]) == [{"status": "Idle"}, *statuses("Uploading", "Uploading")]


def test_an_upload_outlives_a_boot_of_the_station() -> None:
    async def scene(rig: Rig) -> None:
        async with rig.online():
            await rig.csms.ask("GetLog", GET_LOG)
            await asyncio.sleep(1)
            assert len(told(rig)) == 1
        rig.start_gateway(boot_id="boot-2")  # the station's; the gateway, and with it the upload, lives on
        async with rig.online():
            await asyncio.sleep(30)

    assert told(play(scene)[0]) == statuses("Uploading", "Uploaded")


def test_a_gateway_that_uploads_nowhere_says_so() -> None:
    async def main() -> None:
        rig = Rig()
        async with rig.online():
            assert (await rig.csms.call("GetLog", GET_LOG))[2] == "NotSupported"
            assert await rig.csms.ask("TriggerMessage", {"requestedMessage": STATUS}) == {"status": "NotImplemented"}

    run_virtual(main())
