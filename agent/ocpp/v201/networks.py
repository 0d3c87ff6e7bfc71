"""SetNetworkProfile: another CSMS for a slot (B09).

Charter: from the request to the station's answer. APN and VPN are the machine's, not this station's to set.

Sources: OCPP 2.0.1 part 2 B09, appendix 5 (reason codes).
"""

from __future__ import annotations

from agent.ipc.networks import NetworkProfile
from agent.ipc.port import StationPort
from agent.ocpp.frames import Payload
from agent.ocpp.v201.messages import status


async def set_network_profile(station: StationPort, request: Payload) -> Payload:
    """SetNetworkProfileResponse."""
    data = request["connectionData"]
    for name in ("apn", "vpn"):
        if name in data:
            return status("Rejected", "UnsupportedParam", f"{name}: the machine's network is not set by OCPP here")
    if data["ocppTransport"] != "JSON":
        return status("Rejected", "UnsupportedParam", "ocppTransport: only JSON is spoken here")
    profile = NetworkProfile(
        url=data["ocppCsmsUrl"],
        version=data["ocppVersion"],
        security_profile=data["securityProfile"],
        message_timeout_s=data["messageTimeout"],
        interface=data["ocppInterface"],
    )
    refusal = await station.set_network_profile(request["configurationSlot"], profile)
    return status("Rejected", "InvalidNetworkConf", refusal) if refusal else status("Accepted")
