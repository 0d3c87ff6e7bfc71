"""The selector of the Raspberry Pi: one sector, written in place."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.firmware.errors import SlotFailed
from agent.firmware.selectors.booted import PiBoot
from agent.firmware.selectors.tryboot import MIN_EEPROM_BUILT_AT_S, Autoboot, TrybootSelector, decode, encode
from tests.support.power_disk import PowerDisk
from tests.unit.firmware.selectors.rigs import AUTOBOOT, PARTITIONS, RIGS, WATCHDOG

RIG = RIGS["tryboot"]
A, B = PARTITIONS["a"], PARTITIONS["b"]


def disk_with(content: bytes | None) -> PowerDisk:
    disk = PowerDisk((AUTOBOOT.parent,))
    if content is not None:
        disk.put(AUTOBOOT, content)
    return disk


def selector(
    disk: PowerDisk,
    booted: str | None = "a",
    *,
    built_at_s: int | None = MIN_EEPROM_BUILT_AT_S,
    watchdog: Path = WATCHDOG,
    min_eeprom_built_at_s: int = MIN_EEPROM_BUILT_AT_S,
) -> TrybootSelector:
    pi = PiBoot(PARTITIONS.get(booted or ""), False, built_at_s)
    return TrybootSelector(
        disk, AUTOBOOT, PARTITIONS, pi, watchdog=watchdog, min_eeprom_built_at_s=min_eeprom_built_at_s
    )


def said(disk: PowerDisk) -> Autoboot | None:
    content = disk.content(AUTOBOOT)
    assert len(content) == 512
    return decode(content)


def test_what_each_call_writes() -> None:
    disk = RIG.factory()
    assert said(disk) == Autoboot(A, A)
    RIG.selector(disk, "a").activate("b", 3)
    assert said(disk) == Autoboot(A, B)
    RIG.selector(disk, "a").block("b")
    assert said(disk) == Autoboot(A, A)
    RIG.selector(disk, "a").activate("b", 3)
    RIG.selector(disk, "b", asked=True).confirm("b")
    assert said(disk) == Autoboot(B, B)


def test_every_change_is_one_write_in_place() -> None:
    disk = RIG.factory()
    RIG.selector(disk, "a").activate("b", 3)
    RIG.selector(disk, "a").block("b")
    assert disk.log == [f"write {AUTOBOOT} 0+512", f"sync {AUTOBOOT}"] * 2


def test_the_text_is_what_the_documentation_shows() -> None:
    text = encode(Autoboot(2, 3)).decode()
    assert text.rstrip("\n") == "[all]\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=3"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[all]\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=3\n", Autoboot(2, 3)),
        ("tryboot_a_b=1\nboot_partition=2\n", Autoboot(2, 2)),
        (" [ALL] \r\n tryboot_a_b = 1\r\n boot_partition = 2\r\n", Autoboot(2, 2)),
        ("[tryboot]\nboot_partition=3\n[all]\nboot_partition=2\ntryboot_a_b=1", Autoboot(2, 3)),
        ("[all]\ntryboot_a_b=1\nboot_partition=2\nboot_partition=4", Autoboot(4, 4)),
        ("# boot_partition=9\n[all]\ntryboot_a_b=1\nboot_partition=2\n[none]\nboot_partition=7", Autoboot(2, 2)),
        ("[all]\nboot_partition=2\n[tryboot]\nboot_partition=3\n", None),  # the file-level tryboot
        ("[all]\ntryboot_a_b=0\nboot_partition=2\n", None),
        ("[all]\ntryboot_a_b=1\n[tryboot]\nboot_partition=3\n", None),
        ("", None),
    ],
)
def test_what_people_write_is_understood_or_not(text: str, says: Autoboot | None) -> None:
    assert decode(text.encode()) == says


# ---------------------------------------------------------------------------------------------- repairs


@pytest.mark.parametrize("text", ["[all]\ntryboot_a_b=1\nboot_partition=3\n[tryboot]\nboot_partition=2", "\n" * 511])
def test_a_short_file_is_refused_until_it_is_padded(text: str) -> None:
    disk = disk_with(text.encode())
    with pytest.raises(SlotFailed, match="shorter than one sector"):
        selector(disk).activate("b", 1)
    (told,) = selector(disk).repair()
    assert str(AUTOBOOT) in told
    assert len(disk.content(AUTOBOOT)) == 512
    selector(disk).activate("b", 1)
    assert said(disk) == Autoboot(A, B)


def test_padding_never_changes_what_a_short_file_says() -> None:
    disk = disk_with(b"[all]\ntryboot_a_b=1\nboot_partition=3\n[tryboot]\nboot_partition=2")
    selector(disk).repair()
    assert said(disk) == Autoboot(3, 2)


def test_a_file_that_is_too_long_needs_a_person() -> None:
    disk = disk_with(encode(Autoboot(A, A)) + b"\n")
    assert selector(disk).state().primary is None
    for call in (lambda: selector(disk).repair(), lambda: selector(disk).block("b")):
        with pytest.raises(SlotFailed, match="longer than one sector") as failed:
            call()
        assert "packaging/boot/README.md" in failed.value.remedy


@pytest.mark.parametrize("content", [None, b"", b"\0" * 512, b"[all]\nboot_partition=3\n".ljust(512, b"\n")])
def test_a_file_that_says_nothing_is_written_anew_for_the_running_slot(content: bytes | None) -> None:
    disk = disk_with(content)
    assert selector(disk, "b").state().primary is None
    with pytest.raises(SlotFailed):
        selector(disk, None).repair()
    (told,) = selector(disk, "b").repair()
    assert "slot b" in told
    assert said(disk) == Autoboot(B, B)


def test_a_partition_that_is_no_slot_is_told() -> None:
    disk = disk_with(encode(Autoboot(7, 7)))
    assert selector(disk).state().primary is None
    for call in (lambda: selector(disk).repair(), lambda: selector(disk).activate("b", 1)):
        with pytest.raises(SlotFailed, match="partition 7, which is no slot's"):
            call()


# --------------------------------------------------------------------------------------- can it do A/B?


@pytest.mark.parametrize(
    ("built_at_s", "says"),
    [(None, "of unknown age"), (1_619_000_000, "2021-04-21"), (MIN_EEPROM_BUILT_AT_S - 1, "2022-11-24")],
)
def test_too_old_a_boot_loader_is_refused_before_anything_is_touched(built_at_s: int | None, says: str) -> None:
    disk = RIG.factory()
    old = selector(disk, built_at_s=built_at_s)
    for call in (old.check, lambda: old.block("b"), lambda: old.activate("b", 1)):
        with pytest.raises(SlotFailed, match=says) as failed:
            call()
        assert "rpi-eeprom-update" in failed.value.remedy
    assert disk.log == []
    old.confirm("a")  # what runs may be confirmed all the same


@pytest.mark.parametrize("built_at_s", [MIN_EEPROM_BUILT_AT_S, 1_674_000_000, 2**32 - 1])
def test_a_newer_boot_loader_is_fine(built_at_s: int) -> None:
    selector(RIG.factory(), built_at_s=built_at_s).check()


def test_the_age_need_not_be_checked() -> None:
    selector(RIG.factory(), built_at_s=None, min_eeprom_built_at_s=0).check()


def test_without_a_watchdog_nothing_is_tried(tmp_path: Path) -> None:
    bare = selector(RIG.factory(), watchdog=tmp_path / "watchdog")
    for call in (bare.check, lambda: bare.block("b"), lambda: bare.activate("b", 1)):
        with pytest.raises(SlotFailed, match="no hardware watchdog"):
            call()


@pytest.mark.parametrize("partitions", [{"a": 2, "b": 2}, {"a": 0, "b": 2}, {"a": 2, "b": 300}, {"a": 2}, {}])
def test_partitions_must_be_two(partitions: dict[str, int]) -> None:
    with pytest.raises(SlotFailed):
        TrybootSelector(PowerDisk(), AUTOBOOT, partitions, PiBoot(2, False, None))


def test_the_argument_of_the_reboot() -> None:
    assert selector(RIG.factory()).reboot_argument == "0 tryboot"
