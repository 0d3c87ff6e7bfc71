"""Power that the world takes away comes back, and it is away where that matters: in a commit, and under a charge."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from agent.sim.virtual_time import VirtualTimeLoop
from agent.sim.world.machine import WorldFailed
from agent.sim.world.mirror import Mirror
from agent.sim.world.pace import MINUTES
from agent.sim.world.profile import QUIET, Profile, Rate, Trouble
from agent.sim.world.site import drawn_site
from agent.sim.world.world import World

DAY_MS = 86_400_000


def with_world(folder: Path, profile: Profile, story: Callable[[World], Awaitable[object]]) -> World:
    """A world of which all but this profile is quiet."""

    async def main() -> World:
        world = World(4, profile, MINUTES, drawn_site(folder, 4, MINUTES))
        try:
            await story(world)
        finally:
            await world.close()
        return world

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main())


def only(trouble: Trouble, every_h: float, lasts_s: float) -> Profile:
    return replace(QUIET, rates={trouble: Rate(every_h, (lasts_s, lasts_s))})


def test_a_cut_in_a_commit_waits_for_one_and_ends(tmp_path: Path) -> None:
    world = with_world(tmp_path, only(Trouble.COMMIT_CUT, 6, 60), lambda world: world.run(8 * DAY_MS))
    failures = [entry.at_ms for entry in world.journal.entries if entry.text == "power fails"]
    returns = [entry.at_ms for entry in world.journal.entries if entry.text == "power comes back"]
    assert len(failures) > 5
    assert [back - away for away, back in zip(failures, returns, strict=True)] == [60_000] * len(failures)


def test_a_charge_is_cut_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resumed: list[str] = []
    monkeypatch.setattr(Mirror, "_resumed", lambda _self, seen, _boot_id: resumed.append(seen.tx_id))
    monkeypatch.setattr("agent.sim.world.trouble._CHARGE_CUTS", (Trouble.POWER_CUT,))
    with_world(tmp_path, only(Trouble.CHARGE_CUT, 6, 5), lambda world: world.run(8 * DAY_MS))
    assert resumed


def test_power_that_nobody_gives_back_is_wrong(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world._switch_on()
        await asyncio.sleep(120)
        for away_s in (60, 61):
            world.cut_power()
            await asyncio.sleep(away_s)
            world.restore_power()
            assert (world.failure is None) == (away_s == 60)
            await asyncio.sleep(120)

    world = with_world(tmp_path, only(Trouble.POWER_CUT, 24, 60), story)
    assert isinstance(world.failure, WorldFailed)
    assert world.failure.text == "power was away for 61 s, nothing cuts it for more than 60 s"
