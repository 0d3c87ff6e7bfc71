"""The selector of systemd-boot: which entries are there after each call."""

from __future__ import annotations

import pytest

from agent.firmware.errors import SlotFailed
from agent.sim.bootloaders import SystemdBoot
from tests.support.power_disk import PowerDisk
from tests.unit.firmware.selectors.rigs import ENTRIES, FOREIGN_ENTRY, RIGS, TEMPLATE

RIG = RIGS["sdboot"]


def text(slot: str, version: int) -> bytes:
    return TEMPLATE.format(slot=slot, version=version).encode()


def disk_with(**entries: bytes) -> PowerDisk:
    """Names without ``evsed-`` and ``.conf``; ``_`` for ``+`` and ``__`` for ``-``."""
    disk = PowerDisk((ENTRIES.parents[1],))
    disk.put(FOREIGN_ENTRY, b"efi /memtest.efi\n")
    for name, content in entries.items():
        disk.put(ENTRIES / f"evsed-{name.replace('__', '-').replace('_', '+')}.conf", content)
    return disk


def names(disk: PowerDisk) -> list[str]:
    return [name.removeprefix("evsed-").removesuffix(".conf") for name in disk.names(ENTRIES) if name[0] != "z"]


def version_of(disk: PowerDisk, name: str) -> str:
    lines = disk.content(ENTRIES / f"evsed-{name}.conf").decode().splitlines()
    return next(line.split()[1] for line in lines if line.startswith("version"))


def boot(disk: PowerDisk) -> str | None:
    return SystemdBoot(disk, ENTRIES).boot()


def test_which_entries_are_there_after_each_call() -> None:
    disk = disk_with(a=text("a", 4))
    RIG.selector(disk, "a").block("b")
    assert names(disk) == ["a"]
    RIG.selector(disk, "a").activate("b", 3)
    assert names(disk) == ["a", "b+3"]
    assert version_of(disk, "b+3") == "5"
    assert boot(disk) == "b"
    assert names(disk) == ["a", "b+2-1"]
    RIG.selector(disk, "b").confirm("b")
    assert names(disk) == ["a", "b"]
    assert version_of(disk, "b") == "5"
    RIG.selector(disk, "b").block("a")
    assert names(disk) == ["b"]


def test_the_good_entry_is_not_touched_by_an_update() -> None:
    disk = disk_with(a=text("a", 4))
    RIG.selector(disk, "a").block("b")
    RIG.selector(disk, "a").activate("b", 3)
    boot(disk)
    RIG.selector(disk, "b").confirm("b")
    touched = [step for step in disk.log if "evsed-a" in step and not step.startswith("sync ")]
    assert touched == []
    assert disk.content(ENTRIES / "evsed-a.conf") == text("a", 4)


def test_a_new_entry_is_nothing_to_the_loader_until_the_last_write() -> None:
    disk = disk_with(a=text("a", 1))
    RIG.selector(disk, "a").activate("b", 3)
    new = f"{ENTRIES}/evsed-b+3.conf"
    assert disk.log[-8:] == [
        f"create {new}",
        f"write {new} 0+1024",
        f"sync {new}",
        f"sync_folder {ENTRIES}",
        f"write {new} 512+512",
        f"sync {new}",
        f"write {new} 0+512",
        f"sync {new}",
    ]


def test_tries_that_are_used_up_leave_the_good_slot() -> None:
    disk = disk_with(a=text("a", 1))
    RIG.selector(disk, "a").activate("b", 2)
    assert [boot(disk) for _ in range(4)] == ["b", "b", "a", "a"]
    assert names(disk) == ["a", "b+0-2"]
    state = RIG.selector(disk, "a").state()
    assert (state.primary, state.of("b").bootable, state.of("b").tries_left) == ("a", False, 0)
    assert RIG.selector(disk, "a").repair() == []


def test_what_was_tried_is_what_is_confirmed() -> None:
    """Also where the template has changed with the new image."""
    tried = text("b", 5).replace(b"quiet", b"debug")
    disk = disk_with(a=text("a", 4), b_2__1=tried)
    RIG.selector(disk, "b").confirm("b")
    assert disk.content(ENTRIES / "evsed-b.conf").rstrip(b"\n") == tried.rstrip(b"\n")


