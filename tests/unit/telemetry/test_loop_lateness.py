"""How late a loop was, in virtual time: a callback that works for long moves the loop's clock on."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest

from agent.ipc.statistics import LATENESS_BOUNDS_US, Lateness
from agent.sim.virtual_time import VirtualTimeLoop, run_virtual
from agent.telemetry.loop_lateness import EVERY_S, MAX_KEPT_S, LoopLateness
from agent.telemetry.own_process import OwnProcess


def work_for(seconds: float) -> None:
    """As if this callback took so long: nothing else of the loop runs meanwhile."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    loop._now_s += seconds


def lateness_after(seconds: float, *works: tuple[float, float]) -> Lateness:
    """What is told after so many seconds in which work began at each time and took so long."""

    async def live() -> Lateness:
        loop = asyncio.get_running_loop()
        lateness = LoopLateness(loop)
        lateness.start()
        for at_s, took_s in works:
            loop.call_at(at_s, work_for, took_s)
        await asyncio.sleep(seconds)
        lateness.stop()
        return lateness.read()

    return run_virtual(live())


def test_a_loop_that_is_never_held_up_is_never_late() -> None:
    found = lateness_after(10.1)
    assert found.counts == (40, *[0] * len(LATENESS_BOUNDS_US))
    assert (found.sum_us, found.max_us) == (0, 0)


@pytest.mark.parametrize(
    ("late_us", "bucket"),
    [
        *((bound_us, index) for index, bound_us in enumerate(LATENESS_BOUNDS_US)),
        *((bound_us + 10, index + 1) for index, bound_us in enumerate(LATENESS_BOUNDS_US)),
    ],
)
def test_each_lateness_counts_up_to_its_bound(late_us: int, bucket: int) -> None:
    begin_s = EVERY_S - 0.001
    found = lateness_after(1.5, (begin_s, 0.001 + late_us / 1_000_000))
    on_time = sum(found.counts) - 1
    assert found.counts[bucket] == (on_time + 1 if bucket == 0 else 1)
    assert abs(found.max_us - late_us) <= 1
    assert abs(found.sum_us - late_us) <= on_time + 1


def test_a_peak_is_kept_for_a_while_and_then_forgotten() -> None:
    peak = (MAX_KEPT_S / 2, 0.4)
    kept = lateness_after(1.9 * MAX_KEPT_S, peak)
    gone = lateness_after(2.1 * MAX_KEPT_S + 0.5, peak)
    assert kept.max_us > 100_000
    assert gone.max_us == 0
    assert gone.sum_us >= kept.sum_us


def test_counting_ends_with_stop() -> None:
    async def live() -> tuple[Lateness, Lateness]:
        lateness = LoopLateness(asyncio.get_running_loop())
        lateness.start()
        await asyncio.sleep(1.1)
        lateness.stop()
        before = lateness.read()
        await asyncio.sleep(5)
        return before, lateness.read()

    before, after = run_virtual(live())
    assert sum(before.counts) == 4
    assert after == before


def test_this_process_takes_memory_and_time() -> None:
    async def live() -> None:
        own = OwnProcess(asyncio.get_running_loop())
        first = own.read()
        for _ in itertools.repeat(None, 200_000):
            pass
        second = own.read()
        assert first.rss_bytes > 1_000_000
        assert first.rss_bytes < int(Path("/proc/meminfo").read_text().split()[1]) * 1_024
        assert second.cpu_us > first.cpu_us
        assert second.uptime_ms >= first.uptime_ms >= 0

    run_virtual(live())
