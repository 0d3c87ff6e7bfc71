"""16-CMD-08, 16-SEC-13: what is told of an update when the CSMS asks, and a station that takes none."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agent.ipc.updates import FirmwareStatus
from agent.sim.virtual_time import run_virtual
from tests.conformance.v16.rig import Rig
from tests.conformance.v16.test_firmware import (
    CORE,
    IN_CORE,
    PLAIN,
    PROTOCOLS,
    SIGNED,
    UPDATE,
    WHITE_PAPER,
    core,
    rows,
    signed,
    told,
    white_paper,
)
from tests.support.fake_csms import until

TRIGGERED = [
    *((FirmwareStatus(status, 7, SIGNED), in_core, white_paper(status)) for status, in_core in IN_CORE.items()),
    (FirmwareStatus("Idle", None, PLAIN), "Idle", [(WHITE_PAPER, {"status": "Idle"})]),
    (FirmwareStatus("Installing", None, PLAIN), "Installing", [(WHITE_PAPER, {"status": "Installing"})]),
]


@pytest.mark.parametrize(("now", "in_core", "in_white_paper"), TRIGGERED)
def test_16_cmd_08_16_sec_13_a_trigger_tells_the_status_of_now(
    now: FirmwareStatus, in_core: str, in_white_paper: list[Any]
) -> None:
    async def main() -> None:
        rig = Rig(protocols=PROTOCOLS)
        rig.station.firmware = now
        async with rig.online():
            await until(lambda: len(rig.csms.of("StatusNotification")) == 3)
            for action in ("TriggerMessage", "ExtendedTriggerMessage"):
                before = len(rig.csms.received)
                assert await rig.csms.ask(action, {"requestedMessage": CORE}) == {"status": "Accepted"}
                assert len(rig.csms.received) == before  # the answer goes first
                await asyncio.sleep(1)
        assert told(rig) == core(in_core) + in_white_paper

    run_virtual(main())


def test_a_triggered_status_takes_nothing_away_from_the_rows() -> None:
    async def main() -> None:
        rig = Rig(protocols=PROTOCOLS)
        rig.station.firmware = FirmwareStatus("Downloading", None, PLAIN)
        async with rig.online():
            await until(lambda: len(rig.csms.of("StatusNotification")) == 3)
            for _ in range(2):  # however often it is asked for
                await rig.csms.ask("TriggerMessage", {"requestedMessage": CORE})
                await asyncio.sleep(1)
            await rig.station.append(*rows(PLAIN, "Downloading"))
            await rig.drained()
        assert told(rig) == core("Downloading", "Downloading", "Downloading")

    run_virtual(main())


@pytest.mark.parametrize(
    ("request_", "status", "sent"),
    [
        ({"requestedMessage": "Heartbeat"}, "Accepted", ["Heartbeat"]),
        ({"requestedMessage": "StatusNotification"}, "Accepted", ["StatusNotification"] * 3),
        ({"requestedMessage": "StatusNotification", "connectorId": 2}, "Accepted", ["StatusNotification"]),
        ({"requestedMessage": "MeterValues", "connectorId": 9}, "Rejected", []),
        ({"requestedMessage": "BootNotification"}, "Rejected", []),  # it was accepted
        ({"requestedMessage": "LogStatusNotification"}, "NotImplemented", []),
        ({"requestedMessage": "SignChargePointCertificate"}, "NotImplemented", []),
    ],
)
def test_16_sec_13_extended_triggers(request_: dict[str, Any], status: str, sent: list[str]) -> None:
    async def main() -> None:
        rig = Rig()  # they need no updates
        async with rig.online():
            await until(lambda: len(rig.csms.of("StatusNotification")) == 3)
            await asyncio.sleep(1)
            before = len(rig.csms.received)
            assert await rig.csms.ask("ExtendedTriggerMessage", request_) == {"status": status}
            assert len(rig.csms.received) == before
            await asyncio.sleep(2)
            assert [call.action for call in rig.csms.received[before:]] == sent

    run_virtual(main())


# ---------------------------------------------------------------------------------- with and without updates


@pytest.mark.parametrize("protocols", ["", PROTOCOLS])
def test_where_no_updates_are_configured_none_are_offered(protocols: str) -> None:
    async def main() -> None:
        rig = Rig(protocols=protocols)
        names = ["SupportedFeatureProfiles", "SupportedFileTransferProtocols"]
        async with rig.online():
            await until(lambda: len(rig.csms.of("StatusNotification")) == 3)
            updates = [
                await rig.csms.call("UpdateFirmware", UPDATE),
                await rig.csms.call("SignedUpdateFirmware", signed()),
            ]
            triggers = [
                await rig.csms.ask(action, {"requestedMessage": CORE})
                for action in ("TriggerMessage", "ExtendedTriggerMessage")
            ]
            answer = await rig.csms.ask("GetConfiguration", {"key": names})
            written = await rig.csms.ask("ChangeConfiguration", {"key": names[1], "value": "FTP"})
        values = {entry["key"]: entry["value"] for entry in answer["configurationKey"]}
        if protocols:
            assert [frame[0] for frame in updates] == [3, 3]
            assert triggers == [{"status": "Accepted"}] * 2
            assert values == {names[0]: "Core,SmartCharging,RemoteTrigger,FirmwareManagement", names[1]: PROTOCOLS}
            assert written == {"status": "Rejected"}
        else:
            assert [frame[2] for frame in updates] == ["NotSupported", "NotSupported"]
            assert triggers == [{"status": "NotImplemented"}] * 2
            assert values == {names[0]: "Core,SmartCharging,RemoteTrigger"}
            assert written == {"status": "NotSupported"}

    run_virtual(main())


@pytest.mark.parametrize(
    ("firmware_version", "expected"), [("", "0.1.0"), ("2.0.0+img", "2.0.0+img"), ("x" * 60, "x" * 50)]
)
def test_the_boot_names_the_image_that_runs(firmware_version: str, expected: str) -> None:
    async def main() -> None:
        rig = Rig()
        rig.start_gateway(firmware_version=firmware_version)
        async with rig.online():
            await until(lambda: len(rig.csms.of("StatusNotification")) == 3)
        assert rig.csms.received[0].payload["firmwareVersion"] == expected

    run_virtual(main())
