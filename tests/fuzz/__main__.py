"""``python -m tests.fuzz``: list the targets, replay a case, or fuzz with coverage.

list                          the targets
replay TARGET FILE            feed one file to one target; 1 and the traceback where it is a finding
run [TARGET ...] [--seconds N] [--python FILE]    see ``campaign``; 1 where something was found
"""

from __future__ import annotations

import argparse
import sys
import traceback
from pathlib import Path

import structlog

from tests.fuzz.campaign import campaign
from tests.fuzz.table import TARGETS, corpus
from tests.fuzz.target import feed


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list")
    replaying = commands.add_parser("replay")
    replaying.add_argument("target", choices=TARGETS, metavar="TARGET")
    replaying.add_argument("file", type=Path)
    running = commands.add_parser("run")
    running.add_argument("targets", nargs="*", metavar="TARGET")
    running.add_argument("--seconds", type=int, default=20)
    running.add_argument("--python", type=Path, default=Path(".venv-fuzz/bin/python"))
    parsed = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    if parsed.command == "list":
        for name in TARGETS:
            print(f"{name:20} {len(corpus(name))} found cases")
        return 0
    if parsed.command == "replay":
        return _replay(parsed.target, parsed.file.read_bytes())
    if unknown := set(parsed.targets) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    return 0 if campaign(parsed.targets or list(TARGETS), parsed.seconds, parsed.python) else 1


def _replay(name: str, data: bytes) -> int:
    try:
        feed(TARGETS[name], data)
    except Exception:
        traceback.print_exc()
        return 1
    print(f"{name}: {len(data)} bytes end as they should")
    return 0


if __name__ == "__main__":
    sys.exit(main())
