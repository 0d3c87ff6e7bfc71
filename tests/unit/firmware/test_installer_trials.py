"""The installer when something comes between: another update, a lost link, a sick image, a record that is torn.

``test_installer`` has what it does otherwise; power cuts are in ``tests.crash.test_update_power_loss``.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Final

import pytest

from agent.firmware.errors import Refusal, SlotFailed, SourceLost
from agent.firmware.installer_state import InstallerState, SlotRecord, StateFile
from agent.firmware.ports import Progress
from agent.firmware.storage import FileStorage
from agent.firmware.view import StagedPhase
from tests.support.update_world import NEW, NEXT, OLD, STATE_DIR, TRIES, release
from tests.unit.firmware.bundle.making import BUILT_MS, CHUNK, BytesSource, image, make_bundle
from tests.unit.firmware.installer_device import (
    ON_SITE,
    STATE,
    Device,
    busy,
    nobody,
    refused,
    rigs,
)
from tests.unit.firmware.selectors.rigs import UbootRig, slot_path


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


# ------------------------------------------------------------------------------------------------- busy


@rigs
def test_nothing_is_installed_while_an_image_is_on_trial(tmp_path: Path, name: str) -> None:
    device = Device(tmp_path, name)
    assert device.try_out(release(*OLD)) == "b"
    old = device.content("a")
    assert "not marked good" in busy(lambda: device.install(release(*NEW)))
    assert device.content("a") == old
    device.installer.confirm()
    assert device.install(release(*NEW)).slot == "a"


@rigs
def test_nor_while_one_waits_for_its_reboot(tmp_path: Path, name: str) -> None:
    device, new = Device(tmp_path, name), release(*OLD)
    device.installer.activate(device.install(new).digest)
    assert "waits for its reboot" in busy(lambda: device.install(release(*NEW)))
    assert device.start() == [], "the installer alone is restarted when nobody calls for a while"
    assert device.staged.phase is StagedPhase.ACTIVATED
    busy(lambda: device.install(release(*NEW)))
    assert device.content("b").startswith(new.content)
    assert device.boot(asked=True) == "b"


def test_nor_two_at_once(device: Device) -> None:
    tried: list[str] = []

    def meanwhile(progress: Progress) -> None:
        if not tried:
            tried.extend(
                busy(call)
                for call in (
                    lambda: device.install(release(*NEW)),
                    lambda: device.installer.activate("x"),
                    device.installer.confirm,
                    device.installer.revert,
                )
            )
            assert device.installer.status().booted == "a", "looking is always possible"

    device.installer.install(BytesSource(release(*OLD).bundle), ON_SITE, meanwhile)
    assert tried == ["another update is under way"] * 4
    assert device.staged.phase is StagedPhase.READY


def test_a_device_that_cannot_tell_which_slot_runs_is_never_written(device: Device) -> None:
    device.slot = "neither"
    device.selector = device.rig.selector(device.disk, None)
    device.installer._selector = device.selector
    device.installer.recover()
    device.disk.log.clear()
    for call in (lambda: device.install(release(*OLD)), device.installer.confirm, device.installer.revert):
        with pytest.raises(SlotFailed, match="nobody can tell which slot runs"):
            call()
    assert device.disk.log == []
    assert device.installer.status().booted is None


# -------------------------------------------------------------------------------------------- interruptions


class LostSource(BytesSource):
    def read(self, offset: int, length: int) -> bytes:
        if len(self.reads) >= 6:
            raise SourceLost("the link is gone", retryable=True)
        return super().read(offset, length)


@rigs
def test_an_interrupted_download_goes_on_where_it_was(tmp_path: Path, name: str) -> None:
    device, new = Device(tmp_path, name), release(*OLD)
    with pytest.raises(SourceLost):
        device.installer.install(LostSource(new.bundle), ON_SITE, nobody)
    assert device.staged.phase is StagedPhase.WRITING
    assert device.boot() == "a"
    told: list[Progress] = []
    assert device.installer.install(BytesSource(new.bundle), ON_SITE, told.append).phase is StagedPhase.READY
    assert 0 < told[-1].fetched_bytes < len(new.content) - CHUNK
    assert device.content("b").startswith(new.content)


def test_whoever_listens_may_end_it_and_it_may_be_begun_again(device: Device) -> None:
    class Enough(Exception):
        pass

    def listen(progress: Progress) -> None:
        if progress.done_bytes > 2 * CHUNK:
            raise Enough

    with pytest.raises(Enough):
        device.installer.install(BytesSource(release(*OLD).bundle), ON_SITE, listen)
    assert device.staged.phase is StagedPhase.WRITING
    assert device.install(release(*NEW)).version == "2.0", "also another one"


@rigs
def test_activating_again_changes_nothing(tmp_path: Path, name: str) -> None:
    """The station asks again when it does not know whether it was heard."""
    device = Device(tmp_path, name)
    staged = device.install(release(*OLD))
    first = device.installer.activate(staged.digest)
    state = device.selector.state()
    assert device.installer.activate(staged.digest) == first
    device.start()
    assert device.installer.activate(staged.digest) == first
    assert device.selector.state() == state
    assert device.boot(asked=True) == "b"
    error = refused(lambda: device.installer.activate(staged.digest))
    assert (error.refusal, error.why) == (Refusal.UNSUPPORTED, "the staged slot is the one that runs")
    device.installer.confirm()
    device.installer.confirm()
    assert device.boot() == "b"


def test_an_activation_that_cannot_be_written_down_is_undone(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asked hears that it failed, so the slot must not be tried by the next power cut."""

    def full(*_: object) -> None:
        raise SlotFailed("installer.json", "no space left")

    staged = device.install(release(*NEW))
    with monkeypatch.context() as patch:
        patch.setattr(StateFile, "save", full)
        with pytest.raises(SlotFailed, match="no space left"):
            device.installer.activate(staged.digest)
    assert (device.boot(), device.staged.phase) == ("a", StagedPhase.READY)
    device.installer.activate(staged.digest)
    assert device.boot(asked=True) == "b"


