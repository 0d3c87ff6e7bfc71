"""Files of a slot: they arrive whole, alone, and nowhere else; what an attacker planted is removed, not followed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from agent.firmware.errors import Refusal, SlotFailed, SourceLost, UpdateRefused
from agent.firmware.manifest import Compression
from agent.firmware.storage import FileStorage
from tests.support.power_disk import PowerDisk
from tests.unit.firmware.engines.native_making import (
    CHUNK,
    HEAD_BYTES,
    BytesSource,
    World,
    bundle,
    files,
    noise,
    open_files,
)

TREE = {
    "empty-first": b"",
    "kernel.img": noise(1, 5 * CHUNK + 11),
    "overlays/small.dtbo": b"dtb",
    "overlays/deep/er/empty": b"",
    "overlays/other.dtbo": noise(2, CHUNK),
    "cmdline.txt": b"root=/dev/mmcblk0p3",
    "empty-last": b"",
}
SIZE = sum(map(len, TREE.values()))
packings = pytest.mark.parametrize("packing", list(Compression))


def tree(world: World, slot: str = "b") -> dict[str, bytes]:
    """Every file below the folder of a slot."""
    folder = world.boot / slot
    if isinstance(world.storage, PowerDisk):
        paths = [path for path in world.storage.paths() if folder in path.parents]
    else:
        paths = [path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()]
    return {str(path.relative_to(folder)): world.content(path) for path in paths}


@packings
@pytest.mark.parametrize("whole", [False, True])
def test_files_arrive_and_replace_all_that_was_there(world: World, packing: Compression, whole: bool) -> None:
    world.put(world.boot / "b" / "old" / "kernel.img", b"old")
    world.put(world.boot / "b" / "overlays", b"a file where a folder comes")
    world.put(world.boot / "a" / "kernel.img", b"the running one")
    made = bundle(files(TREE, packing))
    outcome = world.install(made, whole=whole)
    assert tree(world) == TREE
    assert tree(world, "a") == {"kernel.img": b"the running one"}
    assert outcome.written_bytes == outcome.told[-1].done_bytes == SIZE
    if whole:
        assert outcome.digest == hashlib.sha256(made[1]).digest()
    world.read_back(made)


def test_empty_folders_that_were_there_go(tmp_path: Path) -> None:
    world = World(FileStorage(), tmp_path)
    (world.boot / "b" / "x" / "y").mkdir(parents=True)
    world.install(bundle(files({"kernel": b"k"})))
    assert [path.name for path in (world.boot / "b").iterdir()] == ["kernel"]


@pytest.mark.parametrize("mode", [0o444, 0o644, 0o555, 0o755])
def test_modes_are_those_of_the_bundle_whatever_the_umask(tmp_path: Path, mode: int) -> None:
    world = World(FileStorage(), tmp_path)
    before = os.umask(0o077)
    try:
        world.install(bundle(files(TREE, mode=mode)))
    finally:
        os.umask(before)
    assert {(world.boot / "b" / name).stat().st_mode & 0o7777 for name in TREE} == {mode}


@packings
def test_files_that_are_there_already_are_neither_fetched_nor_written(world: World, packing: Compression) -> None:
    made = bundle(files(TREE, packing))
    world.install(made)
    again = world.install(made)
    assert (again.fetched_bytes, again.written_bytes) == (0, 0)
    assert again.told[-1].done_bytes == SIZE
    hashed = world.install(made, whole=True)
    assert hashed.digest == hashlib.sha256(made[1]).digest()
    assert hashed.written_bytes == 0
    assert hashed.fetched_bytes == (HEAD_BYTES if packing is Compression.NONE else len(made[1]))


def test_files_of_the_other_slot_are_not_fetched(world: World) -> None:
    world.install(bundle(files(TREE)), "a")
    made = bundle(files({**TREE, "cmdline.txt": b"root=/dev/mmcblk0p2"}))
    outcome = world.install(made, "b")
    assert outcome.fetched_bytes == SIZE % CHUNK
    world.read_back(made)


@pytest.mark.parametrize("reads", range(7))
def test_an_interrupted_try_begins_again(world: World, reads: int) -> None:
    made = bundle(files(TREE))
    before = open_files()
    with pytest.raises(SourceLost):
        world.install(made, source=BytesSource(made[1], lost_after=reads))
    assert open_files() == before
    with pytest.raises(SlotFailed):
        world.read_back(made)
    assert world.install(made).fetched_bytes == SIZE
    world.read_back(made)


def test_a_wrong_chunk_never_reaches_a_file(world: World) -> None:
    made = bundle(files(TREE))
    wrong = bytearray(made[1])
    wrong[HEAD_BYTES + 3 * CHUNK] ^= 1
    with pytest.raises(UpdateRefused, match="payload boot-files, chunk 3") as refused:
        world.install(made, source=BytesSource(bytes(wrong)))
    assert refused.value.refusal is Refusal.CORRUPT
    assert tree(world) == {
        "empty-first": b"",
        "empty-last": b"",
        "overlays/deep/er/empty": b"",
        "kernel.img": TREE["kernel.img"][: 3 * CHUNK],
    }


# ------------------------------------------------------------------------------------------- reading back

FAULTS = {
    "changed": (("kernel.img", noise(3, 5 * CHUNK + 11)), "kernel.img: chunk 0, from offset 0, does not hold"),
    "later": (("cmdline.txt", b"root=/dev/mmcblk0p2"), "overlays/other.dtbo: chunk 6"),
    "longer": (("kernel.img", TREE["kernel.img"] + b"x"), "kernel.img: it has not 20491 bytes"),
    "not empty": (("empty-last", b"x"), "empty-last: it has not 0 bytes"),
    "more": (("overlays/evil.dtbo", b""), "overlays/evil.dtbo: it does not belong there"),
    "a folder more": (("more/file", b""), "more: it does not belong there"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_reading_back_names_what_is_wrong(world: World, fault: str) -> None:
    made = bundle(files(TREE))
    world.install(made)
    (name, content), words = FAULTS[fault]
    world.put(world.boot / "b" / name, content)
    with pytest.raises(SlotFailed, match=f"slots/b/{words}.*install again"):
        world.read_back(made)
    world.install(made)
    assert tree(world) == TREE


@pytest.mark.parametrize("name", TREE)
def test_reading_back_finds_what_is_missing(world: World, name: str) -> None:
    made = bundle(files(TREE))
    world.install(made)
    world.storage.remove(world.boot / "b" / name)
    with pytest.raises(SlotFailed, match=f"slots/b/{name}: it has not"):
        world.read_back(made)


# ------------------------------------------------------------------------------------------------ attacks


@pytest.mark.parametrize("place", ["b", "b/overlays", "b/overlays/deep", "b/kernel.img", "b/empty-first"])
@pytest.mark.parametrize("whole", [False, True])
def test_a_planted_link_is_removed_and_not_followed(tmp_path: Path, place: str, whole: bool) -> None:
    world = World(FileStorage(), tmp_path)
    made = bundle(files(TREE))
    outside = tmp_path / "outside"
    if whole:  # it leads to exactly the right files
        world.install(made)
        (world.boot / place).rename(outside)
    else:
        outside.mkdir()
        (outside / "kernel.img").write_bytes(b"precious")
        (world.boot / place).parent.mkdir(parents=True, exist_ok=True)
    (world.boot / place).symlink_to(outside)
    before = seen(outside)
    with pytest.raises(SlotFailed):
        world.read_back(made)
    world.install(made)
    world.read_back(made)
    assert tree(world) == TREE
    assert not any(path.is_symlink() for path in world.boot.rglob("*"))
    assert seen(outside) == before


def seen(path: Path) -> dict[Path, bytes]:
    files_below = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return {each: each.read_bytes() for each in files_below}


def test_a_pipe_in_the_way_stops_nobody(tmp_path: Path) -> None:
    world = World(FileStorage(), tmp_path)
    (world.boot / "b").mkdir(parents=True)
    (world.boot / "a").mkdir()
    os.mkfifo(world.boot / "b" / "kernel.img")
    os.mkfifo(world.boot / "a" / "kernel.img")
    made = bundle(files(TREE))
    world.install(made)
    world.read_back(made)


def test_very_deep_folders_are_removed(tmp_path: Path) -> None:
    world = World(FileStorage(), tmp_path)
    deep = world.boot / "b"
    deep.mkdir(parents=True)
    for _ in range(1200):
        if len(str(deep)) > 3900:
            break
        deep = deep / "d"
        deep.mkdir()
    made = bundle(files(TREE))
    world.install(made)
    world.read_back(made)
