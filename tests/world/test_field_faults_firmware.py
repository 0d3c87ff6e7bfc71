"""Field fault 13: updates whose states are skipped or stick, and connectors that are left unavailable.

A simulated station is told to update, and at the worst moment loses its power, its disk's room, its gateway, or is told
something else. Whatever comes of the update: its statuses are legal (the world's own rule for every row), the last one
ends it, the slot that runs is whole, and the next driver can charge. What the installer does to real slots at a power
cut is ``tests/crash``'s.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from agent.core.facts import LogEntry, LogFact
from agent.firmware.phases import KEEPS_SESSIONS_OUT, Phase
from agent.ocpp.timestamps import from_rfc3339, to_rfc3339
from agent.sim.scenario.expectations import all_told, available, charging, finished, online, preparing
from agent.sim.scenario.play import draw, expect, play, scenario
from agent.sim.scenario.quiet_world import QuietWorld
from agent.sim.scenario.verbs import (
    CARD,
    GATEWAY,
    CutPower,
    Verb,
    cut_power,
    fault,
    fault_gone,
    fill_disk,
    free_disk,
    kill,
    plug,
    restore_power,
    swipe,
    unplug,
)
from agent.sim.scenario.world_rig import WorldRig, on_a_world_rig
from agent.sim.virtual_time import now_ms
from agent.sim.world.installer import Bundle, Fate

VERSIONS = ("1.6", "2.0.1")
FULL = os.environ.get("EVSED_SCENARIOS") == "full"
LOOK_MS, QUICK_LOOK_MS = 100, 5
ROOM_SEEN_MS = 20_000
PHASE_WITHIN_MS = 1_200_000
ENDS_WITHIN_MS = 3 * 3_600_000
ENDS = {"Installed", "InstallationFailed", "InstallVerificationFailed", "DownloadFailed", "InvalidSignature"}
ARRIVE = (plug(), expect(preparing()), swipe(CARD), expect(charging()))
LEAVE = (draw(wh=1, for_ms=1_100), swipe(CARD), expect(finished()), unplug(), expect(available()))
NEXT_CAR = scenario("the next car", expect(online()), expect(available()), *ARRIVE, *LEAVE, expect(all_told()))


class Even(random.Random):
    """Draws the middle of everything: no download pauses by itself, no slot fails by itself."""

    def random(self) -> float:
        return 0.5


class UpdateWorld(QuietWorld):
    """What its downloads bring is for the test to say."""

    def __init__(self, version: str, folder: Path) -> None:
        super().__init__(version, folder)
        self.bundle = Bundle("2.0.0", Fate.HEALTHY)

    def chance(self, name: str) -> random.Random:
        return Even() if name in ("installer", "download") else super().chance(name)

    def _image(self) -> Bundle:
        return self.bundle


class Bench:
    """A rig under update."""

    def __init__(self, rig: WorldRig, version: str) -> None:
        assert isinstance(rig.world, UpdateWorld)
        self.rig, self.world, self.version = rig, rig.world, version
        self.requests = 0
        self.cuts = 0  # of power: what was told, and not kept as told yet, is told again

    async def order(self, *, in_s: int = 0, install_in_s: int = 0) -> str:
        """UpdateFirmware; the station's answer, "" where it has none."""
        self.requests += 1
        wall_ms = from_rfc3339(self.world.csms_time())
        at = to_rfc3339(wall_ms + in_s * 1_000)
        location = f"https://images.example/{self.requests}"
        if self.version == "1.6":
            payload: dict[str, Any] = {"location": location, "retrieveDate": at}
        else:
            firmware = {"location": location, "retrieveDateTime": at}
            if install_in_s:
                firmware["installDateTime"] = to_rfc3339(wall_ms + install_in_s * 1_000)
            payload = {"requestId": self.requests, "firmware": firmware}
        answer = await self.world.office.call("UpdateFirmware", payload)
        assert answer.fate == "result", answer
        return answer.status

    async def phase(self) -> str:
        """Of the update; idle also where there is none, "" while no station runs."""
        if self.world.life is None:
            return ""
        view = (await self.world.life.station.service.status()).update
        return Phase.IDLE.value if view is None else view.phase

    async def reach(self, phase: Phase) -> None:
        until_ms = now_ms() + PHASE_WITHIN_MS
        while now_ms() < until_ms:
            now = await self.phase()
            if now == phase.value:
                return
            await self.rig.wait(QUICK_LOOK_MS if now in KEEPS_SESSIONS_OUT else LOOK_MS)
        raise AssertionError(f"never {phase.value}; told: {self.told()}")

    def told(self) -> list[tuple[str, int | None]]:
        """Every status that the CSMS was told: but Idle, which answers a question."""
        return [each for each in self.world.office.book.firmware if each[0] != "Idle"]

    async def do(self, *verbs: Verb) -> None:
        for verb in verbs:
            self.cuts += isinstance(verb, CutPower)
            await self.rig.do(verb)

    async def come_to_an_end(self) -> None:
        """The update is over, told, and nobody is the worse for it."""
        waited_ms = 0
        while await self.phase() != Phase.IDLE.value:
            assert waited_ms < ENDS_WITHIN_MS, f"still {await self.phase()}; told: {self.told()}"
            await self.rig.wait(5_000)
            waited_ms += 5_000
        await play(NEXT_CAR, self.rig)
        await self.rig.settle()
        installer = self.world.installer
        running = installer.images[installer.running]
        assert running is not None and running.fate is Fate.HEALTHY
        assert installer.unbootable == 0 and not installer.on_trial
        told = self.told()
        assert told[-1][0] in ENDS, told
        assert (told[-1][0] == "Installed") is (running.version != "1.0.0"), told
        if self.version != "1.6":  # which has no word for a paused download
            assert sum(one == two for one, two in pairwise(told)) <= self.cuts, told


