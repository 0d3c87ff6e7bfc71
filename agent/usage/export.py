"""Periods of use for people and machines: one table of columns, as text, plain values and comma separated values.

Charter: pure; for the command line and for the local page alike.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Final

from agent.usage.sums import By, PeriodUsage

HEADER: Final = (
    "period",
    "length (h)",
    "energy (kWh)",
    "sessions",
    "peak (kW)",
    "occupied (%)",
    "charging (%)",
    "faults",
    "faulted (%)",
    "link up (%)",
    "running (%)",
)


def plain(period: PeriodUsage, by: By) -> dict[str, str | int | float | None]:
    """A period for machines; shares are 0 to 1."""
    return {
        "period": name(period, by),
        "begin": period.begin.isoformat(),
        "length_h": period.hours,
        "energy_import_mwh": period.energy_import_mwh,
        "sessions": period.sessions,
        "peak_power_w": period.peak_power_w,
        "occupied_ms": period.occupied_ms,
        "charging_ms": period.charging_ms,
        "faults": period.faults,
        "fault_ms": period.fault_ms,
        "link_up_ms": period.link_up_ms,
        "running_ms": period.running_ms,
        "evse_ms": period.evse_ms,
        "occupied": period.occupied,
        "link_up": period.link_up,
    }


def csv_text(periods: Iterable[PeriodUsage], by: By) -> str:
    """With a header that says the units (RFC 4180)."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(HEADER)
    writer.writerows(cells(each, name(each, by)) for each in periods)
    return out.getvalue()


def name(period: PeriodUsage, by: By) -> str:
    if by is By.MONTH:
        return period.begin.strftime("%Y-%m")
    if by is By.DAY:
        return period.begin.strftime("%Y-%m-%d")
    return period.begin.strftime("%Y-%m-%d %H:%M %z")  # with its offset: an hour may come twice


def cells(period: PeriodUsage, title: str) -> tuple[str, ...]:
    return (
        title,
        str(period.hours),
        f"{period.energy_import_mwh / 1e6:.3f}",
        str(period.sessions),
        f"{period.peak_power_w / 1e3:.2f}",
        _percent(period.occupied),
        _percent(period.charging),
        str(period.faults),
        _percent(period.faulted),
        _percent(period.link_up),
        _percent(period.running),
    )


def _percent(share: float | None) -> str:
    """Empty where nobody knows."""
    return "" if share is None else f"{100 * share:.1f}"
