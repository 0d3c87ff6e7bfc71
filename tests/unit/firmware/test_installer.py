"""What the installer does, in which order, and what it refuses: on a disk in memory, with the real writer, the real
boot selectors and the models of their boot loaders.

Trials, interruptions and ways back are in ``test_installer_trials``, power cuts in
``tests.crash.test_update_power_loss``.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Final

import pytest

from agent.config.update import FilesTarget, McuTarget, SlotTarget, SourcePolicy
from agent.firmware.errors import Refusal
from agent.firmware.ports import Progress
from agent.firmware.view import InstallOrder, Origin, StagedPhase
from tests.support.update_world import NEW, NEXT, NOW_MS, OLD, SLOT_BYTES, release
from tests.unit.firmware.bundle.making import CHUNK, BytesSource, files, image, make_bundle
from tests.unit.firmware.bundle.pki import OTHER_SIGNER, ROOT, SIGNER, STRANGER
from tests.unit.firmware.installer_device import (
    ON_SITE,
    Device,
    nobody,
    refused,
    rigs,
    signed,
)


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


# ---------------------------------------------------------------------------------------- a whole update


@rigs
def test_an_update_step_by_step(tmp_path: Path, name: str) -> None:
    device, new = Device(tmp_path, name), release(*OLD)
    told: list[Progress] = []
    staged = device.installer.install(BytesSource(new.bundle), signed(new), told.append)
    assert staged == device.staged
    assert (staged.slot, staged.phase, staged.version, staged.security_epoch) == ("b", StagedPhase.READY, "1.1", 1)
    assert staged.file_signed
    assert told[-1].done_bytes == told[-1].total_bytes == len(new.content)
    assert device.content("b").startswith(new.content)
    assert device.boot() == "a", "not before it is activated"

    assert device.installer.activate(staged.digest).phase is StagedPhase.ACTIVATED
    assert device.boot(asked=True) == "b"
    view = device.installer.status()
    assert (view.booted, view.on_trial, view.engine, view.selector) == ("b", True, "native", "some loader")

    device.installer.confirm()
    assert [device.boot() for _ in range(5)] == ["b"] * 5
    view = device.installer.status()
    assert (view.on_trial, view.primary, view.security_epoch, view.staged) == (False, "b", 1, None)
    (ours,) = (slot for slot in view.slots if slot.running)
    assert (ours.slot, ours.good, ours.version, ours.security_epoch) == ("b", True, "1.1", 1)
    assert (ours.digest, ours.installed_wall_ms) == (staged.digest, NOW_MS)


@rigs
def test_updates_go_from_slot_to_slot(tmp_path: Path, name: str) -> None:
    device = Device(tmp_path, name)
    for what, slot in ((OLD, "b"), (NEW, "a"), (NEXT, "b")):
        device.update(release(*what))
        assert device.boot() == slot
        assert device.epoch == what[1]


def kind(step: str) -> str:
    for word, where in {"record": "installer.json", "head": "head-", "index": ".index", "slot": "slot-"}.items():
        if where in step:
            return word
    return "folder" if step.startswith("sync_folder /data/installer") else "boot"


@rigs
def test_each_step_is_durable_before_the_next_one_begins(tmp_path: Path, name: str) -> None:
    device = Device(tmp_path, name)
    device.update(release(*OLD))  # now both slots are good
    device.disk.log.clear()
    staged = device.install(release(*NEW))
    steps = [step for step in device.disk.log if kind(step) not in ("index", "folder")]
    groups = [(word, list(group)) for word, group in groupby(steps, kind)]
    assert [word for word, _ in groups] == ["record", "boot", "head", "slot", "record"]
    for word, group in groups:
        durable = "rename" if word in ("record", "head") else "sync"
        assert group[-1].startswith(durable), group
    first, *_, last = [step for step in steps if step.startswith("write /dev/slot-a")]
    assert first.endswith(f" 0+{CHUNK}"), "spoilt first"
    assert last.endswith(f" 0+{CHUNK}"), "whole last"

    device.disk.log.clear()
    device.installer.activate(staged.digest)
    steps = [step for step in device.disk.log if kind(step) != "folder"]
    assert [word for word, _ in groupby(steps, kind)] == ["boot", "record"]


# -------------------------------------------------------------------------------------- what is refused

FOREIGN: Final = image(random.Random(5).randbytes(3 * CHUNK))
DTB: Final = image(b"x", name="dtb", target="dtb")
BOOT: Final = files({"vmlinuz": b"kernel"})
BAD_BUNDLES: Final[dict[str, tuple[Refusal, Callable[[], bytes]]]] = {
    "a stranger's": (Refusal.CERTIFICATE, lambda: make_bundle(FOREIGN, signers=[STRANGER], version="9", epoch=9)),
    "nobody's": (Refusal.SIGNATURE, lambda: make_bundle(FOREIGN, signers=[], version="9", epoch=9)),
    "another product's": (Refusal.PRODUCT, lambda: make_bundle(FOREIGN, compatible=("acme,dc50",), epoch=9)),
    "another board's": (Refusal.PRODUCT, lambda: make_bundle(FOREIGN, hardware=(2, 3), epoch=9)),
    "older": (Refusal.DOWNGRADE, lambda: make_bundle(FOREIGN, version="9", epoch=0)),
    "larger than the slot": (Refusal.TOO_LARGE, lambda: make_bundle(image(bytes(SLOT_BYTES + 1)), epoch=9)),
    "of parts that nobody has": (Refusal.UNSUPPORTED, lambda: make_bundle(FOREIGN, DTB, epoch=9)),
    "not whole": (Refusal.UNSUPPORTED, lambda: make_bundle(DTB, epoch=9)),
    "something else": (Refusal.MALFORMED, lambda: bytes(20_000)),
    "empty": (Refusal.MALFORMED, lambda: b""),
}


@rigs
@pytest.mark.parametrize("what", BAD_BUNDLES)
def test_a_bad_bundle_is_refused_before_anything_is_written(tmp_path: Path, name: str, what: str) -> None:
    device = Device(tmp_path, name)
    device.update(release(*OLD))
    refusal, make = BAD_BUNDLES[what]
    bundle = make()
    order = InstallOrder(Origin.OCPP, SIGNER.certificate_pem, SIGNER.sign_file(bundle))
    before, content = device.installer.status(), {path: device.disk.content(path) for path in device.disk.paths()}
    device.disk.log.clear()
    source = BytesSource(bundle)
    error = refused(lambda: device.installer.install(source, order, nobody))
    assert error.refusal is refusal, error
    assert device.disk.log == []
    assert device.installer.status() == before
    assert {path: device.disk.content(path) for path in device.disk.paths()} == content
    assert sum(length for _, length in source.reads) <= 3 * 4096 + 8192, "refused after the head"


def test_a_bundle_that_brings_a_slot_in_part(tmp_path: Path) -> None:
    device = Device(tmp_path)
    dtb = SlotTarget(target="dtb", a=Path("/dev/dtb-a"), b=Path("/dev/dtb-b"))
    for path in (dtb.a, dtb.b):
        device.disk.put(path, bytes(CHUNK), device=True)
    device.config = dataclasses.replace(device.config, slot=(*device.config.slot, dtb))
    device.start()
    error = refused(lambda: device.installer.install(BytesSource(make_bundle(FOREIGN)), ON_SITE, nobody))
    assert (error.refusal, error.why) == (Refusal.UNSUPPORTED, "no slot image for dtb")
    both = make_bundle(FOREIGN, DTB)
    device.installer.activate(device.installer.install(BytesSource(both), ON_SITE, nobody).digest)
    assert device.boot(asked=True) == "b"


def test_files_of_the_slot_are_a_part_of_it(tmp_path: Path) -> None:
    """A kernel beside the slot that a bundle left out would be the one of two releases ago; a controller's firmware is
    taken over from the slot that runs."""
    boot = FilesTarget(name="boot", folder=Path("/boot/efi"))
    pilot = McuTarget(name="pilot", port="/dev/ttyS1", chip_id=0x468, page_bytes=2_048, pages=64)
    device = Device(tmp_path, files=(boot,), mcu=(pilot,))
    error = refused(lambda: device.installer.install(BytesSource(make_bundle(FOREIGN)), ON_SITE, nobody))
    assert (error.refusal, error.why) == (Refusal.UNSUPPORTED, "no files for boot")
    assert error.remedy == "bring every part of the slot"
    device.installer.activate(device.installer.install(BytesSource(make_bundle(FOREIGN, BOOT)), ON_SITE, nobody).digest)
    assert device.disk.content(Path("/boot/efi/b/vmlinuz")) == b"kernel"
    assert device.boot(asked=True) == "b"


def test_a_bundle_of_two_signers_where_two_are_wanted(tmp_path: Path) -> None:
    device = Device(tmp_path, threshold=2)
    one, two = (make_bundle(FOREIGN, signers=signers) for signers in ([SIGNER], [SIGNER, OTHER_SIGNER]))
    error = refused(lambda: device.installer.install(BytesSource(one), ON_SITE, nobody))
    assert error.refusal is Refusal.SIGNATURE
    assert device.installer.install(BytesSource(two), ON_SITE, nobody).phase is StagedPhase.READY


def test_a_revoked_signer_from_the_moment_the_list_is_there(tmp_path: Path) -> None:
    revoked = tmp_path / "revoked"
    revoked.write_text("")
    device = Device(tmp_path, revoked=revoked)
    staged = device.install(release(*OLD))
    assert staged.phase is StagedPhase.READY
    revoked.write_text(SIGNER.fingerprint)
    assert refused(lambda: device.install(release(*NEW))).refusal is Refusal.REVOKED


# origin, whether the order is signed; what an unsigned one meets by default, and where that is changed
GATES: list[tuple[Origin, bool, dict[str, SourcePolicy], Refusal | None]] = [
    (Origin.OCPP, True, {}, None),
    (Origin.OCPP, False, {}, Refusal.POLICY),
    (Origin.OCPP, False, {"plain": SourcePolicy.BUNDLE}, None),
    (Origin.OCPP, True, {"plain": SourcePolicy.BUNDLE, "local": SourcePolicy.REFUSE}, None),
    (Origin.LOCAL, False, {}, None),
    (Origin.LOCAL, False, {"local": SourcePolicy.REFUSE}, Refusal.POLICY),
    (Origin.LOCAL, False, {"local": SourcePolicy.REFUSE, "plain": SourcePolicy.BUNDLE}, Refusal.POLICY),
]


@pytest.mark.parametrize(("origin", "is_signed", "policies", "refusal"), GATES)
def test_what_an_order_must_bring(
    tmp_path: Path, origin: Origin, is_signed: bool, policies: dict[str, SourcePolicy], refusal: Refusal | None
) -> None:
    device, new = Device(tmp_path, **policies), release(*OLD)
    order = dataclasses.replace(signed(new), origin=origin) if is_signed else InstallOrder(origin)
    if refusal is None:
        assert device.installer.install(BytesSource(new.bundle), order, nobody).file_signed == is_signed
        return
    source = BytesSource(new.bundle)
    assert refused(lambda: device.installer.install(source, order, nobody)).refusal is refusal
    assert source.reads == []


@pytest.mark.parametrize(
    ("certificate", "refusal"),
    [
        (STRANGER.certificate_pem, Refusal.CERTIFICATE),
        (ROOT.certificate_pem, Refusal.CERTIFICATE),
        ("", Refusal.CERTIFICATE),
        ("-----BEGIN CERTIFICATE-----\nrubbish\n-----END CERTIFICATE-----\n", Refusal.CERTIFICATE),
    ],
    ids=["stranger", "root", "none", "rubbish"],
)
def test_a_signing_certificate_is_judged_before_a_byte_is_fetched(
    device: Device, certificate: str, refusal: Refusal
) -> None:
    new = release(*OLD)
    source = BytesSource(new.bundle)
    order = InstallOrder(Origin.OCPP, certificate, new.signature)
    assert refused(lambda: device.installer.install(source, order, nobody)).refusal is refusal
    assert source.reads == []


@rigs
@pytest.mark.parametrize("signature", ["another file's", "none", "rubbish"])
def test_a_bundle_that_is_right_and_a_file_signature_that_is_not(tmp_path: Path, name: str, signature: str) -> None:
    """The slot holds all of it by then: it never boots."""
    device, new = Device(tmp_path, name), release(*NEW)
    device.update(release(*OLD))
    given = {"another file's": release(*NEXT).signature, "none": "", "rubbish": "!"}[signature]
    order = dataclasses.replace(signed(new), signature=given)
    error = refused(lambda: device.installer.install(BytesSource(new.bundle), order, nobody))
    assert error.refusal is Refusal.FILE_SIGNATURE
    assert device.staged.phase is StagedPhase.WRITING
    assert refused(lambda: device.installer.activate(device.staged.digest)).refusal is Refusal.UNSUPPORTED
    assert [device.boot(asked=asked) for asked in (True, False)] == ["b", "b"]
    assert device.epoch == 1
    device.update(new)
    assert device.boot() == "a"


def test_bytes_that_were_changed_on_the_way(device: Device) -> None:
    new = release(*OLD)
    bundle = bytearray(new.bundle)
    bundle[-CHUNK] ^= 1
    running = device.content("a")
    error = refused(lambda: device.installer.install(BytesSource(bytes(bundle)), signed(new), nobody))
    assert error.refusal is Refusal.CORRUPT
    assert device.staged.phase is StagedPhase.WRITING
    assert device.content("a") == running
    assert not device.content("b").startswith(new.content[:512])
