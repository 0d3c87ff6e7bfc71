"""Power is cut at every step of writing a bundle into a slot, and again while that is made good: the slot never looks
whole unless it is, the other slot is never touched, and the same call again completes.
The same checks must find the fault where a sync is left out, or the first chunk is not held back.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from agent.firmware.engines import native_image
from agent.firmware.engines.native_image import ImageWriter
from agent.firmware.engines.slot_file import SlotFile
from agent.firmware.errors import SlotFailed
from agent.firmware.manifest import Manifest
from agent.firmware.storage import BLOCK_BYTES
from tests.support.power_disk import Fate, PowerCut, PowerDisk, _PowerFile
from tests.unit.firmware.engines.native_making import (
    ZSTD,
    BytesSource,
    World,
    bundle,
    files,
    image,
    mcu,
    noise,
)

FULL: Final = os.environ.get("EVSED_CRASH") == "full"
SEED: Final = 20261126
MIXES: Final = 20 if FULL else 4
CHUNK: Final = 2 * BLOCK_BYTES
SLOT_BYTES: Final = 10 * CHUNK
SIZE: Final = 7 * CHUNK + 700
CONTENT: Final = noise(1, SIZE)
OLD: Final = CONTENT[: 3 * CHUNK] + noise(2, 3 * CHUNK) + CONTENT[6 * CHUNK :]  # the same first chunk
TREE: Final = {"kernel": noise(3, BLOCK_BYTES + 1), "dtb/board": noise(4, 600), "dtb/empty": b""}
OLD_TREE: Final = {"kernel": noise(5, 1000), "old/dtb": noise(6, 1000)}
FIRMWARE: Final = noise(7, BLOCK_BYTES + 9)
ROOT: Final = Path("/w")

Made = tuple[Manifest, bytes]


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_image, "SYNC_BYTES", 2 * CHUNK)


# ------------------------------------------------------------------------------------------- what is tried


def an_image(content: bytes) -> Made:
    return bundle(image(content, chunk_size=CHUNK))


def fresh(disk: PowerDisk) -> tuple[World, Made]:
    """A factory's device: nothing known of either slot."""
    return World(disk, ROOT, SLOT_BYTES), an_image(CONTENT)


def changed(disk: PowerDisk) -> tuple[World, Made]:
    """Over an image that differs in the middle only; some chunks come from the other slot."""
    world = World(disk, ROOT, SLOT_BYTES)
    world.install(an_image(CONTENT[3 * CHUNK : 5 * CHUNK]), "a")
    world.install(an_image(OLD))
    return world, an_image(CONTENT)


def everything(disk: PowerDisk) -> tuple[World, Made]:
    """Files, image and a controller's firmware, over others of all three; compressed."""
    world = World(disk, ROOT, SLOT_BYTES)
    for slot in "ab":
        world.install(bundle(files(OLD_TREE), image(OLD, chunk_size=CHUNK), mcu(b"old", "1")), slot)
    return world, bundle(files(TREE, ZSTD), image(CONTENT, "root", ZSTD, CHUNK), mcu(FIRMWARE, "2"))


Scene = Callable[[PowerDisk], tuple[World, Made]]
SCENES: Final[dict[str, Scene]] = {"fresh": fresh, "changed": changed, "everything": everything}
scenes = pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)


def new_disk() -> PowerDisk:
    """Boot files and the index are on FAT, the staged firmware in a journal."""
    return PowerDisk([ROOT / "boot", ROOT / "data" / "index"])


def fates() -> Iterator[tuple[Fate, random.Random]]:
    yield Fate.DROPPED, random.Random(SEED)
    yield Fate.KEPT, random.Random(SEED)
    for seed in range(MIXES):
        yield Fate.MIXED, random.Random(SEED + seed)


class Start:
    """A scene just before its installation, made once and copied for each cut."""

    def __init__(self, scene: Scene) -> None:
        self._disk = PowerDisk()
        self._world, self.made = scene(self._disk)
        self.before = {path: self._world.content(path) for path in self._disk.paths()}

    def on(self, disk: PowerDisk) -> World:
        for path, content in self.before.items():
            disk.put(path, content, device=path in self._world.slots.values())
        return self._world.after_cut(disk)


