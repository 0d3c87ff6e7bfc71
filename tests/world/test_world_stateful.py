"""Whatever hands do to a simulated station, in whatever order: Hypothesis plays, the world's own rules judge.

One machine is one quiet world on a loop of virtual time that is kept between the steps. Each step is something that a
driver, a network, the mains, a disk, a device, an operator or a clock does, or time that passes. After each the world
must not have found a broken rule; at the end the weather calms down, all comes to rest, and all accounts agree. What
fails is shrunken to few steps, and told in plain words with the end of the world's log.

``EVSED_STATEFUL=n`` plays n examples instead of the few of ``make test``.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import shutil
import tempfile
from collections.abc import Awaitable
from dataclasses import replace
from pathlib import Path

import hypothesis.strategies as st
import structlog
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agent.sim.virtual_time import VirtualTimeLoop
from agent.sim.world.calm import calm_down
from agent.sim.world.device_faults import Fault
from agent.sim.world.order_words import Wish
from agent.sim.world.pace import MINUTES
from agent.sim.world.profile import HARSH, QUIET
from agent.sim.world.site import TOKENS, UNKNOWN_TOKEN, drawn_site
from agent.sim.world.vehicle import Habit, Kind, Vehicle
from agent.sim.world.world import REWINDS, World

EXAMPLES = int(os.environ.get("EVSED_STATEFUL", "25"))
STEPS = 30
LOG_LINES = 40
SETTLES_WITHIN_S = 10 * 86_400
_MEMORY = Path("/dev/shm")
_PACE = replace(MINUTES, idle_poll_ms=1_800_000)
_PROFILE = replace(QUIET, rude=HARSH.rude)
_DAY_MS = 86_400_000
_CHATTER_MS = 400_000  # a car that toggles all day costs seconds of real time and tells nothing new
EVSES = st.sampled_from((1, 2))  # a second one is the first where a station has but one
CLOCK_STEPS_MS = (3_600_000, -3_600_000, -7_000, 30 * _DAY_MS, -400 * _DAY_MS, 50 * 365 * _DAY_MS)


class Hands(World):
    """A world in which nobody comes by themselves, with what a test's hands can do besides."""

    def begin(self) -> None:
        self._switch_on()

    def break_here(self, evse: int, fault: Fault) -> None:
        if self.outlets[evse].applies(fault):
            self.disturb(evse)
            self._rewound[evse] += fault in REWINDS
            self.outlets[evse].fault(fault)

    def mend(self, evse: int) -> None:
        self.disturb(evse)
        self.outlets[evse].clear()

    async def calm_down(self) -> None:
        self.link_up()
        self.fill_disk(False)
        await asyncio.sleep(2 * _PACE.idle_poll_ms / 1_000)  # a meter that was set is found at the next look
        await calm_down(self)


