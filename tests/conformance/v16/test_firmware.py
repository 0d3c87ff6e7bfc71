"""16-CMD-11, 16-SEC-12: updates by UpdateFirmware and by SignedUpdateFirmware."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agent.core.facts import FirmwareFact, SecurityFact, UpdateVia
from agent.ipc.updates import UpdateAnswer, UpdateOutcome, UpdateRequest
from agent.ocpp import schema
from agent.ocpp.version import Version
from agent.sim.virtual_time import run_virtual
from tests.conformance.v16.rig import ACCEPTED, Rig
from tests.support.fake_csms import Received, until
from tests.support.fake_station import T0_MS, session_facts

PLAIN, SIGNED, LOCAL = UpdateVia
CORE, WHITE_PAPER = "FirmwareStatusNotification", "SignedFirmwareStatusNotification"
PROTOCOLS = "HTTPS,HTTP"
LOCATION = "https://files.example/fw-2.evb"
PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
UPDATE: dict[str, Any] = {"location": LOCATION, "retrieveDate": "2026-11-24T08:00:00Z"}
FIRMWARE: dict[str, Any] = {
    "location": LOCATION,
    "retrieveDateTime": "2026-11-24T08:00:00Z",
    "signingCertificate": PEM,
    "signature": "c2lnbmF0dXJl",
}
OF_PLAIN = UpdateRequest(PLAIN, None, LOCATION, T0_MS)
OF_SIGNED = UpdateRequest(SIGNED, 7, LOCATION, T0_MS, signing_certificate=PEM, signature="c2lnbmF0dXJl")

# What the station says, and what is left of it in the words of TriggerMessage.
IN_CORE = {
    "DownloadScheduled": "Idle",
    "Downloading": "Downloading",
    "DownloadPaused": "Downloading",
    "Downloaded": "Downloaded",
    "SignatureVerified": "Downloaded",
    "InstallScheduled": "Downloaded",
    "Installing": "Installing",
    "InstallRebooting": "Installing",
    "DownloadFailed": "DownloadFailed",
    "InvalidSignature": "InstallationFailed",
    "InstallVerificationFailed": "InstallationFailed",
    "InstallationFailed": "InstallationFailed",
}


def signed(firmware: dict[str, Any] = FIRMWARE, **more: Any) -> dict[str, Any]:
    return {"requestId": 7, "firmware": firmware} | more


def told(rig: Rig) -> list[tuple[str, dict[str, Any]]]:
    return [(call.action, call.payload) for call in rig.csms.of(CORE, WHITE_PAPER)]


def core(*statuses: str) -> list[tuple[str, dict[str, Any]]]:
    return [(CORE, {"status": status}) for status in statuses]


def white_paper(*statuses: str, request_id: int = 7) -> list[tuple[str, dict[str, Any]]]:
    return [(WHITE_PAPER, {"status": status, "requestId": request_id}) for status in statuses]


def rows(via: UpdateVia, *statuses: str) -> list[FirmwareFact]:
    return [FirmwareFact(status, via, 7 if via is SIGNED else None, "2.0.0", "") for status in statuses]


# ------------------------------------------------------------------------------------------ requests


@pytest.mark.parametrize(
    ("action", "request_", "asked"),
    [
        ("UpdateFirmware", UPDATE, OF_PLAIN),
        (
            "UpdateFirmware",
            UPDATE | {"retries": 0, "retryInterval": 90},
            UpdateRequest(PLAIN, None, LOCATION, T0_MS, retries=0, retry_interval_s=90),
        ),
        ("UpdateFirmware", UPDATE | {"retrieveDate": "2026-11-24T08:00:00"}, OF_PLAIN),  # no zone: UTC
        ("UpdateFirmware", UPDATE | {"retrieveDate": "2026-11-24T09:00:00+01:00"}, OF_PLAIN),
        ("SignedUpdateFirmware", signed(), OF_SIGNED),
        (
            "SignedUpdateFirmware",
            signed(FIRMWARE | {"installDateTime": "2026-11-24T09:00:00"}, retries=3, retryInterval=60),
            UpdateRequest(SIGNED, 7, LOCATION, T0_MS, T0_MS + 3_600_000, 3, 60, PEM, "c2lnbmF0dXJl"),
        ),
        # As some CSMS write it: the judge of certificates makes of it what it can.
        (
            "SignedUpdateFirmware",
            signed(FIRMWARE | {"signingCertificate": PEM.replace("\n", "\\n")}, requestId=1_795_507_200_000),
            UpdateRequest(
                SIGNED,
                1_795_507_200_000,
                LOCATION,
                T0_MS,
                signing_certificate=PEM.replace("\n", "\\n"),
                signature="c2lnbmF0dXJl",
            ),
        ),
    ],
)
def test_every_field_reaches_the_station(action: str, request_: dict[str, Any], asked: UpdateRequest) -> None:
    async def main() -> None:
        rig = Rig(protocols=PROTOCOLS)
        async with rig.online():
            await rig.csms.ask(action, request_)
        assert rig.station.update_requests == [asked]

    run_virtual(main())


@pytest.mark.parametrize(
    ("action", "request_", "code", "field"),
    [
        ("UpdateFirmware", UPDATE | {"retrieveDate": "now"}, "PropertyConstraintViolation", "retrieveDate"),
        ("UpdateFirmware", UPDATE | {"retrieveDate": "2026-02-30T08:00:00Z"}, "PropertyConstraintViolation", "Date"),
        ("UpdateFirmware", UPDATE | {"retries": -1}, "PropertyConstraintViolation", "retries"),
        ("UpdateFirmware", UPDATE | {"retryInterval": 2**31}, "PropertyConstraintViolation", "retryInterval"),
        ("UpdateFirmware", UPDATE | {"location": "x" * 2_001}, "PropertyConstraintViolation", "location"),
        ("UpdateFirmware", {"location": LOCATION}, "ProtocolError", "retrieveDate"),
        ("SignedUpdateFirmware", signed(retries="3"), "TypeConstraintViolation", "retries"),
        (
            "SignedUpdateFirmware",
            signed(FIRMWARE | {"retrieveDateTime": ""}),
            "PropertyConstraintViolation",
            "firmware.retrieveDateTime",
        ),
        (
            "SignedUpdateFirmware",
            signed(FIRMWARE | {"installDateTime": "soon"}),
            "PropertyConstraintViolation",
            "firmware.installDateTime",
        ),
        (
            "SignedUpdateFirmware",
            signed({"location": LOCATION, "retrieveDateTime": "2026-11-24T08:00:00Z"}),
            "ProtocolError",
            "firmware.signingCertificate",
        ),
        (
            "SignedUpdateFirmware",
            signed(FIRMWARE | {"signingCertificate": "x" * 5_501}),
            "PropertyConstraintViolation",
            "firmware.signingCertificate",
        ),
    ],
)
def test_a_request_that_makes_no_sense_names_its_field(
    action: str, request_: dict[str, Any], code: str, field: str
) -> None:
    async def main() -> None:
        rig = Rig(protocols=PROTOCOLS)
        async with rig.online():
            frame = await rig.csms.call(action, request_)
        assert frame[:1] + frame[2:3] == [4, code]
        assert field in frame[3]
        assert rig.station.update_requests == []

    run_virtual(main())


@pytest.mark.parametrize(
    ("outcome", "plain", "signed_"),
    [
        (UpdateOutcome.ACCEPTED, {}, {"status": "Accepted"}),
        (UpdateOutcome.ACCEPTED_CANCELED, {}, {"status": "AcceptedCanceled"}),
        (UpdateOutcome.REJECTED, "GenericError", {"status": "Rejected"}),
        (UpdateOutcome.INVALID_CERTIFICATE, "GenericError", {"status": "InvalidCertificate"}),
        (UpdateOutcome.REVOKED_CERTIFICATE, "GenericError", {"status": "RevokedCertificate"}),
        (UpdateOutcome.NOT_SUPPORTED, "NotSupported", "NotSupported"),
    ],
)
def test_every_outcome_is_answered(outcome: UpdateOutcome, plain: object, signed_: object) -> None:
    async def main() -> None:
        rig = Rig(protocols=PROTOCOLS)
        rig.station.update_answer = UpdateAnswer(outcome, "an update is being installed")
        async with rig.online():
            frames = [
                await rig.csms.call("UpdateFirmware", UPDATE),
                await rig.csms.call("SignedUpdateFirmware", signed()),
            ]
        for frame, expected in zip(frames, (plain, signed_), strict=True):
            assert frame[2] == expected
            if frame[0] == 4:  # the only place for the reason
                assert frame[3] == "an update is being installed"

    run_virtual(main())


# ---------------------------------------------------------------------------------------- the way it goes

SEQUENCES = [
    # statuses of the station, what core 1.6 hears of them
    ("Downloading Downloaded Installing Installed", "Downloading Downloaded Installing Installed"),
    (
        "DownloadScheduled Downloading DownloadPaused Downloading DownloadPaused Downloading Downloaded"
        " SignatureVerified InstallScheduled Installing InstallRebooting Installed",
        "Downloading Downloaded Installing Installed",
    ),
    ("Downloading DownloadFailed", "Downloading DownloadFailed"),
    ("Downloading DownloadPaused DownloadFailed", "Downloading DownloadFailed"),
    ("Downloading InvalidSignature", "Downloading InstallationFailed"),
    ("Downloading Downloaded InvalidSignature", "Downloading Downloaded InstallationFailed"),
    (
        "Downloading Downloaded SignatureVerified Installing InstallVerificationFailed",
        "Downloading Downloaded Installing InstallationFailed",
    ),
    (
        "Downloading Downloaded Installing InstallRebooting InstallationFailed",
        "Downloading Downloaded Installing InstallationFailed",
    ),
    # The next request, after whatever end: nothing of it is taken for a repetition.
    ("Downloading DownloadFailed Downloading DownloadFailed", "Downloading DownloadFailed Downloading DownloadFailed"),
    ("InstallationFailed InvalidSignature", "InstallationFailed InstallationFailed"),
    # One that was replaced while it was downloaded shows as one.
    ("Downloading DownloadScheduled Downloading Downloaded", "Downloading Downloaded"),
]


@pytest.mark.parametrize(("statuses", "heard"), SEQUENCES)
@pytest.mark.parametrize("via", list(UpdateVia))
def test_what_the_csms_hears_of_an_update(via: UpdateVia, statuses: str, heard: str) -> None:
    async def main() -> None:
        rig = Rig(protocols=PROTOCOLS)
        async with rig.online():
            for fact in rows(via, *statuses.split()):
                await rig.station.append(fact)
                await rig.drained()
        expected = {PLAIN: core(*heard.split()), SIGNED: white_paper(*statuses.split()), LOCAL: []}
        assert told(rig) == expected[via]

    run_virtual(main())


def test_every_status_has_a_legal_notification_either_way() -> None:
    statuses = [*IN_CORE, "Installed"]

    async def main() -> None:
        rig = Rig(protocols=PROTOCOLS)  # whose session checks every frame of ours by its schema
        async with rig.online():
            await rig.station.append(*rows(PLAIN, *statuses), *rows(SIGNED, *statuses))
            await rig.drained()
        assert rig.dialect.delivery.counters.dropped == 0
        assert [payload["status"] for action, payload in told(rig) if action == WHITE_PAPER] == statuses

    run_virtual(main())


@pytest.mark.parametrize(
    ("action", "answer"),
    [
        ("SignedUpdateFirmware", {"status": "RevokedCertificate"}),
        (WHITE_PAPER, {}),
        ("ExtendedTriggerMessage", {"status": "NotImplemented"}),
    ],
)
def test_the_messages_of_the_white_paper_are_checked_in_both_directions(action: str, answer: dict[str, Any]) -> None:
    assert schema.check_response(Version.V16, action, answer) == ()
    with pytest.raises(schema.SchemaViolation):
        schema.check_request(Version.V16, action, {"nonsense": 1})
    if answer:
        with pytest.raises(schema.SchemaViolation):
            schema.check_response(Version.V16, action, {"status": "Perhaps"})


@pytest.mark.parametrize("via", [PLAIN, SIGNED])
def test_what_happened_offline_is_told_in_order_after_the_reconnect(via: UpdateVia) -> None:
    statuses = ("Downloading", "Downloaded", "Installing", "Installed")

    async def main() -> None:
        rig = Rig(protocols=PROTOCOLS)
        async with rig.online():
            await rig.station.append(*rows(via, *statuses[:1]))
            await rig.drained()
        await rig.station.append(*rows(via, *statuses[1:]), SecurityFact("FirmwareUpdated", "2.0.0"))
        await asyncio.sleep(60)
        assert len(told(rig)) == 1
        async with rig.online():
            await rig.drained()
        assert told(rig) == (core(*statuses) if via is PLAIN else white_paper(*statuses))
        assert rig.csms.actions()[-1] == "SecurityEventNotification"

    run_virtual(main())


@pytest.mark.parametrize("status", ["Pending", "Rejected"])
def test_installed_waits_for_the_boot_to_be_accepted(status: str) -> None:
    async def main() -> None:
        rig = Rig(protocols=PROTOCOLS)
        async with rig.online():
            await rig.station.append(*rows(SIGNED, "Installing", "InstallRebooting"))
            await rig.drained()
        before = len(rig.csms.received)
        rig.start_gateway(boot_id="boot-2", firmware_version="2.0.0")
        await rig.station.append(*session_facts("tx-1"), *rows(SIGNED, "Installed"))
        rig.csms.on["BootNotification"] = [ACCEPTED | {"status": status, "interval": 90}] * 3
        async with rig.online():
            await asyncio.sleep(200)
            assert set(rig.csms.actions()[before:]) == {"BootNotification"}
            await rig.drained()
        assert told(rig) == white_paper("Installing", "InstallRebooting", "Installed")
        assert rig.csms.received[-1].action == WHITE_PAPER
        assert {call.payload["firmwareVersion"] for call in rig.csms.of("BootNotification")[1:]} == {"2.0.0"}

    run_virtual(main())


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_status_whose_answer_was_lost_is_told_on_the_next_link(moment: str) -> None:
    async def main() -> None:
        rig = Rig(protocols=PROTOCOLS)
        cuts = [moment]

        def cut(received: Received) -> str | None:
            return cuts.pop() if received.action == CORE and cuts else None

        rig.csms.cut_on = cut
        await rig.station.append(*rows(PLAIN, "Downloading", "DownloadPaused", "Downloading", "Downloaded"))
        async with rig.online():
            await until(lambda: cuts == [])
            await asyncio.sleep(1)
        async with rig.online():
            await rig.drained()
        # Taken before the link broke, it comes again under its old id, so that the CSMS can tell.
        calls = rig.csms.of(CORE)
        assert len({call.message_id for call in calls}) == 2
        expected = ("Downloading", "Downloaded") if moment == "before" else ("Downloading", "Downloading", "Downloaded")
        assert told(rig) == core(*expected)

    run_virtual(main())


def test_a_csms_that_does_not_know_the_notification_holds_nothing_up() -> None:
    async def main() -> None:
        rig = Rig(protocols=PROTOCOLS)
        rig.csms.defaults[WHITE_PAPER] = "NotImplemented"
        await rig.station.append(*rows(SIGNED, "Downloading", "Downloaded"), *session_facts("tx-1"))
        async with rig.online():
            await rig.drained(within_s=30)
        assert told(rig) == white_paper("Downloading", "Downloaded")  # each once
        assert len(rig.csms.of("StopTransaction")) == 1

    run_virtual(main())


def test_a_refused_status_counts_as_told_for_what_comes_after_it() -> None:
    async def main() -> None:
        rig = Rig(protocols=PROTOCOLS)
        rig.csms.on[CORE] = [{}, "InternalError", {}]
        async with rig.online():
            await rig.station.append(*rows(PLAIN, "Downloading", "DownloadFailed", "Downloading"))
            await rig.drained()
        assert told(rig) == core("Downloading", "DownloadFailed", "Downloading")

    run_virtual(main())


def test_after_silence_it_is_told_again() -> None:
    async def main() -> None:
        rig = Rig(protocols=PROTOCOLS)
        rig.csms.on[WHITE_PAPER] = [None]
        async with rig.online():
            await rig.station.append(*rows(SIGNED, "Installed"))
            await rig.drained()
        assert told(rig) == white_paper("Installed", "Installed")

    run_virtual(main())
