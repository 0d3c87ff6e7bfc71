"""Power is cut at every step of an update, of a rollback, and of what recovers from the first cut, for every boot
selector and inside the models of the boot loaders: the next boot always takes a slot whose image is whole, and a
station that goes on from there always gets done. The same checks must find the fault of a careless selector.
"""

from __future__ import annotations

import os
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
from tests.crash.selector_stories import (
    BEGINNINGS,
    STORIES,
    TRIES,
    Killed,
    Seen,
    after_kills,
    before_each_step,
    boot,
    content_of,
    go_on,
    install,
    once_updated,
    run,
    tell,
    update,
)
from tests.support.power_disk import PowerDisk
from tests.unit.firmware.selectors.rigs import ENTRIES, RIGS, Rig, clone, slot_path, write_image

FULL: Final = os.environ.get("EVSED_CRASH") == "full"
MIXES: Final = 30 if FULL else 4
LATER_MIXES: Final = 4 if FULL else 1
CUTS: Final = 6 if FULL else 2


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


class KilledOnce:
    """A rig whose selectors die before step ``at`` of the disk; in the same boot another one goes on."""

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


@pytest.mark.parametrize(
    ("method", "booted", "boots"),
    [("block", "a", "a"), ("activate", "a", "b"), ("confirm", "b", "b"), ("revert", "b", "a")],
)
@pytest.mark.parametrize("name", RIGS)
def test_what_is_done_again_after_a_kill_is_durable(name: str, method: str, booted: str, boots: str) -> None:
    rig = RIGS[name]
    disk = rig.factory()
    if method != "activate":
        install(rig, disk, "a", b"n")
        boot(rig, disk, asked=True)
    else:
        write_image(disk, "b", b"n")
    arguments = ("a",) if method == "revert" else ("b", TRIES) if method == "activate" else ("b",)

    def call(disk: PowerDisk) -> None:
        getattr(rig.selector(disk, booted, asked=booted == "b"), method)(*arguments)

    found = list(after_kills(rig, clone(disk), call, call))
    assert {rig.boot(clone(each), asked=method != "confirm") for each in found} == {boots}


@pytest.mark.parametrize("name", RIGS)
def test_a_slot_confirmed_by_a_killed_process_is_not_lost_by_what_relies_on_it(name: str) -> None:
    rig = RIGS[name]
    disk = rig.factory()
    install(rig, disk, "a", b"n")
    boot(rig, disk, asked=True)

    def confirm(disk: PowerDisk) -> None:
        rig.selector(disk, "b", asked=True).confirm("b")

    def repair(disk: PowerDisk) -> None:
        rig.selector(disk, "b", asked=True).repair()

    def block_the_other(disk: PowerDisk) -> None:
        selector = rig.selector(disk, "b", asked=True)
        if selector.state().of("b").good:
            selector.block("a")
            with opened(disk.open(slot_path("a"), writable=True)) as file:
                file.write(0, b"x")
                file.sync()

    if rig.selector(disk, "b").reboot_argument is None:  # else a trial is over with the next boot
        assert {boot(rig, each) for each in after_kills(rig, clone(disk), confirm, repair)} == {"b"}
    for each in after_kills(rig, clone(disk), confirm, block_the_other):
        boot(rig, each)


def test_an_entry_that_a_killed_repair_wrote_is_not_relied_on_unsynced() -> None:
    """Of systemd-boot: somebody removed all entries of ours while slot a was running."""
    rig = RIGS["sdboot"]
    disk = rig.factory()
    disk.remove(ENTRIES / "evsed-a.conf")
    blocked = []

    def block(disk: PowerDisk) -> None:
        selector = rig.selector(disk, "a")
        if selector.state().of("a").good:
            selector.block("b")
            blocked.append(disk.steps)

    for each in after_kills(rig, clone(disk), lambda disk: rig.selector(disk, "a").repair(), block):
        assert rig.boot(each) == ("a" if blocked else None)
        blocked.clear()


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