@pytest.mark.parametrize("digest", ["", "0" * 64])
def test_only_what_is_staged_can_be_activated(device: Device, digest: str) -> None:
    assert refused(lambda: device.installer.activate(digest)).refusal is Refusal.UNSUPPORTED
    device.install(release(*OLD))
    assert refused(lambda: device.installer.activate(digest)).refusal is Refusal.UNSUPPORTED


@rigs
@pytest.mark.parametrize("at", [0, 3 * CHUNK + 5, len(release(*OLD).content) - 1])
def test_a_slot_that_does_not_hold_what_was_written_is_not_activated(tmp_path: Path, name: str, at: int) -> None:
    device = Device(tmp_path, name)
    staged = device.install(release(*OLD))
    content = bytearray(device.content("b"))
    content[at] ^= 0x80
    device.disk.put(slot_path("b"), bytes(content), device=True)
    error = refused(lambda: device.installer.activate(staged.digest))
    assert (error.refusal, error.where) == (Refusal.CORRUPT, str(slot_path("b")))
    assert device.boot(asked=True) == "a"
    assert device.staged.phase is StagedPhase.READY


@pytest.mark.parametrize("how", ["lost", "another one's"])
def test_nor_is_one_whose_manifest_is_not_there(device: Device, how: str) -> None:
    staged = device.install(release(*OLD))
    head = STATE_DIR / "head-b.bin"
    if how == "lost":
        device.disk.remove(head)
    else:
        device.disk.put(head, release(*NEW).bundle[:8192])
    assert refused(lambda: device.installer.activate(staged.digest)).refusal is Refusal.CORRUPT


# -------------------------------------------------------------------------------------- back, and never too far


@rigs
def test_after_a_trial_that_failed_the_next_update_works(tmp_path: Path, name: str) -> None:
    device = Device(tmp_path, name)
    device.try_out(release(*NEW))
    while device.boot() == "b":
        pass
    assert device.staged.phase is StagedPhase.ROLLED_BACK
    assert device.installer.status().notes[-1] == "slot b with 2.0 was tried and did not become good"
    assert device.epoch == 0, "never by an image that was not marked good"
    device.start()
    assert device.epoch == 0
    device.update(release(*OLD))
    assert (device.boot(), device.epoch) == ("b", 1)