def test_a_trial_whose_entry_is_lost_is_confirmed_from_the_template() -> None:
    disk = disk_with(a=text("a", 4))
    RIG.selector(disk, "b").confirm("b")
    assert (names(disk), version_of(disk, "b"), boot(disk)) == (["a", "b"], "5", "b")


def test_a_trial_blessed_by_systemd_is_good() -> None:
    disk = disk_with(a=text("a", 4), b=text("b", 5))
    state = RIG.selector(disk, "b").state()
    assert (state.primary, state.on_trial) == ("b", False)


def test_revert_makes_an_older_good_slot_the_first() -> None:
    disk = disk_with(a=text("a", 4), b=text("b", 5))
    RIG.selector(disk, "b").revert("a")
    assert (names(disk), boot(disk)) == (["a"], "a")


# ----------------------------------------------------------------------------------------------- repair


@pytest.mark.parametrize(
    ("entries", "booted", "left", "says"),
    [
        ({"a": text("a", 1), "b": text("b", 2), "b_2__1": text("b", 2)}, "b", ["a", "b"], "stood beside"),
        ({"a": text("a", 1), "b_3": text("b", 2), "b_2__1": text("b", 2)}, "b", ["a", "b+2-1"], "tried already"),
        ({"a": text("a", 1), "b_3": b"\n" * 1024}, "a", ["a"], "never finished"),
        ({"a": text("a", 1), "b": b"", "b_2__1": text("b", 2)}, "b", ["a", "b+2-1"], "never finished"),
        ({}, "a", ["a"], "no slot had a boot entry"),
        ({"b_2": text("b", 9)}, "a", ["a", "b+2"], "no slot had a boot entry"),
        ({"a": b"\n" * 512}, "a", ["a"], "no slot had a boot entry"),
    ],
)
def test_leftovers_are_cleaned_and_told(entries: dict[str, bytes], booted: str, left: list[str], says: str) -> None:
    disk = disk_with(**entries)
    selector = RIG.selector(disk, booted)
    assert says in " ".join(selector.repair())
    assert names(disk) == left
    assert boot(disk) in ("a", "b")
    assert RIG.selector(disk, booted).repair() == []


@pytest.mark.parametrize(
    ("entries", "booted"),
    [
        ({"a": text("a", 1)}, "b"),  # a trial whose entry was lost; a still boots
        ({"a_2__1": text("a", 1)}, "a"),  # a factory that ships a counted entry: not confirmed yet
        ({"a": text("a", 1), "b_0__3": text("b", 2)}, "a"),  # evidence of a failed trial
        ({}, None),
    ],
)
def test_what_means_something_stays(entries: dict[str, bytes], booted: str | None) -> None:
    disk = disk_with(**entries)
    before = names(disk)
    assert RIG.selector(disk, booted).repair() == []
    assert names(disk) == before


def test_entries_of_others_are_never_touched() -> None:
    disk = disk_with(a=text("a", 1))
    for name in (
        "evsed.conf",
        "evsed-c.conf",
        "evsed-b+x.conf",
        "evsed-b.conf.bak",
        "xevsed-b.conf",
        "evsed-b+1-2-3.conf",
    ):
        disk.put(ENTRIES / name, b"")
    before = disk.names(ENTRIES)
    RIG.selector(disk, "a").repair()
    RIG.selector(disk, "a").block("b")
    assert disk.names(ENTRIES) == before


# ---------------------------------------------------------------------------------------- foreign shapes


@pytest.mark.parametrize(
    "content",
    [
        text("a", 1).replace(b"sort-key evsed", b"sort-key debian"),
        text("a", 1).replace(b"sort-key evsed\n", b""),
        text("a", 1).replace(b"version 1", b"version 6.1.0-13"),
        text("a", 1).replace(b"version 1\n", b""),
        text("a", 1) + b"#" * 5000,
    ],
)
def test_an_entry_that_sorts_nobody_knows_where_is_named(content: bytes) -> None:
    disk = disk_with(a=content)
    selector = RIG.selector(disk, "a")
    assert selector.state().primary is None
    with pytest.raises(SlotFailed, match=r"evsed-a\.conf.*packaging/boot/sdboot"):
        selector.activate("b", 3)
    assert names(disk) == ["a"]


def test_a_folder_that_is_not_there_is_named() -> None:
    with pytest.raises(SlotFailed, match="mounted there"):
        RIG.selector(PowerDisk(), "a").state()
