"""A network connection profile, as the CSMS gives it to the station.

Units: seconds. Source: OCPP 2.0.1 part 2 B09.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NetworkProfile:
    """OCPP 2.0.1 NetworkConnectionProfileType, without what this station leaves to its machine (APN, VPN).
    ``version``: OCPPVersionEnumType. ``interface`` is kept and told; which one is used is the machine's routing."""

    url: str
    version: str
    security_profile: int
    message_timeout_s: int
    interface: str
