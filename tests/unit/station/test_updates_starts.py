"""Updates in the station: bundles on site, and how the station starts and ends in the middle of an update.

The bench is in ``update_bench``; what happens from the request on is in ``test_updates``.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from agent.core.facts import FirmwareFact, UpdateVia
from agent.firmware.client import InstallerClient
from agent.firmware.errors import Refusal, SlotFailed, UpdateRefused
from agent.firmware.native_writer import NativeWriter
from agent.firmware.view import InstallOrder, Origin, StagedPhase, StagedView
from agent.station.installer_talks import SocketTalks
from tests.unit.firmware.installer_site import Site, wait_for
from tests.unit.station.update_bench import DEADLINE_S, TO_REBOOT, Bench, order, play

pytestmark = pytest.mark.wire


# ----------------------------------------------------------------------------------------------------- on site


@pytest.mark.parametrize("charging", [True, False])
def test_a_bundle_on_site(site: Site, charging: bool) -> None:
    bench = Bench(site)
    site.start()

    async def scene() -> None:
        updates = bench.start()
        assert await updates.install_staged() == "nothing to install: the installer holds no bundle"
        await asyncio.to_thread(bench.install, InstallOrder(Origin.LOCAL))
        bench.around.charging = charging
        when = "is installed when nobody charges" if charging else "is installed now, then the charger restarts"
        assert await updates.install_staged() == f"1.1 {when}"
        await bench.until(lambda: updates._installer_answered)
        bench.around.charging = False
        updates.look()
        await bench.until((site.folder / "rebooted").exists)
        assert {row.via for row in bench.around.rows if isinstance(row, FirmwareFact)} == {UpdateVia.LOCAL}
        assert await updates.install_staged() == "not now: an update is being installed"

    play(bench, scene)


def test_a_bundle_on_site_while_the_last_one_goes_on_to_be_installed(site: Site) -> None:
    """The session ends while the installer is asked."""
    bench = Bench(site)
    site.start()

    async def scene() -> None:
        updates = bench.start()
        await asyncio.to_thread(bench.install, InstallOrder(Origin.LOCAL))
        await bench.until(lambda: updates._installer_answered)
        bench.around.charging = True
        await updates.install_staged()
        asked = asyncio.ensure_future(updates.install_staged())
        await asyncio.sleep(0)
        bench.around.charging = False
        updates.look()
        assert await asked == "not now: an update is being installed"
        await bench.until((site.folder / "rebooted").exists)

    play(bench, scene)


# --------------------------------------------------------------------------------------------- starts and ends


def test_an_installer_that_is_slow_to_start_is_waited_for_and_nothing_is_done_twice(site: Site) -> None:
    bench = Bench(site)
    site.start()

    async def scene() -> None:
        bench.around.charging = True
        updates = bench.start()
        await updates.request(order())
        await bench.staged(updates)
        await bench.until(lambda: bench.around.phase == "waiting")
        bench.boots("a")
        site.stop()
        site.path.unlink()
        bench.around.charging = False
        updates = bench.start()
        for _ in range(10):
            updates.look()
            await asyncio.sleep(0.01)
        assert bench.around.phase == "waiting"
        assert bench.around.holds == [], "cars may charge, should it never come"
        site.start()
        await bench.until((site.folder / "rebooted").exists)
        assert bench.around.told == [*TO_REBOOT[:3], "InstallScheduled", *TO_REBOOT[3:]]

    play(bench, scene)


@pytest.mark.parametrize("kept", ["", "rubbish", "[]", '{"phase": "of a later version"}', '{"phase": "testing"}'])
def test_a_record_that_nobody_understands_is_none_and_the_slot_is_tested(site: Site, kept: str) -> None:
    bench = Bench(site)
    site.start()
    bench.install(InstallOrder(Origin.LOCAL))
    with site.client() as client:
        staged = client.status().staged
        assert staged is not None
        client.activate(staged.digest)
    bench.boots("b")
    bench.around.kept = kept

    async def scene() -> None:
        bench.start()
        await bench.until(lambda: bench.around.told == ["Installed"])
        assert not site.installer().status().on_trial

    play(bench, scene)


def test_when_the_station_ends_no_call_is_waited_for(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(site)
    site.start()
    asked, go_on, in_time = threading.Event(), threading.Event(), []

    def slow(digest: str, still_wanted: object) -> StagedView:
        asked.set()
        in_time.append(go_on.wait(DEADLINE_S))
        raise SlotFailed("slot", "late")

    async def scene() -> None:
        updates = bench.start()
        await updates.request(order())
        monkeypatch.setattr(site.installer(), "activate", slow)
        await bench.staged(updates)
        await bench.until(asked.is_set)
        updates.close()

    try:
        play(bench, scene)
        assert bench.around.phase == "activating"
    finally:
        go_on.set()
    wait_for(lambda: bool(in_time))
    assert in_time == [True]


@pytest.mark.parametrize("again", [True, False])
def test_a_station_that_ends_while_the_slot_is_read_back(
    site: Site, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    """What nobody hears of is not tried; the next station asks until it is its turn."""
    bench = Bench(site)
    site.start()
    asked, go_on = threading.Event(), threading.Event()
    right_read_back, right_ask = NativeWriter.read_back, SocketTalks.ask
    refusals: list[UpdateRefused] = []

    def slow(writer: NativeWriter, slot: str, digest: str) -> None:
        asked.set()
        assert go_on.wait(DEADLINE_S)
        right_read_back(writer, slot, digest)

    async def ask(talks: SocketTalks, question: Callable[[InstallerClient], object]) -> object:
        try:
            return await right_ask(talks, question)
        except UpdateRefused as refused:
            refusals.append(refused)
            raise

    monkeypatch.setattr(NativeWriter, "read_back", slow)
    monkeypatch.setattr(SocketTalks, "ask", ask)

    async def scene() -> None:
        updates = bench.start()
        await updates.request(order())
        await bench.staged(updates)
        await bench.until(asked.is_set)
        updates.close()
        if again:
            bench.start()
            await bench.until(lambda: refusals)
        go_on.set()
        installer = site.installer()
        await bench.until(lambda: not installer._turn._taken)
        if again:
            await bench.until((site.folder / "rebooted").exists)
        found = installer.status()
        assert found.staged is not None
        wanted = (StagedPhase.ACTIVATED, "b") if again else (StagedPhase.READY, "a")
        assert (found.staged.phase, found.primary) == wanted
        assert bench.around.told == (TO_REBOOT if again else TO_REBOOT[:-1])

    play(bench, scene)
    assert {refused.refusal for refused in refusals} == ({Refusal.BUSY} if again else set())
