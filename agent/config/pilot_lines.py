"""Where the pilot boards are, whatever is wrong with the configuration.

Charter: for ``evsed make-safe`` alone. A file that a person has broken must not keep a contactor closed, so this reads
no more of it than each EVSE's board and port, judges nothing else, and adds what the last station that started noted
for it (``keep``, in its data directory). Whatever cannot be read is told, and the rest is still returned.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from hal.boards import PilotDriver, PilotPart, bundled_boards

if TYPE_CHECKING:
    from agent.config.model import Config

_NOTE = "pilot-lines.json"
_MAX_BYTES = 256 * 1024
_DATA_DIR = re.compile(r"""^\s*(?:station\.)?data_dir\s*=\s*["']([^"'\n\0]+)""", re.MULTILINE)  # also of broken TOML
_UNUSABLE = (OSError, ValueError, RecursionError, AttributeError, KeyError, TypeError)  # whatever a broken file raises

log = structlog.get_logger("safe")


@dataclass(frozen=True, slots=True)
class PilotLine:
    """A serial line with a pilot board at its end. ``evse`` is for people."""

    port: str
    driver: PilotDriver
    baud: int
    evse: object = field(compare=False)


def pilot_lines(config_file: Path, data_dir: Path | None = None) -> list[PilotLine]:
    """All that the file names and that the last station noted, each once. ``data_dir`` is where the note is, if the
    file does not tell."""
    folder = data_dir_of(config_file) or data_dir
    noted = [] if folder is None else _noted(folder / _NOTE)
    return list(dict.fromkeys([*_named(config_file), *noted]))


def data_dir_of(config_file: Path) -> Path | None:
    """The station's data directory, if the file can be read and tells it."""
    try:
        named = _DATA_DIR.search(_read(config_file))
    except OSError:
        return None
    return None if named is None else config_file.parent / named[1]


def keep(config: Config) -> None:
    """Note the boards of a station that is about to open their ports. A disk that takes no note stops nothing."""
    entries = [
        {
            "evse": evse.id,
            "port": evse.pilot.port,
            "driver": evse.board.pilot.driver.value,
            "baud": evse.board.pilot.baud,
        }
        for evse in config.evse
    ]
    note, text = config.station.data_dir / _NOTE, json.dumps(entries)
    try:
        if not note.exists() or _read(note) != text:
            new = note.with_suffix(".new")
            new.write_text(text)
            new.replace(note)
    except OSError as error:
        log.warning("note not kept", file=str(note), why=error.strerror)


def _named(config_file: Path) -> Iterator[PilotLine]:
    try:
        tables = tomllib.loads(_read(config_file))["evse"]
    except _UNUSABLE as error:
        log.error("the configuration tells no pilot board", file=str(config_file), why=str(error))
        return
    for evse in tables if isinstance(tables, list) else ():
        try:
            board = bundled_boards().get(evse["board"], config_file.parent / evse["board"])
            with board.open("rb") as opened:
                part = tomllib.loads(opened.read(_MAX_BYTES).decode())["pilot"]
            default_baud = PilotPart(driver=PilotDriver(part["driver"])).baud
            yield _line(evse["pilot"]["port"], part["driver"], part.get("baud", default_baud), evse.get("id"))
        except _UNUSABLE as error:
            log.error("the configuration does not tell this pilot board", file=str(config_file), why=repr(error))


def _noted(note: Path) -> list[PilotLine]:
    try:
        entries = json.loads(_read(note))
        return [_line(each["port"], each["driver"], each["baud"], each["evse"]) for each in entries]
    except FileNotFoundError:
        return []
    except _UNUSABLE as error:
        log.error("the note of the pilot boards cannot be read", file=str(note), why=repr(error))
        return []


def _line(port: Any, driver: Any, baud: Any, evse: object) -> PilotLine:
    if not isinstance(port, str) or not isinstance(baud, int):
        raise TypeError(f"port {port!r} is no text, or baud {baud!r} no whole number")
    return PilotLine(port, PilotDriver(driver), baud, evse)


def _read(file: Path) -> str:
    with file.open("rb") as opened:
        return opened.read(_MAX_BYTES).decode("utf-8", errors="replace")
