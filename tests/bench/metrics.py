"""What the local page and its metrics cost: memory of the gateway without and with them, and each scrape."""

from __future__ import annotations

import asyncio
import time

from agent.sim.stage import free_port
from tests.bench.processes import PRODUCT, cpu_s, memory, pid_of
from tests.bench.raw_csms import RawCsms
from tests.bench.result import Figure, Tell, spread
from tests.bench.scene import BenchFailed, heard, stage_with

_BOARDS = ("mcu_ac", "openevse", "mcu_dc")
_AIM_PAGE_MIB = 8.0
_SETTLE_S = 5
_EVERY_S = 1.0


async def measure(tell: Tell, scrapes: int) -> list[Figure]:
    """The same charger twice: without a page, and with one that is scraped once a second."""
    without = await _without_page()
    tell("without a page")
    port = free_port()
    csms = RawCsms("1.6")
    async with stage_with(csms, _BOARDS, 60, f"[web]\nport = {port}\n") as stage:
        await stage.start()
        await heard(csms.connected, "the CSMS link")
        await asyncio.sleep(_SETTLE_S)
        pids = {name: pid_of(stage, name) for name in PRODUCT}
        unread = memory(pids["gateway"]).rss_kib
        begin, since_s = {name: cpu_s(pid) for name, pid in pids.items()}, time.monotonic()
        took_ms, size_bytes = [], 0
        for _ in range(scrapes):
            began_s = time.monotonic()
            size_bytes = await _scrape(port)
            took_ms.append((time.monotonic() - began_s) * 1_000)
            await asyncio.sleep(_EVERY_S)
        passed_s = time.monotonic() - since_s
        tell(f"{scrapes} scrapes")
        used = {name: (cpu_s(pid) - begin[name]) / passed_s * 100 for name, pid in pids.items()}
        scraped = memory(pids["gateway"]).rss_kib
    return [
        Figure("gateway rss without a page", without / 1_024, "MiB"),
        Figure("gateway rss with a page", unread / 1_024, "MiB"),
        Figure("gateway rss once scraped", scraped / 1_024, "MiB"),
        Figure("page and metrics", (scraped - without) / 1_024, "MiB", _AIM_PAGE_MIB),
        *spread("scrape", took_ms, "ms"),
        Figure("size of a scrape", size_bytes / 1_024, "KiB"),
        *(Figure(f"{name} CPU, a scrape a second", percent, "% of a core") for name, percent in used.items()),
    ]


async def _without_page() -> int:
    """KiB of the gateway."""
    csms = RawCsms("1.6")
    async with stage_with(csms, _BOARDS, 60) as stage:
        await stage.start()
        await heard(csms.connected, "the CSMS link")
        await asyncio.sleep(_SETTLE_S)
        return memory(pid_of(stage, "gateway")).rss_kib


async def _scrape(port: int) -> int:
    """Bytes of the answer. Raises ``BenchFailed``."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET /metrics HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
    except OSError as error:
        raise BenchFailed(f"no page at port {port}: {error}") from error
    if not answer.endswith(b"# EOF\n"):
        raise BenchFailed(f"no metrics: {answer[:100]!r}")
    return len(answer)
