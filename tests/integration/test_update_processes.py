"""A whole machine with two slots in real processes: the demo's story, and an update during which everything is killed.

Real ptys, sockets, files and processes, in real time; the machine and its boot loader are ``agent.sim.machine``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from agent.sim.csms import SimCsms
from agent.sim.file_server import FileServer
from agent.sim.machine import Image
from agent.sim.stage import Stage
from agent.sim.update_story import UpdateStory, all_good
from tests.integration.test_processes import pid_of

pytestmark = pytest.mark.wire
IMAGE_BYTES = 4 * 1024 * 1024
SEEDS = range(int(os.environ.get("EVSED_KILLS", "1")))


def machine(
    folder: Path, version: str, scene: Callable[[UpdateStory, Stage, SimCsms], Awaitable[None]], *, rate_kib_s: int
) -> None:
    async def main() -> None:
        csms = SimCsms(version)
        stage = Stage(folder, await csms.start(), sample_s=1, boards=("mcu_ac", "openevse"))
        story = UpdateStory(stage, csms, lambda _: None, size_bytes=IMAGE_BYTES, rate_kib_s=rate_kib_s)
        try:
            await scene(story, stage, csms)
        finally:
            await stage.stop()
            await csms.stop()

    asyncio.run(asyncio.wait_for(main(), 240))


def test_the_demos_story_ends_as_it_must(tmp_path: Path) -> None:
    async def scene(story: UpdateStory, stage: Stage, csms: SimCsms) -> None:
        await story.play()
        assert [chapter for chapter in story.chapters if not chapter.good] == []
        assert len(story.chapters) == 5
        assert all_good(story.chapters, csms)
        first, sick = story.chapters[0], story.chapters[1]
        assert sick.fetched_bytes < first.fetched_bytes, "most of the sick image stood in the running slot"

    machine(tmp_path / "stage", "2.0.1", scene, rate_kib_s=4 * 1024)


def test_an_image_that_dies_at_once_uses_its_tries_up(tmp_path: Path) -> None:
    """Nothing of ours runs on it: the boot loader alone brings the old image back, and the CSMS hears of it. Then the
    next update works as if nothing had been."""

    async def scene(story: UpdateStory, stage: Stage, csms: SimCsms) -> None:
        steps = ("Downloading", "Downloaded", "SignatureVerified", "Installing", "InstallRebooting")

        async def updates(server: FileServer) -> None:
            dead = story.bundle(Image("2.0.0", dead=True), story.maker, epoch=2)
            await story.order(server, "a dead image", dead, (*steps, "InstallationFailed"), "1.0.0")
            good = story.bundle(Image("2.0.1"), story.maker, epoch=2)
            await story.order(server, "the next one", good, (*steps, "Installed"), "2.0.1")

        await story.play(updates)
        assert [chapter for chapter in story.chapters if not chapter.good] == []
        assert story.machine.boots == [("a", "1.0.0"), *[("b", "2.0.0")] * 3, ("a", "1.0.0"), ("b", "2.0.1")]

    machine(tmp_path / "stage", "1.6", scene, rate_kib_s=8 * 1024)


@pytest.mark.parametrize("seed", SEEDS)
def test_an_update_survives_kills_of_every_process(tmp_path: Path, seed: int) -> None:
    """Gateway, installer and station are killed at random while the update is under way: it arrives all the same,
    and the CSMS hears of it in a legal order."""
    chance = random.Random(seed)

    async def scene(story: UpdateStory, stage: Stage, csms: SimCsms) -> None:
        async def killer() -> None:
            for _ in range(6):
                await asyncio.sleep(chance.uniform(0.2, 1.5))
                with contextlib.suppress(LookupError, ProcessLookupError):
                    os.kill(pid_of(stage, chance.choice(("gateway", "installer", "station"))), signal.SIGKILL)

        async def update(server: FileServer) -> None:
            bundle = story.bundle(Image("2.0.0"), story.maker, epoch=2)
            killing = asyncio.create_task(killer())
            await story.order(server, "under fire", bundle, (), "2.0.0")
            await killing

        await story.play(update)
        (chapter,) = story.chapters
        told = [status for status in chapter.told if status != "DownloadPaused"]
        assert told[-1] == "Installed", chapter.told
        assert chapter.runs == "2.0.0"
        steps = ("Downloading", "Downloaded", "SignatureVerified", "Installing", "InstallRebooting", "Installed")
        assert [status for status in dict.fromkeys(told) if status != "InstallScheduled"] == list(steps), chapter.told
        assert not csms.book.violations

    machine(tmp_path / "stage", "2.0.1", scene, rate_kib_s=2 * 1024)
