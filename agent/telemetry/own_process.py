"""What this process takes of the machine, and how punctual its event loop is.

Charter: asks the kernel about ourselves; Linux only. For the statistics of station and gateway alike.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from agent.ipc.statistics import ProcessStatistics
from agent.telemetry.loop_lateness import LoopLateness

_STATM = Path("/proc/self/statm")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class OwnProcess:
    """This process from here on; made inside its event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._started_s = time.monotonic()
        self._lateness = LoopLateness(loop)
        self._lateness.start()

    def read(self) -> ProcessStatistics:
        resident_pages = int(_STATM.read_text().split()[1])
        return ProcessStatistics(
            uptime_ms=round((time.monotonic() - self._started_s) * 1_000),
            rss_bytes=resident_pages * _PAGE_BYTES,
            cpu_us=time.process_time_ns() // 1_000,
            lateness=self._lateness.read(),
        )
