"""``evsed status --watch``: the charger on one screen, readable at arm's length, drawn anew each second.

Charter: what stands where on a screen of this size, and the loop that draws it. Energy and power are large figures of
three lines, since a terminal has one size of letters; plain ASCII, so that it comes through any line. A station that
goes away is waited for. With ``--json`` it is one line each second, for programs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from agent.cli.health import part_name
from agent.cli.looking import EXIT_AWAY, update_text, utc_text
from agent.cli.processes import EXIT_CONFIG, load_config
from agent.core.status import ConnectorState, EvseView
from agent.health.model import Condition, PartHealth
from agent.ipc.client import RemoteStation
from agent.ipc.codec import to_plain
from agent.ipc.port import PriceView, StationLost, StationStatus

EVERY_S: Final = 1.0
EXIT_USAGE: Final = 2
_HEAD_LINES, _EVSE_LINES, _FOOT_LINES = 1, 5, 1
_FIGURES: Final = {
    "0": (" _ ", "| |", "|_|"),
    "1": ("   ", "  |", "  |"),
    "2": (" _ ", " _|", "|_ "),
    "3": (" _ ", " _|", " _|"),
    "4": ("   ", "|_|", "  |"),
    "5": (" _ ", "|_ ", " _|"),
    "6": (" _ ", "|_ ", "|_|"),
    "7": (" _ ", "  |", "  |"),
    "8": (" _ ", "|_|", "|_|"),
    "9": (" _ ", "|_|", " _|"),
    "-": ("   ", " _ ", "   "),
    ".": (" ", " ", "."),
}
_S = ConnectorState
_COLOURS: Final = {
    _S.AVAILABLE: "white on blue",
    _S.CHARGING: "black on green",
    _S.FAULTED: "white on red",
    _S.UNAVAILABLE: "white on bright_black",
}
_WAITS: Final = "black on yellow"
_WORDS: Final = {_S.SUSPENDED_EV: "VEHICLE PAUSES", _S.SUSPENDED_EVSE: "STATION PAUSES"}


def watch(parsed: argparse.Namespace) -> int:
    """Until Ctrl-C."""
    config = load_config(parsed, "cli")
    if config is None:
        return EXIT_CONFIG
    path = config.station.run_dir / "station.sock"
    if parsed.json:
        return asyncio.run(_tell(path))
    if not sys.stdout.isatty():
        print("evsed: --watch draws on a terminal; use --json elsewhere", file=sys.stderr)
        return EXIT_USAGE
    console = Console(highlight=False)
    with Live(console=console, screen=True, auto_refresh=False) as live:
        return asyncio.run(_draw(path, console, live))


async def _tell(path: Path) -> int:
    try:
        station = await RemoteStation.connect(path)
        while True:
            status, parts = await station.status(), await station.health()
            print(json.dumps(to_plain(status) | {"health": [to_plain(part) for part in parts]}), flush=True)
            await asyncio.sleep(EVERY_S)
    except StationLost as error:
        print(f"evsed: {error}", file=sys.stderr)
        return EXIT_AWAY


async def _draw(path: Path, console: Console, live: Live) -> int:
    """For ever: the station may come and go."""
    while True:
        try:
            station = await RemoteStation.connect(path)
            try:
                while True:
                    lines = screen(await station.status(), await station.health(), console.width, console.height)
                    live.update(Group(*lines), refresh=True)
                    await asyncio.sleep(EVERY_S)
            finally:
                await station.close()
        except StationLost as error:
            live.update(_bar("STATION DOES NOT ANSWER", str(error), "white on red", console.width), refresh=True)
            await asyncio.sleep(EVERY_S)


# -------------------------------------------------------------------------------------------- the screen


def screen(status: StationStatus, parts: Sequence[PartHealth], width: int, height: int) -> list[Text]:
    """At most ``height`` lines of at most ``width`` characters: head, EVSEs, what is wrong, foot."""
    prices = {price.evse: price for price in status.prices}
    room = height - _HEAD_LINES - _FOOT_LINES
    shown = max(1, min(len(status.evses), room // _EVSE_LINES))
    lines = [_head(status, width)]
    for view in status.evses[:shown]:
        lines += _evse(view, prices.get(view.evse), width)
    if shown < len(status.evses):
        lines.append(Text(f" and {len(status.evses) - shown} more: evsed status"))
    lines += _troubles(parts, height - len(lines) - _FOOT_LINES)
    return [_cut(line, width) for line in (*lines[: height - 1], _foot(status, width))]


def _head(status: StationStatus, width: int) -> Text:
    link = f"CSMS up, OCPP {status.dialect}" if status.online else "CSMS AWAY"
    return _bar(
        f"{status.identity}   {link}", f"{utc_text(status.wall_ms)} UTC ({status.time_status})", "reverse", width
    )


def _evse(view: EvseView, price: PriceView | None, width: int) -> list[Text]:
    word = _WORDS.get(view.state, view.state.value.upper())
    cost = "" if price is None or price.cost is None else price.cost
    style = f"bold {_COLOURS.get(view.state, _WAITS)}"
    power = "-" if view.power_mw is None else f"{view.power_mw / 1e6:.1f}"
    energy = "-" if view.session_energy_mwh is None else f"{view.session_energy_mwh / 1e6:.2f}"
    figures = zip(large(power), large(energy), _details(view), strict=True)
    units = [("   ", "    "), ("   ", "    "), ("kW ", "kWh ")]
    rows = [
        Text.assemble(
            (f"{left:>14}", "bold"), f" {units[row][0]}", (f"{right:>17}", "bold"), f" {units[row][1]} ", text
        )
        for row, (left, right, text) in enumerate(figures)
    ]
    return [_bar(f"EVSE {view.evse}   {word}", cost, style, width), *rows, Text()]


def _details(view: EvseView) -> tuple[str, str, str]:
    lock = {None: "", True: ", lock locked", False: ", lock open"}[view.locked]
    amperes = [f"{each / 1_000:.1f}" for each in view.current_ma if each is not None]
    return (
        f"pilot {view.cp or '-'}, duty {view.duty_centipercent / 100:.1f} %",
        f"contactor {'closed' if view.contactor_closed else 'open'}{lock}",
        f"offered {view.offered_ma / 1_000:.1f} A" + (f", draws {' '.join(amperes)}" if amperes else ""),
    )


def large(number: str) -> tuple[str, str, str]:
    """Figures, minus and point as three lines of equal length."""
    top, middle, bottom = ("".join(_FIGURES[each][row] for each in number) for row in range(3))
    return top, middle, bottom


def _troubles(parts: Sequence[PartHealth], room: int) -> list[Text]:
    """What is wrong, faults first; each with what to do where there is room for all."""
    wrong = sorted((part for part in parts if part.code), key=lambda part: part.condition is not Condition.FAULT)
    if not wrong:
        return [Text(" nothing is wrong", "green")][:room]
    said: list[Text] = []
    for part in wrong:
        fault = part.condition is Condition.FAULT
        word, style = ("FAULT  ", "bold red") if fault else ("WARNING", "bold yellow")
        said.append(Text.assemble((f" {word} ", style), f"{part_name(part)}: {part.reason}"))
        if 2 * len(wrong) <= room:
            said.append(Text(f"         {part.remedy}"))
    if len(said) > room > 0:
        said[room - 1 :] = [Text(f" and {len(said) - room + 1} more: evsed health", "bold")]
    return said[: max(0, room)]


def _foot(status: StationStatus, width: int) -> Text:
    minutes = status.uptime_ms // 60_000
    behind = status.head_seq - status.delivered_seq
    left = f"up {minutes // 60} h {minutes % 60:02} min, ledger {status.head_seq}, {behind} behind"
    update = "" if status.update is None else f"update: {update_text(status.update)}"
    return _bar(left, update or f"evsed {status.software_version}", "dim", width)


def _bar(left: str, right: str, style: str, width: int) -> Text:
    """A line of full width in one style."""
    gap = max(1, width - len(left) - len(right) - 2)
    return _cut(Text(f" {left}{' ' * gap}{right} ", style), width)


def _cut(line: Text, width: int) -> Text:
    line.truncate(width)
    return line
