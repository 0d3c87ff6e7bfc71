"""The models of the boot loaders, and that a selector tells the same next slot as they take."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.firmware.ports import SlotState
from agent.firmware.selectors.file import Record, encode
from agent.firmware.selectors.tryboot import Autoboot
from agent.firmware.selectors.tryboot import encode as encode_autoboot
from agent.firmware.selectors.uboot_env import Environment, EnvironmentPair
from agent.sim.bootloaders import PiFirmware, SystemdBoot, compare_versions
from tests.support.power_disk import PowerDisk
from tests.unit.firmware.selectors.rigs import (
    AUTOBOOT,
    ENTRIES,
    ENVIRONMENT,
    ENVIRONMENT_BYTES,
    PARTITIONS,
    RECORD,
    RIGS,
    TEMPLATE,
)

slot_states = st.builds(SlotState, st.just(""), st.booleans(), st.booleans(), st.none() | st.integers(0, 3))


def same_as_the_loader(name: str, disk: PowerDisk) -> None:
    told = RIGS[name].selector(disk, "a").state().primary
    assert told == RIGS[name].boot(disk)


@given(st.sampled_from("ab"), slot_states, slot_states)
def test_the_next_slot_of_development(primary: str, a: SlotState, b: SlotState) -> None:
    states = tuple(
        SlotState(slot, each.bootable, each.good, each.tries_left) for slot, each in zip("ab", (a, b), strict=True)
    )
    if not any(each.bootable for each in states):
        return  # nothing sound leaves that
    disk = RIGS["file"].factory()
    disk.put(RECORD, encode(Record(primary, states)))
    same_as_the_loader("file", disk)


@given(st.sampled_from(sorted(PARTITIONS.values())), st.integers(1, 5))
def test_the_next_slot_of_a_raspberry_pi(good: int, tried: int) -> None:
    disk = RIGS["tryboot"].factory()
    disk.put(AUTOBOOT, encode_autoboot(Autoboot(good, tried)))
    same_as_the_loader("tryboot", disk)


@given(
    st.dictionaries(
        st.sampled_from(["BOOT_ORDER", "BOOT_A_LEFT", "BOOT_B_LEFT", "BOOT_A_GOOD", "BOOT_B_GOOD"]),
        st.sampled_from(["", "A", "B", "A B", "B A", "C", "0", "1", "3", "9", "x", "-1"]),
    )
)
def test_the_next_slot_of_uboot(variables: dict[str, str]) -> None:
    disk = RIGS["uboot"].factory()
    pair = EnvironmentPair(disk, ENVIRONMENT, ENVIRONMENT_BYTES)
    pair.save(pair.demand(), Environment((b"bootcmd=x",)).having(variables))
    same_as_the_loader("uboot", disk)


@given(st.dictionaries(st.sampled_from(["a", "b", "a+3", "a+0-3", "b+1-2", "b+0-1"]), st.integers(1, 20), min_size=1))
def test_the_next_slot_of_systemd_boot(entries: dict[str, int]) -> None:
    by_slot = {name[0]: version for name, version in entries.items()}
    if len(set(by_slot.values())) < len(by_slot):
        return  # two slots of one version: we never write that
    disk = PowerDisk((ENTRIES.parents[1],))
    for name in entries:
        disk.put(ENTRIES / f"evsed-{name}.conf", TEMPLATE.format(slot=name[0], version=by_slot[name[0]]).encode())
    same_as_the_loader("sdboot", disk)


# --------------------------------------------------------------------------------------- raspberry pi


@pytest.mark.parametrize(
    ("text", "ordinary", "tryboot"),
    [
        ("[all]\ntryboot_a_b=1\nboot_partition=3\n[tryboot]\nboot_partition=2\n", "a", "b"),
        ("[all]\nboot_partition=3\n[tryboot]\nboot_partition=2\n", "a", "a"),  # it looks for tryboot.txt
        ("[none]\nboot_partition=3\n", "b", "b"),  # the first one that can boot
        ("[all]\ntryboot_a_b=1\nboot_partition=9\n", "b", "b"),
        ("#" * 513 + "\n[all]\nboot_partition=3\n", "b", "b"),  # it reads no longer file
        ("", "b", "b"),
    ],
)
def test_the_firmware_of_a_raspberry_pi(text: str, ordinary: str, tryboot: str) -> None:
    disk = PowerDisk()
    disk.put(AUTOBOOT, text.encode())
    firmware = PiFirmware(disk, AUTOBOOT, PARTITIONS)
    assert (firmware.boot(), firmware.boot(tryboot=True)) == (ordinary, tryboot)


def test_the_firmware_of_a_raspberry_pi_without_a_file() -> None:
    assert PiFirmware(PowerDisk(), AUTOBOOT, PARTITIONS).boot() == "b"


# --------------------------------------------------------------------------------------- systemd-boot


def entry(slot: str, **fields: str) -> bytes:
    lines = "".join(f"{key.replace('_', '-')} {value}\n" for key, value in fields.items())
    return f"linux /{slot}\noptions evsed.slot={slot}\n{lines}".encode()


@pytest.mark.parametrize(
    ("entries", "boots"),
    [
        ({"x": entry("a", sort_key="e", version="9"), "y": entry("b", sort_key="e", version="10")}, "b"),
        ({"x": entry("a", sort_key="e", version="1"), "y": entry("b", sort_key="f", version="2")}, "a"),
        ({"x": entry("a", sort_key="z"), "y": entry("b", version="9")}, "a"),  # with a sort-key first
        ({"x-1": entry("a"), "x-2": entry("b")}, "b"),  # without any, by name
        ({"x+0-3": entry("a", sort_key="e", version="9"), "y": entry("b", sort_key="e", version="1")}, "b"),
        ({"x+0-3": entry("a"), "y+0-3": entry("b")}, "b"),  # all used up: the first one all the same
        ({"x+2-1": entry("a"), "x+3": entry("b")}, "b"),
        ({"auto-x": entry("a"), ".x": entry("a"), "x": entry("b")}, "b"),
        ({"x": b"title nothing to load\n"}, None),
        ({}, None),
    ],
)
def test_which_entry_systemd_boot_takes(entries: dict[str, bytes], boots: str | None) -> None:
    disk = PowerDisk((Path("/esp"),))
    disk.put(ENTRIES / "README", b"")
    for name, content in entries.items():
        disk.put(ENTRIES / f"{name}.conf", content)
    assert SystemdBoot(disk, ENTRIES).boot() == boots


def test_the_counter_is_in_the_name() -> None:
    disk = PowerDisk((Path("/esp"),))
    disk.put(ENTRIES / "x+3.conf", entry("a"))
    seen = []
    for _ in range(5):
        assert SystemdBoot(disk, ENTRIES).boot() == "a"
        seen += disk.names(ENTRIES)
    assert seen == ["x+2-1.conf", "x+1-2.conf", "x+0-3.conf", "x+0-4.conf", "x+0-5.conf"]


@pytest.mark.parametrize(
    ("older", "newer"),
    [("9", "10"), ("1", "1.1"), ("1-1", "1.1"), ("1.a2", "1a"), ("a", "b"), ("a", "1"), ("", "1"), ("01", "2")],
)
def test_versions_are_compared_as_the_specification_says(older: str, newer: str) -> None:
    """What ``systemd-analyze compare-versions`` says of the same."""
    assert compare_versions(older, newer) < 0 < compare_versions(newer, older)
    assert compare_versions(newer, newer) == 0
