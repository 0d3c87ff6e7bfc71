"""``evsed web-secret``: the technician's secret of the local page, set at commissioning.

Charter: asks twice at a terminal (or takes one line of a pipe), and writes the hash to the file that the configuration
names. The secret itself is kept nowhere. Old sessions of the page end with the gateway's next start.
"""

from __future__ import annotations

import argparse
import grp
import os
import sys
from getpass import getpass
from pathlib import Path

from agent.cli.processes import EXIT_CONFIG, load_config
from agent.ipc.peer import GATEWAY_USER
from agent.web import secret

_FILE_MODE = 0o640


def web_secret(parsed: argparse.Namespace) -> int:
    """0: written; 1: not, and why."""
    config = load_config(parsed, "cli")
    if config is None:
        return EXIT_CONFIG
    file = None if config.web is None else config.web.technician_secret_file
    if file is None:
        print("evsed: the configuration names no technician_secret_file in a table [web]", file=sys.stderr)
        return EXIT_CONFIG
    try:
        line = secret.made(_asked())
        _write(file, f"{line}\n")
    except (ValueError, OSError) as error:
        print(f"evsed: {error}", file=sys.stderr)
        return 1
    print(f"written: {file}")
    return 0


def _asked() -> str:
    """Raises ``ValueError`` where the two do not agree."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    first = getpass(f"Secret for technicians ({secret.SECRET_MIN_CHARS} characters or more): ")
    if getpass("The same again: ") != first:
        raise ValueError("the two are not the same, nothing is changed")
    return first


def _write(file: Path, text: str) -> None:
    """As a whole or not at all; readable by the gateway's group where that exists, else by its owner's."""
    new = file.with_name(f"{file.name}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as opened:
        if os.geteuid() == 0 and (group := _gateway_group()) is not None:
            os.fchown(descriptor, 0, group)
        os.fchmod(descriptor, _FILE_MODE)
        opened.write(text)
        opened.flush()
        os.fsync(descriptor)
    new.replace(file)


def _gateway_group() -> int | None:
    try:
        return grp.getgrnam(GATEWAY_USER).gr_gid
    except KeyError:
        return None
