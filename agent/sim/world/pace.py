"""How finely a simulated world looks at its time.

Charter: two paces of the same world. ``SECONDS`` polls meters and pings as a charger does; ``MINUTES`` is for
campaigns over years: an idle meter is asked every two hours, a busy one every five minutes, so that the time goes
into sessions and faults instead of into readings that say the same as the last. Nothing else differs.

Units: ms and s of virtual time, hours between visits at one outlet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Pace:
    """``poll_ms``/``idle_poll_ms``: of a meter while energy flows, and while none does. ``tick_ms``: the station looks
    at the time at least so often. ``visit_every_h``, ``stay_s``: means of the time from one visit to the next, and of
    its length; ``long_percent`` of visits last for days instead."""

    name: str
    poll_ms: int
    idle_poll_ms: int
    tick_ms: int
    ping_s: int
    heartbeat_s: int
    upkeep_ms: int
    visit_every_h: float
    stay_s: int
    long_percent: int


SECONDS: Final = Pace("seconds", 1_000, 1_000, 1_000, 60, 300, 60_000, 4.0, 5_400, 0)
MINUTES: Final = Pace("minutes", 300_000, 7_200_000, 7_200_000, 1_800, 21_600, 21_600_000, 12.0, 2_700, 4)
PACES: Final = {pace.name: pace for pace in (SECONDS, MINUTES)}