class Cut:
    """An installation whose power fails before one of its steps."""

    def __init__(self, start: Start, step: int, disk: PowerDisk | None = None) -> None:
        self.before, self.made = start.before, start.made
        self.disk = disk or new_disk()
        self.world = start.on(self.disk)
        self.source = BytesSource(self.made[1])
        self.finished = cut(self.world, self.disk, self.made, step, self.source)


def cut(world: World, disk: PowerDisk, made: Made, step: int, source: BytesSource | None = None) -> bool:
    """Whether the installation was done before that step, counted from here."""
    disk.cut_before = disk.steps + step
    try:
        world.install(made, whole=True, source=source)
    except PowerCut:
        return False
    return True


def fault(before: dict[Path, bytes], world: World, made: Made) -> str:
    """What is wrong with a slot that power was cut from; empty: nothing."""
    slot, was = world.content(world.slots["b"]), before[world.slots["b"]]
    if slot[CHUNK:] != was[CHUNK:]:
        others = slot[CHUNK:SIZE] == CONTENT[CHUNK:]
        if any(slot[:BLOCK_BYTES]) and not (others and slot[BLOCK_BYTES:CHUNK] == CONTENT[BLOCK_BYTES:CHUNK]):
            return "looks whole by its first block"
        if any(slot[BLOCK_BYTES:CHUNK]) and not others:
            return "looks whole by what follows its first block"
    for path, content in before.items():
        other = path == world.slots["a"] or world.boot / "a" in path.parents or path.name.startswith("pilot-a")
        if other and world.content(path) != content:
            return f"{path} was touched"
    return ""


def end(world: World, made: Made) -> str:
    """The same call again; what is wrong after it."""
    outcome = world.install(made, whole=True)
    if outcome.digest != hashlib.sha256(made[1]).digest():
        return "not all was hashed"
    return verdict(world, made)


def verdict(world: World, made: Made) -> str:
    try:
        world.read_back(made)
    except SlotFailed as failed:
        return str(failed)
    return "" if world.content(world.slots["b"])[:SIZE] == CONTENT else "another image"


# ----------------------------------------------------------------------------------------------- the tests


@scenes
def test_whenever_power_is_cut_the_slot_is_as_it_was_or_spoilt_or_whole(scene: Scene) -> None:
    found: Counter[str] = Counter()
    start = Start(scene)
    for step in range(1_000):
        run = Cut(start, step)
        for fate, chance in fates():
            disk = run.disk.after_cut(fate, chance)
            world = run.world.after_cut(disk)
            assert fault(run.before, world, run.made) == "", (step, fate, run.disk.log[-3:])
            found["whole" if world.looks_whole(run.made) else "not"] += 1
            if run.finished:
                assert verdict(world, run.made) == "", fate
            assert end(world, run.made) == "", (step, fate, run.disk.log[-3:])
            assert verdict(world.after_cut(disk.after_cut(Fate.DROPPED, chance)), run.made) == ""
        if run.finished:
            break
    assert run.finished
    assert step >= 20
    assert found["not"] > 60
    assert found["whole"] >= len(list(fates()))


@scenes
def test_nor_does_a_second_cut_matter(scene: Scene) -> None:
    every = 1 if FULL else 7
    start = Start(scene)
    for step in range(0, 1_000, 1 if FULL else 2):
        run = Cut(start, step)
        for again in range(step % every, 1_000, every):
            chance = random.Random(SEED + step * 1_000 + again)
            disk = run.disk.after_cut(Fate.MIXED, chance)
            world = run.world.after_cut(disk)
            before = {path: world.content(path) for path in disk.paths()}
            finished = cut(world, disk, run.made, again)
            twice = world.after_cut(disk.after_cut(Fate.MIXED, chance))
            assert fault(before | {world.slots["a"]: run.before[world.slots["a"]]}, twice, run.made) == ""
            assert end(twice, run.made) == "", (step, again)
            if finished:
                break
        if run.finished:
            break
    assert run.finished


def test_what_was_synced_is_not_fetched_again() -> None:
    start = Start(fresh)
    for step in range(1_000):
        run = Cut(start, step)
        world = run.world.after_cut(run.disk.after_cut(Fate.DROPPED, random.Random(SEED)))
        source = BytesSource(run.made[1])
        world.install(run.made, source=source)
        # The head for the hash over the file; the first chunk was held in memory; a sync is due every two chunks,
        # and the one on its way when that sync was cut counts as well.
        head = run.made[0].payloads[0].offset
        assert run.source.fetched_bytes - head + source.fetched_bytes <= SIZE + CHUNK + 2 * CHUNK
        if run.finished:
            assert source.fetched_bytes == 0
            break
    assert run.finished


