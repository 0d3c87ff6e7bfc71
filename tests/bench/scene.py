"""What all benches share: a stage with a CSMS, ended in any case, and waiting with an end."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from agent.sim.stage import Stage
from tests.bench.raw_csms import RawCsms


class BenchFailed(Exception):
    """Something that a measurement needs did not happen; the text says what."""


@contextlib.asynccontextmanager
async def stage_with(csms: RawCsms, boards: tuple[str, ...], sample_s: int, extra: str = "") -> AsyncIterator[Stage]:
    """A laid-out stage in a directory of its own; only the CSMS is started. ``extra``: more configuration."""
    with tempfile.TemporaryDirectory(prefix="evsed-bench-") as folder:
        stage = Stage(Path(folder), await csms.start(), (csms.version,), sample_s, boards, extra=extra)
        stage.lay_out()
        try:
            yield stage
        finally:
            await stage.stop()
            await csms.stop()


async def start_devices(stage: Stage) -> None:
    """Start the simulated devices alone, so that the product's own start can be timed."""
    process = await stage.launch("sim-bench")
    socket = stage.run_dir / "bench.sock"
    await until(lambda: socket.exists() or process.returncode is not None, "the simulated devices")
    if process.returncode is not None:
        raise BenchFailed("the simulated devices did not start")


async def until(is_so: Callable[[], bool], what: str, within_s: float = 60.0) -> None:
    """Poll every 5 ms. Raises ``BenchFailed``."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + within_s
    while not is_so():
        if loop.time() > deadline_s:
            raise BenchFailed(f"waited {within_s:.0f} s for {what}")
        await asyncio.sleep(0.005)


async def heard(event: asyncio.Event, what: str, within_s: float = 60.0) -> None:
    """Wait for ``event`` without polling. Raises ``BenchFailed``."""
    try:
        await asyncio.wait_for(event.wait(), within_s)
    except TimeoutError:
        raise BenchFailed(f"waited {within_s:.0f} s for {what}") from None