def test_a_slot_that_the_boot_loader_passes_over_is_not_waited_for(tmp_path: Path) -> None:
    """U-Boot cannot load the new slot's kernel: it starts the old one, and has the new one still first in line."""
    device = Device(tmp_path, "uboot")
    device.installer.activate(device.install(release(*NEW)).digest)
    device.rig = UbootRig(broken=frozenset("b"))
    assert device.boot() == "a"
    found = device.installer.status()
    assert (found.primary, device.staged.phase) == ("a", StagedPhase.ROLLED_BACK)
    assert found.notes[-1] == "slot b with 2.0 was tried and did not become good"
    assert device.start() == []
    device.rig = UbootRig()
    assert device.boot() == "a", "also where its kernel can be loaded again"
    device.update(release(*OLD))
    assert (device.boot(), device.epoch) == ("b", 1)


def test_a_good_slot_that_cannot_be_loaded_any_more_takes_the_next_update(tmp_path: Path) -> None:
    """A block of its kernel went bad: U-Boot starts the other one at every boot, and the order stays as it is."""
    device = Device(tmp_path, "uboot")
    device.update(release(*NEW))
    device.rig = UbootRig(broken=frozenset("b"))
    assert device.boot() == "a"
    assert device.start() == ["the boot loader started slot a, although b is good and comes first"]
    device.rig = UbootRig()
    assert device.boot() == "b", "it may have been for once"
    assert device.start() == []
    device.rig = UbootRig(broken=frozenset("b"))
    device.boot()
    device.install(release(*NEXT))
    device.rig = UbootRig()
    assert device.boot() == "a", "what is written is not booted before it is to be tried"
    device.installer.activate(device.staged.digest)
    assert device.boot() == "b"
    device.installer.confirm()
    assert device.epoch == 3


def test_also_where_power_was_cut_while_it_was_marked_good(tmp_path: Path) -> None:
    device = Device(tmp_path, "uboot")
    device.try_out(release(*NEW))
    device.selector.confirm("b")
    device.rig = UbootRig(broken=frozenset("b"))
    assert (device.boot(), device.epoch) == ("a", 2)
    assert device.install(release(*NEXT)).phase is StagedPhase.READY


def test_an_activation_that_never_ended_is_undone(device: Device) -> None:
    """The installer died between the boot loader's record and its own; whoever called has heard nothing."""
    staged = device.install(release(*NEW))
    device.selector.activate(staged.slot, TRIES)
    assert device.start() == ["slot b with 2.0 was still first in line and is not any more"]
    assert (device.boot(), device.staged.phase) == ("a", StagedPhase.READY)
    device.installer.activate(staged.digest)
    assert device.boot(asked=True) == "b"


@rigs
def test_an_image_on_trial_can_be_left_at_once(tmp_path: Path, name: str) -> None:
    device = Device(tmp_path, name)
    device.update(release(*OLD))
    assert device.try_out(release(*NEXT)) == "a"
    assert device.start() == [], "a trial is no slot that the boot loader passed over"
    assert device.installer.revert() == "b"
    assert device.installer.revert() == "b"
    assert device.staged.phase is StagedPhase.ROLLED_BACK
    assert [device.boot() for _ in range(TRIES + 1)] == ["b"] * (TRIES + 1)
    assert device.epoch == 1
    device.update(release(*NEW))
    assert device.boot() == "a"


@pytest.mark.parametrize("name", ["file", "uboot", "sdboot"])  # the Raspberry Pi's has one good slot only
def test_no_way_back_below_the_security_epoch(tmp_path: Path, name: str) -> None:
    device = Device(tmp_path, name)
    device.update(release(*OLD))
    error = refused(device.installer.revert)
    assert error.refusal is Refusal.DOWNGRADE, "nobody knows the factory image's epoch"
    assert error.where == "revert"
    device.update(release(*NEW))
    assert refused(device.installer.revert).refusal is Refusal.DOWNGRADE
    assert device.boot() == "a"
    same = make_bundle(image(random.Random(1).randbytes(3 * CHUNK)), version="2.0.1", epoch=2)
    device.installer.activate(device.installer.install(BytesSource(same), ON_SITE, nobody).digest)
    assert device.rig.boot(device.disk) == "b"


def test_back_to_a_good_image_of_the_same_epoch(device: Device) -> None:
    for epoch, version in ((1, "1.1"), (1, "1.2")):
        bundle = make_bundle(image(random.Random(version).randbytes(3 * CHUNK)), version=version, epoch=epoch)
        device.installer.activate(device.installer.install(BytesSource(bundle), ON_SITE, nobody).digest)
        device.boot()
        device.installer.confirm()
    assert device.installer.revert() == "b"
    for _ in range(2):
        assert "waits for its reboot" in busy(lambda: device.install(release(*NEXT))), "it would be overwritten"
        assert device.start() == []
    assert device.boot() == "b"
    device.update(release(*NEXT))


