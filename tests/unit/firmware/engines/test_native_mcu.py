"""Firmware of the microcontroller: staged whole, by slot, or not at all; and several payloads in one bundle."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from agent.firmware.errors import Refusal, SlotFailed, SourceLost, UpdateRefused
from agent.firmware.mcu import Staged
from agent.firmware.storage import FileStorage
from tests.unit.firmware.engines.native_making import (
    CHUNK,
    HEAD_BYTES,
    ZSTD,
    BytesSource,
    World,
    bundle,
    files,
    image,
    mcu,
    noise,
)

FIRMWARE = noise(5, 3 * CHUNK + 5)


def staged(version: str, firmware: bytes = FIRMWARE) -> Staged:
    return Staged(version, firmware, hashlib.sha256(firmware).digest())


def test_firmware_is_staged_for_its_slot_alone(world: World) -> None:
    assert world.engine.staged_mcu("pilot", "b") is None
    made = bundle(mcu(FIRMWARE, "3.1"))
    outcome = world.install(made)
    assert world.engine.staged_mcu("pilot", "b") == staged("3.1")
    assert world.engine.staged_mcu("pilot", "a") is None
    assert world.content(world.root / "data" / "pilot-b.bin") == FIRMWARE
    assert outcome.written_bytes == outcome.fetched_bytes == outcome.told[-1].done_bytes == len(FIRMWARE)
    world.read_back(made)


def test_the_same_firmware_in_either_slot_is_not_fetched(world: World) -> None:
    world.install(bundle(mcu(FIRMWARE, "3.1")), "a")
    for slot in "bb":
        outcome = world.install(bundle(mcu(FIRMWARE, "3.1")), slot, whole=True)
        assert outcome.fetched_bytes == HEAD_BYTES
    assert world.engine.staged_mcu("pilot", "b") == staged("3.1")


def test_until_all_of_it_came_the_old_one_is_staged(world: World) -> None:
    world.install(bundle(mcu(FIRMWARE, "3.1")))
    made = bundle(mcu(noise(6, 4 * CHUNK), "3.2"))
    with pytest.raises(SourceLost):
        world.install(made, source=BytesSource(made[1], lost_after=3))
    assert world.engine.staged_mcu("pilot", "b") == staged("3.1")
    with pytest.raises(SlotFailed, match=r"pilot-b\.bin: it does not hold what was written"):
        world.read_back(made)


def test_a_bundle_without_firmware_leaves_its_slot_what_the_running_one_has(world: World) -> None:
    world.install(bundle(mcu(FIRMWARE[:-1], "3.2")))
    world.install(bundle(image(b"x")))
    assert world.engine.staged_mcu("pilot", "b") is None
    world.install(bundle(mcu(FIRMWARE, "3.1")), "a")
    world.install(bundle(mcu(FIRMWARE[:-1], "3.2")))
    world.install(bundle(image(b"x")))
    assert world.engine.staged_mcu("pilot", "b") == world.engine.staged_mcu("pilot", "a") == staged("3.1")


def test_firmware_that_is_too_large_is_refused(world: World) -> None:
    with pytest.raises(UpdateRefused, match="at most 4194304 can be staged") as refused:
        world.install(bundle(mcu(bytes(4 * 1024 * 1024 + 1), "1")))
    assert refused.value.refusal is Refusal.TOO_LARGE
    assert world.engine.staged_mcu("pilot", "b") is None


@pytest.mark.parametrize(
    "note", [b"", b"[]", b"null", b"{}", b'{"version": "1", "sha256": 5}', b'{"version": "1", "sha256": "xy"}', b"\xff"]
)
def test_a_note_that_cannot_be_understood_is_none(world: World, note: bytes) -> None:
    made = bundle(mcu(FIRMWARE, "3.1"))
    world.install(made)
    world.put(world.root / "data" / "pilot-b.json", note)
    assert world.engine.staged_mcu("pilot", "b") is None
    with pytest.raises(SlotFailed, match=r"pilot-b\.bin: it does not hold what was written"):
        world.read_back(made)
    world.install(made)
    world.read_back(made)


def test_a_running_slot_whose_note_was_cut_off_keeps_out_no_bundle_without_firmware(world: World) -> None:
    world.put(world.root / "data" / "pilot-a.bin", FIRMWARE)
    world.put(world.root / "data" / "pilot-a.json", b"")
    made = bundle(image(b"x"))
    world.install(made)
    world.read_back(made)
    assert world.engine.staged_mcu("pilot", "b") is None


@pytest.mark.parametrize("firmware", [b"", FIRMWARE[:-1], FIRMWARE + b"x", noise(1, len(FIRMWARE))])
def test_reading_back_finds_wrong_firmware(world: World, firmware: bytes) -> None:
    made = bundle(mcu(FIRMWARE, "3.1"))
    world.install(made)
    world.put(world.root / "data" / "pilot-b.bin", firmware)
    with pytest.raises(SlotFailed, match=r"pilot-b\.bin"):
        world.read_back(made)
    # Whoever flashes it sees that as well.
    found = world.engine.staged_mcu("pilot", "b")
    assert found is not None
    assert hashlib.sha256(found.image).digest() != found.sha256


def test_reading_back_finds_another_version(world: World) -> None:
    world.install(bundle(mcu(FIRMWARE, "3.1")))
    with pytest.raises(SlotFailed, match=r"pilot-b\.bin"):
        world.read_back(bundle(mcu(FIRMWARE, "3.2")))


def test_links_in_place_of_the_staged_files_are_replaced(tmp_path: Path) -> None:
    world = World(FileStorage(), tmp_path)
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    for name in ("pilot-b.bin", "pilot-b.json", ".pilot-b.bin.new", ".pilot-b.json.new"):
        (world.root / "data" / name).symlink_to(precious)
    made = bundle(mcu(FIRMWARE, "3.1"))
    with pytest.raises(SlotFailed, match="it is a symbolic link"):
        world.install(made)
    for name in ("pilot-b.bin", "pilot-b.json"):
        (world.root / "data" / name).unlink()
    world.install(made)
    world.read_back(made)
    assert precious.read_bytes() == b"precious"


# -------------------------------------------------------------------------------------------- all of them

KERNEL = {"kernel": noise(1, CHUNK + 1), "dtb/board": noise(2, 100)}
CONTENT = noise(3, 5 * CHUNK)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_a_bundle_with_everything(world: World, whole: bool, order: tuple[int, ...]) -> None:
    parts = (image(CONTENT, compression=ZSTD), files(KERNEL), mcu(FIRMWARE, "3.1"))
    manifest, data = made = bundle(*(parts[each] for each in order))
    outcome = world.install(made, whole=whole)
    total = len(CONTENT) + sum(map(len, KERNEL.values())) + len(FIRMWARE)
    assert outcome.told[-1].done_bytes == outcome.told[-1].total_bytes == outcome.written_bytes == total
    stored = sum(payload.stored_size for payload in manifest.payloads)
    assert outcome.fetched_bytes == (len(data) if whole else stored)
    if whole:
        assert outcome.digest == hashlib.sha256(data).digest()
    world.read_back(made)
    world.engine.read_back(manifest, "b", on_progress=outcome.told.append)
    assert outcome.told[-1].done_bytes == total


def test_a_source_lost_at_any_read_is_made_good(world: World) -> None:
    made = bundle(files(KERNEL), image(CONTENT), mcu(FIRMWARE, "3.1"))
    for reads in range(100):
        for path in world.slots.values():
            world.put(path, noise(reads, 16 * CHUNK))
        try:
            world.install(made, source=BytesSource(made[1], lost_after=reads))
            break
        except SourceLost:
            outcome = world.install(made, whole=True)
            assert outcome.digest == hashlib.sha256(made[1]).digest()
            world.read_back(made)
            world.install(bundle(files({"old": b"old"}), image(noise(4, 5 * CHUNK)), mcu(b"old", "1")))
    assert reads == 2 + 5 + 4
