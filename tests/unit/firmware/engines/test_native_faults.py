"""What goes wrong on the way into a slot: bytes, sources, devices. It is named, and nothing of it reaches the slot."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.firmware.engines.native import NativeEngine
from agent.firmware.errors import Refusal, SlotFailed, SourceLost, UpdateRefused
from agent.firmware.manifest import Compression
from agent.firmware.storage import FileStorage, StoredFile
from tests.unit.firmware.engines.native_making import (
    CHUNK,
    HEAD_BYTES,
    BytesSource,
    World,
    bundle,
    changed,
    image,
    noise,
)

CONTENT = noise(7, 9 * CHUNK + 100)
SIZE = len(CONTENT)
packings = pytest.mark.parametrize("packing", list(Compression))


# --------------------------------------------------------------------------------------------- bad bytes


@packings
@pytest.mark.parametrize("index", range(10))
def test_a_wrong_chunk_never_reaches_the_slot(on_disk: World, packing: Compression, index: int) -> None:
    manifest, data = made = bundle(image(CONTENT, compression=packing))
    payload = manifest.payloads[0]
    wrong = bytearray(data)
    wrong[payload.chunk_offsets()[index] + payload.chunks[index].stored_size - 1] ^= 1
    before = on_disk.content(on_disk.slots["b"])
    with pytest.raises(UpdateRefused, match=f"payload root-slot-image, chunk {index}: ") as refused:
        on_disk.install(made, source=BytesSource(bytes(wrong)))
    assert refused.value.refusal is Refusal.CORRUPT
    after = on_disk.content(on_disk.slots["b"])
    spoilt = bytes(CHUNK) if index > 1 else before[:CHUNK]
    assert after == spoilt + CONTENT[CHUNK : index * CHUNK] + before[max(1, index) * CHUNK :]


@pytest.mark.parametrize("more", [-4096, -1, 1, 4096])
def test_a_file_of_another_size_is_refused_before_anything(world: World, more: int) -> None:
    manifest, data = bundle(image(CONTENT))
    before = world.content(world.slots["b"])
    with pytest.raises(UpdateRefused, match="fetch it again") as refused:
        world.install((manifest, data), source=BytesSource(data[:more] if more < 0 else data + bytes(more)))
    assert refused.value.refusal is Refusal.MALFORMED
    assert world.content(world.slots["b"]) == before


def test_a_source_that_gives_less_is_lost(world: World) -> None:
    manifest, data = bundle(image(CONTENT))
    source = BytesSource(data)
    source.data = data[: HEAD_BYTES + 3 * CHUNK + 17]
    with pytest.raises(SourceLost, match="17 bytes came instead of 4096"):
        world.install((manifest, data), source=source)


# ------------------------------------------------------------------------------------------------ reading


@pytest.mark.parametrize("index", range(10))
def test_reading_back_names_the_chunk_that_is_wrong(world: World, index: int) -> None:
    made = bundle(image(CONTENT))
    world.install(made)
    world.put(world.slots["b"], changed(world.content(world.slots["b"]), index))
    with pytest.raises(SlotFailed, match=rf"root-b: chunk {index} at offset {index * CHUNK} .*; install again"):
        world.read_back(made)


def test_reading_back_a_slot_that_shrank(world: World) -> None:
    made = bundle(image(CONTENT))
    world.install(made)
    world.put(world.slots["b"], world.content(world.slots["b"])[: SIZE - 1])
    with pytest.raises(SlotFailed, match="chunk 9"):
        world.read_back(made)


# ------------------------------------------------------------------------------------------ what may fail


def test_an_image_larger_than_its_slot_is_refused_before_anything(world: World) -> None:
    before = world.content(world.slots["b"])
    with pytest.raises(UpdateRefused, match="has room for 65536") as refused:
        world.install(bundle(image(noise(1, 16 * CHUNK + 1))))
    assert refused.value.refusal is Refusal.TOO_LARGE
    assert world.content(world.slots["b"]) == before


def test_a_bundle_for_what_is_not_configured_is_refused_before_anything(world: World) -> None:
    before = world.content(world.slots["b"])
    with pytest.raises(UpdateRefused, match="no place is configured for slot-image data in slot b") as refused:
        world.install(bundle(image(CONTENT), image(CONTENT, "data")))
    assert refused.value.refusal is Refusal.UNSUPPORTED
    assert world.content(world.slots["b"]) == before


def test_the_running_slot_is_never_written(world: World) -> None:
    manifest, data = bundle(image(CONTENT))
    with pytest.raises(ValueError, match="slot a is running"):
        world.engine.write(manifest, BytesSource(data), "a", "a", whole_file=None, on_progress=lambda progress: None)
    with pytest.raises(ValueError, match="root: two slots are in the same place"):
        NativeEngine(world.storage, {"root": dict.fromkeys("ab", world.slots["a"])}, {}, {}, world.index)


def test_a_slot_that_is_not_there_or_not_its_own(tmp_path: Path) -> None:
    world = World(FileStorage(), tmp_path)
    made = bundle(image(CONTENT))
    world.slots["b"].unlink()
    with pytest.raises(SlotFailed, match=r"root-b: No such file.*; check the path in the configuration"):
        world.install(made)
    world.slots["b"].symlink_to(world.slots["a"])
    before = world.content(world.slots["a"])
    with pytest.raises(SlotFailed, match=r"root-b: .*; it is a symbolic link"):
        world.install(made)
    assert world.content(world.slots["a"]) == before
    world.slots["b"].unlink()
    world.slots["b"].mkdir()
    with pytest.raises(SlotFailed, match="root-b: Is a directory"):
        world.install(made)


@pytest.mark.parametrize(
    ("number", "what"), [(errno.EIO, "write"), (errno.ENOSPC, "write"), (errno.EIO, "sync"), (errno.EIO, "read")]
)
def test_a_failing_slot_is_named(tmp_path: Path, number: int, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(FileStorage(), tmp_path)
    made = bundle(image(CONTENT))
    world.install(made)

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(f"agent.firmware.storage._File.{what}", fail)
    with pytest.raises(SlotFailed, match=rf"root-.*: {os.strerror(number)}; "):
        if what == "read":
            world.read_back(made)
        else:
            world.install(bundle(image(changed(CONTENT, 0))))


def test_an_index_folder_without_room_is_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("agent.firmware.engines.slot_index.replace", full)
    with pytest.raises(SlotFailed, match=r"root-a\.index: No space left on device; make room"):
        world.install(bundle(image(CONTENT)))


# ------------------------------------------------------------------------------------------ storage that wears out


class Worn(FileStorage):
    """Slot a (or another file by its name) fails wherever ``fails`` says so; every other file is well."""

    def __init__(self, fails: Callable[[int], bool], name: str = "root-a") -> None:
        self.fails, self.tried, self.name = fails, 0, name

    def open(
        self, path: Path, *, writable: bool = False, uncached: bool = False, exclusive: bool = False
    ) -> StoredFile:
        file = super().open(path, writable=writable, uncached=uncached, exclusive=exclusive)
        if path.name == self.name:
            plain = file.read

            def read(offset: int, length: int) -> bytes:
                if self.fails(offset):
                    self.tried += 1
                    raise OSError(errno.EIO, "Input/output error", str(path))
                return plain(offset, length)

            file.read = read  # type: ignore[method-assign]
        return file


@pytest.mark.parametrize(("bad_from", "found"), [(0, 0), (256, 256), (512, 512)])
def test_an_active_slot_that_wears_out_does_not_stop_an_update(tmp_path: Path, bad_from: int, found: int) -> None:
    storage = Worn(lambda offset: offset >= bad_from * CHUNK)
    world = World(storage, tmp_path, 768 * CHUNK)
    content = noise(100, 768 * CHUNK)  # what slot a holds
    made = bundle(image(content))
    assert world.install(made).fetched_bytes == (768 - found) * CHUNK
    world.read_back(made)
    assert storage.tried == 1
    assert "root-a.index" not in world.storage.names(world.index)


def test_nor_does_one_that_fails_later(tmp_path: Path) -> None:
    world = World(FileStorage(), tmp_path)
    world.install(bundle(image(CONTENT)), "a")
    world.storage = storage = Worn(lambda offset: offset == 3 * CHUNK)
    made = bundle(image(CONTENT))
    assert world.install(made).fetched_bytes == SIZE - 3 * CHUNK
    world.read_back(made)
    assert storage.tried == 1


@pytest.mark.parametrize(
    ("slot", "fetched_bytes"), [("a", 100), ("b", 0)]
)  # the last one has noise behind it in slot a
def test_a_bad_sector_under_an_index_costs_time_and_no_update(tmp_path: Path, slot: str, fetched_bytes: int) -> None:
    world, made = World(FileStorage(), tmp_path), bundle(image(CONTENT))
    for each in "ab":
        world.install(made, each)
    world.put(world.slots["b"], noise(101, 16 * CHUNK))
    world.storage = storage = Worn(lambda _: True, f"root-{slot}.index")
    assert world.install(made).fetched_bytes == fetched_bytes
    world.read_back(made)
    assert storage.tried == 1
