"""The selector of development."""

from __future__ import annotations

import json

import pytest

from agent.firmware.errors import SlotFailed
from agent.firmware.selectors.file import FileSelector, decode, encode, only_good
from tests.support.power_disk import PowerDisk
from tests.unit.firmware.selectors.rigs import RECORD, RIGS, SLOTS

RIG = RIGS["file"]


def disk_with(content: bytes) -> PowerDisk:
    disk = RIG.factory()
    disk.put(RECORD, content)
    return disk


def test_what_the_file_says_is_readable_for_people() -> None:
    disk = RIG.factory()
    RIG.selector(disk, "a").activate("b", 2)
    assert json.loads(disk.content(RECORD)) == {
        "primary": "b",
        "slots": {
            "a": {"good": True, "bootable": True, "tries": None},
            "b": {"good": False, "bootable": True, "tries": 2},
        },
    }


def test_record_survives_the_round_trip() -> None:
    record = only_good(SLOTS, "b")
    assert decode(encode(record), SLOTS) == record


@pytest.mark.parametrize(
    "change",
    [
        {"primary": "c"},
        {"primary": None},
        {"slots": {}},
        {"slots": {"a": None, "b": None}},
        {"slots": {"a": {"good": 1, "bootable": True, "tries": None}, "b": {}}},
        {"slots": {slot: {"good": True, "bootable": True, "tries": True} for slot in SLOTS}},
        {"slots": {slot: {"good": True, "bootable": True, "tries": -1} for slot in SLOTS}},
        {"slots": {slot: {"good": True, "bootable": True, "tries": 1000} for slot in SLOTS}},
    ],
)
def test_another_record_is_unreadable(change: dict[str, object]) -> None:
    content = json.loads(encode(only_good(SLOTS, "a"))) | change
    assert decode(json.dumps(content).encode(), SLOTS) is None


def test_a_broken_file_is_told_of_refused_and_repaired_for_the_running_slot() -> None:
    disk = disk_with(b"{")
    selector = RIG.selector(disk, "b")
    assert (selector.state().primary, selector.state().on_trial) == (None, True)
    with pytest.raises(SlotFailed, match="remove the file"):
        selector.block("a")
    (told,) = selector.repair()
    assert "slot b" in told
    state = selector.state()
    assert (state.primary, state.of("b").good, state.of("a").good, state.of("a").bootable) == ("b", True, False, False)


def test_a_broken_file_is_not_repaired_by_guessing() -> None:
    with pytest.raises(SlotFailed):
        RIG.selector(disk_with(b"{"), None).repair()


@pytest.mark.parametrize("slots", [("a", "a"), ("a", "B"), ("a", ""), ("a", "x/y"), ("a",), ("a", "b", "c")])
def test_slots_must_have_names_that_any_loader_can_carry(slots: tuple[str, str]) -> None:
    with pytest.raises(SlotFailed, match="two different words"):
        FileSelector(PowerDisk(), RECORD, slots, "a")
