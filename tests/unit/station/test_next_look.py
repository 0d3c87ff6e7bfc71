"""The timer of the logic: it comes at the earliest instant asked for, nobody who goes on talking puts it off, and it
knows when the process stood still."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from agent.station.next_look import NextLook

STALL_S = 0.1
Test = Callable[[NextLook, list[float]], Awaitable[None]]


def run(test: Test) -> list[str]:
    """``test`` gets the timer and the times (s, from now) at which it came; returns what was called."""
    calls: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        came: list[float] = []
        began = loop.time()

        def look() -> None:
            calls.append("look")
            came.append(loop.time() - began)

        made = NextLook(loop, look, STALL_S, lambda: calls.append("stalled"))
        await test(made, came)
        made.cancel()

    asyncio.run(main())
    return calls


def test_the_earliest_instant_counts_and_comes_once() -> None:
    async def test(made: NextLook, came: list[float]) -> None:
        for wait_ms in (60_000, 20, 5_000):
            made.within(wait_ms)
        await asyncio.sleep(0.1)
        assert len(came) == 1 and came[0] >= 0.019
        made.within(20)
        await asyncio.sleep(0.1)
        assert len(came) == 2

    run(test)


def test_who_asks_in_every_turn_of_the_loop_does_not_put_it_off() -> None:
    """A backlog of calls does: each is an event, and after each the logic says when it wants to look."""

    async def test(made: NextLook, came: list[float]) -> None:
        loop = asyncio.get_running_loop()
        due_s = loop.time() + 0.05
        while loop.time() < due_s + 0.25:
            made.within(max(0, round((due_s - loop.time()) * 1_000)))
            await asyncio.sleep(0)
        assert came and came[0] < 0.2

    run(test)


def test_cancelled_it_does_not_come() -> None:
    async def test(made: NextLook, came: list[float]) -> None:
        made.cancel()
        made.within(10)
        made.cancel()
        await asyncio.sleep(0.05)
        assert came == []

    run(test)


@pytest.mark.parametrize("heard", [False, True])
@pytest.mark.parametrize(("still_s", "told"), [(STALL_S / 5, []), (3 * STALL_S, ["stalled"])])
def test_a_timer_that_comes_late_tells_of_a_stall_and_what_is_heard_before_it_does(
    heard: bool, still_s: float, told: list[str]
) -> None:
    async def test(made: NextLook, came: list[float]) -> None:
        made.within(10)
        time.sleep(still_s)
        if heard:
            made.heed()
            made.heed()
            made.within(0)
        await asyncio.sleep(0.05)
        assert len(came) == 1

    assert run(test) == [*told, "look"]
