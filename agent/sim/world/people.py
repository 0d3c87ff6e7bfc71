"""The people at an outlet of the simulated world: how they come, pay, wait, lose patience, and leave.

Charter: one ``Visit`` is a plan drawn beforehand from a seeded ``random.Random``; a ``Driver`` carries it out with a
pair of ``Hands``, which may belong to this world or to any other rig. ``Traffic`` is one visit after the other, with
a bystander now and then. People know nothing of the station: they plug, swipe, look whether it charges, and pull.

Units: milliseconds; milliwatt-hour.
"""

from __future__ import annotations

import asyncio
import enum
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from agent.sim.world.outlet import Outlet
from agent.sim.world.vehicle import Habit, Kind, Vehicle

_LOOK_MS = 60_000  # how often somebody looks whether the car is full
_TRIES = 12  # to pull a locked plug, before help is called
_HELP_MS = 3_600_000
_KWH = 1_000_000
_DAY_MS = 86_400_000
_LONG_STAY_MS = (_DAY_MS // 2, 9 * _DAY_MS)
_SLEEPS_MS = (3_600_000, 3 * _DAY_MS)
_DOZES_MS = (10_000, 600_000)


class Hands(Protocol):
    """What a person can do, see and hear at one outlet."""

    def plug(self, vehicle: Vehicle) -> bool:
        """False: it does not go in."""
        ...

    def unplug(self, *, forced: bool = False) -> bool:
        """False: it does not come out. ``forced``: by the emergency release."""
        ...

    def swipe(self, token: str) -> None: ...

    async def closes(self) -> None:
        """Returns when the contactor is next heard to close."""
        ...


class Coming(enum.StrEnum):
    """How a visit begins."""

    PLUG_THEN_SWIPE = "plugs, then swipes"
    SWIPE_THEN_PLUG = "swipes, then plugs"
    PLUG_ONLY = "plugs and never swipes"
    SWIPE_ONLY = "swipes and never plugs"
    SWIPE_TWICE = "plugs and swipes twice in a row"
    WRONG_TOKEN_FIRST = "plugs, swipes a strange token, then the right one"


class Leaving(enum.StrEnum):
    """How it ends."""

    WHEN_FULL = "waits until the car is full"
    UNPLUGGING = "pulls the plug when the time is up"
    SWIPING = "swipes to stop when the time is up"
    WHILE_AUTHORIZING = "pulls the plug right after swiping"
    AS_IT_CLOSES = "pulls the plug as the contactor closes"
    IN_THE_ENDING = "swipes to stop and pulls at once"


_ORDINARY_COMING = (Coming.PLUG_THEN_SWIPE, Coming.SWIPE_THEN_PLUG)
_ORDINARY_LEAVING = (Leaving.WHEN_FULL, Leaving.UNPLUGGING, Leaving.SWIPING)


@dataclass(frozen=True, slots=True)
class Visit:
    """A plan. ``stay_ms`` from plug to leaving; ``stranger`` is a token that nobody knows.

    ``again_ms``: plugs in once more, so soon after pulling, and goes through the same again; None: does not."""

    coming: Coming
    leaving: Leaving
    token: str
    stranger: str
    stay_ms: int
    again_ms: int | None = None


class Driver:
    """One person with one car, at one outlet."""

    def __init__(self, visit: Visit, vehicle: Vehicle, hands: Hands, rng: random.Random) -> None:
        self.visit = visit
        self.vehicle = vehicle
        self._hands = hands
        self._rng = rng

    async def run(self) -> None:
        """The whole visit; afterwards the car is gone."""
        await self._charge()
        if self.visit.again_ms is not None and self.visit.coming is not Coming.SWIPE_ONLY:
            await _pass(self.visit.again_ms)
            await self._charge()

    async def _charge(self) -> None:
        try:
            if await self._come():
                await self._leave()
        finally:
            if self.vehicle.plugged:
                self._hands.unplug(forced=True)  # the visit was called off: nobody leaves a car behind

    async def _come(self) -> bool:
        """False: it came to nothing."""
        hands, visit = self._hands, self.visit
        if visit.coming in (Coming.SWIPE_THEN_PLUG, Coming.SWIPE_ONLY):
            hands.swipe(visit.token)
            await self._moment(500, 40_000)
            if visit.coming is Coming.SWIPE_ONLY:
                return False
        if not hands.plug(self.vehicle):
            return False
        if visit.coming in (Coming.SWIPE_THEN_PLUG, Coming.PLUG_ONLY):
            return True
        await self._moment(300, 30_000)
        if visit.coming is Coming.WRONG_TOKEN_FIRST:
            hands.swipe(visit.stranger)
            await self._moment(500, 10_000)
        hands.swipe(visit.token)
        if visit.coming is Coming.SWIPE_TWICE:
            await self._moment(50, 2_000)
            hands.swipe(visit.token)
        return True

    async def _leave(self) -> None:
        hands, visit = self._hands, self.visit
        if visit.leaving is Leaving.WHILE_AUTHORIZING:
            await self._moment(1, 500)
        elif visit.leaving is Leaving.AS_IT_CLOSES:
            await self._hear(visit.stay_ms)
        else:
            await self._stay()
        if visit.leaving in (Leaving.SWIPING, Leaving.IN_THE_ENDING):
            hands.swipe(visit.token)
            await self._moment(*((1, 300) if visit.leaving is Leaving.IN_THE_ENDING else (1_000, 20_000)))
        await self._pull()

    async def _stay(self) -> None:
        left_ms = self.visit.stay_ms
        if self.visit.leaving is not Leaving.WHEN_FULL:
            await _pass(left_ms)
            return
        while left_ms > 0 and not self.vehicle.full:
            await _pass(min(left_ms, _LOOK_MS))
            left_ms -= _LOOK_MS

    async def _hear(self, within_ms: int) -> None:
        try:
            async with asyncio.timeout(within_ms / 1_000):
                await self._hands.closes()
        except TimeoutError:
            return  # it never closed
        await self._moment(0, 60)

    async def _pull(self) -> None:
        """Until the plug is out. A locked one is pulled and swiped at in turn, then help comes."""
        for attempt in range(_TRIES):
            if not self.vehicle.plugged or self._hands.unplug():
                return
            await self._moment(1_000, 30_000)
            if attempt % 3 == 2:
                self._hands.swipe(self.visit.token)
                await self._moment(1_000, 10_000)
        await _pass(_HELP_MS)
        if self.vehicle.plugged:
            self._hands.unplug(forced=True)

    async def _moment(self, least_ms: int, most_ms: int) -> None:
        await _pass(self._rng.randint(least_ms, most_ms))


@dataclass(frozen=True, slots=True)
class Manners:
    """What visitors are like. Shares are in percent.

    ``long_percent`` stay for half a day to nine days, with cars that sleep and wake, unless the visit is called off.
    ``odd_percent`` come or leave in an odd way, ``broken_percent`` have a car with a bad habit, ``bystander_percent``
    of visits are disturbed by somebody else who swipes or pulls."""

    gap_ms: int = 3_600_000  # mean, from one visit to the next
    stay_ms: int = 7_200_000  # mean
    wants_mwh: int = 15 * _KWH  # mean
    long_percent: int = 0
    odd_percent: int = 20
    broken_percent: int = 5
    bystander_percent: int = 10


QUIET = Manners(odd_percent=0, broken_percent=0, bystander_percent=0)


class Traffic:
    """Visits at one outlet, for ever. ``tokens`` are known to the station or its CSMS, ``strangers`` are not."""

    def __init__(
        self,
        hands: Hands,
        rng: random.Random,
        manners: Manners,
        tokens: Sequence[str],
        strangers: Sequence[str],
        told: Callable[[str], None],
    ) -> None:
        self._hands = hands
        self._rng = rng
        self._manners = manners
        self._tokens = tokens
        self._strangers = strangers
        self._told = told

    async def run(self) -> None:
        while True:
            await _pass(self._about(self._manners.gap_ms))
            await self.visit()

    async def visit(self) -> None:
        """One visit, with whatever disturbs it."""
        visit = self.draw_visit()
        vehicle = self.draw_vehicle(sleeps=visit.stay_ms >= _LONG_STAY_MS[0])
        habits = ", ".join(habit.value for habit in Habit if habit in vehicle.habits)
        self._told(f"a driver {visit.coming.value}, {visit.leaving.value}" + (f"; the car: {habits}" if habits else ""))
        bystander = asyncio.create_task(self._disturb(visit)) if self._chance("bystander_percent") else None
        try:
            await Driver(visit, vehicle, self._hands, self._rng).run()
        finally:
            if bystander is not None:
                bystander.cancel()

    def draw_visit(self) -> Visit:
        rng = self._rng
        odd = self._chance("odd_percent")
        coming = rng.choice(tuple(Coming) if odd else _ORDINARY_COMING)
        leaving = rng.choice(tuple(Leaving) if odd else _ORDINARY_LEAVING)
        stay_ms = self._about(self._manners.stay_ms)
        if coming is Coming.PLUG_ONLY:
            stay_ms = min(stay_ms, 600_000)
        elif self._chance("long_percent"):
            stay_ms = rng.randint(*_LONG_STAY_MS)
            leaving = rng.choice((Leaving.UNPLUGGING, Leaving.SWIPING))
        again_ms = rng.randint(200, 15_000) if odd and rng.randrange(3) == 0 else None
        return Visit(coming, leaving, rng.choice(self._tokens), rng.choice(self._strangers), stay_ms, again_ms)

    def draw_vehicle(self, *, sleeps: bool = False) -> Vehicle:
        """``sleeps``: for hours or days, before it charges and in between."""
        rng = self._rng
        kind = Kind(
            max_current_ma=rng.choice((10_000, 16_000, 16_000, 32_000)),
            phases=rng.choice((1, 2, 3, 3)),
            min_current_ma=rng.choice((6_000, 6_000, 6_000, 8_000)),
            cable_ma=rng.choice((20_000, 32_000, 32_000)),
        )
        wants_mwh = self._about(self._manners.wants_mwh)
        habit = rng.choice(tuple(Habit)) if self._chance("broken_percent") else None
        waits_ms = self._about(1_800_000) if rng.randrange(6) == 0 else 0
        wakes = (self._about(1_200_000), rng.randrange(20_000, 500_000)) if rng.randrange(4) == 0 else None
        if sleeps:
            habit = None  # one that toggles for days tells nothing new
            waits_ms = rng.randint(*_SLEEPS_MS) if rng.randrange(2) else 0
            wakes = rng.randint(*_SLEEPS_MS), rng.randrange(20_000, 5 * _KWH)
        dozes_ms = rng.randint(*_DOZES_MS) if rng.randrange(4) == 0 else None
        return Vehicle(
            kind,
            wants_mwh,
            rng,
            taper_mwh=wants_mwh * rng.randrange(30) // 100,
            waits_ms=waits_ms,
            wakes=wakes,
            dozes_ms=dozes_ms,
            habits=frozenset() if habit is None else frozenset({habit}),
        )

    async def _disturb(self, visit: Visit) -> None:
        """Somebody else stands there too."""
        rng, hands = self._rng, self._hands
        await _pass(rng.randrange(max(1, min(visit.stay_ms, 1_200_000))))
        match rng.randrange(3):
            case 0:
                self._told("a bystander swipes another token")
                hands.swipe(rng.choice(self._tokens))
            case 1:
                self._told("a bystander swipes a token that nobody knows")
                hands.swipe(rng.choice(self._strangers))
            case _:
                self._told("a bystander pulls at the plug")
                hands.unplug()

    def _chance(self, share: str) -> bool:
        return self._rng.randrange(100) < int(getattr(self._manners, share))

    def _about(self, mean: int) -> int:
        """Around the mean: mostly less, now and then four times as much."""
        return max(1_000, min(4 * mean, int(self._rng.expovariate(1 / mean))))


class AtOutlet:
    """``Hands`` at an outlet of this world. ``on_swipe`` is the reader."""

    def __init__(self, outlet: Outlet, on_swipe: Callable[[str], None]) -> None:
        self._outlet = outlet
        self._on_swipe = on_swipe

    def plug(self, vehicle: Vehicle) -> bool:
        return self._outlet.plug(vehicle)

    def unplug(self, *, forced: bool = False) -> bool:
        return self._outlet.unplug(forced=forced)

    def swipe(self, token: str) -> None:
        self._on_swipe(token)

    async def closes(self) -> None:
        await self._outlet.closes()


async def _pass(ms: int) -> None:
    await asyncio.sleep(ms / 1_000)
