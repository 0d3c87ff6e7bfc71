"""Power is cut at every step of an update, of a rollback, and of what recovers from the first cut, for every boot
selector and inside the models of the boot loaders: the next boot always takes a slot whose image is whole, and a
station that goes on from there always gets done. The same checks must find the fault of a careless selector.

Slots are devices on the same disk, so that what is unsynced of both is lost together. A story is told once with an eye
on the disk: before each step, and at the end, are seen all the disks that a cut there may leave; each that was not seen
before is the beginning of the next story.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from agent.firmware.errors import SlotFailed
from agent.firmware.ports import BootSelector
from agent.firmware.selectors.sdboot import SdbootSelector
from agent.firmware.selectors.sdboot_entries import EntryFolder
from agent.firmware.selectors.tryboot import TrybootSelector
from agent.firmware.selectors.uboot_env import Environment, EnvironmentPair, Loaded
from agent.firmware.selectors.uboot_env import encode as encode_environment
from agent.firmware.storage import Storage, StoredFile, opened
from tests.support.power_disk import Fate, PowerDisk
from tests.unit.firmware.selectors.rigs import RIGS, Rig, clone, image, write_image

FULL: Final = os.environ.get("EVSED_CRASH") == "full"
SEED: Final = 20261127
MIXES: Final = 30 if FULL else 4
LATER_MIXES: Final = 4 if FULL else 1
CUTS: Final = 6 if FULL else 2
TRIES: Final = 2
MOST_BOOTS: Final = 12

Story = Callable[[Rig, PowerDisk], None]


def other_of(slot: str) -> str:
    return "b" if slot == "a" else "a"


def boot(rig: Rig, disk: PowerDisk, *, asked: bool = False) -> str:
    slot = rig.boot(disk, asked=asked)
    assert rig.keeps(disk), "what belongs to others is lost"
    assert slot, "nothing boots"
    assert image(disk, slot), f"boots {slot}, which is torn"
    return slot


def install(rig: Rig, disk: PowerDisk, booted: str, letter: bytes) -> None:
    selector = rig.selector(disk, booted)
    target = other_of(booted)
    selector.block(target)
    write_image(disk, target, letter)
    selector.activate(target, TRIES)


# ------------------------------------------------------------------------------------------- the stories


def update(rig: Rig, disk: PowerDisk) -> None:
    """Two updates, "m" and "n", each called off once and begun again, the second as soon as the first is confirmed.
    The station goes on from whatever state it wakes up in, and finds every image healthy."""
    go_on(rig, disk, boot(rig, disk), asked=False)


def go_on(rig: Rig, disk: PowerDisk, booted: str, *, asked: bool) -> None:
    for _ in range(MOST_BOOTS):
        selector = rig.selector(disk, booted, asked=asked)
        selector.repair()
        if selector.state().on_trial:
            selector.confirm(booted)
        runs = image(disk, booted)
        if runs == b"n":
            assert_done(rig, disk, booted, runs)
            return
        install(rig, disk, booted, b"x")
        install(rig, disk, booted, b"n" if runs == b"m" else b"m")
        asked = True
        booted = boot(rig, disk, asked=asked)
    pytest.fail("it never gets done")


def sick(rig: Rig, disk: PowerDisk) -> None:
    """The new image never passes its self test: sooner or later the old one runs again, for good."""
    booted = boot(rig, disk)
    if image(disk, booted) == b"o":
        rig.selector(disk, booted).repair()
        if image(disk, other_of(booted)) != b"n":
            install(rig, disk, booted, b"n")
        booted = boot(rig, disk, asked=True)
    for _ in range(MOST_BOOTS):
        if image(disk, booted) == b"o":
            break
        rig.selector(disk, booted, asked=True).repair()
        booted = boot(rig, disk)
    rig.selector(disk, booted).repair()
    assert_done(rig, disk, booted, b"o")


def revert(rig: Rig, disk: PowerDisk) -> None:
    """The new image says itself that it is sick."""
    booted = boot(rig, disk)
    if image(disk, booted) == b"o" and image(disk, other_of(booted)) != b"n":
        rig.selector(disk, booted).repair()
        install(rig, disk, booted, b"n")
        booted = boot(rig, disk, asked=True)
    selector = rig.selector(disk, booted, asked=True)
    selector.repair()
    good = booted if image(disk, booted) == b"o" else other_of(booted)
    selector.revert(good)
    assert boot(rig, disk) == good
    assert_done(rig, disk, good, b"o")


STORIES: Final[dict[str, Story]] = {"update": update, "sick": sick, "revert": revert}


def assert_done(rig: Rig, disk: PowerDisk, booted: str, letter: bytes) -> None:
    """``booted`` is good, boots again as often as one likes, and nothing is left to repair."""
    disk = clone(disk)
    for _ in range(TRIES + 2):
        assert image(disk, booted) == letter
        selector = rig.selector(disk, booted)
        state = selector.state()
        assert (state.booted, state.primary, state.on_trial) == (booted, booted, False)
        assert state.of(booted).good
        assert selector.repair() == []
        assert boot(rig, disk) == booted


def once_updated(rig: Rig) -> PowerDisk:
    """Both slots have been good; the old image ("o") runs in slot b."""
    disk = rig.factory()
    booted = "a"
    for letter in (b"p", b"p", b"o"):
        install(rig, disk, booted, letter)
        booted = boot(rig, disk, asked=True)
        rig.selector(disk, booted, asked=True).confirm(booted)
    return clone(disk)


BEGINNINGS: Final[dict[str, Callable[[Rig], PowerDisk]]] = {
    "factory": lambda rig: rig.factory(),
    "once updated": once_updated,
}

# ---------------------------------------------------------------------------------------------- the cuts


def before_each_step(disk: PowerDisk, call: Callable[[str], None]) -> None:
    step = disk._step

    def watched(what: str) -> None:
        call(what)
        step(what)

    disk._step = watched  # type: ignore[method-assign]


def content_of(disk: PowerDisk) -> tuple[tuple[Path, bytes], ...]:
    return tuple((path, disk.content(path)) for path in disk.paths())


Seen = dict[tuple[tuple[Path, bytes], ...], str]
"""Disks by their content, each with where the power was cut to get it."""


def tell(rig: Rig, beginning: PowerDisk, story: Story, mixes: int, seen: Seen, so_far: str) -> list[PowerDisk]:
    """The disks that a cut in ``story`` may leave and nobody has seen yet."""
    disk, fresh, chance = clone(beginning), [], random.Random(SEED)

    def look(what: str) -> None:
        for fate in (Fate.DROPPED, Fate.KEPT, *[Fate.MIXED] * mixes):
            found = disk.after_cut(fate, chance)
            key = content_of(found)
            if key not in seen:
                seen[key] = f"{so_far}; cut before step {disk.steps}, {what}, {fate.value}"
                fresh.append(found)

    before_each_step(disk, look)
    run(rig, disk, story, so_far)
    look("the end")
    return fresh


def run(rig: Rig, disk: PowerDisk, story: Story, so_far: str) -> None:
    try:
        story(rig, disk)
    except Exception as error:
        raise AssertionError(f"{error!r} after {so_far}") from error


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize("beginning", BEGINNINGS)
@pytest.mark.parametrize("name", RIGS)
def test_after_any_cuts_a_whole_slot_boots_and_the_rest_gets_done(name: str, beginning: str, story: str) -> None:
    rig = RIGS[name]
    seen: Seen = {}
    disks = tell(rig, BEGINNINGS[beginning](rig), STORIES[story], MIXES, seen, "no cut")
    assert len(disks) > (10 if story == "update" else 3)
    numbers = []
    for _ in range(CUTS - 1):
        disks = [
            fresh
            for disk in disks
            for fresh in tell(rig, disk, STORIES[story], LATER_MIXES, seen, seen[content_of(disk)])
        ]
        numbers.append(len(disks))
    assert numbers[0] or story != "update"
    for disk in disks:
        run(rig, disk, STORIES[story], seen[content_of(disk)])


# ------------------------------------------------------------------------- killed, and careless, programs


class Killed(Exception):
    """The process, not the machine: what it wrote is in memory still."""


class KilledOnce:
    """A rig whose selectors die before step ``at`` of the disk; in the same boot another one goes on. Only what
    happens after is looked at."""

    def __init__(self, rig: Rig, at: int) -> None:
        self._rig = rig
        self._at = at
        self._booting = False
        self.killed = False
        self.running = ("", False)

    def factory(self) -> PowerDisk:
        return self._rig.factory()

    def selector(self, storage: Storage, booted: str | None, *, asked: bool = False) -> BootSelector:
        return self._rig.selector(storage, booted, asked=asked)

    def keeps(self, disk: PowerDisk) -> bool:
        return self._rig.keeps(disk)

    def boot(self, storage: Storage, *, asked: bool = False) -> str | None:
        self._booting = True
        slot = self._rig.boot(storage, asked=asked)
        self._booting = False
        self.running = (slot or "", asked)
        return slot

    def story(self, _: Rig, disk: PowerDisk) -> None:
        def perhaps_die(what: str) -> None:
            if disk.steps >= self._at and not self.killed and not self._booting:
                self.killed = True
                raise Killed

        before_each_step(disk, perhaps_die)
        try:
            update(self, disk)
        except Killed:
            booted, asked = self.running
            go_on(self, disk, booted, asked=asked)


@pytest.mark.parametrize("name", RIGS)
def test_nor_does_it_matter_that_the_process_was_killed_before(name: str) -> None:
    """Whoever died may have left anything unsynced, and it looks as if it were done."""
    rig = RIGS[name]
    beginning = once_updated(rig)
    seen: Seen = {}
    tell(rig, beginning, update, MIXES, seen, "no kill")
    undisturbed = len(seen)
    for at in range(1000):
        killed = KilledOnce(rig, at)
        for disk in tell(rig, beginning, killed.story, LATER_MIXES, seen, f"a kill before step {at}"):
            run(rig, disk, update, seen[content_of(disk)])
        if not killed.killed:
            break
    assert at > 20
    assert len(seen) > undisturbed


class Lazy:
    """A storage on which syncs of files or of folders do nothing."""

    def __init__(self, storage: Storage, forgets: str) -> None:
        self._storage = storage
        self.forgets = forgets

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def open(self, path: Path, **how: bool) -> StoredFile:
        return LazyFile(self._storage.open(path, **how), self.forgets)

    def create(self, path: Path, mode: int = 0o600) -> StoredFile:
        return LazyFile(self._storage.create(path, mode), self.forgets)

    def sync_folder(self, folder: Path) -> None:
        if self.forgets != "folders":
            self._storage.sync_folder(folder)


class LazyFile:
    def __init__(self, file: StoredFile, forgets: str) -> None:
        self._file = file
        self._forgets = forgets

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def sync(self) -> None:
        if self._forgets != "files":
            self._file.sync()


class LazyRig:
    def __init__(self, rig: Rig, forgets: str) -> None:
        self._rig = rig
        self._forgets = forgets

    def factory(self) -> PowerDisk:
        return self._rig.factory()

    def selector(self, storage: Storage, booted: str | None, *, asked: bool = False) -> BootSelector:
        lazy: Any = Lazy(storage, self._forgets)
        return self._rig.selector(lazy, booted, asked=asked)

    def boot(self, storage: Storage, *, asked: bool = False) -> str | None:
        return self._rig.boot(storage, asked=asked)

    def keeps(self, disk: PowerDisk) -> bool:
        return self._rig.keeps(disk)


def suffers(careless: Rig, sound: Rig) -> bool:
    """Whether any cut in a careless update leaves what a sound station cannot get done."""
    for beginning in BEGINNINGS.values():
        seen: Seen = {}
        for disk in tell(careless, beginning(sound), update, 20, seen, "no cut"):
            try:
                update(sound, disk)
            except (AssertionError, SlotFailed):
                return True
    return False


@pytest.mark.parametrize(
    ("name", "forgets"),
    [
        ("file", "files"),
        ("file", "folders"),
        ("tryboot", "files"),
        ("uboot", "files"),
        ("sdboot", "files"),
        ("sdboot", "folders"),
    ],
)
def test_control_the_check_finds_a_missing_sync(name: str, forgets: str) -> None:
    assert suffers(LazyRig(RIGS[name], forgets), RIGS[name])


def write_anew(self: TrybootSelector, content: bytes) -> None:
    """As an editor does."""
    self._storage.remove(self._path)
    with opened(self._storage.create(self._path)) as file:
        file.write(0, content)
        file.sync()
    self._storage.sync_folder(self._path.parent)


def write_both_copies(self: EnvironmentPair, loaded: Loaded, environment: Environment) -> None:
    data = encode_environment(environment, loaded.flag, self._size_bytes)
    with opened(self._storage.open(self._copies[0].path, writable=True)) as file:
        for copy in self._copies:
            file.write(copy.offset, data)
        file.sync()


def write_at_once(self: EntryFolder, file: str, text: bytes) -> None:
    with opened(self._storage.create(self._folder / file, 0o644)) as stored:
        self._write(stored, 0, text)
    self._storage.sync_folder(self._folder)


def rename_as_bless_boot(self: SdbootSelector, slot: str) -> None:
    """Removes nothing of the good slot, but the trial's only entry is renamed."""
    folder, storage = self._folder._folder, self._folder._storage
    for entry in self._folder.entries():
        if entry.slot != slot:
            storage.remove(folder / entry.file)
        elif entry.left is not None:
            storage.rename(folder / entry.file, folder / self._folder.file_of(slot, None))
    storage.sync_folder(folder)


@pytest.mark.parametrize(
    ("name", "owner", "method", "careless"),
    [
        ("tryboot", TrybootSelector, "_overwrite", write_anew),
        ("uboot", EnvironmentPair, "save", write_both_copies),
        ("sdboot", EntryFolder, "put", write_at_once),
        ("sdboot", SdbootSelector, "confirm", rename_as_bless_boot),
    ],
)
def test_control_the_check_finds_what_a_careless_selector_suffers(
    name: str, owner: type, method: str, careless: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, method, careless)
    assert suffers(RIGS[name], RIGS[name])
