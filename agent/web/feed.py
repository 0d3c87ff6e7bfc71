"""What all pages show of the station at an instant, taken once for all of them.

Charter: asks the station once a second, oftener only while connectors change, and every ten seconds while nobody looks.
Keeps the last hour's power for the chart. However many browsers there are, the station is asked no oftener. Nothing is
kept on disk: this process may be killed at any instant.

Units: mW; monotonic seconds inside.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import structlog

from agent.health.model import PartHealth
from agent.ipc.port import ConnectorChanged, HealthChanged, News, StationLost, StationStatus
from agent.ipc.statistics import Temperature
from agent.ocpp.waiting import happens
from agent.web.station_line import StationLine

LIVE_S = 1.0
QUIET_S = 10.0
CHART_POINTS = 360  # of QUIET_S each: an hour
_ANSWER_S = 5.0
_GROUP_S = 0.25
_BEGINNINGS_MAX = 64  # remembered transactions: as many as a station can have EVSEs

log = structlog.get_logger("web")


@dataclass(frozen=True, slots=True)
class Point:
    """The power of each EVSE (mW; None: not known) at a wall time."""

    wall_ms: int
    power_mw: Mapping[int, int | None]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """``status`` None: the station is away. ``began``: wall times at which the running transactions began. Health is
    of the last change, or ten seconds old at most; temperatures are as old."""

    version: int = 0
    at_s: float = float("-inf")
    status: StationStatus | None = None
    health: tuple[PartHealth, ...] = ()
    temperatures: tuple[Temperature, ...] = ()
    began: Mapping[str, int] = field(default_factory=dict)


class Feed:
    """The newest snapshot, for whoever wants it now or waits for the next."""

    def __init__(self, line: StationLine) -> None:
        self._line = line
        self.snapshot = Snapshot()
        self.chart: deque[Point] = deque(maxlen=CHART_POINTS)
        self._listeners = 0
        self._parts_at_s = float("-inf")
        self._lock = asyncio.Lock()
        self._changed = asyncio.Event()
        self._wake = asyncio.Event()

    def hear(self, news: News | None) -> None:
        """What makes the snapshot an old one; None: the station is gone."""
        if not isinstance(news, ConnectorChanged | HealthChanged | None):
            return
        if not isinstance(news, ConnectorChanged):
            self._parts_at_s = float("-inf")
        self.snapshot = replace(self.snapshot, at_s=float("-inf"))
        if self._listeners:
            self._wake.set()

    async def run(self) -> None:
        """For ever."""
        next_point_s = 0.0
        while True:
            await self.fresh()
            if (now_s := time.monotonic()) >= next_point_s:
                next_point_s = now_s + QUIET_S
                self._draw()
            wait_s = LIVE_S if self._listeners else QUIET_S
            if await happens(self._wake, wait_s):
                await asyncio.sleep(_GROUP_S)  # changes come in groups
            self._wake.clear()

    async def fresh(self) -> Snapshot:
        """A snapshot not older than a second."""
        async with self._lock:
            if time.monotonic() - self.snapshot.at_s >= 0.9 * LIVE_S:
                await self._refresh()
                self._changed.set()
                self._changed = asyncio.Event()
            return self.snapshot

    async def next(self, version: int, within_s: float) -> Snapshot:
        """The first snapshot newer than ``version``; the same one again where none comes in time."""
        if self.snapshot.version <= version:
            await happens(self._changed, within_s)
        return self.snapshot

    @contextmanager
    def listening(self) -> Iterator[None]:
        """While somebody listens, the station is asked every second."""
        self._listeners += 1
        self._wake.set()
        try:
            yield
        finally:
            self._listeners -= 1

    async def _refresh(self) -> None:
        before = self.snapshot
        after = replace(before, version=before.version + 1, at_s=time.monotonic())
        try:
            async with asyncio.timeout(_ANSWER_S):
                status = await self._line.port.status()
                after = replace(after, status=status, began=await self._began(status))
                if after.at_s - self._parts_at_s >= QUIET_S:
                    self._parts_at_s = after.at_s
                    health = tuple(await self._line.port.health())
                    temperatures = (await self._line.port.statistics()).temperatures
                    after = replace(after, health=health, temperatures=temperatures)
        except (StationLost, TimeoutError) as error:
            log.debug("station gives no status", reason=str(error))
            self._parts_at_s = float("-inf")
            after = replace(after, status=None, health=(), temperatures=())
        self.snapshot = after

    async def _began(self, status: StationStatus) -> Mapping[str, int]:
        running = {view.tx_id for view in status.evses if view.tx_id is not None}
        known = {tx_id: at for tx_id, at in self.snapshot.began.items() if tx_id in running}
        if running - set(known):
            lines = await self._line.port.receipts(_BEGINNINGS_MAX, None)
            known |= {line.tx_id: line.begin_wall_ms for line in lines if line.tx_id in running}
        return known

    def _draw(self) -> None:
        status = self.snapshot.status
        if status is not None:
            self.chart.append(Point(status.wall_ms, {view.evse: view.power_mw for view in status.evses}))
