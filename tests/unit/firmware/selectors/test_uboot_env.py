"""The redundant U-Boot environment: bytes and variables, and which copy counts."""

from __future__ import annotations

import random
import zlib
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.firmware.errors import SlotFailed
from agent.firmware.selectors.uboot_env import (
    Environment,
    EnvironmentCopy,
    EnvironmentPair,
    decode,
    encode,
    is_newer,
)
from tests.support.power_disk import PowerDisk

SIZE: Final = 1024
FILES: Final = (EnvironmentCopy(Path("/env/one")), EnvironmentCopy(Path("/env/two")))

entries = st.lists(st.binary(min_size=1, max_size=40).filter(lambda entry: b"\0" not in entry), max_size=15).map(tuple)


def disk_with(*copies: bytes) -> PowerDisk:
    disk = PowerDisk()
    for copy, content in zip(FILES, copies, strict=True):
        disk.put(copy.path, content)
    return disk


def pair(disk: PowerDisk) -> EnvironmentPair:
    return EnvironmentPair(disk, FILES, SIZE)


def env(*names: str) -> Environment:
    return Environment(tuple(name.encode() for name in names))


@given(entries, st.integers(0, 255))
def test_variables_survive_the_round_trip(variables: tuple[bytes, ...], flag: int) -> None:
    copy = encode(Environment(variables), flag, SIZE)
    assert len(copy) == SIZE
    assert decode(copy) == (Environment(variables), flag)


@given(entries, st.dictionaries(st.sampled_from(["X", "YY", "Z_1"]), st.text("ab =", max_size=5)))
def test_changes_are_there_and_all_else_is_as_before(variables: tuple[bytes, ...], changes: dict[str, str]) -> None:
    before = Environment(variables)
    after = before.having(changes)
    for name, value in changes.items():
        assert after.get(name) == value
    names = {name.encode() for name in changes}
    foreign = [entry for entry in variables if entry.partition(b"=")[0] not in names]
    assert [entry for entry in after.entries if entry.partition(b"=")[0] not in names] == foreign
    assert after.having(changes) == after


@given(st.binary(max_size=600))
def test_any_bytes_are_variables_or_not_valid(copy: bytes) -> None:
    decode(copy)
    data = (copy + bytes(5))[5:]
    valid = zlib.crc32(data).to_bytes(4, "little") + b"\x01" + data
    found = decode(valid)
    assert found is not None
    assert found[1] == 1


def test_of_several_values_the_last_counts_and_is_the_only_one_after_a_change() -> None:
    several = env("a=1", "b=2", "a=3")
    assert several.get("a") == "3"
    assert several.having({"a": "4"}) == env("a=4", "b=2")


def test_padding_of_other_tools_is_no_variable() -> None:
    data = b"a=1\0b=2\0\0".ljust(SIZE - 5, b"\xff")
    assert decode(zlib.crc32(data).to_bytes(4, "little") + b"\x00" + data) == (env("a=1", "b=2"), 0)


def test_variables_that_do_not_fit_are_refused() -> None:
    with pytest.raises(SlotFailed, match="fw_setenv"):
        encode(env("a=" + "x" * SIZE), 0, SIZE)


@pytest.mark.parametrize(
    ("flag", "than", "newer"),
    [(1, 0, True), (0, 1, False), (0, 255, True), (255, 0, False), (255, 254, True), (7, 7, False), (1, 255, False)],
)
def test_which_flag_is_newer(flag: int, than: int, newer: bool) -> None:
    assert is_newer(flag, than) is newer


@pytest.mark.parametrize(
    ("flags", "counts"),
    [((1, 0), "one"), ((0, 1), "two"), ((255, 0), "two"), ((0, 255), "one"), ((9, 9), "one")],
)
def test_the_newer_valid_copy_counts(flags: tuple[int, int], counts: str) -> None:
    disk = disk_with(*(encode(env(f"n={name}"), flag, SIZE) for name, flag in zip(("one", "two"), flags, strict=True)))
    assert pair(disk).demand().environment == env(f"n={counts}")


@pytest.mark.parametrize("damaged", [0, 1])
def test_one_damaged_copy_is_passed_over_and_written_next(damaged: int) -> None:
    copies = [encode(env("n=1"), 5, SIZE), encode(env("n=1"), 5, SIZE)]
    copies[damaged] = b"\x12" + copies[damaged][1:]
    disk = disk_with(*copies)
    loaded = pair(disk).demand()
    assert (loaded.index, loaded.damaged) == (1 - damaged, True)
    pair(disk).save(loaded, loaded.environment)
    assert decode(disk.content(FILES[damaged].path)) == (env("n=1"), 6)
    assert pair(disk).demand().damaged is False


def test_saving_goes_round_the_copies_and_through_every_flag() -> None:
    disk = disk_with(encode(env("n=0"), 250, SIZE), encode(env("n=0"), 249, SIZE))
    for number in range(1, 520):
        loaded = pair(disk).demand()
        pair(disk).save(loaded, loaded.environment.having({"n": str(number)}))
        after = pair(disk).demand()
        assert after.environment == env(f"n={number}")
        assert after.index == 1 - loaded.index


def test_a_save_is_one_write_and_one_sync_after_the_newer_copy_is_safe() -> None:
    disk = disk_with(encode(env("n=0"), 1, SIZE), encode(env("n=0"), 0, SIZE))
    loaded = pair(disk).demand()
    pair(disk).save(loaded, env("n=1", "m=2"))
    assert disk.log == ["sync /env/one", f"write /env/two 0+{SIZE}", "sync /env/two"]


@pytest.mark.parametrize(
    ("copies", "size", "says"),
    [
        (FILES[:1], SIZE, "two copies"),
        ((FILES[0], FILES[0]), SIZE, "two copies"),
        ((FILES[0], EnvironmentCopy(FILES[0].path, SIZE - 1)), SIZE, "two copies"),
        (FILES, 100, "size"),
        (FILES, 1 << 30, "size"),
    ],
)
def test_a_place_that_cannot_be_safe_is_refused(copies: tuple[EnvironmentCopy, ...], size: int, says: str) -> None:
    with pytest.raises(SlotFailed, match=says):
        EnvironmentPair(PowerDisk(), copies, size)


def test_a_single_environment_is_refused_by_name() -> None:
    data = b"a=1\0\0".ljust(SIZE - 4, b"\0")
    single = zlib.crc32(data).to_bytes(4, "little") + data
    disk = disk_with(single, random.Random(1).randbytes(SIZE))
    assert pair(disk).load() is None
    with pytest.raises(SlotFailed, match="not a redundant environment"):
        pair(disk).demand()


def test_two_damaged_copies_are_named_and_nothing_is_made_up() -> None:
    disk = disk_with(bytes(SIZE), bytes(SIZE))
    assert pair(disk).load() is None
    with pytest.raises(SlotFailed, match="/env/one at 0x0 and /env/two at 0x0: both copies") as failed:
        pair(disk).demand()
    assert "saveenv" in failed.value.remedy
    assert disk.log == []


def test_a_file_that_is_too_short_is_named() -> None:
    with pytest.raises(SlotFailed, match="ends after 100 of 1024 bytes"):
        pair(disk_with(bytes(100), bytes(SIZE))).load()
