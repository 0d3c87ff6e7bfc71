"""Running a simulated world from outside: a recipe in, a result out.

Charter: says in one line which world is meant (``Recipe``), gives it its loop of virtual time and its disk in memory,
silences the product's logs, and turns what comes of it into plain values. One call is one world; several may run in
processes of their own.

Units: ms of virtual time, seconds of real time and of the processor's.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import structlog

from agent.sim.virtual_time import VirtualTimeLoop, now_ms
from agent.sim.world.journal import Entry, concerning
from agent.sim.world.machine import WorldFailed
from agent.sim.world.pace import PACES
from agent.sim.world.profile import PROFILES, Profile
from agent.sim.world.site import drawn_site
from agent.sim.world.world import World

DAY_MS: Final = 86_400_000
MEMORY: Final = next((place for place in (Path("/dev/shm"),) if place.is_dir()), Path(tempfile.gettempdir()))
"""Where a world has its disk: in memory, if the system has a place for that."""

_LOOK_EVERY_S: Final = 3_600
_STEP_MS: Final = DAY_MS // 100  # a replay is told in hundredths of a day
_ERROR_LINES: Final = 12


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a world is."""

    at_ms: int
    transactions: int
    troubles: int


OnProgress = Callable[[Progress], None]
"""Told every virtual hour. It may raise ``Stopped``."""


class Stopped(Exception):
    """Whoever watches a world has seen enough of it."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that makes a world what it is. ``without``: kinds of trouble that are left out of the profile.

    Raises ``ValueError`` for a name that nobody knows, with those that are known."""

    seed: int
    until_ms: int
    faults: str = "harsh"
    pace: str = "minutes"
    without: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for what, name, known in (("fault profile", self.faults, PROFILES), ("pace", self.pace, PACES)):
            if name not in known:
                raise ValueError(f"no {what} {name!r}; there are {', '.join(known)}")
        self.profile()

    def profile(self) -> Profile:
        return PROFILES[self.faults].without(self.without)

    @property
    def line(self) -> str:
        """The command that lives this very world."""
        days = f"{self.until_ms / DAY_MS:.9f}".rstrip("0").rstrip(".")  # finer than a millisecond
        without = f" --without {','.join(sorted(self.without))}" if self.without else ""
        return f"evsed world run --seed {self.seed} --days {days} --faults {self.faults} --pace {self.pace}{without}"


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a world. ``evse``: whom the broken rule concerns, 0 the station; ``entries``: the end of its log;
    ``counts``: what happened how often."""

    recipe: Recipe
    lived_ms: int
    took_s: float
    cpu_s: float
    digest: str
    failure: str
    rule: str
    evse: int
    counts: dict[str, int]
    entries: tuple[Entry, ...]

    @property
    def ok(self) -> bool:
        return not self.failure

    def shortest(self) -> Recipe:
        """The recipe with the fewest days that show the failure. What breaks in the calm at the very end needs that
        end where it was."""
        until_ms = (self.lived_ms // _STEP_MS + 1) * _STEP_MS
        return replace(self.recipe, until_ms=min(until_ms, self.recipe.until_ms))

    def story(self, count: int) -> list[Entry]:
        """The last entries that concern the EVSE in question."""
        return concerning(self.evse, self.entries)[-count:]


def live(recipe: Recipe, on_progress: OnProgress = lambda _: None, within: Path = MEMORY) -> Result:
    """Live a world to its end, or to the first broken rule. An error of the program is a broken rule like others.
    The world's disk is a folder ``within``, gone afterwards. Raises ``Stopped`` if ``on_progress`` does."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL), processors=[_drop])
    started_s, cpu_s = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory(dir=within) as place:
        world = _Lived(recipe, Path(place))
        try:
            with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
                runner.run(world.live(on_progress))
        except asyncio.CancelledError:
            if world.stopped:
                raise Stopped from None
            raise
        except Exception as error:
            text = "".join(traceback.format_exception(error)[-_ERROR_LINES:])
            world.failure = WorldFailed(0, f"an error of the program itself: {text}")
    failure = world.failure
    return Result(
        recipe,
        world.lived_ms,
        time.perf_counter() - started_s,
        time.process_time() - cpu_s,
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

    def __init__(self, recipe: Recipe, place: Path) -> None:
        self._recipe, self._place = recipe, place
        self.failure: WorldFailed | None = None
        self.stopped = False
        self.lived_ms = 0
        self.digest = ""
        self.counts: dict[str, int] = {}
        self.entries: tuple[Entry, ...] = ()

    async def live(self, on_progress: OnProgress) -> None:
        recipe = self._recipe
        pace = PACES[recipe.pace]
        world = World(recipe.seed, recipe.profile(), pace, drawn_site(self._place, recipe.seed, pace))
        living = asyncio.current_task()
        assert living is not None
        watching = asyncio.get_running_loop().create_task(self._watch(world, on_progress, living))
        try:
            await world.run(recipe.until_ms)
        except WorldFailed as failure:
            self.failure = failure
        finally:
            watching.cancel()
            self.lived_ms = now_ms()
            self.digest = world.journal.digest
            self.counts = world.counts()
            self.entries = tuple(world.journal.entries)
            await world.close()

    async def _watch(self, world: World, on_progress: OnProgress, living: asyncio.Task[None]) -> None:
        try:
            while True:
                on_progress(Progress(now_ms(), world.mirror.transactions, world.troubles.counts.total()))
                await asyncio.sleep(_LOOK_EVERY_S)
        except Stopped:
            self.stopped = True
            living.cancel()
