"""One hour of one EVSE's use, and how two parts of the same hour become one.

Charter: plain data, pure. Hours are those of UTC, counted from 1970, so that they are the same in every time zone;
``agent.usage.sums`` makes local days and months of them.

What the columns mean:

* EVSE 0 is the station as a whole. It has running time, link time and the peak of the sum of all EVSEs; energy,
  sessions, occupied, charging and fault times stand with the EVSEs, and are 0 here.
* Running: the station ran and knew which hour it was. No other time of the hour is longer.
* Occupied: a vehicle is plugged in, or a transaction is not over. Charging: a transaction that is told as charging.
* Faults: how many came; fault time: while at least one was there.

Units: mWh of the meter's import register, ms, W.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, NamedTuple

HOUR_MS: Final = 3_600_000
STATION: Final = 0
"""The number that stands for the station as a whole where EVSEs are counted from 1."""

PAGE_HOURS: Final = 168
"""So many hours are answered at once at most: a week."""


@dataclass(frozen=True, slots=True)
class UsageHour:
    """See the module. ``hour`` counts UTC hours since 1970."""

    hour: int
    evse: int
    running_ms: int = 0
    energy_import_mwh: int = 0
    sessions: int = 0
    occupied_ms: int = 0
    charging_ms: int = 0
    peak_power_w: int = 0
    faults: int = 0
    fault_ms: int = 0
    link_up_ms: int = 0


class RegisterAt(NamedTuple):
    """Where an EVSE's meter stood when it was last counted."""

    serial: str
    energy_import_mwh: int


def joined(kept: UsageHour, more: UsageHour) -> UsageHour:
    """Both parts of the hour that ``kept`` names.

    An hour has no more than its length: where a clock was set back and runs through the same hour again, the times
    of ``more`` are cut to the room that is left, in proportion. Energy and counts are never cut."""
    room_ms = HOUR_MS - kept.running_ms
    if more.running_ms > room_ms:
        more = _cut(more, room_ms)
    return UsageHour(
        kept.hour,
        kept.evse,
        kept.running_ms + more.running_ms,
        kept.energy_import_mwh + more.energy_import_mwh,
        kept.sessions + more.sessions,
        kept.occupied_ms + more.occupied_ms,
        kept.charging_ms + more.charging_ms,
        max(kept.peak_power_w, more.peak_power_w),
        kept.faults + more.faults,
        kept.fault_ms + more.fault_ms,
        kept.link_up_ms + more.link_up_ms,
    )


def without_time(row: UsageHour) -> UsageHour:
    """Its energy, counts and peak alone."""
    return _cut(row, 0)


def _cut(row: UsageHour, room_ms: int) -> UsageHour:
    """The row with only ``room_ms`` of its running time."""
    whole_ms = max(1, row.running_ms)
    return replace(
        row,
        running_ms=room_ms,
        occupied_ms=row.occupied_ms * room_ms // whole_ms,
        charging_ms=row.charging_ms * room_ms // whole_ms,
        fault_ms=row.fault_ms * room_ms // whole_ms,
        link_up_ms=row.link_up_ms * room_ms // whole_ms,
    )
