"""Updates in the station, where the installer dies in the middle, where the new image could never be reached or updated
again, or where there is no image to go back to.

The bench is in ``update_bench``; the usual ways are in ``test_updates``.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from agent.config.update import SelectorKind, UbootConfig
from agent.firmware.errors import Refusal, SlotFailed, UpdateRefused
from agent.firmware.installer import Installer
from agent.firmware.selectors.uboot_env import Environment, encode
from agent.firmware.wire import PeerGone
from agent.health.fold import Finding
from agent.ipc.updates import UpdateAnswer, UpdateOutcome
from agent.station import updates as updates_module
from tests.unit.firmware.bundle.pki import ROOT
from tests.unit.firmware.installer_site import Site
from tests.unit.station.update_bench import TO_REBOOT, Bench, order, play

pytestmark = pytest.mark.wire

ENV_BYTES: Final = 1024


class Dying:
    """An installer that dies so often before (``done``: after) it does one thing; another one is started each time."""

    def __init__(self, site: Site, method: str, times: int, *, done: bool = False) -> None:
        self._site, self._method, self._done = site, method, done
        self.left = times
        site.make = lambda: self  # type: ignore[assignment, return-value]

    def __getattr__(self, name: str) -> Any:
        does = getattr(self._site.installer(), name)
        return self._dies(does) if name == self._method and self.left > 0 else does

    def _dies(self, does: Callable[..., object]) -> Callable[..., object]:
        def dies(*args: object) -> object:
            self.left -= 1
            if self._done:
                does(*args)
            self._site._made = None
            raise PeerGone("the connection of a process that was killed")

        return dies


async def until_the_trial(bench: Bench, **start: Any) -> None:
    """The machine has restarted into the new image, whose station is not started yet. ``start``: of the old one's."""
    updates = bench.start(**start)
    await updates.request(order())
    await bench.staged(updates)
    await bench.until((bench.site.folder / "rebooted").exists)
    bench.boots("b")


# ------------------------------------------------------------------------------------- an installer that dies


@pytest.mark.parametrize("done", [False, True], ids=["before", "the boot loader is told"])
def test_an_installer_that_dies_while_it_activates_is_asked_again(site: Site, done: bool) -> None:
    """Were the update given up, the installer would refuse every other one until the machine restarts."""
    bench = Bench(site)
    site.start()
    dying = Dying(site, "activate", 5, done=done)

    async def scene() -> None:
        await until_the_trial(bench)
        assert bench.around.told == TO_REBOOT
        assert dying.left == 0

    play(bench, scene)


def test_a_healthy_image_waits_for_an_installer_that_is_started_again(site: Site) -> None:
    bench = Bench(site)
    site.start()

    async def scene() -> None:
        await until_the_trial(bench)
        dying = Dying(site, "confirm", 10)
        bench.start()
        await bench.until(lambda: bench.around.phase == "idle")
        assert bench.around.told == [*TO_REBOOT, "Installed"]
        assert dying.left == 0

    play(bench, scene)


