"""What an STM32's flash looks like, which image fits it, and in which order it is written. Pure.

Charter: the settings of one kind of controller, and the rules that follow from them. No I/O.

A Cortex-M starts what the first two words of its flash say: initial stack pointer and reset handler. These words,
widened to the flash's smallest unit, are the *head*. An application without head does not start, so the head is
erased first and written last, when everything else is there and was read back.

Sources: ARMv7-M and ARMv6-M architecture (vector table; bit 0 of the reset handler is set). Page sizes and
units are in each family's reference manual; they are settings here. None of it was tried on a device.
Units: bytes, milliseconds, bits per second. Addresses are the controller's own.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from hal.firmware import FirmwareFailed

VERSION_BYTES: Final = 64
"""The field of an application's version: printable ASCII and a zero byte, within so many bytes."""

_VECTORS: Final = struct.Struct("<II")  # initial stack pointer, reset handler
_RAM_BEGIN, _RAM_END = 0x1000_0000, 0x4000_0000  # all memory that a stack can be in, core-coupled RAM included
_MAX_FLASH_BYTES: Final = 4 * 1024 * 1024  # also the bound of what an image may take of our own memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Stm32Settings:
    """One controller and its port. Raises ``ValueError`` for what cannot be.

    ``chip_id``: what its boot loader must answer to Get ID. ``page_sizes``: of the erasable pages (sectors) in the
    order of their numbers, the first at ``flash_base``. ``unit_bytes``: what the flash programs at once (2 on F0, F1
    and F3, up to 4 on F2 and F4, 8 on G0, G4 and L4, 32 on H7). ``version_offset``: where an application
    carries its version; None where the version is known otherwise. ``erase_ms`` is for one page.
    """

    port: str
    chip_id: int
    page_sizes: tuple[int, ...]
    version_offset: int | None = None
    flash_base: int = 0x0800_0000
    unit_bytes: int = 8
    block_bytes: int = 256
    baud: int = 115_200
    sync_ms: int = 200
    reply_ms: int = 1_000
    write_ms: int = 2_000
    erase_ms: int = 10_000

    def __post_init__(self) -> None:
        if not 0 <= self.chip_id <= 0xFFFF:
            raise ValueError(f"chip_id: {self.chip_id:#x} has more than 16 bits")
        if self.unit_bytes not in (1, 2, 4, 8, 16, 32):
            raise ValueError(f"unit_bytes: must be 1, 2, 4, 8, 16 or 32, not {self.unit_bytes}")
        if not self.head_bytes <= self.block_bytes <= 256 or self.block_bytes % self.head_bytes:
            raise ValueError(f"block_bytes: must be a multiple of {self.head_bytes} up to 256, not {self.block_bytes}")
        if not self.page_sizes or any(size < 1 or size % self.block_bytes for size in self.page_sizes):
            raise ValueError(f"page_sizes: must be multiples of {self.block_bytes} (block_bytes)")
        if self.flash_bytes > _MAX_FLASH_BYTES:
            raise ValueError(f"page_sizes: together {self.flash_bytes}, at most {_MAX_FLASH_BYTES}")
        if not 0 <= self.flash_base <= 2**32 - self.flash_bytes:
            raise ValueError(f"flash_base: {self.flash_base:#x} leaves no room for {self.flash_bytes} bytes")
        last = self.flash_bytes - VERSION_BYTES
        if self.version_offset is not None and not self.head_bytes <= self.version_offset <= last:
            raise ValueError(f"version_offset: must be {self.head_bytes} to {last}, not {self.version_offset}")
        for name in ("sync_ms", "reply_ms", "write_ms", "erase_ms"):
            if not 1 <= getattr(self, name) <= 60_000:
                raise ValueError(f"{name}: must be 1 to 60000, not {getattr(self, name)}")

    @property
    def flash_bytes(self) -> int:
        return sum(self.page_sizes)

    @property
    def head_bytes(self) -> int:
        return max(_VECTORS.size, self.unit_bytes)


def is_application(head: bytes, settings: Stm32Settings) -> bool:
    """Whether a controller with this head in its flash starts something: stack in memory, handler in flash."""
    stack, handler = _VECTORS.unpack_from(head)
    in_flash = settings.flash_base <= handler < settings.flash_base + settings.flash_bytes
    return bool(_RAM_BEGIN <= stack < _RAM_END and stack % 4 == 0 and in_flash and handler & 1)


def version_text(field: bytes) -> str | None:
    """The version in a field that begins at ``version_offset``; None where there is none."""
    text, end, _ = field[:VERSION_BYTES].partition(b"\x00")
    if not end or not text or not all(0x20 < byte < 0x7F for byte in text):
        return None
    return text.decode("ascii")


def checked(image: bytes, settings: Stm32Settings) -> bytes:
    """The image, filled up with 0xFF to whole units. Raises ``FirmwareFailed`` for what cannot be meant."""
    base, end = settings.flash_base, settings.flash_base + settings.flash_bytes
    what = f"image of {len(image)} bytes"
    if len(image) > settings.flash_bytes:
        raise FirmwareFailed(what, f"the controller holds {settings.flash_bytes}", "is it for another controller?")
    if len(image) <= settings.head_bytes:
        raise FirmwareFailed(what, "nothing follows its vectors", "it must be the raw content of the flash")
    if not is_application(image, settings):
        raise FirmwareFailed(
            what,
            f"its first two words are no stack pointer and reset handler for a flash at {base:#x} to {end:#x}",
            "it must be the raw content of the flash (neither ELF nor hex), linked for its beginning",
        )
    offset = settings.version_offset
    if offset is not None and version_text(image[offset:]) is None:
        raise FirmwareFailed(what, f"no version at {offset:#x}", "it must be printable ASCII with a zero byte behind")
    return image + b"\xff" * (-len(image) % settings.unit_bytes)


def pages_of(size: int, settings: Stm32Settings) -> int:
    """How many pages, from the first one on, an image of so many bytes lies in."""
    count, room = 0, 0
    while room < size:
        room += settings.page_sizes[count]
        count += 1
    return count


def body_blocks(size: int, settings: Stm32Settings) -> list[slice]:
    """All of an image but its head, in the order it is written: the first page comes last."""
    first_page = min(settings.page_sizes[0], size)
    return [*_cut(first_page, size, settings), *_cut(settings.head_bytes, first_page, settings)]


def _cut(begin: int, end: int, settings: Stm32Settings) -> list[slice]:
    step = settings.block_bytes
    return [slice(at, min(at + step, end)) for at in range(begin, end, step)]
