"""The simulated controller keeps a flash's rules and answers as a boot loader does: raw bytes, no driver."""

from __future__ import annotations

import pytest

from hal.sim.faults import Fault
from hal.sim.stm32_bootloader import FLASH_BASE, RAM_BASE, RAM_BYTES, Mode, PowerCut, SimFlash, SimStm32
from tests.unit.hal.stm32_bench import NEW, OLD, PAGES

ACK, NACK = b"\x79", b"\x1f"
AT_BASE = b"\x08\x00\x00\x00\x08"


def controller(flash: SimFlash, *, boot0: bool = True, empty_check: bool = True) -> tuple[SimStm32, bytearray]:
    sim = SimStm32(flash, empty_check=empty_check)
    told = bytearray()
    sim.tell = told.extend
    sim.set_pins(boot0=boot0, reset=False)
    sim.power_on()
    return sim, told


def said(sim: SimStm32, told: bytearray, *parts: bytes) -> bytes:
    told.clear()
    for part in parts:
        sim.hear(part)
    return bytes(told)


def test_flash_is_programmed_only_where_it_is_erased() -> None:
    flash = SimFlash(PAGES)
    assert flash.program(8, b"\x12" * 16)
    assert flash.content[:32] == b"\xff" * 8 + b"\x12" * 16 + b"\xff" * 8
    assert not flash.program(16, b"\x34" * 8)
    assert flash.program(16, bytes(8))  # zeros always go
    assert flash.erase(0)
    assert flash.content[:64] == b"\xff" * 64


@pytest.mark.parametrize(("at", "size"), [(-8, 8), (4, 8), (0, 4), (188, 8), (192, 8), (184, 16)])
def test_flash_is_programmed_in_whole_units_within_it(at: int, size: int) -> None:
    flash = SimFlash(PAGES)
    assert not flash.program(at, bytes(size))
    assert flash.steps == 0


def test_a_power_cut_leaves_what_was_done() -> None:
    flash = SimFlash(PAGES)
    flash.content[:64] = OLD[:64]
    flash.cut_after(2)
    with pytest.raises(PowerCut):
        flash.erase(0)
    assert flash.content[:64] == OLD[:48] + b"\xff" * 16  # from its end
    flash.cut_after(None)
    assert flash.erase(0)
    flash.cut_after(1)
    with pytest.raises(PowerCut):
        flash.program(0, OLD[:16])
    assert flash.content[:16] == OLD[:8] + b"\xff" * 8


def test_a_protected_page_changes_not_and_nobody_is_told() -> None:
    flash = SimFlash(PAGES)
    flash.content[:] = OLD
    flash.protected.add(1)
    assert flash.erase(1)
    assert flash.program(64, b"\x12" * 8)
    assert flash.content == OLD
    assert not flash.erase(len(PAGES))


@pytest.mark.parametrize(
    ("stack", "handler", "boot0", "empty_check", "mode"),
    [
        (RAM_BASE + RAM_BYTES, FLASH_BASE + 0x81, False, True, Mode.APPLICATION),
        (RAM_BASE + RAM_BYTES, FLASH_BASE + 0x81, True, True, Mode.BOOT_LOADER),
        (RAM_BASE, FLASH_BASE + 0x81, False, True, Mode.LOCKED),
        (RAM_BASE + 8, FLASH_BASE + 0x80, False, True, Mode.LOCKED),
        (RAM_BASE + 8, FLASH_BASE + sum(PAGES) + 1, False, True, Mode.LOCKED),
        (0xFFFF_FFFF, FLASH_BASE + 0x81, False, True, Mode.BOOT_LOADER),
        (0xFFFF_FFFF, FLASH_BASE + 0x81, False, False, Mode.LOCKED),
    ],
)
def test_what_happens_at_reset(stack: int, handler: int, boot0: bool, empty_check: bool, mode: Mode) -> None:
    flash = SimFlash(PAGES)
    flash.content[:8] = stack.to_bytes(4, "little") + handler.to_bytes(4, "little")
    sim, _ = controller(flash, boot0=boot0, empty_check=empty_check)
    assert sim.mode is mode
    assert len(sim.starts) == (mode is Mode.APPLICATION)
    sim.set_pins(boot0=boot0, reset=True)
    sim.set_pins(boot0=True, reset=False)
    assert sim.mode is Mode.BOOT_LOADER


def test_boot_loader_answers() -> None:
    flash = SimFlash(PAGES)
    flash.content[:] = OLD
    sim, told = controller(flash)
    assert said(sim, told, b"\x00\xff") == b""  # it waits for the byte to measure
    assert said(sim, told, b"\x7f") == ACK
    assert said(sim, told, b"\x7f") == b""
    assert said(sim, told, b"\x7f") == NACK
    assert said(sim, told, b"\x00\xfe") == NACK
    assert said(sim, told, b"\x55\xaa") == NACK
    assert said(sim, told, b"\x02\xfd") == ACK + b"\x01\x04\x60" + ACK
    assert said(sim, told, b"\x11\xee", AT_BASE, b"\x03\xfc") == ACK * 3 + OLD[:4]
    assert said(sim, told, b"\x11\xee", AT_BASE, b"\x03\xfd") == ACK * 2 + NACK
    assert said(sim, told, b"\x11\xee", b"\x08\x00\x00\x00\x09") == ACK + NACK
    assert said(sim, told, b"\x11\xee", b"\x09\x00\x00\x00\x09") == ACK + NACK
    assert said(sim, told, b"\x44\xbb", b"\x00\x00\x00\x04\x04") == ACK + NACK  # no such page
    assert said(sim, told, b"\x44\xbb", b"\x00\x00\x00\x00\x01") == ACK + NACK
    assert flash.content == OLD
    assert said(sim, told, b"\x44\xbb", b"\x00\x01\x00\x00\x00\x01\x00") == ACK * 2
    assert flash.content == b"\xff" * 96 + OLD[96:]
    assert said(sim, told, b"\x31\xce", AT_BASE, b"\x07" + NEW[:8] + b"\x00") == ACK * 2 + NACK
    assert said(sim, told, b"\x31\xce", AT_BASE, sealed(b"\x07" + NEW[:8])) == ACK * 3
    assert flash.content[:16] == NEW[:8] + b"\xff" * 8
    assert said(sim, told, b"\x21\xde", AT_BASE) == ACK * 2
    assert sim.mode is Mode.APPLICATION
    assert said(sim, told, b"\x00\xff") == b""


def test_faults() -> None:
    flash = SimFlash(PAGES)
    sim, told = controller(flash)
    said(sim, told, b"\x7f")
    sim.faults.set(Fault.REFUSE, count=1, param=2)
    answers = [
        said(sim, told, b"\x31\xce", AT_BASE[:3] + bytes((at, 8 ^ at)), sealed(b"\x07" + NEW[:8])) for at in (0, 8, 8)
    ]
    assert answers == [ACK * 3, ACK * 2 + NACK, ACK * 3]
    sim.faults.set(Fault.CORRUPT, count=1)
    assert said(sim, told, b"\x11\xee", AT_BASE, b"\x01\xfe") == ACK * 3 + bytes((NEW[0], NEW[1] ^ 0x10))
    sim.faults.set(Fault.GARBAGE, count=1)
    assert said(sim, told, b"\x11\xee", AT_BASE) == b"\xa5" + ACK
    sim.faults.set(Fault.SILENT)
    assert said(sim, told, b"\x00\xff") == b""


def sealed(data: bytes) -> bytes:
    check = 0
    for byte in data:
        check ^= byte
    return data + bytes((check,))
