"""Looking at running processes through /proc: memory and CPU time. Linux only.

Units: KiB, seconds.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from agent.sim.stage import Stage

PRODUCT = ("station", "gateway")


@dataclass(frozen=True, slots=True)
class Memory:
    """``rss_kib`` counts shared pages in full, ``private_kib`` those of this process alone."""

    rss_kib: int
    private_kib: int


def pid_of(stage: Stage, process: str) -> int:
    """The process of this stage by its command line. Raises ``LookupError``."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:  # ended meanwhile
            continue
        if process.encode() in words and str(stage.config_file).encode() in words:
            return int(entry.name)
    raise LookupError(process)


def memory(pid: int) -> Memory:
    sizes: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value = line.split(":")
        sizes[name] = int(value.split()[0])
    return Memory(sizes["Rss"], sizes["Private_Clean"] + sizes["Private_Dirty"])


def cpu_s(pid: int) -> float:
    """User and system time that the process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
