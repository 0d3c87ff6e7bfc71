"""Start-up time, memory and idle CPU of station and gateway with two EVSEs metered at 1 Hz."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from tests.bench.processes import PRODUCT, cpu_s, memory, pid_of
from tests.bench.raw_csms import RawCsms
from tests.bench.result import Figure, Tell, spread
from tests.bench.scene import heard, stage_with, start_devices

_BOARDS = ("mcu_ac", "mcu_ac")
_AIM_MIB, _AIM_BOOT_S, _AIM_CPU_PERCENT = 64.0, 0.6, 1.0


async def measure_boot(tell: Tell, starts: int) -> list[Figure]:
    """From the launch of ``evsed run`` to BootNotification at the CSMS, each time on a fresh ledger."""
    took_s = [await _boot_s() for _ in range(starts)]
    tell(f"{starts} starts")
    return spread("start to BootNotification", took_s, "s", p50=_AIM_BOOT_S)


async def _boot_s() -> float:
    booted, at = asyncio.Event(), [0]
    csms = RawCsms("1.6", lambda action, _payload, at_ns: _note_boot(action, at_ns, booted, at))
    async with stage_with(csms, _BOARDS, 60) as stage:
        await start_devices(stage)
        launched_ns = time.monotonic_ns()
        await stage.launch("run")
        await heard(booted, "BootNotification")
        return (at[0] - launched_ns) / 1e9


def _note_boot(action: str, at_ns: int, booted: asyncio.Event, at: list[int]) -> None:
    if action == "BootNotification" and not booted.is_set():
        at[0] = at_ns
        booted.set()


async def measure_idle(tell: Tell, wait_s: int) -> list[Figure]:
    """Memory and CPU at rest: memory at the end of ``wait_s``, CPU over all of it but the first 5 s."""
    csms = RawCsms("1.6")
    async with stage_with(csms, _BOARDS, 60) as stage:
        await stage.start()
        await heard(csms.connected, "the CSMS link")
        await asyncio.sleep(5)
        pids = {name: pid_of(stage, name) for name in PRODUCT}
        begin = {name: cpu_s(pid) for name, pid in pids.items()}
        since_s = time.monotonic()
        tell(f"idle for {wait_s} s")
        await asyncio.sleep(wait_s)
        passed_s = time.monotonic() - since_s
        percent = {name: (cpu_s(pid) - begin[name]) / passed_s * 100 for name, pid in pids.items()}
        return [*_memory_figures(pids), *_cpu_figures(percent)]


def _memory_figures(pids: dict[str, int]) -> list[Figure]:
    found: list[Figure] = []
    total: dict[str, float] = {"rss": 0.0, "private": 0.0}
    for name, pid in pids.items():
        sizes = memory(pid)
        for kind, kib in (("rss", sizes.rss_kib), ("private", sizes.private_kib)):
            found.append(Figure(f"{name} {kind}", kib / 1024, "MiB"))
            total[kind] += kib / 1024
    aims: dict[str, Any] = {"rss": _AIM_MIB}
    return found + [Figure(f"together {kind}", mib, "MiB", aims.get(kind)) for kind, mib in total.items()]


def _cpu_figures(percent: dict[str, float]) -> list[Figure]:
    each = [Figure(f"{name} idle CPU", value, "% of a core") for name, value in percent.items()]
    return [*each, Figure("together idle CPU", sum(percent.values()), "% of a core", _AIM_CPU_PERCENT)]
