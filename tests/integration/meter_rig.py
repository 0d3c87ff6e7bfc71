"""The meter driver and its simulated meter, joined by a pty, for the tests at the wire.

Charter: build the rig, collect what the driver tells, wait for the one event that matters.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hal.meters.modbus_meter import ModbusMeter, ModbusMeterConfig, meters_on_lines
from hal.ports import Back, Lost, MeterEvent, MeterReading
from hal.sim.meter import SimMeter, SimMeterLine
from hal.sim.pty import PtyLink

TIMEOUT_MS = 60
DRAIN_MS = 60
DEADLINE_S = 5.0  # only a failing test waits this long


def now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


@dataclass
class Log:
    """All events of one meter, and waiting for the one that matters."""

    events: list[MeterEvent] = field(default_factory=list)

    def __call__(self, event: MeterEvent) -> None:
        self.events.append(event)

    @property
    def readings(self) -> list[MeterReading]:
        return [event for event in self.events if isinstance(event, MeterReading)]

    @property
    def changes(self) -> list[Lost | Back]:
        return [event for event in self.events if isinstance(event, Lost | Back)]

    async def until(self, told: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not told():
                await asyncio.sleep(0.002)

    async def next_reading(self) -> MeterReading:
        count = len(self.readings)
        await self.until(lambda: len(self.readings) > count)
        return self.readings[-1]

    async def next_change(self) -> Lost | Back:
        count = len(self.changes)
        await self.until(lambda: len(self.changes) > count)
        return self.changes[-1]


@dataclass
class Rig:
    """One simulated meter, its driver, and what the driver told."""

    sim: SimMeter
    line: SimMeterLine
    meter: ModbusMeter
    log: Log


def config_for(path: str, unit_id: int = 1, **changes: Any) -> ModbusMeterConfig:
    usual: dict[str, Any] = {
        "map_name": "eastron_sdm630",
        "max_power_w": 50_000,
        "poll_ms": 20,
        "timeout_ms": TIMEOUT_MS,
        "gap_ms": 2,
        "drain_ms": DRAIN_MS,
        "lost_after_polls": 2,
    }
    return ModbusMeterConfig(port=path, unit_id=unit_id, **(usual | changes))


@asynccontextmanager
async def wire(tmp_path: Path, *sims: SimMeter, baud: int | None = None) -> AsyncIterator[SimMeterLine]:
    line = SimMeterLine(PtyLink(tmp_path / "rs485", baud=baud), sims)
    line.start()
    try:
        yield line
    finally:
        line.close()


@asynccontextmanager
async def rig(
    tmp_path: Path, *, sim: SimMeter | None = None, started: bool = True, **changes: Any
) -> AsyncIterator[Rig]:
    """A meter with 1000 kWh and its driver, running and past its first reading."""
    sim = sim or SimMeter()
    sim.values.energy_import_mwh = 1_000_000_000
    async with wire(tmp_path, sim) as line:
        [meter] = meters_on_lines([config_for(line.path, **changes)], now_ms)
        log = Log()
        meter.start(log)
        try:
            if started:
                await log.next_reading()
            yield Rig(sim, line, meter, log)
        finally:
            await meter.close()


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run, and let nothing crash unseen in a callback of the loop."""

    async def watched() -> None:
        crashes: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: crashes.append(context))
        await scenario()
        assert crashes == []

    asyncio.run(watched())
