"""L01, L02, F06: firmware updates, what the CSMS hears of them, and what becomes of them over a version switch."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agent.core.facts import FirmwareFact, SecurityFact, UpdateVia
from agent.ipc.updates import FirmwareStatus, UpdateAnswer, UpdateOutcome, UpdateRequest
from agent.sim.virtual_time import run_virtual
from tests.conformance.v201.rig import ACCEPTED, Rig
from tests.conformance.v201.test_version_switch import BothVersions
from tests.support.fake_csms import Received, until
from tests.support.fake_station import T0_MS, session_facts

PLAIN, SIGNED, LOCAL = UpdateVia
NOTIFICATION = "FirmwareStatusNotification"
LOCATION = "https://files.example/fw-2.evb"
PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
FIRMWARE: dict[str, Any] = {"location": LOCATION, "retrieveDateTime": "2026-11-24T08:00:00Z"}
PROOF = {"signingCertificate": PEM, "signature": "c2lnbmF0dXJl"}
OF_PLAIN = UpdateRequest(PLAIN, 7, LOCATION, T0_MS)
OF_SIGNED = UpdateRequest(SIGNED, 7, LOCATION, T0_MS, signing_certificate=PEM, signature="c2lnbmF0dXJl")

ALL = (
    *("DownloadScheduled", "Downloading", "DownloadPaused", "Downloaded", "SignatureVerified"),
    *("InstallScheduled", "Installing", "InstallRebooting", "Installed"),
    *("DownloadFailed", "InvalidSignature", "InstallVerificationFailed", "InstallationFailed"),
)


def update(firmware: dict[str, Any] = FIRMWARE | PROOF, **more: Any) -> dict[str, Any]:
    return {"requestId": 7, "firmware": firmware} | more


def told(rig: Rig) -> list[dict[str, Any]]:
    return [call.payload for call in rig.csms.of(NOTIFICATION)]


def statuses_of(*statuses: str, request_id: int = 7) -> list[dict[str, Any]]:
    return [{"status": status, "requestId": request_id} for status in statuses]


def rows(via: UpdateVia, *statuses: str, request_id: int | None = 7) -> list[FirmwareFact]:
    return [FirmwareFact(status, via, request_id, "2.0.0", "") for status in statuses]


# ------------------------------------------------------------------------------------------ requests


@pytest.mark.parametrize(
    ("request_", "asked"),
    [
        (update(), OF_SIGNED),
        (update(FIRMWARE), OF_PLAIN),
        (update(FIRMWARE | {"signingCertificate": "", "signature": ""}), OF_PLAIN),
        (update(FIRMWARE | {"retrieveDateTime": "2026-11-24T08:00:00"}), OF_PLAIN),  # no zone: UTC
        (
            update(FIRMWARE | PROOF | {"installDateTime": "2026-11-24T10:00:00+01:00"}, retries=3, retryInterval=60),
            UpdateRequest(SIGNED, 7, LOCATION, T0_MS, T0_MS + 3_600_000, 3, 60, PEM, "c2lnbmF0dXJl"),
        ),
        (
            update(FIRMWARE | PROOF | {"signingCertificate": PEM.replace("\n", "\\n")}, requestId=-1),
            UpdateRequest(
                SIGNED,
                -1,
                LOCATION,
                T0_MS,
                signing_certificate=PEM.replace("\n", "\\n"),
                signature="c2lnbmF0dXJl",
            ),
        ),
    ],
)
def test_l01_l02_every_field_reaches_the_station(request_: dict[str, Any], asked: UpdateRequest) -> None:
    async def main() -> None:
        rig = Rig(protocols="HTTPS")
        async with rig.registered():
            assert await rig.csms.ask("UpdateFirmware", request_) == {"status": "Accepted"}
        assert rig.station.update_requests == [asked]

    run_virtual(main())


@pytest.mark.parametrize("missing", ["signingCertificate", "signature"])
@pytest.mark.parametrize("instead", [{}, {"signingCertificate": "", "signature": ""}])
def test_half_a_proof_is_rejected_and_not_taken_for_an_unsigned_request(missing: str, instead: dict[str, str]) -> None:
    async def main() -> None:
        rig = Rig(protocols="HTTPS")
        given = {name: value for name, value in PROOF.items() if name != missing}
        async with rig.registered():
            answer = await rig.csms.ask("UpdateFirmware", update(FIRMWARE | instead | given))
        assert (answer["status"], answer["statusInfo"]["reasonCode"]) == ("Rejected", "MissingParam")
        assert rig.station.update_requests == []

    run_virtual(main())


@pytest.mark.parametrize(
    ("request_", "code", "field"),
    [
        (update(FIRMWARE | {"retrieveDateTime": "now"}), "PropertyConstraintViolation", "firmware.retrieveDateTime"),
        (update(FIRMWARE | {"installDateTime": ""}), "PropertyConstraintViolation", "firmware.installDateTime"),
        (update(retries=-1), "PropertyConstraintViolation", "retries"),
        (update(retryInterval=-1), "PropertyConstraintViolation", "retryInterval"),
        (update(FIRMWARE | {"location": "x" * 513}), "PropertyConstraintViolation", "firmware.location"),
        (update({"location": LOCATION}), "OccurrenceConstraintViolation", "firmware.retrieveDateTime"),
    ],
)
def test_a_request_that_makes_no_sense_names_its_field(request_: dict[str, Any], code: str, field: str) -> None:
    async def main() -> None:
        rig = Rig(protocols="HTTPS")
        async with rig.registered():
            frame = await rig.csms.call("UpdateFirmware", request_)
        assert frame[:1] + frame[2:3] == [4, code]
        assert field in frame[3]
        assert rig.station.update_requests == []

    run_virtual(main())


@pytest.mark.parametrize(
    ("outcome", "reason_code"),
    [
        (UpdateOutcome.ACCEPTED, "NoError"),
        (UpdateOutcome.ACCEPTED_CANCELED, "NoError"),
        (UpdateOutcome.REJECTED, "Unspecified"),
        (UpdateOutcome.INVALID_CERTIFICATE, "InvalidCertificate"),
        (UpdateOutcome.REVOKED_CERTIFICATE, "InvalidCertificate"),
    ],
)
def test_every_outcome_is_answered(outcome: UpdateOutcome, reason_code: str) -> None:
    async def main() -> None:
        rig = Rig(protocols="HTTPS")
        async with rig.registered():
            rig.station.update_answer = UpdateAnswer(outcome)
            assert await rig.csms.ask("UpdateFirmware", update()) == {"status": outcome.value}
            rig.station.update_answer = UpdateAnswer(outcome, "x" * 600)
            assert await rig.csms.ask("UpdateFirmware", update()) == {
                "status": outcome.value,
                "statusInfo": {"reasonCode": reason_code, "additionalInfo": "x" * 512},
            }

    run_virtual(main())


def test_what_this_station_does_not_take_is_not_supported() -> None:
    async def main() -> None:
        rig = Rig(protocols="HTTPS")
        rig.station.update_answer = UpdateAnswer(UpdateOutcome.NOT_SUPPORTED, "signed updates only")
        async with rig.registered():
            frame = await rig.csms.call("UpdateFirmware", update(FIRMWARE))
        assert frame[:1] + frame[2:4] == [4, "NotSupported", "signed updates only"]

    run_virtual(main())


# ---------------------------------------------------------------------------------------- the way it goes

SEQUENCES = [
    "Downloading Downloaded SignatureVerified Installing Installed",
    "DownloadScheduled Downloading DownloadPaused Downloading Downloaded SignatureVerified InstallScheduled Installing"
    " InstallRebooting Installed",
    "Downloading DownloadFailed",
    "Downloading Downloaded InvalidSignature",
    "Downloading Downloaded SignatureVerified Installing InstallVerificationFailed",
    "Downloading Downloaded SignatureVerified Installing InstallRebooting InstallationFailed",
]


@pytest.mark.parametrize("statuses", SEQUENCES)
@pytest.mark.parametrize("via", list(UpdateVia))
def test_every_status_is_told_with_its_id(via: UpdateVia, statuses: str) -> None:
    async def main() -> None:
        rig = Rig(protocols="HTTPS")
        async with rig.registered():
            for fact in rows(via, *statuses.split()):
                await rig.station.append(fact)
                await rig.drained()
        assert told(rig) == ([] if via is LOCAL else statuses_of(*statuses.split()))

    run_virtual(main())


def test_statuses_and_security_events_keep_their_order_and_ids() -> None:
    async def main() -> None:
        rig = Rig(protocols="HTTPS")
        await rig.station.append(
            *rows(SIGNED, "Downloading"),
            *rows(SIGNED, "Downloading", "InvalidSignature", request_id=8),  # it took the place of 7
            SecurityFact("InvalidFirmwareSignature", ""),
            *rows(PLAIN, *ALL, request_id=0),
            SecurityFact("FirmwareUpdated", "2.0.0"),
        )
        async with rig.registered():
            await rig.drained()
        assert told(rig) == [
            *statuses_of("Downloading"),
            *statuses_of("Downloading", "InvalidSignature", request_id=8),
            *statuses_of(*ALL, request_id=0),
        ]
        actions = [call.action for call in rig.csms.of(NOTIFICATION, "SecurityEventNotification")]
        security = "SecurityEventNotification"
        assert actions == [NOTIFICATION] * 3 + [security] + [NOTIFICATION] * len(ALL) + [security]

    run_virtual(main())


def test_what_happened_offline_is_told_in_order_after_the_reconnect() -> None:
    async def main() -> None:
        rig = Rig(protocols="HTTPS")
        async with rig.registered():
            await rig.station.append(*rows(SIGNED, "Downloading"))
            await rig.drained()
        await rig.station.append(*rows(SIGNED, "DownloadPaused", "Downloading", "DownloadFailed"))
        async with rig.online():
            await rig.drained()
        assert told(rig) == statuses_of("Downloading", "DownloadPaused", "Downloading", "DownloadFailed")

    run_virtual(main())


@pytest.mark.parametrize("status", ["Pending", "Rejected"])
def test_installed_waits_for_the_boot_to_be_accepted(status: str) -> None:
    async def main() -> None:
        rig = Rig(protocols="HTTPS")
        async with rig.registered():
            await rig.station.append(*rows(SIGNED, "Installing", "InstallRebooting"))
            await rig.drained()
        before = len(rig.csms.received)
        rig.start_gateway(boot_id="boot-2", boot_cause="FirmwareUpdate", firmware_version="2.0.0")
        await rig.station.append(*session_facts("tx-1"), *rows(SIGNED, "Installed"))
        rig.csms.on["BootNotification"] = [ACCEPTED | {"status": status, "interval": 90}] * 3
        async with rig.online():
            await asyncio.sleep(200)
            assert set(rig.csms.actions()[before:]) == {"BootNotification"}
            await rig.drained()
        assert told(rig) == statuses_of("Installing", "InstallRebooting", "Installed")
        assert rig.csms.received[-1].action == NOTIFICATION
        boot = rig.csms.of("BootNotification")[-1].payload
        assert (boot["reason"], boot["chargingStation"]["firmwareVersion"]) == ("FirmwareUpdate", "2.0.0")

    run_virtual(main())


def test_a_status_that_was_never_taken_is_told_on_the_next_link() -> None:
    async def main() -> None:
        rig = Rig(protocols="HTTPS")
        cuts = ["before"]

        def cut(received: Received) -> str | None:
            return cuts.pop() if received.action == NOTIFICATION and cuts else None

        rig.csms.cut_on = cut
        await rig.station.append(*rows(SIGNED, "Installing", "Installed"))
        async with rig.online():
            await until(lambda: cuts == [])
            await asyncio.sleep(1)
        async with rig.online():
            await rig.drained()
        assert told(rig) == statuses_of("Installing", "Installed")

    run_virtual(main())


def test_a_csms_that_refuses_notifications_holds_nothing_up() -> None:
    async def main() -> None:
        rig = Rig(protocols="HTTPS")
        rig.csms.defaults[NOTIFICATION] = "NotSupported"
        await rig.station.append(*rows(SIGNED, "Downloading", "Downloaded"), *session_facts("tx-1"))
        async with rig.online():
            await rig.drained(within_s=30)
        assert told(rig) == statuses_of("Downloading", "Downloaded")  # each once
        assert rig.events()[-1]["eventType"] == "Ended"

    run_virtual(main())


# ------------------------------------------------------------------------------------------- triggers


@pytest.mark.parametrize(
    ("now", "payload"),
    [
        (FirmwareStatus("Idle", None, SIGNED), {"status": "Idle"}),
        *((FirmwareStatus(status, 7, SIGNED), {"status": status, "requestId": 7}) for status in ALL),
        (FirmwareStatus("Installing", None, PLAIN), {"status": "Installing"}),  # asked for in 1.6
    ],
)
def test_f06_a_trigger_tells_the_status_of_now(now: FirmwareStatus, payload: dict[str, Any]) -> None:
    async def main() -> None:
        rig = Rig(protocols="HTTPS")
        rig.station.firmware = now
        async with rig.registered():
            rig.csms.received.clear()
            answer = await rig.csms.ask("TriggerMessage", {"requestedMessage": NOTIFICATION})
            assert answer == {"status": "Accepted"}
            assert rig.csms.received == []  # the answer goes first
            await asyncio.sleep(1)
        assert told(rig) == [payload]

    run_virtual(main())


def test_where_no_updates_are_configured_none_are_offered() -> None:
    async def main() -> None:
        rig = Rig()
        async with rig.registered():
            frame = await rig.csms.call("UpdateFirmware", update())
            assert frame[:1] + frame[2:3] == [4, "NotSupported"]
            answer = await rig.csms.ask("TriggerMessage", {"requestedMessage": NOTIFICATION})
            assert answer == {"status": "NotImplemented"}
        assert told(rig) == []

    run_virtual(main())


@pytest.mark.parametrize(
    ("firmware_version", "expected"), [("", "0.1.0"), ("2.0.0+img", "2.0.0+img"), ("x" * 60, "x" * 50)]
)
def test_the_boot_names_the_image_that_runs(firmware_version: str, expected: str) -> None:
    async def main() -> None:
        rig = Rig()
        rig.start_gateway(firmware_version=firmware_version)
        async with rig.registered():
            pass
        assert rig.csms.received[0].payload["chargingStation"]["firmwareVersion"] == expected

    run_virtual(main())


# ------------------------------------------------------------------------------------- the version switch

BEGUN, ENDED = ("Downloading", "Downloaded", "Installing", "InstallRebooting"), ("Installed",)
CORE, WHITE_PAPER = NOTIFICATION, "SignedFirmwareStatusNotification"


def told_16(rig: BothVersions) -> list[tuple[str, dict[str, Any]]]:
    return [(call.action, call.payload) for call in rig.csms16.of(CORE, WHITE_PAPER)]


@pytest.mark.parametrize(
    ("via", "request_id", "by_16", "by_201"),
    [
        (SIGNED, 7, WHITE_PAPER, {"status": "Installed", "requestId": 7}),
        (PLAIN, None, CORE, {"status": "Installed"}),  # an id that was never given is not made up
    ],
)
def test_an_update_asked_for_in_1_6_ends_in_2_0_1(
    via: UpdateVia, request_id: int | None, by_16: str, by_201: dict[str, Any]
) -> None:
    async def main() -> None:
        rig = BothVersions()
        await rig.station.append(*rows(via, *BEGUN, request_id=request_id))
        await rig.deliver_16()
        await rig.station.append(*rows(via, *ENDED, request_id=request_id))
        await rig.deliver_201()
        assert {action for action, _ in told_16(rig)} == {by_16}
        assert told(rig) == [by_201]

    run_virtual(main())


@pytest.mark.parametrize(
    ("via", "by_16"),
    [(SIGNED, (WHITE_PAPER, {"status": "Installed", "requestId": 7})), (PLAIN, (CORE, {"status": "Installed"}))],
)
def test_an_update_asked_for_in_2_0_1_ends_in_1_6(via: UpdateVia, by_16: tuple[str, dict[str, Any]]) -> None:
    async def main() -> None:
        rig = BothVersions()
        await rig.station.append(*rows(via, *BEGUN))
        await rig.deliver_201()
        await rig.station.append(*rows(via, *ENDED))
        await rig.deliver_16()
        assert told(rig) == statuses_of(*BEGUN)
        assert told_16(rig) == [by_16]

    run_virtual(main())


def test_the_end_of_an_update_is_told_although_the_last_one_ended_so_in_this_version() -> None:
    async def main() -> None:
        rig = BothVersions()
        await rig.station.append(*rows(PLAIN, "Downloading", "DownloadFailed"))
        await rig.deliver_16()
        await rig.station.append(*rows(PLAIN, "Downloading"))
        await rig.deliver_201()
        await rig.station.append(*rows(PLAIN, "DownloadFailed"))
        await rig.deliver_16()
        assert [payload["status"] for _, payload in told_16(rig)] == ["Downloading", "DownloadFailed", "DownloadFailed"]

    run_virtual(main())
