"""The selector of U-Boot: which variables each call sets."""

from __future__ import annotations

import pytest

from agent.firmware.errors import SlotFailed
from agent.firmware.selectors.uboot import UbootSelector
from agent.firmware.selectors.uboot_env import Environment, EnvironmentPair, encode
from agent.sim.bootloaders import UbootScript
from tests.support.power_disk import PowerDisk
from tests.unit.firmware.selectors.rigs import ENVIRONMENT, ENVIRONMENT_BYTES, SLOTS


def disk_with(text: str) -> PowerDisk:
    """Variables ``NAME=VALUE``, separated by bars; the same in both copies."""
    device = bytearray(4096)
    entries = tuple(entry.encode() for entry in text.split("|") if entry)
    for copy, flag in zip(ENVIRONMENT, (1, 0), strict=True):
        data = encode(Environment(entries), flag, ENVIRONMENT_BYTES)
        device[copy.offset : copy.offset + len(data)] = data
    disk = PowerDisk()
    disk.put(ENVIRONMENT[0].path, bytes(device), device=True)
    return disk


def selector(disk: PowerDisk, booted: str | None) -> UbootSelector:
    return UbootSelector(disk, ENVIRONMENT, ENVIRONMENT_BYTES, SLOTS, booted)


def boot(disk: PowerDisk, broken: str = "") -> str | None:
    return UbootScript(disk, ENVIRONMENT, ENVIRONMENT_BYTES, SLOTS, frozenset(broken)).boot()


def variables(disk: PowerDisk) -> str:
    entries = EnvironmentPair(disk, ENVIRONMENT, ENVIRONMENT_BYTES).demand().environment.entries
    return "|".join(entry.decode() for entry in entries)


GOOD_A = "BOOT_ORDER=A|BOOT_A_LEFT=3|BOOT_A_GOOD=1|BOOT_B_LEFT=0|BOOT_B_GOOD=0"


def test_what_each_call_sets() -> None:
    disk = disk_with(GOOD_A)
    selector(disk, "a").activate("b", 2)
    assert variables(disk) == "BOOT_ORDER=B A|BOOT_A_LEFT=3|BOOT_A_GOOD=1|BOOT_B_LEFT=2|BOOT_B_GOOD=0"
    assert boot(disk) == "b"
    assert "BOOT_B_LEFT=1" in variables(disk)
    selector(disk, "b").confirm("b")
    assert variables(disk) == "BOOT_ORDER=B A|BOOT_A_LEFT=3|BOOT_A_GOOD=1|BOOT_B_LEFT=3|BOOT_B_GOOD=1"
    selector(disk, "b").block("a")
    assert variables(disk) == "BOOT_ORDER=B|BOOT_A_LEFT=0|BOOT_A_GOOD=0|BOOT_B_LEFT=3|BOOT_B_GOOD=1"


def test_variables_of_others_keep_their_bytes_and_places() -> None:
    foreign = "bootcmd=run x|odd|=y|BOOT_ORDERED=1|xBOOT_ORDER=2"
    disk = disk_with(f"{foreign}|{GOOD_A}|z=\xff end ")
    selector(disk, "a").activate("b", 2)
    assert variables(disk).startswith(f"{foreign}|BOOT_ORDER=B A|")
    assert variables(disk).endswith("|z=\xff end ")


@pytest.mark.parametrize(
    ("text", "primary", "left"),
    [
        ("", "a", {"a": 3, "b": 3}),  # a fresh board: what the script takes for granted
        ("BOOT_ORDER=B A", "b", {"a": 3, "b": 3}),
        ("BOOT_ORDER=X B Y", "b", {"a": 3, "b": 3}),
        ("BOOT_ORDER=rubbish", "a", {"a": 3, "b": 3}),
        ("BOOT_ORDER=B A|BOOT_B_LEFT=0", "a", {"a": 3, "b": 0}),
        ("BOOT_ORDER=B A|BOOT_B_LEFT=x|BOOT_A_LEFT=-1", "b", {"a": 0, "b": 0}),  # all gone: all again
        ("BOOT_ORDER=B A|BOOT_B_LEFT=10|BOOT_A_LEFT=1", "a", {"a": 1, "b": 0}),
    ],
)
def test_variables_that_are_not_ours_are_taken_as_the_script_takes_them(
    text: str, primary: str, left: dict[str, int]
) -> None:
    state = selector(disk_with(text), "a").state()
    assert state.primary == primary
    assert {each.slot: each.tries_left for each in state.slots} == left
    assert state.on_trial