def test_an_installer_that_stays_away_is_not_waited_for_for_ever(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(site)
    site.start()

    async def scene() -> None:
        await until_the_trial(bench)
        monkeypatch.setattr(updates_module, "_AWAY_MAX_S", 0.05)
        Dying(site, "confirm", 1_000_000)
        bench.start()
        await bench.until((site.folder / "rebooted").exists)
        assert bench.around.phase == "reverting"
        assert site.installer().status().primary == "a"

    play(bench, scene)


def test_a_sick_image_waits_for_the_installer_before_it_restarts(site: Site) -> None:
    bench = Bench(site)
    site.start()

    async def scene() -> None:
        await until_the_trial(bench)
        Dying(site, "revert", 10)
        bench.start(answering=())
        await bench.until((site.folder / "rebooted").exists)
        assert site.installer().status().primary == "a", "the sick one is not tried again"

    play(bench, scene)


# ----------------------------------------------------------------------- an image that could not be got rid of


async def goes_back(bench: Bench) -> str:
    """The image on trial is not marked good. Why."""
    await bench.until((bench.site.folder / "rebooted").exists)
    assert bench.around.phase == "reverting"
    view = bench.site.installer().status()
    assert (view.primary, view.security_epoch) == ("a", 0)
    assert bench.around.kept is not None
    return str(json.loads(bench.around.kept)["why"])


OPENSSL: Final = f"sha256 Fingerprint={':'.join(['AB'] * 32)}"
SPOILT: Final[dict[str, tuple[str, str]]] = {
    "roots": (ROOT.certificate_pem[:200], "roots: 0 whole certificates"),
    "manufacturer_roots": ("", "roots: 0 whole certificates"),
    "revoked": (OPENSSL, "revoked: line 1"),
}


def trust_store(site: Site) -> dict[str, Path]:
    """Its files by the settings that name them, all good."""
    files = {name: site.folder / f"{name}.txt" for name in SPOILT}
    for name, file in files.items():
        file.write_text("" if name == "revoked" else ROOT.certificate_pem)
    return files


@pytest.mark.parametrize("what", SPOILT)
def test_an_image_whose_trust_store_is_of_no_use_goes_back(site: Site, what: str) -> None:
    """It would be the last one that this charger ever takes: each later bundle would find nobody who can judge it."""
    content, why = SPOILT[what]
    files = trust_store(site)
    bench = Bench(site, **files)
    site.start()

    async def scene() -> None:
        await until_the_trial(bench)
        files[what].write_text(content)
        bench.start()
        said = await goes_back(bench)
        assert said.startswith(f"update.{what}: trust store ({files[what]}): {why}"), said

    play(bench, scene)


@pytest.mark.parametrize("what", SPOILT)
def test_a_trust_store_that_was_of_no_use_before_is_not_held_against_the_image(site: Site, what: str) -> None:
    """It lies on the data partition; or it is one that no order here needs, or nobody could have brought this image."""
    files = trust_store(site)
    bench = Bench(site, **files)
    site.start()

    async def scene() -> None:
        updates = bench.start()
        bench.around.charging = True  # so that it waits, staged
        await updates.request(order())
        await bench.staged(updates)
        files[what].write_text(SPOILT[what][0])
        bench.around.charging = False
        updates.look()
        await bench.until((site.folder / "rebooted").exists)
        bench.boots("b")
        bench.start()
        await bench.until(lambda: bench.around.told[-1] == "Installed")

    play(bench, scene)


def test_an_image_without_what_judges_updates_goes_back(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(site)
    site.start()

    async def scene() -> None:
        await until_the_trial(bench)
        monkeypatch.setitem(sys.modules, "agent.firmware.bundle.device", None)  # as one that is not there
        bench.start()
        assert "agent.firmware.bundle.device" in await goes_back(bench)

    play(bench, scene)


@pytest.mark.parametrize("before", [True, False], ids=["there before", "away before"])
def test_an_image_whose_gateway_never_comes_up_goes_back(site: Site, before: bool) -> None:
    """Nobody could reach it, to bring the next one. Where there was none before, that is not the image's fault."""
    bench = Bench(site)
    site.start()

    async def scene() -> None:
        await until_the_trial(bench, gateway=before)
        bench.start(gateway=False)
        if before:
            assert await goes_back(bench) == "no answer from gateway"
        else:
            await bench.until(lambda: bench.around.told[-1] == "Installed")

    play(bench, scene)


# -------------------------------------------------------------------------------------- nothing to go back to


@pytest.fixture
def factory(site: Site) -> Bench:
    """As packaging/boot/README.md prepares it: slot a is written, and nobody has marked it good yet."""
    empty = Environment((b"bootcmd=source",))
    (site.folder / "env").write_bytes(encode(empty, 1, ENV_BYTES) + encode(empty, 2, ENV_BYTES))
    uboot = UbootConfig(
        environment=site.folder / "env", offset_bytes=0, offset_copy_bytes=ENV_BYTES, size_bytes=ENV_BYTES
    )
    site.config = dataclasses.replace(site.config, selector=SelectorKind.UBOOT, uboot=uboot)
    site.start()
    return Bench(site)


FAILED: Final = [Finding("update_failed", detail="no answer from pilot 2, meter 2; revert: slot b holds no good image")]


def test_the_only_image_there_is_takes_updates_whatever_its_faults(site: Site, factory: Bench) -> None:
    async def scene() -> None:
        updates = factory.start(answering=(1,))
        await factory.until(lambda: factory.around.told == ["InstallationFailed"] and factory.around.phase == "idle")
        assert not site.installer().status().on_trial
        assert list(updates.troubles()) == FAILED
        assert factory.around.holds == [True, False]

        updates.close()
        updates = factory.start(answering=(1,))
        await factory.until(lambda: updates._installer_answered)
        assert list(updates.troubles()) == FAILED, "after a restart, too"
        assert await updates.request(order()) == UpdateAnswer(UpdateOutcome.ACCEPTED)
        await factory.staged(updates)
        await factory.until((site.folder / "rebooted").exists)

    play(factory, scene)


def test_what_a_technician_marks_good_takes_updates_at_once(
    site: Site, factory: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    confirm = site.installer().confirm

    def fail() -> None:
        raise SlotFailed("/dev/mmcblk0", "read-only")

    async def scene() -> None:
        monkeypatch.setattr(site.installer(), "confirm", fail)
        updates = factory.start(answering=(1,))
        await factory.until(lambda: factory.around.told == ["InstallationFailed"] and factory.around.phase == "idle")
        answer = UpdateAnswer(UpdateOutcome.REJECTED, "the running image is not marked good")
        assert await updates.request(order()) == answer
        confirm()
        assert await updates.request(order()) == UpdateAnswer(UpdateOutcome.ACCEPTED)

    play(factory, scene)


def test_an_image_on_trial_rejects_where_the_installer_does_not_tell(
    site: Site, factory: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise SlotFailed("/dev/mmcblk0", "read-only")

    async def scene() -> None:
        monkeypatch.setattr(site.installer(), "confirm", fail)
        updates = factory.start(answering=(1,))
        await factory.until(lambda: factory.around.told == ["InstallationFailed"] and factory.around.phase == "idle")
        site.stop()
        assert (await updates.request(order())).outcome is UpdateOutcome.REJECTED

    play(factory, scene)


def test_a_refusal_of_another_kind_does_not_make_a_sick_image_good(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(site)
    site.start()

    def revert(_: Installer) -> str:
        raise UpdateRefused(Refusal.DOWNGRADE, "revert", "below the security epoch")

    async def scene() -> None:
        await until_the_trial(bench)
        monkeypatch.setattr(Installer, "revert", revert)
        bench.start(answering=())
        await bench.until(lambda: bench.around.phase == "idle")
        assert bench.around.told[-1] == "InstallationFailed"
        assert site.installer().status().on_trial

    play(bench, scene)


def test_a_busy_installer_is_asked_to_go_back_until_it_is_free(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(site)
    site.start()
    real, busy = Installer.revert, [UpdateRefused(Refusal.BUSY, "installer", "another update")] * 3

    def revert(installer: Installer) -> str:
        if busy:
            raise busy.pop()
        return real(installer)

    async def scene() -> None:
        await until_the_trial(bench)
        monkeypatch.setattr(Installer, "revert", revert)
        bench.start(answering=())
        await bench.until((site.folder / "rebooted").exists)
        assert (bench.around.phase, site.installer().status().primary) == ("reverting", "a")

    play(bench, scene)
