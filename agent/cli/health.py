"""``evsed health``: what is wrong with the charger, since when, and what to do; clearing of what is latched.

Charter: words for people, JSON for machines, over the local socket. Exit codes: 0 nothing is wrong, 1 something is (or
a fault is left after clearing), 69 the station does not answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Sequence

from agent.cli.looking import call_station, person, print_table, utc_text
from agent.cli.processes import EXIT_CONFIG, load_config
from agent.core.commands import ClearFaults
from agent.core.status import Outcome
from agent.health.model import Condition, PartHealth
from agent.ipc.client import RemoteStation
from agent.ipc.codec import to_plain

_STYLES = {
    Condition.FAULT: "bold red",
    Condition.WARNING: "yellow",
    Condition.UNKNOWN: "magenta",
    Condition.OK: "green",
    Condition.ABSENT: "dim",
}


def health(parsed: argparse.Namespace) -> int:
    config = load_config(parsed, "cli")
    if config is None:
        return EXIT_CONFIG

    async def show(station: RemoteStation) -> int:
        if parsed.clear is not None:
            return await _clear(station, parsed.clear)
        parts = await station.health()
        if parsed.json:
            print(json.dumps([to_plain(part) for part in parts]))
        else:
            _show(parts)
        return 1 if any(part.code for part in parts) else 0

    return asyncio.run(call_station(config, show))


async def _clear(station: RemoteStation, evse: int) -> int:
    outcome = (await station.command(ClearFaults(evse, person()))).outcome
    if outcome is Outcome.UNKNOWN_EVSE:
        print(f"there is no EVSE {evse}")
        return 1
    left = [part for part in await station.health() if part.evse == evse and part.condition is Condition.FAULT]
    for part in left:
        print(f"EVSE {evse}: {part.reason}\n        {part.remedy}")
    print(f"EVSE {evse}: {'not all is cleared: a cause is still there' if left else 'no fault is left'}")
    return 1 if left else 0


def part_name(part: PartHealth) -> str:
    """Which part, as a technician would call it."""
    name = part.part.value.replace("_", " ").replace("csms", "CSMS")
    return f"{name} {part.evse}" if part.evse else name


def _show(parts: Sequence[PartHealth]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("part", "state", "since (UTC)", "what is wrong, and what to do"):
        table.add_column(name, overflow="fold", no_wrap=name != "what is wrong, and what to do")
    for part in parts:
        style = _STYLES[part.condition]
        words = Text(part.reason, style=style if part.code else "")
        if part.remedy:
            words.append(
                f"\n{part.remedy}{_LATCHED.format(part.evse) if part.latched and part.evse else ''}", "default"
            )
        since = "" if part.condition is Condition.ABSENT else utc_text(part.since_wall_ms)
        table.add_row(part_name(part), Text(part.condition.value, style), since, words)
    print_table(table)
    print(_sum(parts))


_LATCHED = " It stays until a person clears it: `evsed health --clear {}`."


def _sum(parts: Sequence[PartHealth]) -> str:
    faults, warnings = (sum(part.condition is each for part in parts) for each in (Condition.FAULT, Condition.WARNING))
    if not faults and not warnings:
        return "nothing is wrong"
    said = [f"{count} {word}{'s' if count > 1 else ''}" for count, word in ((faults, "fault"), (warnings, "warning"))]
    return ", ".join(each for each in said if not each.startswith("0"))
