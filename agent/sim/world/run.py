"""Running a simulated world from outside: a seed in, a result out.

Charter: gives the world its loop of virtual time and its disk in memory, silences the product's logs, and turns what
comes of it into plain values. One call is one world; several may run in processes of their own.

Units: ms of virtual time, seconds of real time.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from agent.sim.virtual_time import VirtualTimeLoop
from agent.sim.world.journal import Entry
from agent.sim.world.pace import Pace
from agent.sim.world.profile import Profile
from agent.sim.world.world import Progress, World, WorldFailed

_MEMORY = Path("/dev/shm")


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a world. ``entries``: the end of its log; ``counts``: what happened how often."""

    seed: int
    lived_ms: int
    took_s: float
    digest: str
    failure: str
    rule: str
    evse: int
    counts: dict[str, int]
    entries: tuple[Entry, ...]

    @property
    def ok(self) -> bool:
        return not self.failure


def run_world(
    seed: int, profile: Profile, pace: Pace, until_ms: int, on_progress: Callable[[Progress], None] = lambda _: None
) -> Result:
    """Live one world to its end, or to the first broken rule."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL), processors=[_drop])
    started_s = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as place:
        world = _Lived(seed, profile, pace, Path(place))
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            runner.run(world.live(until_ms, on_progress))
    took_s = time.perf_counter() - started_s
    failure = world.failure
    return Result(
        seed,
        world.lived_ms,
        took_s,
        world.digest,
        "" if failure is None else failure.text,
        "" if failure is None else failure.rule,
        0 if failure is None else failure.evse,
        world.counts,
        world.entries,
    )


def _drop(_logger: object, _method: str, _event: object) -> str:
    """What a station logs is not asked for here."""
    raise structlog.DropEvent


class _Lived:
    """What is kept of a world when its loop is gone."""

    def __init__(self, seed: int, profile: Profile, pace: Pace, place: Path) -> None:
        self._arguments = seed, profile, pace, place
        self.failure: WorldFailed | None = None
        self.lived_ms = 0
        self.digest = ""
        self.counts: dict[str, int] = {}
        self.entries: tuple[Entry, ...] = ()

    async def live(self, until_ms: int, on_progress: Callable[[Progress], None]) -> None:
        world = World(*self._arguments)
        try:
            await world.run(until_ms, on_progress)
        except WorldFailed as failure:
            self.failure = failure
        finally:
            self.lived_ms = round(asyncio.get_running_loop().time() * 1_000)
            self.digest = world.journal.digest
            self.counts = world.counts()
            self.entries = tuple(world.journal.entries)
            await world.close()
