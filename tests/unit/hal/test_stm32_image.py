"""Which images and settings are possible, and the order in which an image is written."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal.firmware import FirmwareFailed
from hal.firmware.stm32_image import (
    Stm32Settings,
    body_blocks,
    checked,
    is_application,
    pages_of,
    version_text,
)
from hal.sim.stm32_bootloader import FLASH_BASE, RAM_BASE
from tests.unit.hal.stm32_bench import NEW, OLD, PAGES, SETTINGS


def vectors(stack: int, handler: int) -> bytes:
    return stack.to_bytes(4, "little") + handler.to_bytes(4, "little")


@pytest.mark.parametrize(
    ("stack", "handler", "starts"),
    [
        (RAM_BASE + 0x2000, FLASH_BASE + 0x101 - 0x80, True),
        (0x1000_4000, FLASH_BASE + 9, True),  # core-coupled memory
        (RAM_BASE + 0x2000, FLASH_BASE + 0x80, False),  # no Thumb code
        (RAM_BASE + 0x2000, FLASH_BASE + sum(PAGES) + 1, False),
        (RAM_BASE + 0x2000, FLASH_BASE - 1, False),
        (RAM_BASE + 0x2001, FLASH_BASE + 0x81, False),
        (0xFFFF_FFFF, 0xFFFF_FFFF, False),  # erased
        (0, 0, False),  # overwritten
        (0x7F7F_7F7F, 0x7F7F_7F7F, False),  # sync bytes
        (RAM_BASE + 0x2000, 0x7F00_0081, False),  # the end of it is a sync byte
        (0x464C_457F, 0x0001_0101, False),  # an ELF file
        (0x3230_3A31, 0x3030_3030, False),  # a hex file
    ],
)
def test_what_a_controller_would_start(stack: int, handler: int, starts: bool) -> None:
    assert is_application(vectors(stack, handler), SETTINGS) is starts


@pytest.mark.parametrize(
    ("field", "version"),
    [
        (b"1.2.3\x00rest", "1.2.3"),
        (b"x\x00", "x"),
        (b"a" * 63 + b"\x00", "a" * 63),
        (b"a" * 64 + b"\x00", None),
        (b"1.2.3", None),
        (b"\x00", None),
        (b"", None),
        (b"\xff" * 64, None),
        (b"1 2\x00", None),
        (b"1.\xe9\x00", None),
    ],
)
def test_version_in_the_flash(field: bytes, version: str | None) -> None:
    assert version_text(field) == version


def test_an_image_is_filled_up_to_whole_units() -> None:
    assert checked(OLD, SETTINGS) == OLD
    assert checked(NEW, SETTINGS) == NEW + b"\xff" * 4


@pytest.mark.parametrize(
    ("image", "why"),
    [
        (b"", "nothing follows its vectors"),
        (OLD[:8], "nothing follows its vectors"),
        (OLD + b"\x00", "the controller holds 192"),
        (b"\x7fELF" + OLD[4:], "no stack pointer and reset handler"),
        (b"\xff" * 100, "no stack pointer and reset handler"),
        (OLD[:72], "no version at 0x48"),
        (OLD[:72] + b"\xff" * 20, "no version at 0x48"),
    ],
)
def test_an_image_that_cannot_be_meant_is_refused(image: bytes, why: str) -> None:
    with pytest.raises(FirmwareFailed, match=why):
        checked(image, SETTINGS)


@pytest.mark.parametrize(
    ("changed", "where"),
    [
        ({"chip_id": 0x10000}, "chip_id"),
        ({"unit_bytes": 3}, "unit_bytes"),
        ({"unit_bytes": 64}, "unit_bytes"),
        ({"block_bytes": 4}, "block_bytes"),
        ({"block_bytes": 12}, "block_bytes"),
        ({"block_bytes": 512}, "block_bytes"),
        ({"page_sizes": ()}, "page_sizes"),
        ({"page_sizes": (64, 0)}, "page_sizes"),
        ({"page_sizes": (100,)}, "page_sizes"),
        ({"page_sizes": (65_536,) * 65}, "page_sizes"),
        ({"flash_base": 0xFFFF_FFF0}, "flash_base"),
        ({"version_offset": 0}, "version_offset"),
        ({"version_offset": 150}, "version_offset"),
        ({"reply_ms": 0}, "reply_ms"),
        ({"erase_ms": 60_001}, "erase_ms"),
    ],
)
def test_impossible_settings_are_named(changed: dict[str, Any], where: str) -> None:
    possible: dict[str, Any] = {"port": "p", "chip_id": 0x460, "page_sizes": PAGES, "block_bytes": 32}
    Stm32Settings(**possible)
    with pytest.raises(ValueError, match=rf"^{where}"):
        Stm32Settings(**possible | changed)


@pytest.mark.parametrize(("size", "pages"), [(1, 1), (64, 1), (65, 2), (96, 2), (97, 3), (192, 4)])
def test_pages_of_an_image(size: int, pages: int) -> None:
    assert pages_of(size, SETTINGS) == pages


@given(size=st.integers(9, 2048), unit=st.sampled_from([1, 2, 4, 8, 16, 32]), first=st.sampled_from([256, 512]))
def test_every_byte_is_written_once_in_whole_units_and_the_first_page_last(size: int, unit: int, first: int) -> None:
    settings = Stm32Settings(port="p", chip_id=1, page_sizes=(first, 512, 1024, 256), unit_bytes=unit)
    size = min(size + -size % unit, settings.flash_bytes)
    blocks = body_blocks(size, settings)
    written = [at for block in blocks for at in range(block.start, block.stop)]
    assert sorted(written) == list(range(settings.head_bytes, size))
    assert all(0 < block.stop - block.start <= 256 and block.start % unit == block.stop % unit == 0 for block in blocks)
    in_first = [at < first for at in written]
    assert in_first == sorted(in_first)