class StationMachine(RuleBasedStateMachine):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
        self.folder = Path(tempfile.mkdtemp(dir=_MEMORY if _MEMORY.is_dir() else None))
        self.runner = asyncio.Runner(loop_factory=VirtualTimeLoop)
        self.world: Hands | None = None
        self.cars = 0

    @initialize(seed=st.integers(0, 199))
    def a_station_starts(self, seed: int) -> None:
        async def begin() -> Hands:
            world = Hands(seed, _PROFILE, _PACE, drawn_site(self.folder, seed, _PACE))
            world.begin()
            return world

        self.world = self.runner.run(begin())
        self.let_pass(120_000)

    # -------------------------------------------------------------------------------------- time

    def let_pass(self, ms: int) -> None:
        self.runner.run(asyncio.sleep(ms / 1_000))

    def do(self, work: Awaitable[object]) -> None:
        async def main() -> None:
            await work

        self.runner.run(main())

    @property
    def here(self) -> Hands:
        assert self.world is not None
        return self.world

    def place(self, evse: int) -> int:
        return min(evse, len(self.here.outlets))

    @rule(ms=st.sampled_from((1, 50, 700, 5_000, 40_000, 400_000, 3_600_000, _DAY_MS)))
    def time_passes(self, ms: int) -> None:
        chatter = any(each.vehicle and Habit.CHATTER in each.vehicle.habits for each in self.here.outlets.values())
        self.let_pass(min(ms, _CHATTER_MS) if chatter else ms)

    # ------------------------------------------------------------------------------------ drivers

    @rule(evse=EVSES, habit=st.sampled_from((None, None, None, *Habit)), wants_kwh=st.sampled_from((1, 20)))
    def plug(self, evse: int, habit: Habit | None, wants_kwh: int) -> None:
        async def main() -> None:
            self.cars += 1
            habits = frozenset() if habit is None else frozenset({habit})
            car = Vehicle(Kind(), wants_kwh * 1_000_000, random.Random(self.cars), habits=habits)
            self.here.outlets[self.place(evse)].plug(car)

        self.do(main())

    @rule(evse=EVSES, forced=st.booleans())
    def unplug(self, evse: int, forced: bool) -> None:
        async def main() -> None:
            self.here.outlets[self.place(evse)].unplug(forced=forced)

        self.do(main())

    @rule(evse=EVSES, token=st.sampled_from((*TOKENS[:2], UNKNOWN_TOKEN)))
    def swipe(self, evse: int, token: str) -> None:
        async def main() -> None:
            self.here.swipe(self.place(evse), token)

        self.do(main())

    # ------------------------------------------------------------------- mains, processes, disk, clock

    @rule(lost=st.booleans(), stands=st.booleans())
    def power_fails(self, lost: bool, stands: bool) -> None:
        self._hand("cut_power", clock_lost=lost, clock_stands=stands)

    @rule()
    def power_comes_back(self) -> None:
        self._hand("restore_power")

    @rule(what=st.sampled_from(("kill_station", "kill_gateway", "fail_next_sync")))
    def process_dies_or_disk_fails(self, what: str) -> None:
        self._hand(what)

    @rule(full=st.booleans())
    def disk_full(self, full: bool) -> None:
        self._hand("fill_disk", full)

    @rule(by_ms=st.sampled_from(CLOCK_STEPS_MS), whose=st.sampled_from(("step_machine_clock", "csms_tells_wrong_time")))
    def clock_steps(self, by_ms: int, whose: str) -> None:
        self._hand(whose, by_ms)

    # ------------------------------------------------------------------------------- network and CSMS

    @rule(silently=st.booleans())
    def link_goes_down(self, silently: bool) -> None:
        self._hand("link_down", silently=silently)

    @rule(what=st.sampled_from(("link_up", "link_up", "cut_link", "link_half_open")))
    def link(self, what: str) -> None:
        self._hand(what)

    @rule(on=st.booleans())
    def rude_csms(self, on: bool) -> None:
        self._hand("rude", on)

    @precondition(lambda self: self.world is not None and self.world.office.version is not None)
    @rule(wish=st.sampled_from(tuple(Wish)))
    def operator_orders(self, wish: Wish) -> None:
        async def main() -> None:
            await self.here.operator.order(wish)

        self.do(main())

    # ------------------------------------------------------------------------------------- devices

    @rule(evse=EVSES, fault=st.sampled_from([fault for fault in Fault if fault is not Fault.METER_EXCHANGED]))
    def device_breaks(self, evse: int, fault: Fault) -> None:
        async def main() -> None:
            self.here.break_here(self.place(evse), fault)

        self.do(main())

    @rule(evse=EVSES)
    def devices_are_mended(self, evse: int) -> None:
        self._hand("mend", self.place(evse))

    def _hand(self, name: str, *arguments: object, **named: object) -> None:
        """One of the world's hands, within its loop."""

        async def main() -> None:
            getattr(self.here, name)(*arguments, **named)

        self.do(main())

    # -------------------------------------------------------------------------------------- rules

    @invariant()
    def no_rule_is_broken(self) -> None:
        if self.world is not None and self.world.failure is not None:
            raise AssertionError(self._words())

    def teardown(self) -> None:
        try:
            if self.world is not None and self.world.failure is None:
                self.runner.run(asyncio.wait_for(self.here.calm_down(), SETTLES_WITHIN_S))
                self.no_rule_is_broken()
        finally:
            if self.world is not None:
                self.runner.run(self.here.close())
            self.runner.close()
            shutil.rmtree(self.folder)

    def _words(self) -> str:
        world = self.here
        assert world.failure is not None
        log = "\n".join(f"  {entry}" for entry in world.journal.last(LOG_LINES))
        return f"seed {world.seed}: {world.failure.text}\n{log}"


TestStation = StationMachine.TestCase
TestStation.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    derandomize="EVSED_STATEFUL" not in os.environ,
    suppress_health_check=list(HealthCheck),
)