def test_a_fresh_board_confirms_its_slot_and_can_be_updated_then() -> None:
    disk = disk_with("bootcmd=run x")
    assert boot(disk) == "a"
    with pytest.raises(SlotFailed, match="not marked good"):
        selector(disk, "a").block("b")
    selector(disk, "a").confirm("a")
    selector(disk, "a").block("b")
    assert [boot(disk) for _ in range(5)] == ["a"] * 5


# ----------------------------------------------------------------------------------------------- repair


def test_a_good_slot_that_a_foreign_script_counted_down_is_filled_up() -> None:
    disk = disk_with(GOOD_A.replace("A_LEFT=3", "A_LEFT=1"))
    (told,) = selector(disk, "a").repair()
    assert told == "the good slot a had 1 tries left and has 3 again"
    assert variables(disk) == GOOD_A
    assert selector(disk, "a").repair() == []


def test_an_order_without_a_good_slot_gets_the_running_one_back() -> None:
    disk = disk_with(GOOD_A.replace("BOOT_ORDER=A", "BOOT_ORDER=B"))
    (told,) = selector(disk, "a").repair()
    assert "BOOT_ORDER" in told
    assert variables(disk).startswith("BOOT_ORDER=A B|")


def test_a_trial_under_way_is_left_alone() -> None:
    disk = disk_with(GOOD_A)
    selector(disk, "a").activate("b", 2)
    boot(disk)
    before = variables(disk)
    assert selector(disk, "b").repair() == []
    assert variables(disk) == before


@pytest.mark.parametrize("number", [0, 1])
def test_a_damaged_copy_is_written_anew(number: int) -> None:
    disk = disk_with(GOOD_A)
    with_damage = bytearray(disk.content(ENVIRONMENT[0].path))
    with_damage[ENVIRONMENT[number].offset] ^= 1
    disk.put(ENVIRONMENT[0].path, bytes(with_damage), device=True)
    (told,) = selector(disk, "a").repair()
    assert "copy" in told
    assert variables(disk) == GOOD_A
    assert selector(disk, "a").repair() == []


def test_without_a_valid_copy_the_state_is_told_and_all_else_refused_until_the_script_made_one() -> None:
    disk = PowerDisk()
    disk.put(ENVIRONMENT[0].path, bytes(4096), device=True)
    each = selector(disk, "a")
    assert (each.state().booted, each.state().primary, each.state().on_trial) == ("a", None, True)
    for call in (each.repair, lambda: each.confirm("a"), lambda: each.block("b")):
        with pytest.raises(SlotFailed, match="both copies"):
            call()
    assert disk.log == []
    assert boot(disk) == "a"
    each.confirm("a")
    assert each.state().of("a").good


# ------------------------------------------------------------------------------------------- the script


def test_a_good_slot_whose_kernel_is_gone_gives_way_to_the_other_good_one() -> None:
    disk = disk_with("BOOT_ORDER=B A|BOOT_A_LEFT=3|BOOT_A_GOOD=1|BOOT_B_LEFT=3|BOOT_B_GOOD=1")
    assert boot(disk, broken="b") == "a"


def test_with_all_tries_gone_all_slots_of_the_order_get_them_back() -> None:
    disk = disk_with("BOOT_ORDER=B A|BOOT_A_LEFT=0|BOOT_B_LEFT=0")
    assert boot(disk) == "b"
    assert "BOOT_A_LEFT=3" in variables(disk)
    assert "BOOT_B_LEFT=2" in variables(disk)


def test_a_blocked_slot_does_not_come_back_that_way() -> None:
    disk = disk_with("BOOT_ORDER=A|BOOT_A_LEFT=0|BOOT_B_LEFT=0")
    assert boot(disk) == "a"
    assert "BOOT_B_LEFT=0" in variables(disk)


def test_a_destroyed_order_prefers_the_good_slot() -> None:
    disk = disk_with("BOOT_ORDER=|BOOT_A_LEFT=0|BOOT_B_LEFT=3|BOOT_B_GOOD=1")
    assert boot(disk) == "b"
