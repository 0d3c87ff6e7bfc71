"""16-SEC-01, 16-SEC-14: the security profile as a key, and security events by the names that 1.6 has for them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agent.config.variable import Key
from agent.core.facts import SecurityFact
from agent.sim.virtual_time import run_virtual
from tests.conformance.v16.rig import Rig

OWN_NAMES = {
    "FailedToAuthenticateAtCsms": "FailedToAuthenticateAtCentralSystem",
    "CsmsFailedToAuthenticate": "CentralSystemFailedToAuthenticate",
    "InvalidCsmsCertificate": "InvalidCentralSystemCertificate",
    "InvalidChargingStationCertificate": "InvalidChargePointCertificate",
}
SAME_NAMES = (
    "FirmwareUpdated",
    "SettingSystemTime",
    "StartupOfTheDevice",
    "ResetOrReboot",
    "SecurityLogWasCleared",
    "MemoryExhaustion",
    "TamperDetectionActivated",
    "ReconfigurationOfSecurityParameters",
    "InvalidMessages",
    "AttemptedReplayAttacks",
    "InvalidFirmwareSignature",
    "InvalidFirmwareSigningCertificate",
    "InvalidTLSVersion",
    "InvalidTLSCipherSuite",
    "MaintenanceLoginAccepted",
    "MaintenanceLoginFailed",
)


@pytest.mark.parametrize("value", ["0", "1", "2", "3", "4", "high"])
def test_16_sec_01_the_security_profile_is_shown_and_never_written(value: str) -> None:
    """A lower or equal one is refused; so is a higher one, which only the configuration file gives."""

    async def main() -> tuple[Any, Any]:
        rig = Rig()
        rig.model.put(Key.parse("SecurityCtrlr.SecurityProfile"), "2")
        rig.station.settings["SecurityCtrlr.SecurityProfile"] = "2"
        rig.start_gateway()
        async with rig.online():
            answer = await rig.csms.ask("ChangeConfiguration", {"key": "SecurityProfile", "value": value})
            shown = await rig.csms.ask("GetConfiguration", {"key": ["SecurityProfile"]})
        assert rig.station.writes == []
        return answer, shown

    answer, shown = run_virtual(main())
    assert answer == {"status": "Rejected"}
    assert shown == {"configurationKey": [{"key": "SecurityProfile", "readonly": True, "value": "2"}]}


def test_16_sec_14_security_events_have_the_names_of_1_6() -> None:
    async def main() -> list[str]:
        rig = Rig()
        async with rig.online():
            await rig.station.append(*(SecurityFact(name, "") for name in (*OWN_NAMES, *SAME_NAMES)))
            await rig.drained()
        return [call.payload["type"] for call in rig.csms.of("SecurityEventNotification")]

    assert run_virtual(main()) == [*OWN_NAMES.values(), *SAME_NAMES]


def test_16_sec_14_events_without_a_link_wait_and_come_in_order() -> None:
    """With the time at which they happened, and what a technician must know in as many characters as there are."""

    async def main() -> list[dict[str, Any]]:
        rig = Rig()
        await rig.station.append(SecurityFact("InvalidCsmsCertificate", "expired " * 40))
        await asyncio.sleep(7_200)
        await rig.station.append(SecurityFact("StartupOfTheDevice", ""))
        async with rig.online():
            await rig.drained()
        return [call.payload for call in rig.csms.of("SecurityEventNotification")]

    first, second = run_virtual(main())
    at = "2026-11-24T08:00:00.000Z"
    assert first == {"type": "InvalidCentralSystemCertificate", "timestamp": at, "techInfo": ("expired " * 40)[:255]}
    assert second == {"type": "StartupOfTheDevice", "timestamp": at}
