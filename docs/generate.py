"""Write the documents that are made from code, or check that they are current (``--check``)."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from agent.core import contactor, faults, lock, session
from agent.core.table import Table
from agent.firmware import phases
from agent.health.catalogue import CATALOGUE

FILE = Path(__file__).parent / "state-machines.md"
MACHINES: tuple[tuple[ModuleType, Table[Any, Any]], ...] = (
    (session, session.SESSION),
    (contactor, contactor.CONTACTOR),
    (lock, lock.LOCK),
    (phases, phases.UPDATE),
)


def machine(module: ModuleType, table: Table[Any, Any]) -> str:
    events = list(dict.fromkeys(event for row in table.rows.values() for event in row))
    lines = [f"## {table.name}", "", (module.__doc__ or "").strip(), "", "```mermaid", table.mermaid(), "```", ""]
    lines += [
        "| state \\ event | " + " | ".join(event.value for event in events) + " |",
        "|---" * (len(events) + 1) + "|",
    ]
    for state, row in table.rows.items():
        cells = ["·" if event not in row else "stay" if row[event] is state else row[event].value for event in events]
        lines.append(f"| **{state.value}** | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def catalogue() -> str:
    lines = ["## faults", "", (faults.__doc__ or "").strip(), ""]
    lines += ["| code | part | severity | meaning | what to do | clears | OCPP 1.6 | OCPP 2.0.1 | ends a transaction |"]
    lines += ["|---" * 9 + "|"]
    ends = {code.value: spec.ends.value for code, spec in faults.SPECS.items() if spec.ends is not None}
    for code, entry in CATALOGUE.items():
        words = (
            code,
            entry.part.value,
            f"{entry.severity.value} {entry.severity.name.lower()}",
            entry.text,
            entry.remedy,
        )
        told = (entry.clears.value, entry.ocpp16, f"{entry.component}.{entry.variable}", ends.get(code, ""))
        lines.append(f"| {' | '.join((*words, *told))} |")
    return "\n".join([*lines, ""])


def document() -> str:
    head = (
        "# State machines\n\nMade from the tables in `agent/core` and `agent/firmware` by `make docs`; do not edit.\n"
    )
    note = "\nA dot means: this event never reaches this state (it would be a programming error).\n"
    return "\n".join([head + note, *(machine(module, table) for module, table in MACHINES), catalogue()])


def main() -> int:
    if "--check" in sys.argv[1:]:
        if not FILE.exists() or FILE.read_text() != document():
            print(f"{FILE.name} is not current: run `make docs`", file=sys.stderr)
            return 1
        return 0
    FILE.write_text(document())
    return 0


if __name__ == "__main__":
    sys.exit(main())
