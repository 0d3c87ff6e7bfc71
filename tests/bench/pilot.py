"""The way from a vehicle that leaves state C to power denied, on the pilot's wire, under a flood from the CSMS.

Charter: the simulated MCU lives in this process and stamps both ends: before its frame "state B" goes
out, and when ``allow_power(False)`` comes in. The simulated contactor has opened by itself long before,
as the real MCU's would; measured is the station's own reaction.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from agent.core.facts import Token
from agent.sim.stage import Stage
from hal.ports import CpState
from hal.sim.mcu_board import SimMcu
from hal.sim.meter import SimMeter, SimMeterLine
from hal.sim.pty import PtyLink
from tests.bench.result import Figure, Tell, spread
from tests.bench.scene import BenchFailed, heard, until

_AIM_P99_MS, _AIM_MAX_MS = 10.0, 50.0
_ALLOW_POWER = 104  # the MCU's field number
_STAY_IN_B_S = 0.12  # longer than the debounce of the session
_BAUD = 9_600


class StampedMcu(SimMcu):
    """The simulated MCU with a stamp on every change of ``allow_power``."""

    def __init__(self, link: Path) -> None:
        super().__init__(link)
        self.allowed, self.denied = asyncio.Event(), asyncio.Event()
        self.denied_ns = 0

    def _obey(self, number: int, value: int | bytes) -> None:
        if number == _ALLOW_POWER and value:
            self.denied.clear()
            self.allowed.set()
        elif number == _ALLOW_POWER and not self.denied.is_set():
            self.denied_ns = time.monotonic_ns()
            self.allowed.clear()
            self.denied.set()
        super()._obey(number, value)


async def measure(tell: Tell, events: int, per_second: int) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="evsed-bench-") as name:
        async with _flood(per_second) as flood:
            assert flood.stdout is not None
            url = (await flood.stdout.readline()).decode().strip()
            stage = Stage(Path(name), url, ("1.6",), 60, ("mcu_ac",))
            stage.lay_out()
            took_ms = await _with_devices(stage, tell, events, flood)
            counts = json.loads(await flood.stdout.readline())
    passed_s, answers = counts["passed_s"], counts["answered"] + counts["refused"]
    return [
        *spread("state C left to power denied", took_ms, "ms", p99=_AIM_P99_MS, max=_AIM_MAX_MS),
        Figure("flood sent", counts["sent"] / passed_s, "messages/s"),
        Figure("flood answered", answers / passed_s, "messages/s"),
        Figure("of these refused", counts["refused"] / max(1, answers) * 100, "%"),
    ]


@contextlib.asynccontextmanager
async def _flood(per_second: int) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.bench.flood",
        str(per_second),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _with_devices(stage: Stage, tell: Tell, events: int, flood: asyncio.subprocess.Process) -> list[float]:
    assert flood.stdin is not None
    mcu = StampedMcu(stage.folder / "dev" / "pilot1")
    meter = SimMeterLine(PtyLink(stage.folder / "dev" / "meter1", baud=_BAUD), [SimMeter()])
    try:
        mcu.start(asyncio.get_running_loop())
        meter.start()
        await stage.launch("run")
        await _authorize(stage, mcu)
        flood.stdin.write(b"go\n")
        took_ms = await _toggle(mcu, tell, events)
        flood.stdin.close()  # before the station ends, so that its end is not counted
        return took_ms
    finally:
        await stage.stop()
        meter.close()
        mcu.close()


async def _authorize(stage: Stage, mcu: StampedMcu) -> None:
    station = await stage.station()
    try:
        async with asyncio.timeout(30):
            while not (await station.status()).online:
                await asyncio.sleep(0.05)
        mcu.vehicle.set_cable_rating(32_000)
        mcu.vehicle.set_cp(CpState.B)
        await asyncio.sleep(1)
        verdict = await station.present_token(Token("04A1B2C3D4E5F6"), 1)
    finally:
        await station.close()
    await until(lambda: mcu.vehicle.offered_current_ma > 0, f"an offer to the car (the card: {verdict})")


async def _toggle(mcu: StampedMcu, tell: Tell, events: int) -> list[float]:
    """Each event falls at a random instant, so that none of the station's own rhythms is favoured."""
    took_ms: list[float] = []
    rng = random.Random(1)
    for number in range(1, events + 1):
        mcu.vehicle.set_cp(CpState.C)
        await heard(mcu.allowed, "power")
        await asyncio.sleep(0.1 + rng.random() * 0.1)
        if not mcu.vehicle.relay_closed:
            raise BenchFailed(f"event {number}: the contactor is not closed")
        left_ns = time.monotonic_ns()
        mcu.vehicle.set_cp(CpState.B)
        await heard(mcu.denied, "power to be denied")
        took_ms.append((mcu.denied_ns - left_ns) / 1e6)
        await asyncio.sleep(_STAY_IN_B_S)
        if number % 50 == 0:
            tell(f"{number} of {events} events")
    return took_ms
