"""``evsed diagnostics``: one archive for whoever shall find out what is wrong.

Charter: the command around ``agent.telemetry.diagnostics``; works as well while no process of the station runs.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from agent.cli.looking import print_table
from agent.cli.processes import EXIT_CONFIG, load_config
from agent.config.model import Config
from agent.ipc.client import RemoteStation
from agent.ipc.port import StationLost
from agent.telemetry.archive import Manifest
from agent.telemetry.diagnostics import collect
from agent.telemetry.names import archive_name


def diagnostics(parsed: argparse.Namespace) -> int:
    """0; 1 where the file cannot be written."""
    config = load_config(parsed, "diagnostics")
    if config is None:
        return EXIT_CONFIG
    wall_ms = time.time_ns() // 1_000_000
    out: Path = parsed.out or Path(archive_name(config.station.identity, wall_ms))
    unfinished = out.with_name(f"{out.name}.part")
    try:
        # Its content is for few eyes, whatever the mask of this shell is.
        with os.fdopen(os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w+b") as file:
            manifest = asyncio.run(_collect(file, config, wall_ms))
        unfinished.replace(out)
    except OSError as error:
        print(f"evsed: {error.filename or unfinished}: {error.strerror or error}", file=sys.stderr)
        return 1
    if parsed.json:
        print(replace(manifest, about=manifest.about | {"file": str(out)}).to_json().decode(), end="")
    else:
        _show(manifest, out)
    return 0


async def _collect(file: BinaryIO, config: Config, wall_ms: int) -> Manifest:
    try:
        station = await RemoteStation.connect(config.station.run_dir / "station.sock")
    except StationLost:
        return await collect(file, config, None, wall_ms)
    try:
        return await collect(file, config, station, wall_ms)
    finally:
        await station.close()


def _show(manifest: Manifest, out: Path) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("part", "bytes", ""):
        table.add_column(name, justify="right" if name == "bytes" else "left")
    for member in manifest.members:
        table.add_row(member.name, str(member.bytes), f"{member.cut_bytes} older bytes cut" if member.cut_bytes else "")
    for missing in manifest.missing:
        table.add_row(missing.name, "-", missing.why)
    print_table(table)
    print(f"{out}: {out.stat().st_size} bytes. It holds no passwords, no keys and no whole tokens.")
