"""``evsed usage``: what the station was used for, by hour, day or month.

Charter: asks the running station, sums in the site's time zone, and writes a table with a bar for each period, CSV
with units in the header, or JSON.

The parsed arguments: ``by`` (a ``By``), ``first``, ``last`` (local days, both included, or None), ``evse`` (or None),
``csv``, ``json``, ``config``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from agent.cli.looking import call_station, print_table
from agent.cli.processes import EXIT_CONFIG, load_config
from agent.usage.export import HEADER, cells, csv_text, name, plain
from agent.usage.model import PAGE_HOURS, UsageHour
from agent.usage.sums import By, PeriodUsage, hours_of_days, summed

if TYPE_CHECKING:
    from agent.ipc.client import RemoteStation
    from agent.ipc.port import StationPort

EXIT_USAGE: Final = 2
DAYS_SHOWN: Final = {By.HOUR: 2, By.DAY: 30, By.MONTH: 731}
"""So many days up to today, where none are asked for."""

DAYS_MAX: Final = 1_000
_SHOWN: Final = (0, 2, 3, 4, 5, 7, 9, 10)
"""The columns that fit a narrow terminal beside the bar."""


def usage(parsed: argparse.Namespace) -> int:
    """Show it; 0 unless the station cannot be asked, or the days make no sense."""
    config = load_config(parsed, "cli")
    if config is None:
        return EXIT_CONFIG
    zone, by = ZoneInfo(config.station.time_zone), By(parsed.by)

    async def show(station: RemoteStation) -> int:
        last = parsed.last or _local_day((await station.status()).wall_ms, zone)
        first = parsed.first or last - timedelta(days=DAYS_SHOWN[by] - 1)
        if not 0 <= (last - first).days < DAYS_MAX:
            print(f"evsed: {first} to {last}: not between 1 and {DAYS_MAX} days", file=sys.stderr)
            return EXIT_USAGE
        first_hour, hours = hours_of_days(first, last, zone)
        rows = await fetched(station, first_hour, hours)
        periods = summed(rows, by, zone, first_hour, hours, parsed.evse)
        total = summed(rows, By.WHOLE, zone, first_hour, hours, parsed.evse)
        if parsed.json:
            print(json.dumps({"by": by.value, "evse": parsed.evse, "rows": [plain(each, by) for each in periods]}))
        elif parsed.csv:
            sys.stdout.flush()
            sys.stdout.buffer.write(csv_text(periods, by).encode())
            sys.stdout.buffer.flush()
        else:
            _show_table(periods, total, by)
        return 0

    return asyncio.run(call_station(config, show))


async def fetched(station: StationPort, first_hour: int, hours: int) -> list[UsageHour]:
    """All rows of the ``hours`` from ``first_hour`` on, page by page."""
    rows: list[UsageHour] = []
    for begin in range(first_hour, first_hour + hours, PAGE_HOURS):
        rows += await station.usage(begin, min(PAGE_HOURS, first_hour + hours - begin), None)
    return rows


def _local_day(wall_ms: int, zone: ZoneInfo) -> date:
    return datetime.fromtimestamp(wall_ms / 1_000, UTC).astimezone(zone).date()


# ------------------------------------------------------------------------------------------- writing


def _show_table(periods: Sequence[PeriodUsage], total: Sequence[PeriodUsage], by: By) -> None:
    from rich.bar import Bar
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for at in _SHOWN:
        table.add_column(HEADER[at].replace(" (", "\n("), justify="left" if at == 0 else "right", no_wrap=True)
    table.add_column("energy")
    most_mwh = max((each.energy_import_mwh for each in periods), default=0)
    for each in periods:
        table.add_row(*_shown(each, name(each, by)), Bar(most_mwh, 0, each.energy_import_mwh))
    for each in total:
        table.add_row(*_shown(each, "all"))
    print_table(table)


def _shown(period: PeriodUsage, called: str) -> list[str]:
    found = cells(period, called)
    return [found[at] for at in _SHOWN]
