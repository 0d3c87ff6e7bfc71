"""Which slot runs, from the files that a kernel shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.firmware.errors import SlotFailed
from agent.firmware.selectors.booted import PiBoot, read_pi_boot, slot_of_command_line
from agent.sim.bootloaders import write_pi_device_tree

SLOTS = ("a", "b")


@pytest.mark.parametrize(
    ("line", "slot"),
    [
        (b"root=/dev/sda2 evsed.slot=b quiet\n", "b"),
        (b"evsed.slot=a", "a"),
        (b"evsed.slot=a evsed.slot=b\n", "b"),  # the last one, as the kernel does
        (b"evsed.slot=b evsed.slot=c\n", None),
        (b"evsed.slot=\n", None),
        (b"xevsed.slot=b evsed.slotb\n", None),
        (b"\xff\xfe evsed.slot=a \xff\n", "a"),
        (b"", None),
    ],
)
def test_slot_of_a_command_line(tmp_path: Path, line: bytes, slot: str | None) -> None:
    file = tmp_path / "cmdline"
    file.write_bytes(line)
    assert slot_of_command_line(file, SLOTS) == slot


def test_the_real_command_line_can_be_read() -> None:
    assert slot_of_command_line(Path("/proc/cmdline"), SLOTS) in (*SLOTS, None)


def test_no_command_line_is_named(tmp_path: Path) -> None:
    with pytest.raises(SlotFailed, match="mount /proc"):
        slot_of_command_line(tmp_path / "none", SLOTS)
    with pytest.raises(SlotFailed, match="directory"):
        slot_of_command_line(tmp_path, SLOTS)


@pytest.mark.parametrize("tryboot", [False, True])
def test_device_tree_of_a_raspberry_pi(tmp_path: Path, tryboot: bool) -> None:
    write_pi_device_tree(tmp_path / "bootloader", 3, tryboot=tryboot, built_at_s=1_669_334_400)
    assert read_pi_boot(tmp_path / "bootloader") == PiBoot(3, tryboot, 1_669_334_400)


@pytest.mark.parametrize("content", [b"", b"\0\0\3", b"\0\0\0\0\3", b"3\n"])
def test_a_property_of_another_shape_says_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "partition").write_bytes(content)
    assert read_pi_boot(tmp_path) == PiBoot(None, False, None)


def test_another_machine_has_no_such_node(tmp_path: Path) -> None:
    assert read_pi_boot(tmp_path / "none") == PiBoot(None, False, None)
