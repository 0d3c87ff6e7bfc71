"""Trouble: when each kind of fault comes, and how long it stays.

Charter: one endless task for each kind of fault of a profile, with random numbers of its own. Each begins its fault,
waits, and ends it; in calm weather none begins and all that last are ended. How a fault is made is the world's
affair (``Hands``).

Units: hours and seconds as in ``profile``.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol

from agent.sim.world.profile import Profile, Rate, Trouble

_BROWN_OUTS: Final = (2, 6)
_CHARGE_CUTS: Final = (
    Trouble.STATION_KILL,
    Trouble.STATION_KILL,
    Trouble.POWER_CUT,
    Trouble.POWER_CUT,
    Trouble.CLOCK_STANDS,
    Trouble.BROWN_OUT,
    Trouble.COMMIT_CUT,
    Trouble.SYNC_FAILS,
)
_HOUR_S: Final = 3_600.0
_INTO_CHARGE_S: Final = (0.5, 1_800)
_DAY_MS: Final = 86_400_000
_CLOCK_STEPS_MS: Final = (
    3_600_000,
    -3_600_000,
    _DAY_MS,
    -_DAY_MS,
    30 * _DAY_MS,
    -400 * _DAY_MS,
    50 * 365 * _DAY_MS,
    90_000,
    -7_000,
)


class Hands(Protocol):
    """What the world can do to itself."""

    def cut_power(self, *, clock_lost: bool = False, clock_stands: bool = False) -> None: ...

    def restore_power(self) -> None: ...

    def cut_power_in_next_commit(self) -> asyncio.Event:
        """Set when that has happened; an idle station may not write anything for days."""
        ...

    def poison(self, chance: random.Random) -> None: ...

    def kill_station(self) -> None: ...

    def kill_gateway(self) -> None: ...

    def fill_disk(self, full: bool) -> None: ...

    def fail_next_sync(self) -> None: ...

    def step_machine_clock(self, by_ms: int) -> None: ...

    def csms_tells_wrong_time(self, by_ms: int) -> None: ...

    def link_down(self, *, silently: bool) -> None: ...

    def link_up(self) -> None: ...

    def cut_link(self) -> None: ...

    def link_half_open(self) -> None: ...

    def stall_link(self, for_s: float) -> None: ...

    def rude(self, on: bool) -> None: ...

    def installer_away(self, away: bool) -> None: ...

    @property
    def charging(self) -> asyncio.Event:
        """Set while any contactor is closed."""
        ...

    def break_device(self, chance: random.Random, *, charging: bool) -> Callable[[], None] | None:
        """Some fault of some device, or (``charging``) of one that charges; the answer ends it. None: nothing broke."""
        ...


class Troubles:
    """See the module. ``counts`` is by kind."""

    def __init__(self, profile: Profile, hands: Hands, chance: Callable[[str], random.Random]) -> None:
        self._hands = hands
        self.counts: Counter[str] = Counter()
        self._calm = asyncio.Event()
        self._plan = [(trouble, rate, chance(f"trouble {trouble}")) for trouble, rate in profile.rates.items()]
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._run(*each)) for each in self._plan]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def calm(self, calm: bool) -> None:
        """No fault begins, and what lasts is ended; or (False) the weather is as the profile says."""
        if calm:
            self._calm.set()
        else:
            self._calm.clear()

    @property
    def failed(self) -> BaseException | None:
        """An error of the world itself."""
        for task in self._tasks:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                return error
        return None

    async def _run(self, trouble: Trouble, rate: Rate, chance: random.Random) -> None:
        while True:
            await asyncio.sleep(chance.expovariate(1 / (rate.every_h * _HOUR_S)))
            lasts_s = _spread(rate.lasts_s, chance)
            if not self._calm.is_set():
                self.counts[trouble.value] += 1
                await self._happen(trouble, lasts_s, chance)

    async def _happen(self, trouble: Trouble, lasts_s: float, chance: random.Random) -> None:
        hands = self._hands
        match trouble:
            case Trouble.POWER_CUT | Trouble.CLOCK_LOST | Trouble.CLOCK_STANDS:
                lost, stands = trouble is Trouble.CLOCK_LOST, trouble is Trouble.CLOCK_STANDS
                hands.cut_power(clock_lost=lost, clock_stands=stands)
                await self._last(lasts_s)
                hands.restore_power()
            case Trouble.BROWN_OUT:
                for _ in range(chance.randint(*_BROWN_OUTS)):
                    hands.cut_power()
                    await self._last(lasts_s / 4)
                    hands.restore_power()
                    await self._last(chance.uniform(0.1, 90))
            case Trouble.COMMIT_CUT:
                await self._until(hands.cut_power_in_next_commit())
                await self._last(lasts_s)
                hands.restore_power()
            case Trouble.STATION_KILL:
                hands.kill_station()
            case Trouble.GATEWAY_KILL:
                hands.kill_gateway()
            case Trouble.DISK_FULL:
                await self._while(hands.fill_disk, lasts_s)
            case Trouble.SYNC_FAILS:
                hands.fail_next_sync()
            case Trouble.CLOCK_STEP:
                hands.step_machine_clock(chance.choice(_CLOCK_STEPS_MS))
            case Trouble.CSMS_CLOCK:
                hands.csms_tells_wrong_time(chance.choice(_CLOCK_STEPS_MS))
                await self._last(lasts_s)
                hands.csms_tells_wrong_time(0)
            case Trouble.CHARGE_CUT:
                if await self._somebody_charges(chance):
                    await self._happen(chance.choice(_CHARGE_CUTS), lasts_s, chance)
            case Trouble.DEVICE:
                await self._break(lasts_s, chance, charging=False)
            case Trouble.CHARGE_FAULT:
                if await self._somebody_charges(chance):
                    await self._break(lasts_s, chance, charging=True)
            case _:
                await self._network(trouble, lasts_s, chance)

    async def _break(self, lasts_s: float, chance: random.Random, *, charging: bool) -> None:
        undo = self._hands.break_device(chance, charging=charging)
        if undo is not None:
            await self._last(lasts_s)
            undo()

    async def _somebody_charges(self, chance: random.Random) -> bool:
        """Returns some time into the next charge; False: the weather has calmed down before."""
        await self._until(self._hands.charging)
        await self._last(_spread(_INTO_CHARGE_S, chance))
        return not self._calm.is_set()

    async def _network(self, trouble: Trouble, lasts_s: float, chance: random.Random) -> None:
        hands = self._hands
        match trouble:
            case Trouble.LINK_DOWN | Trouble.LINK_AWAY:
                hands.link_down(silently=chance.random() < 0.5)
                await self._last(lasts_s)
                hands.link_up()
            case Trouble.LINK_CUT:
                hands.cut_link()
            case Trouble.POISON:
                hands.poison(chance)
            case Trouble.LINK_HALF_OPEN:
                hands.link_half_open()
            case Trouble.LINK_STALL:
                hands.stall_link(lasts_s)
            case Trouble.RUDE_CSMS:
                await self._while(hands.rude, lasts_s)
            case Trouble.INSTALLER_AWAY:
                await self._while(hands.installer_away, lasts_s)
            case _:
                raise AssertionError(f"nobody makes {trouble}")

    async def _until(self, event: asyncio.Event) -> None:
        """Returns when that has happened, or the weather calms down."""
        loop = asyncio.get_running_loop()
        either = [loop.create_task(each.wait()) for each in (event, self._calm)]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in either:
                each.cancel()

    async def _while(self, switch: Callable[[bool], None], lasts_s: float) -> None:
        switch(True)
        await self._last(lasts_s)
        switch(False)

    async def _last(self, for_s: float) -> None:
        """So long, or until the weather calms down."""
        try:
            async with asyncio.timeout(for_s):
                await self._calm.wait()
        except TimeoutError:
            return


def _spread(span_s: tuple[float, float], chance: random.Random) -> float:
    """Between the two, short ones far more often: half of all are below the geometric mean."""
    least, most = span_s
    return least if most <= least else least * (most / least) ** chance.random()
