"""``evsed status``, ``present``, ``operative``, ``limit``, ``ledger acknowledge``: a look at a running station, and a
finger in.

Charter: tables for people, JSON for machines; all of it over the local socket.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import pwd
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from agent.cli.processes import EXIT_CONFIG, load_config
from agent.config.model import Config
from agent.core.commands import ChangeAvailability
from agent.core.facts import Token
from agent.core.status import EvseView, Outcome
from agent.ipc.client import RemoteStation
from agent.ipc.codec import to_plain
from agent.ipc.port import PriceView, StationLost, StationStatus
from agent.ipc.profiles import ProfileOutcome
from agent.ipc.updates import UpdateView

EXIT_USAGE = 2
EXIT_AWAY = 69


def status(parsed: argparse.Namespace) -> int:
    if parsed.watch:
        from agent.cli.watching import watch  # draws with rich, which a look does not need

        return watch(parsed)

    async def show(station: RemoteStation) -> int:
        found = await station.status()
        if parsed.json:
            print(json.dumps(to_plain(found)))
        else:
            _show_status(found)
        return 0

    return _with_station(parsed, show)


def present(parsed: argparse.Namespace) -> int:
    config = load_config(parsed, "present")
    if config is None:
        return EXIT_CONFIG
    return asyncio.run(present_token(config, parsed.token, parsed.type, parsed.evse))


async def present_token(config: Config, token: str, token_type: str, evse: int) -> int:
    """Present a token to a running station; 0 unless it was refused at once."""

    async def tell(station: RemoteStation) -> int:
        said = await station.present_token(Token(token.upper(), token_type), evse)
        print(said)
        return 1 if said.startswith(("refused", "no ", "not ")) else 0

    return await call_station(config, tell)


def acknowledge(parsed: argparse.Namespace) -> int:
    """Allow charging after a ledger was damaged and set aside."""

    async def tell(station: RemoteStation) -> int:
        had = await station.acknowledge_damage()
        print("acknowledged: transactions may begin again" if had else "there is nothing to acknowledge")
        return 0

    return _with_station(parsed, tell)


def operative(parsed: argparse.Namespace) -> int:
    """Take the station, or an EVSE of it, into service again; 1 where something of that is out of service still."""

    async def tell(station: RemoteStation) -> int:
        answer = await station.command(ChangeAvailability(operative=True, evse=parsed.evse, who=person()))
        if answer.outcome is Outcome.UNKNOWN_EVSE:
            print(f"there is no EVSE {parsed.evse}")
            return 1
        views = [view for view in (await station.status()).evses if parsed.evse in (None, view.evse)]
        for view in views:
            print(f"EVSE {view.evse}: {'operative' if view.operative else _STILL_OUT.format(view.evse)}")
        return 0 if all(view.operative for view in views) else 1

    return _with_station(parsed, tell)


_STILL_OUT = "out of service still: alone (`--evse {}`), with the station (no `--evse`), or see `evsed health`"


def limit(parsed: argparse.Namespace) -> int:
    """Limit what the running transaction of an EVSE may use up, beside what limits it already; or lift the profiles of
    the CSMS, and its tariffs."""
    if parsed.clear_csms:
        return _with_station(parsed, _clear_csms)
    wanted = (parsed.max_cost, parsed.max_energy_wh, parsed.max_time_s)
    if wanted == (None, None, None):
        print("evsed: limit what? Give --max-cost, --max-energy-wh or --max-time-s", file=sys.stderr)
        return EXIT_USAGE

    async def tell(station: RemoteStation) -> int:
        views = {view.evse: view.tx_id for view in (await station.status()).evses}
        tx_id = views.get(parsed.evse)
        said = "TxNotFound" if tx_id is None else await station.limit_transaction(tx_id, *wanted, technician=True)
        if said != "Accepted":
            print(said.partition(": ")[2] or f"no transaction runs on EVSE {parsed.evse}")
            return 1
        print(f"limited: transaction {tx_id}")
        return 0

    return _with_station(parsed, tell)


async def _clear_csms(station: RemoteStation) -> int:
    cleared = (await station.clear_profiles({}, person())).outcome is ProfileOutcome.ACCEPTED
    tariffs = [tariff_id for tariff_id, _ in await station.clear_tariffs([], None, person())]
    print("removed: all charging profiles" if cleared else "there are no charging profiles")
    print(f"removed: default tariffs {', '.join(tariffs)}" if tariffs else "there are no default tariffs of a CSMS")
    return 0


# ------------------------------------------------------------------------------------------ reaching


def person() -> str:
    """Who sits at the keyboard, as far as this machine can tell: for the log book."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())
    before = os.environ.get("SUDO_USER")
    return f"{before} as {name}, command line" if before else f"{name}, command line"


