"""Slot images: what is fetched, what is written, in which order, and what never gets there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from agent.firmware.engines import native_image
from agent.firmware.engines.native import HashOverFile
from agent.firmware.errors import SourceLost
from agent.firmware.manifest import Compression, PayloadType
from agent.firmware.ports import Progress
from tests.support.power_disk import PowerDisk
from tests.unit.firmware.engines.native_making import (
    CHUNK,
    HEAD_BYTES,
    ZSTD,
    BytesSource,
    World,
    bundle,
    changed,
    image,
    noise,
    open_files,
)

CONTENT = noise(7, 9 * CHUNK + 100)
SIZE = len(CONTENT)
packings = pytest.mark.parametrize("packing", list(Compression))


class Cancelled(Exception):
    """What a listener raises."""


# -------------------------------------------------------------------------------------------- whole ones


@packings
@pytest.mark.parametrize("size", [1, CHUNK, CHUNK + 1, SIZE, 16 * CHUNK])
def test_an_image_arrives_and_nothing_behind_it_is_touched(world: World, packing: Compression, size: int) -> None:
    behind = world.content(world.slots["b"])[size:]
    content = noise(8, size)
    made = bundle(image(content, compression=packing))
    outcome = world.install(made)
    assert world.content(world.slots["b"]) == content + behind
    assert (outcome.fetched_bytes, outcome.written_bytes) == (made[0].payloads[0].stored_size, size)
    world.read_back(made)


def test_progress_only_rises_and_ends_with_all(world: World) -> None:
    told = world.install(bundle(image(CONTENT))).told
    assert [one.done_bytes for one in told] == sorted(one.done_bytes for one in told)
    assert {one.total_bytes for one in told} == {SIZE}
    assert told[-1] == Progress(SIZE, SIZE, SIZE, SIZE)
    assert len(told) >= 10


def test_the_first_chunk_is_spoilt_before_and_written_after_all_others(on_disk: World, disk: PowerDisk) -> None:
    on_disk.install(bundle(image(CONTENT)))
    device = str(on_disk.slots["b"])
    steps = [step.replace(device, "dev") for step in disk.log if device in step]
    assert steps[:3] == ["write dev 0+4096", "sync dev", "write dev 4096+4096"]
    assert steps[-4:] == [f"write dev {9 * CHUNK}+100", "sync dev", "write dev 0+4096", "sync dev"]
    assert sum("write dev 0+" in step for step in steps) == 2


def test_a_large_image_is_synced_now_and_then(on_disk: World, disk: PowerDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_image, "SYNC_BYTES", 3 * CHUNK)
    on_disk.install(bundle(image(CONTENT)))
    assert (
        sum(step == f"sync {on_disk.slots['b']}" for step in disk.log) == 1 + 2 + 2
    )  # spoilt, kept twice, all others, first


# ---------------------------------------------------------------------------------------- nothing for nothing


@packings
def test_what_is_there_already_is_neither_fetched_nor_written(world: World, packing: Compression) -> None:
    made = bundle(image(CONTENT, compression=packing))
    world.install(made)
    again = world.install(made)
    assert (again.fetched_bytes, again.written_bytes) == (0, 0)
    assert again.told[-1].done_bytes == SIZE
    world.read_back(made)


def test_a_record_of_what_is_there_is_not_believed(world: World) -> None:
    made = bundle(image(CONTENT))
    world.install(made)
    world.put(world.slots["b"], changed(world.content(world.slots["b"]), 0, 4))
    again = world.install(made)
    assert (again.fetched_bytes, again.written_bytes) == (2 * CHUNK, 2 * CHUNK)
    world.read_back(made)


@pytest.mark.parametrize("at", [0, 5, 9])
def test_of_a_changed_image_only_the_changes_are_fetched_and_written(world: World, at: int) -> None:
    world.install(bundle(image(CONTENT)))
    made = bundle(image(changed(CONTENT, at)))
    outcome = world.install(made)
    length = min(CHUNK, SIZE - at * CHUNK)
    assert outcome.fetched_bytes == length
    # The first one is spoilt before any other changes, and so written anew.
    assert outcome.written_bytes == length + (CHUNK if at else 0)
    world.read_back(made)


def test_chunks_of_the_other_slot_are_taken_wherever_they_stand(world: World) -> None:
    world.install(bundle(image(CONTENT[: 9 * CHUNK])), "a")
    moved = b"".join(CONTENT[at * CHUNK : (at + 1) * CHUNK] for at in (8, 3, 3, 0)) + noise(9, CHUNK)
    made = bundle(image(moved))
    outcome = world.install(made, "b")
    assert (outcome.fetched_bytes, outcome.written_bytes) == (CHUNK, len(moved))
    world.read_back(made)


def test_of_a_factory_image_an_index_is_made_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.put(world.slots["a"], CONTENT.ljust(16 * CHUNK, b"\0"))
    outcome = world.install(bundle(image(changed(CONTENT[: 9 * CHUNK], 2))))
    assert outcome.fetched_bytes == CHUNK
    monkeypatch.setattr("agent.firmware.engines.slot_index.OtherSlot._made", None)  # not again
    made = bundle(image(changed(CONTENT[: 9 * CHUNK], 2, 3)))
    assert world.install(made).fetched_bytes == CHUNK
    world.read_back(made)


@pytest.mark.parametrize(
    "content",
    [b"", b"EVSE", b"EVSEIDX1" + bytes(8), b"EVSEIDX1" + bytes.fromhex("00100000") + bytes.fromhex("09000000") + b"x"],
)
def test_an_index_that_cannot_be_understood_is_none(world: World, content: bytes) -> None:
    made = bundle(image(CONTENT))
    for slot in "ab":
        world.install(made, slot)
        world.put(world.index / f"root-{slot}.index", content)
    outcome = world.install(made)
    assert (outcome.fetched_bytes, outcome.written_bytes) == (100, SIZE)  # the last one has noise behind it in slot a
    world.read_back(made)


def test_a_chunk_that_changed_in_the_other_slot_is_fetched(world: World) -> None:
    world.install(bundle(image(CONTENT)), "a")
    world.put(world.slots["a"], changed(world.content(world.slots["a"]), 6))
    made = bundle(image(CONTENT))
    assert world.install(made).fetched_bytes == CHUNK
    world.read_back(made)


def test_another_chunk_size_finds_the_same_content(world: World) -> None:
    world.install(bundle(image(CONTENT)), "a")
    made = bundle(image(CONTENT[: 8 * CHUNK], chunk_size=2 * CHUNK))
    assert world.install(made).fetched_bytes == 0
    world.read_back(made)


# ------------------------------------------------------------------------------------------ interruptions


@packings
@pytest.mark.parametrize("reads", range(11))
def test_a_lost_source_costs_nothing_that_had_come(world: World, packing: Compression, reads: int) -> None:
    made = bundle(image(CONTENT, compression=packing))
    first = BytesSource(made[1], lost_after=reads)
    if reads < 10:
        with pytest.raises(SourceLost):
            world.install(made, source=first)
        assert not world.looks_whole(made)
        again = world.install(made)
        held = made[0].payloads[0].chunks[0].stored_size if reads else 0  # it was in memory only
        assert first.fetched_bytes + again.fetched_bytes == made[0].payloads[0].stored_size + held
    else:
        world.install(made, source=first)
    world.read_back(made)


def test_another_bundle_goes_on_with_what_an_interrupted_one_left(world: World) -> None:
    old = bundle(image(CONTENT))
    with pytest.raises(SourceLost):
        world.install(old, source=BytesSource(old[1], lost_after=6))
    made = bundle(image(changed(CONTENT, 2)))
    assert world.install(made).fetched_bytes == SIZE - 4 * CHUNK
    world.read_back(made)


def test_a_listener_may_cancel_at_any_time(world: World) -> None:
    made = bundle(image(CONTENT))
    calls = len(world.install(made).told)
    for call in range(calls):
        for path in (world.index / "root-a.index", world.index / "root-b.index", world.slots["b"]):
            world.put(path, bytes(16 * CHUNK))
        left = iter(range(call))

        def cancel(progress: Progress, left: Iterator[int] = left) -> None:
            if next(left, None) is None:
                raise Cancelled

        before = open_files()
        with pytest.raises(Cancelled):
            world.install(made, on_progress=cancel)
        assert open_files() == before
        assert world.looks_whole(made) is (call == calls - 1)
        world.install(made)
        world.read_back(made)


# ------------------------------------------------------------------------------------------ the whole file


@packings
def test_the_whole_file_is_hashed_in_the_same_pass(world: World, packing: Compression) -> None:
    made = bundle(image(CONTENT, compression=packing))
    outcome = world.install(made, whole=True)
    assert outcome.digest == hashlib.sha256(made[1]).digest()
    assert outcome.fetched_bytes == len(made[1])
    world.read_back(made)


def test_what_is_found_and_not_compressed_is_hashed_without_being_fetched(world: World) -> None:
    world.install(bundle(image(changed(CONTENT, 3))), "a")
    made = bundle(image(CONTENT))
    outcome = world.install(made, whole=True)
    assert outcome.digest == hashlib.sha256(made[1]).digest()
    assert outcome.fetched_bytes == HEAD_BYTES + CHUNK


def test_what_is_found_and_compressed_is_fetched_for_the_hash_but_not_written(world: World) -> None:
    made = bundle(image(CONTENT, compression=ZSTD))
    world.install(made)
    outcome = world.install(made, whole=True)
    assert outcome.digest == hashlib.sha256(made[1]).digest()
    assert (outcome.fetched_bytes, outcome.written_bytes) == (len(made[1]), 0)


class Late:
    """A thread that begins only when it is waited for."""

    def __init__(self, *_: object) -> None:
        self.begins: list[Callable[[], None]] = []

    def submit(self, work: Callable[[bytes], None], data: bytes) -> Late:
        self.begins.append(partial(work, data))
        assert len(self.begins) == 1  # or memory would grow
        return self

    def result(self) -> None:
        self.begins.pop()()


@pytest.mark.parametrize("executor", [ThreadPoolExecutor, Late])
def test_pieces_of_any_size_are_hashed_in_their_order(executor: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.firmware.engines.native_stream.ThreadPoolExecutor", executor)
    hashed, data = HashOverFile(), b""
    for number, size in enumerate((1, 3 * 2**20, 10, 70_000, 4 * 2**20, 0, 65_536)):
        hashed.update(noise(number, size))
        data += noise(number, size)
        assert hashed.position == len(data)
    assert hashed.digest() == hashlib.sha256(data).digest()


def test_a_head_that_its_reader_hashed_is_not_fetched_again(world: World) -> None:
    manifest, data = bundle(image(CONTENT))
    hashed, source = HashOverFile(), BytesSource(data)
    hashed.update(data[:1000])
    world.engine.write(manifest, source, "b", "a", whole_file=hashed, on_progress=lambda progress: None)
    assert hashed.digest() == hashlib.sha256(data).digest()
    assert source.fetched_bytes == len(data) - 1000
    with pytest.raises(ValueError, match="are hashed"):
        world.engine.write(manifest, source, "b", "a", whole_file=hashed, on_progress=lambda progress: None)


def test_targets_and_their_room(world: World) -> None:
    assert world.engine.targets() == {
        (PayloadType.SLOT_IMAGE, "root"): 16 * CHUNK,
        (PayloadType.FILES, "boot"): None,
        (PayloadType.MCU_FIRMWARE, "pilot"): 4 * 1024 * 1024,
    }
    world.put(world.slots["a"], bytes(15 * CHUNK))
    assert world.engine.targets()[PayloadType.SLOT_IMAGE, "root"] == 15 * CHUNK
