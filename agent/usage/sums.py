"""Hours to what people ask for: the hours, days or months of a site.

Charter: pure. A period is one of the site's own time zone: a day has 23, 24 or 25 hours, and the hour that comes twice
in autumn is two periods. An hour of UTC belongs to the period in which it begins; where a zone is half an hour off,
local days are therefore those of whole UTC hours.

Units: mWh, ms, W; shares are of time, 0 to 1, and None where there was no time to be shared.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from agent.usage.model import HOUR_MS, STATION, UsageHour

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class By(StrEnum):
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"
    WHOLE = "whole"  # one period, of all hours asked for


@dataclass(slots=True)
class PeriodUsage:
    """The use of one EVSE, or of several and their station, in one period.

    ``begin`` is local time, ``hours`` the period's length as far as it was asked for. ``running_ms`` and ``link_up_ms``
    are the station's, ``evse_ms`` is the running time of all EVSEs together: what occupied, charging and fault times
    are shares of. ``peak_power_w`` is that of the sum, where the station's rows are among those given."""

    begin: datetime
    hours: int = 0
    running_ms: int = 0
    link_up_ms: int = 0
    evse_ms: int = 0
    energy_import_mwh: int = 0
    sessions: int = 0
    occupied_ms: int = 0
    charging_ms: int = 0
    peak_power_w: int = 0
    faults: int = 0
    fault_ms: int = 0

    @property
    def occupied(self) -> float | None:
        """The share of time in which a place to charge was taken: the utilisation."""
        return _share(self.occupied_ms, self.evse_ms)

    @property
    def charging(self) -> float | None:
        return _share(self.charging_ms, self.evse_ms)

    @property
    def faulted(self) -> float | None:
        return _share(self.fault_ms, self.evse_ms)

    @property
    def link_up(self) -> float | None:
        """The availability of the link to the CSMS while the station ran."""
        return _share(self.link_up_ms, self.running_ms)

    @property
    def running(self) -> float | None:
        """The share of the period in which the station ran."""
        return _share(self.running_ms, self.hours * HOUR_MS)

    def add_station(self, row: UsageHour) -> None:
        self.running_ms += row.running_ms
        self.link_up_ms += row.link_up_ms

    def add_evse(self, row: UsageHour) -> None:
        self.evse_ms += row.running_ms
        self.energy_import_mwh += row.energy_import_mwh
        self.sessions += row.sessions
        self.occupied_ms += row.occupied_ms
        self.charging_ms += row.charging_ms
        self.faults += row.faults
        self.fault_ms += row.fault_ms


def summed(
    rows: Iterable[UsageHour], by: By, zone: ZoneInfo, first_hour: int, hours: int, evse: int | None = None
) -> list[PeriodUsage]:
    """All periods of the ``hours`` from ``first_hour`` on, in order, also those of which no row tells anything.

    ``evse``: of this one, beside the station's own times; None: of all. Rows of other hours are left out."""
    periods: list[PeriodUsage] = []
    period_of: dict[int, PeriodUsage] = {}
    for hour in range(first_hour, first_hour + hours):
        begin = _begin(first_hour if by is By.WHOLE else hour, by, zone)
        if not periods or (begin, begin.fold) != (periods[-1].begin, periods[-1].begin.fold):
            periods.append(PeriodUsage(begin))
        periods[-1].hours += 1
        period_of[hour] = periods[-1]
    for row in rows:
        if (period := period_of.get(row.hour)) is None:
            continue
        if row.evse == STATION:
            period.add_station(row)
        elif evse in (None, row.evse):
            period.add_evse(row)
        if evse in (None, row.evse):
            period.peak_power_w = max(period.peak_power_w, row.peak_power_w)
    return periods


def hours_of_days(first: date, last: date, zone: ZoneInfo) -> tuple[int, int]:
    """The first UTC hour that begins in the local days from ``first`` to ``last``, and how many there are."""
    begin, end = _first_hour(first, zone), _first_hour(last + timedelta(days=1), zone)
    return begin, max(0, end - begin)


def _first_hour(day: date, zone: ZoneInfo) -> int:
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
    return -((_EPOCH - midnight) // timedelta(hours=1))


def _begin(hour: int, by: By, zone: ZoneInfo) -> datetime:
    """The local time at which the period of this hour begins."""
    local = (_EPOCH + timedelta(hours=hour)).astimezone(zone)
    if by in (By.HOUR, By.WHOLE):
        return local
    day = local.replace(hour=0, minute=0, fold=0)
    return day if by is By.DAY else day.replace(day=1)


def _share(part_ms: int, whole_ms: int) -> float | None:
    return None if whole_ms == 0 else min(1.0, part_ms / whole_ms)
