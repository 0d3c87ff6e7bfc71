"""``evsed update`` and ``evsed slots``: what a technician and the boot guard's timer see.

A real installer process on files; the boot loader is a model, a restart of the machine is a file.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.cli.main import main
from agent.firmware.client import InstallerClient
from agent.firmware.errors import Refusal, UpdateRefused
from agent.firmware.storage import FileStorage, opened
from agent.firmware.view import InstallOrder, Origin, StagedPhase
from agent.ipc.port import Welcome
from agent.ipc.server import IpcServer
from agent.ipc.wire import PROTOCOL
from agent.sim.signer import Signer
from tests.support.fake_station import FakeStation
from tests.support.update_kit import IMAGE_BYTES, SLOTS, UpdateKit

pytestmark = pytest.mark.wire
WELCOME = Welcome(PROTOCOL, "boot-1", "POWER_ON", "0.1.0", "CP-1", "Example", "Wallbox", "S-1", (1,), {}, 0)


@pytest.fixture
def kit(tmp_path: Path) -> UpdateKit:
    return UpdateKit(tmp_path)


class Terminal:
    """Runs commands on a kit, and keeps what the last one said."""

    def __init__(self, kit: UpdateKit, capture: pytest.CaptureFixture[str]) -> None:
        self._kit, self._capture = kit, capture
        self.out = self.err = ""

    def __call__(self, *words: str) -> int:
        self._capture.readouterr()
        exit_code = main([*words, "--config", str(self._kit.config)])
        self.out, self.err = self._capture.readouterr()
        return exit_code


@pytest.fixture
def evsed(kit: UpdateKit, capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(kit, capsys)


def install_and_boot(kit: UpdateKit, evsed: Terminal, version: str = "2.0.0", *, epoch: int = 0) -> None:
    """Slot b holds the version, and runs on trial."""
    with kit.installer():
        assert evsed("update", str(kit.bundle(version, epoch=epoch))) == 0
    assert kit.boot() == "b"


# ------------------------------------------------------------------------------------------- update


def test_an_update_without_a_station_is_tried_at_the_next_restart(kit: UpdateKit, evsed: Terminal) -> None:
    bundle = kit.bundle("2.0.0", epoch=1)
    with kit.installer():
        assert evsed("slots") == 0
        assert "runs from slot a; the next boot takes slot a" in evsed.out
        assert evsed("update", str(bundle)) == 0
        assert "2.0.0 is in slot b" in evsed.out
        assert "the next restart tries the new image" in evsed.out
        assert evsed("slots") == 0
        assert "the next boot takes slot b" in evsed.out
        assert "2.0.0 in slot b is tried at the next boot" in evsed.out
        assert not kit.restarts
    assert kit.slot_file("b").read_bytes().startswith(b"2.0.0")
    assert kit.boot() == "b"
    with kit.installer():
        assert evsed("slots", "--json") == 0
    shown = json.loads(evsed.out)
    assert (shown["booted"], shown["on_trial"], shown["security_epoch"]) == ("b", True, 0)
    assert [slot["version"] for slot in shown["slots"]] == ["", "2.0.0"]


@pytest.mark.parametrize(
    ("said", "exit_code"),
    [("2.0.0 is installed when nobody charges", 0), ("not now: an update is being installed", 1)],
)
def test_where_a_station_runs_it_decides_when(kit: UpdateKit, evsed: Terminal, said: str, exit_code: int) -> None:
    with kit.installer() as installer, station(kit, said):
        assert evsed("update", str(kit.bundle("2.0.0", epoch=1))) == exit_code
        assert said in evsed.out
        staged = installer.status().staged
    assert staged is not None
    assert staged.phase == "ready", "the boot loader was told, although somebody may be charging"


def test_what_is_refused_is_told_in_one_line_and_changes_nothing(kit: UpdateKit, evsed: Terminal) -> None:
    strange, junk = kit.bundle("6.6.6", epoch=1, signer=Signer.make("Stranger")), kit.folder / "junk"
    junk.write_bytes(b"junk" * 5_000)
    before = kit.slot_file("b").read_bytes()
    with kit.installer():
        for file, why in ((strange, "refused ("), (junk, "refused (malformed)"), (kit.folder / "no", "No such file")):
            assert evsed("update", str(file)) == 1
            assert why in evsed.err
            assert evsed.err.count("\n") == 1
        assert evsed("slots") == 0
    assert "the next boot takes slot a" in evsed.out
    assert kit.slot_file("b").read_bytes() == before


def test_a_bundle_without_every_part_of_the_slot_is_refused(kit: UpdateKit, evsed: Terminal) -> None:
    """Kernel and root file system of two releases do not fit each other."""
    paths = {slot: kit.folder / f"boot-{slot}.img" for slot in SLOTS}
    for path in paths.values():
        path.write_bytes(bytes(4096))
    part = f'[[update.slot]]\ntarget = "boot"\na = "{paths["a"]}"\nb = "{paths["b"]}"\n'
    kit.config.write_text(kit.config.read_text() + part)
    with kit.installer():
        assert evsed("update", str(kit.bundle("2.0.0", epoch=1))) == 1
    assert "no slot image for boot; bring every part of the slot" in evsed.err


def test_an_order_that_nobody_signed_is_refused_unless_the_configuration_says_so(kit: UpdateKit) -> None:
    bundle, order = kit.bundle("2.0.0", epoch=1), InstallOrder(Origin.OCPP)
    with kit.installer() as installer, opened(FileStorage().open(bundle)) as source:
        with pytest.raises(UpdateRefused) as refused:
            installer.install(source, order, lambda _: None)
        assert refused.value.refusal is Refusal.POLICY
    kit.config.write_text(kit.config.read_text().replace("[update]", '[update]\nplain = "bundle"'))
    with kit.installer() as installer, opened(FileStorage().open(bundle)) as source:
        assert installer.install(source, order, lambda _: None).phase is StagedPhase.READY


def test_a_bundle_on_site_does_not_wait_for_a_download(kit: UpdateKit, evsed: Terminal) -> None:
    """A server that is silent may be waited for for days."""
    kit.config.write_text(kit.config.read_text().replace("[update]", '[update]\nplain = "bundle"'))
    bundle, on_site = kit.bundle("1.9.0", epoch=0), kit.bundle("2.0.0", epoch=1)
    stands, goes_on, ended = threading.Event(), threading.Event(), []

    class Stands:
        size = bundle.stat().st_size

        def read(self, offset: int, length: int) -> bytes:
            if offset > IMAGE_BYTES // 2:
                stands.set()
                assert goes_on.wait(60)
            return bundle.read_bytes()[offset : offset + length]

    def download() -> None:
        with InstallerClient(kit.socket) as gateway:
            try:
                gateway.install(Stands(), InstallOrder(Origin.OCPP), lambda _: None)
            except UpdateRefused as refused:
                ended.append(refused.refusal)

    with kit.installer():
        downloading = threading.Thread(target=download)
        downloading.start()
        assert stands.wait(60)
        assert evsed("slots", "mark-good") == 0
        assert "slot a was good already; nothing to do" in evsed.out
        assert evsed("slots") == 0
        assert "1.9.0 in slot b is not whole yet" in evsed.out
        assert evsed("update", str(on_site)) == 0
        assert "2.0.0 is in slot b" in evsed.out
        goes_on.set()
        downloading.join(60)
    assert ended == [Refusal.REPLACED]
    assert kit.boot() == "b"
    assert kit.slot_file("b").read_bytes().startswith(b"2.0.0")


# -------------------------------------------------------------------------------------------- slots


def test_mark_good_keeps_the_image_and_raises_the_epoch(kit: UpdateKit, evsed: Terminal) -> None:
    install_and_boot(kit, evsed, epoch=3)
    with kit.installer():
        assert evsed("slots") == 0
        assert "on trial: not marked good yet" in evsed.out
        assert evsed("slots", "mark-good") == 0
        assert "slot b is good: it stays" in evsed.out
        assert evsed("slots", "mark-good") == 0
        assert "was good already" in evsed.out
        assert evsed("slots") == 0
        assert "least security epoch 3" in evsed.out
        assert evsed("slots", "rollback") == 1, "the factory's image has a lower epoch"
        assert "refused (downgrade)" in evsed.err
    assert kit.boot() == "b"


def test_rollback_boots_the_other_image_if_it_is_good(kit: UpdateKit, evsed: Terminal) -> None:
    with kit.installer():
        assert evsed("slots", "rollback") == 1
        assert "slot b holds no good image" in evsed.err
    install_and_boot(kit, evsed)
    with kit.installer():
        assert evsed("slots", "mark-good") == 0
        assert evsed("slots", "rollback") == 0
        assert "slot a boots from now on; restart the charger" in evsed.out
        assert not kit.restarts
    assert kit.boot() == "a"


# -------------------------------------------------------------------------------------------- guard


def test_guard_leaves_a_good_image_alone(kit: UpdateKit, evsed: Terminal) -> None:
    with kit.installer():
        assert evsed("slots", "guard") == 0
    assert "slot a is not on trial; nothing to do" in evsed.out
    assert not kit.restarts


def test_guard_goes_back_from_an_image_that_nobody_marked_good(kit: UpdateKit, evsed: Terminal) -> None:
    install_and_boot(kit, evsed)
    with kit.installer():
        assert evsed("slots", "guard") == 0
        assert "slot b is on trial and was not marked good in time" in evsed.out
        assert "slot a boots from now on; the charger restarts" in evsed.out
        assert kit.restarts
    assert kit.boot() == "a"
    with kit.installer():
        assert evsed("slots") == 0
        assert "2.0.0 in slot b was tried and did not become good" in evsed.out
        assert evsed("slots", "guard") == 0
    assert not kit.restarts


def test_guard_restarts_all_the_same_where_the_boot_loader_cannot_be_told(kit: UpdateKit, evsed: Terminal) -> None:
    install_and_boot(kit, evsed)
    with kit.installer():
        (kit.folder / "state" / ".boot.json.new").mkdir()  # in the way of the next change
        assert evsed("slots", "guard") == 0
        assert "the charger restarts all the same" in evsed.err
        assert kit.restarts
    (kit.folder / "state" / ".boot.json.new").rmdir()
    assert [kit.boot() for _ in range(3)] == ["b", "b", "a"], "its three tries, one of them used by now"


def test_guard_stays_where_there_is_nothing_to_go_back_to(kit: UpdateKit, evsed: Terminal) -> None:
    install_and_boot(kit, evsed)
    record = kit.folder / "state" / "boot.json"
    told = json.loads(record.read_text())
    told["slots"]["a"] = {"good": False, "bootable": False, "tries": None}
    record.write_text(json.dumps(told))
    with kit.installer():
        assert evsed("slots", "guard") == 0
    assert "slot b runs on, and still needs somebody" in evsed.err
    assert not kit.restarts


# ------------------------------------------------------------------------------- what is not there


@pytest.mark.parametrize("words", [("slots",), ("slots", "mark-good"), ("slots", "rollback"), ("slots", "guard")])
def test_without_an_installer_the_exit_code_is_69(kit: UpdateKit, evsed: Terminal, words: tuple[str, ...]) -> None:
    assert evsed(*words) == 69
    assert "the installer does not answer" in evsed.err
    assert not kit.restarts


def test_a_charger_without_update_table_says_so(kit: UpdateKit, evsed: Terminal) -> None:
    text = kit.config.read_text()
    kit.config.write_text(text[: text.index("[update]")] + text[text.index("[[evse]]") :])
    assert evsed("slots") == 78
    assert "this charger takes no updates" in evsed.err


@contextmanager
def station(kit: UpdateKit, said: str) -> Iterator[None]:
    """A station on its socket that answers ``install_staged`` with ``said``."""

    class Answers(FakeStation):
        async def install_staged(self) -> str:
            return said

    loop = asyncio.new_event_loop()
    server = IpcServer(
        kit.folder / "run" / "station.sock", Answers(), lambda: WELCOME, list, frozenset({os.getuid()}), lambda: None
    )
    loop.run_until_complete(server.start())
    running = threading.Thread(target=loop.run_forever)
    running.start()
    try:
        yield
    finally:
        asyncio.run_coroutine_threadsafe(server.close(), loop).result(5)
        loop.call_soon_threadsafe(loop.stop)
        running.join(5)
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
