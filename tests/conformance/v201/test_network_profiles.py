"""B09: SetNetworkProfile. TC_B_42 to 44; which slots are tried (B10) has ``tests/world/test_network_profiles.py``."""

from __future__ import annotations

from typing import Any

import pytest

from agent.ipc.networks import NetworkProfile
from agent.sim.virtual_time import run_virtual
from tests.conformance.v201.rig import Rig

DATA = {
    "ocppVersion": "OCPP20",
    "ocppTransport": "JSON",
    "ocppCsmsUrl": "wss://new.example.com/ocpp",
    "messageTimeout": 45,
    "securityProfile": 2,
    "ocppInterface": "Wireless0",
}
APN = {"apn": "internet", "apnAuthentication": "CHAP", "simPin": 1234}
VPN = {"server": "s", "user": "u", "password": "p", "key": "k", "type": "IPSec"}


def set_profile(rig: Rig, **other: Any) -> Any:
    async def main() -> Any:
        async with rig.registered():
            return await rig.csms.ask("SetNetworkProfile", {"configurationSlot": 2, "connectionData": DATA | other})

    return run_virtual(main())


def test_b09_tc_b_42_a_profile_reaches_the_station_whole() -> None:
    rig = Rig()
    assert set_profile(rig) == {"status": "Accepted"}
    profile = NetworkProfile("wss://new.example.com/ocpp", "OCPP20", 2, 45, "Wireless0")
    assert rig.station.network_profiles == [(2, profile)]


def test_b09_tc_b_43_a_refusal_says_why() -> None:
    rig = Rig()
    rig.station.network_refusal = "slot 2 is in use"
    assert set_profile(rig) == {
        "status": "Rejected",
        "statusInfo": {"reasonCode": "InvalidNetworkConf", "additionalInfo": "slot 2 is in use"},
    }


@pytest.mark.parametrize("other", [{"ocppTransport": "SOAP"}, {"apn": APN}, {"vpn": VPN}])
def test_b09_what_is_the_machines_business_is_not_silently_dropped(other: dict[str, Any]) -> None:
    rig = Rig()
    answer = set_profile(rig, **other)
    assert (answer["status"], answer["statusInfo"]["reasonCode"]) == ("Rejected", "UnsupportedParam")
    assert next(iter(other)) in answer["statusInfo"]["additionalInfo"]
    assert rig.station.network_profiles == []
