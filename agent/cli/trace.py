"""``evsed trace``: the OCPP messages of the last hours, as the gateway kept them.

Charter: reads the ring file, asks no process: it also shows what a gateway wrote that is dead by now.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from agent.cli.processes import EXIT_CONFIG, load_config
from agent.telemetry.logs import log_file
from agent.telemetry.ring_file import RingReader, entries, older

EXIT_NOTHING: Final = 1
POLL_S: Final = 0.2
EVERYTHING: Final = 1_000_000  # lines; more than two files hold

_ARROWS: Final = {"out": "->", "in": "<-"}
_MARKS: Final = {"call": "", "result": " =", "error": " !"}


def trace(parsed: argparse.Namespace) -> int:
    """0; 1 where there is no trace."""
    config = load_config(parsed, "trace")
    if config is None:
        return EXIT_CONFIG
    path = log_file(config.station.log_folder("gateway"), "trace")
    try:
        return _show(parsed, path)
    except PermissionError as error:
        print(f"evsed: {path}: {error.strerror}; ask as root or as the gateway's user", file=sys.stderr)
        return EXIT_NOTHING


def _show(parsed: argparse.Namespace, path: Path) -> int:
    if not parsed.follow and not path.exists() and not older(path).exists():
        print(f"evsed: no trace at {path}: no gateway has spoken to a CSMS since this device started", file=sys.stderr)
        return EXIT_NOTHING
    reader = RingReader(path)
    found = _chosen(reader.last(EVERYTHING), parsed.action)
    _print(found[-parsed.last :] if parsed.last else [], parsed.json)
    while parsed.follow:
        time.sleep(POLL_S)
        _print(_chosen(reader.new(), parsed.action), parsed.json)
    return 0


def _chosen(lines: Iterable[str], action: str | None) -> list[dict[str, Any]]:
    wanted = None if action is None else action.casefold()
    return [each for each in entries(lines) if wanted in (None, str(each.get("action", "")).casefold())]


def _print(found: Iterable[dict[str, Any]], as_json: bool) -> None:
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for entry in found:
        text = json.dumps(entry, ensure_ascii=False) if as_json else trace_line(entry)[:width]
        print(text, flush=True)


def trace_line(entry: dict[str, Any]) -> str:
    """``11-24 08:00:00.120 -> BootNotification          3f2a... {...}``; of an answer the action is marked: = is a
    result, ! an error. Characters that a terminal would obey are shown as they are written in Python."""
    said = {name: str(entry.get(name, "")) for name in ("timestamp", "direction", "kind", "id", "action", "frame")}
    at = said["timestamp"][5:23].replace("T", " ")
    what = (said["action"] or "?") + _MARKS.get(said["kind"], " ?")
    line = f"{at} {_ARROWS.get(said['direction'], '??')} {what:<32} {said['id'][:36]:<36} {_payload(said['frame'])}"
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in line)


def _payload(frame: str) -> str:
    """What comes after kind, id and action; a frame that was cut, or is none, as it is."""
    try:
        parts = json.loads(frame)
    except ValueError:
        return frame
    if not isinstance(parts, list):
        return frame
    return " ".join(json.dumps(each, ensure_ascii=False) for each in parts[3 if parts[:1] == [2] else 2 :])
