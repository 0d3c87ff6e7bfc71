"""One station limit shared by several EVSEs.

Charter: simple, fair and deterministic load sharing. Whoever started first is served first with the minimum;
what is left is spread evenly over those served. A share is 0 or at least the minimum (IEC 61851-1: 6 A for
AC), and the sum of all shares never exceeds the limit.

All EVSEs are taken to draw on the same phases, which is the worst case for each phase's sum. Units: mA.
Rows: 16-SC-01 (a station limit is one of the sum), 16-SC-12; OCPP 2.0.1 K04.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent.charging.profiles import MINIMUM_AC_MA


@dataclass(frozen=True, slots=True)
class Demand:
    """What an active EVSE could take: ``wanted_ma`` is its own limit (profiles, cable, hardware), ``minimum_ma`` the
    least that is of use to it."""

    evse_id: int
    started_ms: int
    wanted_ma: int
    minimum_ma: int = MINIMUM_AC_MA


def allocate(station_limit_ma: int, demands: Sequence[Demand]) -> dict[int, int]:
    """The share in mA of each EVSE in ``demands``; 0 means suspended."""
    shares = {demand.evse_id: 0 for demand in demands}
    if len(shares) != len(demands):
        raise ValueError("two demands of one EVSE")
    left_ma = max(station_limit_ma, 0)
    served: list[Demand] = []
    for demand in sorted(demands, key=lambda demand: (demand.started_ms, demand.evse_id)):
        if demand.minimum_ma > min(demand.wanted_ma, left_ma):
            continue
        shares[demand.evse_id] = demand.minimum_ma
        left_ma -= demand.minimum_ma
        served.append(demand)
    # Evenly up to what each can take: the modest first, so that what they leave goes to the others.
    served.sort(key=lambda demand: demand.wanted_ma - demand.minimum_ma)
    for index, demand in enumerate(served):
        extra_ma = min(demand.wanted_ma - demand.minimum_ma, left_ma // (len(served) - index))
        shares[demand.evse_id] += extra_ma
        left_ma -= extra_ma
    return shares