@scenes
def test_what_a_process_that_died_had_not_synced_is_synced_by_the_next(scene: Scene) -> None:
    """It is found right, and nothing else would sync it."""
    start = Start(scene)
    for step in range(1_000):
        run = Cut(start, step)
        run.disk._dead, run.disk.cut_before = False, None
        assert end(run.world, run.made) == ""
        for fate, chance in fates():
            assert verdict(run.world.after_cut(run.disk.after_cut(fate, chance)), run.made) == ""
        if run.finished:
            break
    assert run.finished


# ------------------------------------------------------------------------------------------------ controls


class Careless(PowerDisk):
    """Leaves out one sync of a slot, or all syncs of files or folders that a word names."""

    def __init__(self, slot_sync: int | None = None, word: str | None = None) -> None:
        super().__init__([ROOT / "boot", ROOT / "data" / "index"])
        self.slot_sync, self.word = slot_sync, word
        self.slot_syncs = 0

    def leaves_out(self, path: Path) -> bool:
        if path == ROOT / "dev" / "root-b":
            self.slot_syncs += 1
            return self.slot_syncs - 1 == self.slot_sync
        return self.word is not None and self.word in str(path)

    def sync_folder(self, folder: Path) -> None:
        if not self.leaves_out(folder):
            super().sync_folder(folder)


def careless_sync(file: _PowerFile) -> None:
    disk = file._disk
    if not (isinstance(disk, Careless) and disk.leaves_out(file._path)):
        plain_sync(file)


plain_sync = _PowerFile.sync


def faults_of(scene: Scene, make: Callable[[], PowerDisk]) -> set[str]:
    """What the checks above find, over all cuts."""
    found, start = set(), Start(scene)
    for step in range(1_000):
        run = Cut(start, step, make())
        for fate, chance in fates():
            world = run.world.after_cut(run.disk.after_cut(fate, chance))
            found.add(fault(run.before, world, run.made))
            if run.finished:
                found.add(verdict(world, run.made))
        if run.finished:
            break
    return found - {""}


# The syncs of the slot in "changed": spoilt, (kept), all others, the rest of the first chunk, its first block.
@pytest.mark.parametrize(
    ("sync", "finds"), [(0, "whole by its first"), (2, "whole by what"), (3, "whole by its first"), (4, "chunk 0")]
)
def test_control_every_sync_of_the_slot_is_needed(monkeypatch: pytest.MonkeyPatch, sync: int, finds: str) -> None:
    monkeypatch.setattr(_PowerFile, "sync", careless_sync)
    assert faults_of(changed, Careless) == set()
    assert any(finds in each for each in faults_of(changed, lambda: Careless(slot_sync=sync)))


@pytest.mark.parametrize("word", ["boot/slots/b/kernel", "boot/slots/b", "boot/slots/b/dtb", "pilot-b.bin"])
def test_control_every_sync_of_files_is_needed(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    monkeypatch.setattr(_PowerFile, "sync", careless_sync)
    assert faults_of(everything, Careless) == set()
    assert any("w/" in each for each in faults_of(everything, lambda: Careless(word=word)))


def test_control_the_first_chunk_must_be_spoilt(monkeypatch: pytest.MonkeyPatch) -> None:
    def unspoilt(writer: ImageWriter, slot: SlotFile) -> None:
        writer._changed = True

    monkeypatch.setattr(ImageWriter, "_spoil", unspoilt)
    assert "looks whole by its first block" in faults_of(changed, new_disk)


def test_control_the_first_chunk_must_be_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    fill = ImageWriter._obtain

    def at_once(writer: ImageWriter, slot: SlotFile, index: int) -> tuple[bytes, bool]:
        content, was_right = fill(writer, slot, index)
        if index == 0:
            slot.write(0, content)
        return content, True if index == 0 else was_right

    monkeypatch.setattr(ImageWriter, "_obtain", at_once)
    monkeypatch.setattr(ImageWriter, "_spoil", lambda writer, slot: None)
    assert "looks whole by its first block" in faults_of(fresh, new_disk)
