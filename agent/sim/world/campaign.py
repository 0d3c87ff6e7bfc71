"""Many worlds on all cores: one process each, none of them ever lost.

Charter: lives recipes one after another in processes of their own, so many at a time, until the time is up; then the
worlds that run are lived to their end. A process that dies, or in which the virtual time stands still, is a failure of
its seed like a broken rule. Sums up what came of all. Prints nothing.

Units: s of real time and of the processors, ms of virtual time.
"""

from __future__ import annotations

import gc
import multiprocessing
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Final

from agent.sim.world.run import MEMORY, Progress, Recipe, Result, live

STANDS_S: Final = 180.0
"""So long the virtual time of a world may stand still: starting a process on a busy machine takes some seconds."""

_TELL_EVERY_S: Final = 0.5
_LOOK_EVERY_S: Final = 0.5
_spawn: Final = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True)
class Failure:
    """``recipe``: the fewest days that show it. ``at_ms``: when it happened, as far as was heard."""

    recipe: Recipe
    at_ms: int
    rule: str
    text: str


@dataclass(slots=True)
class Tally:
    """What came of a campaign so far. ``lived_ms`` is of the worlds that came to an end, ``running_ms`` of those that
    have not yet; ``broken_off`` are the seeds that were not lived to their end, and are not counted."""

    worlds: int = 0
    lived_ms: int = 0
    running_ms: int = 0
    cpu_s: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    broken_off: list[int] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Simulated seconds per second of one processor core."""
        return self.lived_ms / 1_000 / self.cpu_s if self.cpu_s else 0.0

    def by_rule(self) -> dict[str, list[Failure]]:
        """Failures of the same kind together, in order of their seeds."""
        groups: dict[str, list[Failure]] = {}
        for failure in sorted(self.failures, key=lambda each: each.recipe.seed):
            groups.setdefault(failure.rule, []).append(failure)
        return groups

    def add(self, result: Result) -> None:
        self.worlds += 1
        self.lived_ms += result.lived_ms
        self.cpu_s += result.cpu_s
        self.counts.update(result.counts)
        if not result.ok:
            self.failures.append(Failure(result.shortest(), result.lived_ms, result.rule, result.failure))

    def lose(self, recipe: Recipe, at_ms: int, rule: str) -> None:
        """A world whose process told no result."""
        self.worlds += 1
        self.lived_ms += at_ms
        self.failures.append(Failure(recipe, at_ms, rule, rule))


LiveAlone = Callable[[Recipe, Connection, Path], None]
"""Lives a world in a process of its own, its disk in that folder. Sends how far it is (an int, ms), at last what came
of it (``Result``)."""


def live_alone(recipe: Recipe, pipe: Connection, within: Path) -> None:
    gc.freeze()  # what was imported stays: no need to look through it again and again
    told_s = 0.0

    def tell(progress: Progress) -> None:
        nonlocal told_s
        now_s = time.monotonic()
        if now_s - told_s > _TELL_EVERY_S:
            told_s = now_s
            pipe.send(progress.at_ms)

    pipe.send(replace(live(recipe, tell, within), entries=()))


class Campaign:
    """See the module. ``recipes`` need not end: none is begun after ``for_s``. ``tally`` is up to date all the time.
    To be used from the main thread."""

    def __init__(
        self,
        recipes: Iterator[Recipe],
        jobs: int,
        for_s: float,
        *,
        stands_s: float = STANDS_S,
        live_it: LiveAlone = live_alone,
    ) -> None:
        self.tally = Tally()
        self._recipes, self._jobs, self._for_s = recipes, jobs, for_s
        self._stands_s, self._live_it = stands_s, live_it
        self._running: list[_Running] = []

    def run(self, on_look: Callable[[Tally], None] = lambda _: None) -> None:
        """To its end. A ``KeyboardInterrupt`` goes through; the processes have ended then as well."""
        until_s = time.monotonic() + self._for_s
        with tempfile.TemporaryDirectory(dir=MEMORY) as within:  # a process that is killed cannot tidy up
            self._run(until_s, Path(within), on_look)

    def _run(self, until_s: float, within: Path, on_look: Callable[[Tally], None]) -> None:
        try:
            while self._fill(until_s, within):
                wait([each.pipe for each in self._running], timeout=_LOOK_EVERY_S)
                for each in list(self._running):
                    if self._hear(each):
                        self._running.remove(each)
                        each.end()
                self.tally.running_ms = sum(each.at_ms for each in self._running)
                on_look(self.tally)
        finally:
            with _interrupts_ignored():  # who presses twice must not leave anything running
                self.tally.running_ms = 0
                for each in self._running:
                    self.tally.broken_off.append(each.recipe.seed)
                    each.end()
                self._running.clear()

    def _fill(self, until_s: float, within: Path) -> bool:
        """As many worlds as may run at a time, while there is time; whether any runs."""
        while len(self._running) < self._jobs and time.monotonic() < until_s:
            recipe = next(self._recipes, None)
            if recipe is None:
                break
            self._running.append(_Running(recipe, self._live_it, within))
        return bool(self._running)

    def _hear(self, each: _Running) -> bool:
        """What a world has to say; whether it is over."""
        try:
            while each.pipe.poll():
                told = each.pipe.recv()
                if isinstance(told, Result):
                    self.tally.add(told)
                    return True
                each.moves(told)
        except (EOFError, OSError):
            self.tally.lose(each.recipe, each.at_ms, f"the process of the world died ({each.cause()})")
            return True
        if time.monotonic() - each.moved_s > self._stands_s:
            self.tally.lose(each.recipe, each.at_ms, f"the virtual time stood still for {self._stands_s:g} s")
            return True
        return False


class _Running:
    """A world in its process."""

    def __init__(self, recipe: Recipe, live_it: LiveAlone, within: Path) -> None:
        self.recipe = recipe
        self.at_ms = 0
        self.moved_s = time.monotonic()
        self.pipe, far_end = _spawn.Pipe(duplex=False)
        self._process: SpawnProcess = _spawn.Process(target=live_it, args=(recipe, far_end, within), daemon=True)
        with _interrupts_ignored():
            self._process.start()
        far_end.close()

    def moves(self, at_ms: int) -> None:
        if at_ms > self.at_ms:
            self.at_ms, self.moved_s = at_ms, time.monotonic()

    def cause(self) -> str:
        """Why the process ended."""
        self._process.join(timeout=10)
        code = self._process.exitcode
        return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"

    def end(self) -> None:
        self._process.kill()
        self._process.join()
        self._process.close()
        self.pipe.close()


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """A process that is started here inherits this for all its life: only the first process hears of Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