@rigs
def test_a_trial_can_be_left_although_nobody_knows_the_epoch_of_the_factorys_image(tmp_path: Path, name: str) -> None:
    """The boot loader would go back there by itself."""
    device = Device(tmp_path, name)
    device.disk.put(STATE, b'{"security_epoch": 2}')
    device.start()
    device.try_out(release(*NEXT))
    assert device.installer.revert() == "a"
    assert (device.boot(), device.epoch) == ("a", 2)


@rigs
def test_no_way_back_to_a_slot_without_a_good_image(tmp_path: Path, name: str) -> None:
    assert refused(Device(tmp_path, name).installer.revert).refusal is Refusal.UNSUPPORTED


# ------------------------------------------------------------------------------------------------ the epoch


@rigs
def test_the_epoch_rises_when_an_image_is_marked_good_and_not_before(tmp_path: Path, name: str) -> None:
    device = Device(tmp_path, name)
    device.try_out(release(*NEW))
    assert device.epoch == 0
    device.start()
    assert device.epoch == 0
    device.installer.confirm()
    assert device.epoch == 2
    assert StateFile(device.disk, STATE).load().trusted_wall_ms == BUILT_MS
    assert refused(lambda: device.install(release(*OLD))).refusal is Refusal.DOWNGRADE


def test_a_record_with_more_in_it_than_is_known_is_read(tmp_path: Path) -> None:
    """The installer of a newer image kept it, and was rolled back (ADR 29)."""
    path = tmp_path / "state.json"
    file = StateFile(FileStorage(), path)
    file.save(InstallerState(security_epoch=3, slots={"a": SlotRecord("1.0", "ab" * 32, 3, 0, 0)}))
    kept = file.load()
    plain = json.loads(path.read_text()) | {"colour": "red"}
    plain["slots"]["a"]["colour"] = "red"
    path.write_text(json.dumps(plain))
    assert file.load() == kept


@rigs
def test_also_where_power_was_cut_before_that_was_written_down(tmp_path: Path, name: str) -> None:
    device = Device(tmp_path, name)
    device.try_out(release(*NEW))
    device.selector.confirm("b")
    device.boot()
    assert device.epoch == 2
    assert device.installer.status().staged is None


def test_it_never_falls(device: Device) -> None:
    device.update(release(*OLD))
    record = device.disk.content(STATE).replace(b'"security_epoch":1,"slots"', b'"security_epoch":7,"slots"')
    device.disk.put(STATE, record)
    device.start()
    device.installer.confirm()
    device.start()
    assert device.epoch == 7


# -------------------------------------------------------------------------------------------------- the record

BAD_RECORDS: Final = {
    "torn": (b'{"format": 1, "security_ep', "restore it, or remove it and set the epoch anew"),
    "empty": (b"", "restore it, or remove it and set the epoch anew"),
    "rubbish": (b"\xff" * 100, "restore it, or remove it and set the epoch anew"),
    "of another shape": (b'{"format": 1, "colour": "blue"}', "restore it, or remove it and set the epoch anew"),
    "a list": (b"[]", "restore it, or remove it and set the epoch anew"),
    "too large": (b" " * 70_000, "restore it, or remove it and set the epoch anew"),
    "of a newer installer": (b'{"format": 2}', "boot the newer image"),
}


@pytest.mark.parametrize("what", BAD_RECORDS)
def test_a_record_that_cannot_be_read_is_no_reason_to_forget_the_epoch(device: Device, what: str) -> None:
    content, remedy = BAD_RECORDS[what]
    device.disk.put(STATE, content)
    device.disk.log.clear()
    with pytest.raises(SlotFailed) as caught:
        device.start()
    assert (caught.value.what, caught.value.remedy) == (str(STATE), remedy)
    assert device.disk.log == []
    assert device.disk.content(STATE) == content


def test_roots_that_cannot_be_read_are_the_devices_fault(tmp_path: Path) -> None:
    device = Device(tmp_path)
    (tmp_path / "roots.pem").write_text("rubbish")
    with pytest.raises(SlotFailed, match="trust store") as caught:
        device.install(release(*OLD))
    assert caught.value.remedy == "repair the file in the image"
    assert device.installer.status().staged is None