def update(version: str, story: Any) -> Bench:
    async def main(rig: WorldRig) -> Bench:
        bench = Bench(rig, version)
        await story(bench)
        await bench.come_to_an_end()
        return bench

    return on_a_world_rig(version, main, UpdateWorld)


async def bring_to(bench: Bench, phase: Phase) -> None:
    """Order an update and let it come to this phase."""
    world = bench.world
    if phase is Phase.RETRYING:
        world.bundle = Bundle("2.0.0", Fate.LOST)
    if phase is Phase.WAITING:
        await play(scenario("a session", *ARRIVE), bench.rig)
    await bench.order(in_s=300 if phase is Phase.SCHEDULED else 0, install_in_s=900 if phase is Phase.STAGED else 0)
    if phase is Phase.PAUSED:
        await bench.reach(Phase.DOWNLOADING)
        await bench.do(kill(GATEWAY))
    if phase is Phase.REVERTING:
        await bench.reach(Phase.REBOOTING)
        await bench.do(fault("meter", "silent"))
    await bench.reach(phase)
    world.bundle = Bundle("2.0.0", Fate.HEALTHY)


async def undo(bench: Bench, phase: Phase) -> None:
    if phase is Phase.WAITING:
        await bench.do(unplug())
    if phase is Phase.REVERTING:
        await bench.do(fault_gone("meter"))


ALL_PHASES: Sequence[Phase] = [phase for phase in Phase if phase is not Phase.IDLE]


@pytest.mark.parametrize("version", VERSIONS if FULL else VERSIONS[1:])
@pytest.mark.parametrize("phase", ALL_PHASES)
def test_field_fault_13_power_is_cut_in_each_state(version: str, phase: Phase) -> None:
    if phase is Phase.STAGED and version == "1.6":
        pytest.skip("OCPP 1.6 UpdateFirmware knows no time to install")

    async def story(bench: Bench) -> None:
        await bring_to(bench, phase)
        await bench.do(cut_power())
        await undo(bench, phase)
        await bench.rig.wait(6_000)
        await bench.do(restore_power())
        await bench.rig.wait(60_000)

    update(version, story)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("phase", [Phase.DOWNLOADING, Phase.TESTING])
def test_field_fault_13_the_disk_is_full(version: str, phase: Phase) -> None:
    async def story(bench: Bench) -> None:
        await bring_to(bench, phase)
        await bench.do(fill_disk())
        await bench.rig.wait(120_000)
        await bench.do(free_disk())
        await bench.rig.wait(ROOM_SEEN_MS)
        await undo(bench, phase)

    assert update(version, story).told()[-1][0] == "Installed"


@pytest.mark.parametrize("version", VERSIONS)
def test_field_fault_13_the_ledger_fails_as_an_update_is_due(version: str) -> None:
    """World 3400003: what else the station had to write in that instant made of its safe end an error."""

    async def story(bench: Bench) -> None:
        await bring_to(bench, Phase.SCHEDULED)
        life = bench.world.life
        assert life is not None
        due_ms = from_rfc3339(bench.world.csms_time()) + 300_000
        while from_rfc3339(bench.world.csms_time()) < due_ms:
            await bench.rig.wait(10)
        assert await bench.phase() == Phase.SCHEDULED.value
        bench.world.disk.sync_fails = True
        life.station.append(LogFact(LogEntry.TARIFF_REFUSED))
        await bench.rig.wait(60_000)
        assert bench.world.life is not life

    assert update(version, story).told()[-1][0] == "Installed"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("fate", [Fate.REFUSED, Fate.LOST, Fate.DIES])
def test_field_fault_13_no_good_image(version: str, fate: Fate) -> None:
    """A wrong signature, no server, an image that never runs: the old one goes on."""

    async def story(bench: Bench) -> None:
        bench.world.bundle = Bundle("2.0.0", fate)
        await bench.order()
        await bench.rig.wait(60_000)

    bench = update(version, story)
    assert bench.told()[-1][0] in ENDS - {"Installed"}


@pytest.mark.parametrize("version", VERSIONS)
def test_field_fault_13_an_image_whose_gateway_never_comes_up(version: str) -> None:
    """Nobody could reach it, to bring the next one: the old image comes back, and its gateway tells."""

    async def story(bench: Bench) -> None:
        world = bench.world
        start_gateway = world._start_gateway

        def start_that_of_the_old_image() -> None:
            if world.installer.running == "a":
                start_gateway()

        world._start_gateway = start_that_of_the_old_image  # type: ignore[method-assign]
        await bench.order()
        await bench.reach(Phase.REVERTING)

    assert update(version, story).told()[-1][0] == "InstallationFailed"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("phase", [Phase.SCHEDULED, Phase.DOWNLOADING, Phase.WAITING])
def test_field_fault_13_a_newer_request_takes_its_place(version: str, phase: Phase) -> None:
    async def story(bench: Bench) -> None:
        await bring_to(bench, phase)
        answer = await bench.order()
        assert answer == ("" if version == "1.6" else "AcceptedCanceled")
        await undo(bench, phase)
        await bench.rig.wait(60_000)

    told = update(version, story).told()
    assert told[-1][0] == "Installed"
    if version != "1.6":
        requests = [request or 0 for _, request in told]
        assert requests == sorted(requests) and requests[-1] == 2