def _with_station(parsed: argparse.Namespace, action: Callable[[RemoteStation], Awaitable[int]]) -> int:
    config = load_config(parsed, "cli")
    return EXIT_CONFIG if config is None else asyncio.run(call_station(config, action))


async def call_station(config: Config, action: Callable[[RemoteStation], Awaitable[int]]) -> int:
    try:
        station = await RemoteStation.connect(config.station.run_dir / "station.sock")
        try:
            return await action(station)
        finally:
            await station.close()
    except StationLost as error:
        print(f"evsed: {error}", file=sys.stderr)
        return EXIT_AWAY


# ------------------------------------------------------------------------------------------- showing


def _show_status(found: StationStatus) -> None:
    from rich.table import Table

    link = f"CSMS up, OCPP {found.dialect}" if found.online else "CSMS away"
    behind = found.head_seq - found.delivered_seq
    time = f"{utc_text(found.wall_ms)} UTC ({found.time_status})"
    print(f"{found.identity}   {link}   {time}   evsed {found.software_version}")
    print(f"ledger {found.head_seq} rows, {behind} behind the CSMS   up {found.uptime_ms // 1_000} s")
    if found.alarm:
        print(f"ALARM: {found.alarm}")
    if found.firmware_version:
        print(f"firmware {found.firmware_version}")
    if found.update is not None:
        print(f"update: {update_text(found.update)}")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in EVSE_COLUMNS:
        right = name in ("EVSE", "offered", "power", "session", "cost")
        table.add_column(name, justify="right" if right else "left")
    prices = {price.evse: price for price in found.prices}
    for view in found.evses:
        table.add_row(*evse_cells(view, prices.get(view.evse)))
    print_table(table)
    for price in found.prices:
        said = "; ".join(part for part in (price.price, price.limit) if part)
        if said:
            print(f"EVSE {price.evse} price: {said}")


def update_text(update: UpdateView) -> str:
    """An update under way, in a line."""
    parts = [update.phase, update.version, f"({update.why})" if update.why else ""]
    if update.total_bytes:
        parts.insert(1, f"{100 * update.done_bytes // update.total_bytes} %")
    return " ".join(part for part in parts if part)


EVSE_COLUMNS = ("EVSE", "state", "pilot", "contactor", "offered", "power", "session", "cost", "faults")


def evse_cells(view: EvseView, price: PriceView | None) -> list[str]:
    """One EVSE as table cells."""
    session = "" if view.session_energy_mwh is None else f"{view.session_energy_mwh / 1e6:.3f} kWh"
    return [
        str(view.evse),
        view.state.value,
        f"{view.cp or '-'} {view.duty_centipercent / 100:.1f} %",
        "closed" if view.contactor_closed else "open",
        f"{view.offered_ma / 1_000:.1f} A",
        "-" if view.power_mw is None else f"{view.power_mw / 1e6:.2f} kW",
        session,
        "" if price is None or price.cost is None else price.cost + (" (CSMS)" if price.by_csms else ""),
        ", ".join(fault.value for fault in view.faults),
    ]


def utc_text(wall_ms: int) -> str:
    return datetime.fromtimestamp(wall_ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def print_table(table: Any) -> None:
    from rich.console import Console

    # A pipe has no width of its own; cutting columns there would lose what a script looks for.
    Console(width=None if sys.stdout.isatty() else 160, highlight=False).print(table)
