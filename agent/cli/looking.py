"""``evsed status``, ``ledger show``, ``ledger verify``, ``present``: looking at a station, and one finger in.

Charter: tables for people, JSON for machines. ``ledger`` commands read the file and need no station.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from agent.cli.processes import EXIT_CONFIG, load_config
from agent.config.model import Config
from agent.core.facts import Token
from agent.core.status import EvseView
from agent.ipc.client import RemoteStation
from agent.ipc.codec import to_plain
from agent.ipc.port import StationLost, StationStatus

EXIT_AWAY = 69


def status(parsed: argparse.Namespace) -> int:
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

    return await _call_station(config, tell)


def ledger_show(parsed: argparse.Namespace) -> int:
    from agent.ledger.reader import LedgerReader

    def show(reader: LedgerReader) -> int:
        rows = _rows(reader, parsed.tx, max(1, parsed.last))
        if parsed.json:
            print(json.dumps([_row_plain(row) for row in rows]))
        else:
            _show_rows(rows)
        return 0

    return _with_ledger(parsed, show)


def ledger_verify(parsed: argparse.Namespace) -> int:
    from agent.ledger.errors import ChainBroken
    from agent.ledger.reader import LedgerReader

    def verify(reader: LedgerReader) -> int:
        try:
            head = reader.verify()
        except ChainBroken as error:
            print(json.dumps({"whole": False, "why": str(error)}) if parsed.json else f"BROKEN: {error}")
            return 1
        plain = {"whole": True, "rows": head.seq, "head": head.hash.hex()}
        print(json.dumps(plain) if parsed.json else f"whole: {head.seq} rows, head {head.hash.hex()[:16]}")
        return 0

    return _with_ledger(parsed, verify)


# ------------------------------------------------------------------------------------------ reaching


def _with_station(parsed: argparse.Namespace, action: Callable[[RemoteStation], Awaitable[int]]) -> int:
    config = load_config(parsed, "cli")
    return EXIT_CONFIG if config is None else asyncio.run(_call_station(config, action))


async def _call_station(config: Config, action: Callable[[RemoteStation], Awaitable[int]]) -> int:
    try:
        station = await RemoteStation.connect(config.station.run_dir / "station.sock")
        try:
            return await action(station)
        finally:
            await station.close()
    except StationLost as error:
        print(f"evsed: {error}", file=sys.stderr)
        return EXIT_AWAY


def _with_ledger(parsed: argparse.Namespace, action: Callable[[Any], int]) -> int:
    from agent.ledger.errors import LedgerError
    from agent.ledger.reader import LedgerReader

    config = load_config(parsed, "cli")
    if config is None:
        return EXIT_CONFIG
    try:
        with LedgerReader(config.station.data_dir / "ledger.sqlite") as reader:
            return action(reader)
    except LedgerError as error:
        print(f"evsed: {error}", file=sys.stderr)
        return 1


def _rows(reader: Any, tx: str | None, last: int) -> list[Any]:
    """The newest rows, or all of one transaction named by the first letters of its id."""
    head = reader.head().seq
    if tx is None:
        return list(reader.rows(max(0, head - last), min(last, 500)))
    found, after = [], 0
    while page := reader.rows(after, 500):
        found += [row for row in page if row.tx_id is not None and row.tx_id.startswith(tx)]
        after = page[-1].seq
    return found


# ------------------------------------------------------------------------------------------- showing


def _row_plain(row: Any) -> dict[str, Any]:
    plain = dataclasses.asdict(row)
    plain["body"] = json.loads(row.body)
    plain["prev_hash"], plain["hash"] = row.prev_hash.hex(), row.hash.hex()
    return plain


def _show_rows(rows: list[Any]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("seq", "time (UTC)", "kind", "evse", "transaction", "what", "hash"):
        table.add_column(name, justify="right" if name in ("seq", "evse") else "left", no_wrap=True)
    for row in rows:
        mark = "" if row.time_status == "S" else f" {row.time_status}"
        tx, evse = (row.tx_id or "")[:8], "" if row.evse is None else str(row.evse)
        what = _what(row.kind, json.loads(row.body))
        table.add_row(str(row.seq), _time(row.wall_ms) + mark, row.kind, evse, tx, what, row.hash.hex()[:8])
    _print(table)


def _what(kind: str, body: dict[str, Any]) -> str:
    """The one thing about a row that a person wants to see."""
    if kind.startswith("tx_"):
        said = body.get("stopped_reason") or body.get("trigger", "")
        samples = body.get("samples") or []
        energy = f"  {samples[-1]['energy_import_mwh'] / 1e6:.3f} kWh" if samples else ""
        return f"{body['seq_no']}: {said}{energy}"
    if kind in ("checkpoint", "meter"):
        return f"{body['sample']['energy_import_mwh'] / 1e6:.3f} kWh"
    return str(body.get("cause") or body.get("event_type") or body.get("source") or body.get("product") or "")


def _show_status(found: StationStatus) -> None:
    from rich.table import Table

    link = f"CSMS up, OCPP {found.dialect}" if found.online else "CSMS away"
    behind = found.head_seq - found.delivered_seq
    print(
        f"{found.identity}   {link}   {_time(found.wall_ms)} UTC ({found.time_status})   evsed {found.software_version}"
    )
    print(f"ledger {found.head_seq} rows, {behind} behind the CSMS   up {found.uptime_ms // 1_000} s")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("EVSE", "state", "pilot", "contactor", "offered", "power", "session", "faults"):
        table.add_column(name, justify="right" if name in ("EVSE", "offered", "power", "session") else "left")
    for view in found.evses:
        table.add_row(*evse_cells(view))
    _print(table)


def evse_cells(view: EvseView) -> list[str]:
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
        ", ".join(fault.value for fault in view.faults),
    ]


def _time(wall_ms: int) -> str:
    return datetime.fromtimestamp(wall_ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _print(table: Any) -> None:
    from rich.console import Console

    # A pipe has no width of its own; cutting columns there would lose what a script looks for.
    Console(width=None if sys.stdout.isatty() else 160, highlight=False).print(table)
