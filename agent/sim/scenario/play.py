"""Scenarios, and how they are played on a rig.

Charter: a scenario is a name and steps: verbs, and what ``play`` does itself by looking on (draw, wait, expect, hold).
``play`` refuses what the rig cannot do before it begins (``Unplayable``, a skip and never a pass), does one step after
the other, and ends at the first that does not come true (``ScenarioFailed``) with what a person needs to know: which
step, what was expected, what was seen last, what was done and what happened before. It knows no clock: time is the
rig's, deadlines are counted in ``Observation.at_ms``.

Units: milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from agent.sim.scenario.expectations import Condition
from agent.sim.scenario.rig import Observation, Rig, RigTrouble
from agent.sim.scenario.verbs import Command, Verb

POLL_MS = 100
DEADLINE_MS = 40_000
LOOKS = 400  # at most, in one step


@dataclass(frozen=True, slots=True)
class Expect:
    """The condition comes true in time."""

    condition: Condition
    within_ms: int = DEADLINE_MS

    def words(self) -> str:
        return f"expect {self.condition.words}"


@dataclass(frozen=True, slots=True)
class Hold:
    """The condition is true, and stays true for this time."""

    condition: Condition
    for_ms: int

    def words(self) -> str:
        return f"for {self.for_ms} ms: {self.condition.words}"


@dataclass(frozen=True, slots=True)
class Always:
    """From here to the end of the scenario the condition is true whenever somebody looks."""

    condition: Condition

    def words(self) -> str:
        return f"from now on: {self.condition.words}"


@dataclass(frozen=True, slots=True)
class Draw:
    """Energy flows: at least ``wh`` more on the meter, and for at least ``for_ms``."""

    wh: int = 0
    for_ms: int = 0
    evse: int = 1

    def words(self) -> str:
        amount = f"{self.wh} Wh" if self.wh else "some energy"
        return f"EVSE {self.evse}: the car draws {amount}" + (f" in {self.for_ms} ms or more" if self.for_ms else "")


@dataclass(frozen=True, slots=True)
class Wait:
    ms: int

    def words(self) -> str:
        return f"wait {self.ms} ms"


Step = Verb | Expect | Hold | Always | Draw | Wait
expect, hold, always, draw, wait = Expect, Hold, Always, Draw, Wait


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    steps: tuple[Step, ...]


def scenario(name: str, *steps: Step) -> Scenario:
    return Scenario(name, steps)


class Unplayable(Exception):
    """The rig cannot do what the scenario asks for; nothing was begun."""


class ScenarioFailed(AssertionError):
    """A step did not come true; the text is the whole report."""


def check_playable(scenario: Scenario, rig: Rig) -> None:
    """Raises ``Unplayable`` with the steps that this rig cannot do."""
    lacking = [step.words() for step in scenario.steps if isinstance(step, Verb) and type(step) not in rig.can]
    lacking += [
        f"EVSE {number} (it has {rig.evses})"
        for number in sorted({_evse_of(step) for step in scenario.steps})
        if number > rig.evses
    ]
    if lacking:
        raise Unplayable(f"rig {rig.name} cannot: {', '.join(dict.fromkeys(lacking))}")


def _evse_of(step: Step) -> int:
    """The EVSE that it concerns; 0: none, or all."""
    number: int = getattr(step.condition if isinstance(step, Expect | Hold | Always) else step, "evse", 0)
    return number


async def play(scenario: Scenario, rig: Rig, tell: Callable[[str], None] = lambda _: None) -> Observation:
    """Play it; returns what was seen at the end. Each step goes to ``tell`` as it begins.

    What the rig's books held before does not count: a rig at rest (no car, link up, all told) can be used again.

    Raises ``Unplayable`` before anything was done, ``ScenarioFailed``."""
    check_playable(scenario, rig)
    return await _Performance(scenario, rig, tell).run()


@dataclass(slots=True)
class _Performance:
    """One scenario on one rig."""

    scenario: Scenario
    rig: Rig
    tell: Callable[[str], None]
    done: list[str] = field(default_factory=list)
    promises: list[Condition] = field(default_factory=list)
    begin: Observation | None = None
    seen: Observation | None = None

    async def run(self) -> Observation:
        self.begin = await self._look()
        for step in self.scenario.steps:
            seen = await self._look()
            line = f"{(seen.at_ms - self.begin.at_ms) / 1_000:8.1f} s  {step.words()}"
            self.tell(line)
            self.done.append(line)
            await self._take(step, seen)
        return await self._look()

    async def _take(self, step: Step, seen: Observation) -> None:
        match step:
            case Expect(condition, within_ms):
                await self._until(condition.judge, within_ms, seen)
            case Hold(condition, for_ms):
                await self._hold(condition, for_ms, seen)
            case Always(condition):
                self.promises.append(condition)
                self._check_promises(seen)
            case Draw():
                await self._draw(step, seen)
            case Wait(ms):
                await self._hold(None, ms, seen)
            case Verb():
                await self._do(step)

    async def _do(self, verb: Verb) -> None:
        try:
            answer = await self.rig.do(verb)
        except RigTrouble as error:
            raise self._failed(str(error)) from error
        if isinstance(verb, Command) and answer != verb.answer:
            raise self._failed(f"the station answered {answer!r}, not {verb.answer!r}")

    async def _draw(self, step: Draw, begin: Observation) -> None:
        before_mwh = begin.evse(step.evse).metered_mwh

        def judge(seen: Observation) -> str:
            drawn_mwh, passed_ms = seen.evse(step.evse).metered_mwh - before_mwh, seen.at_ms - begin.at_ms
            enough = drawn_mwh >= max(1, step.wh * 1_000) and passed_ms >= step.for_ms
            return "" if enough else f"{drawn_mwh / 1_000:.3f} Wh after {passed_ms} ms"

        await self._until(judge, DEADLINE_MS + step.for_ms, begin)

    async def _hold(self, condition: Condition | None, for_ms: int, begin: Observation) -> None:
        seen = begin
        while True:
            if condition is not None and (wrong := condition.judge(seen)):
                raise self._failed(wrong)
            left_ms = begin.at_ms + for_ms - seen.at_ms
            if left_ms <= 0:
                return
            await self.rig.wait(min(_every_ms(for_ms), left_ms))
            seen = await self._look()

    async def _until(self, judge: Callable[[Observation], str], within_ms: int, begin: Observation) -> None:
        seen, most_ms = begin, within_ms * self.rig.patience
        while wrong := judge(seen):
            if seen.at_ms - begin.at_ms >= most_ms:
                raise self._failed(f"not within {most_ms} ms: {wrong}")
            await self.rig.wait(_every_ms(within_ms))
            seen = await self._look()

    async def _look(self) -> Observation:
        try:
            seen = await self.rig.look()
        except RigTrouble as error:
            raise self._failed(str(error)) from error
        self.seen = seen if self.begin is None else seen.since(self.begin)
        self._check_promises(self.seen)
        return self.seen

    def _check_promises(self, seen: Observation) -> None:
        for promise in self.promises:
            if wrong := promise.judge(seen):
                raise self._failed(f"no longer true: {promise.words}: {wrong}")

    def _failed(self, what: str) -> ScenarioFailed:
        number, count = len(self.done), len(self.scenario.steps)
        step = self.scenario.steps[number - 1].words() if number else "the beginning"
        last = "nothing was seen yet" if self.seen is None else self.seen.words()
        events = () if self.seen is None else self.seen.events
        lines = [
            f"{self.scenario.name}, on rig {self.rig.name}",
            f"  step {number} of {count}: {step}",
            f"  {what}",
            f"  seen last: {last}",
            "  done so far:",
            *(f"    {line}" for line in self.done),
            "  last events:",
            *(f"    {event}" for event in events[-12:]),
        ]
        return ScenarioFailed("\n".join(lines))


def _every_ms(span_ms: int) -> int:
    """How often to look: a wait of hours needs no ten looks a second."""
    return max(POLL_MS, span_ms // LOOKS)
