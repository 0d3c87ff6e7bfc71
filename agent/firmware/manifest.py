"""What a bundle says of itself: the manifest's values. Pure data; reading and judging it is ``agent.firmware.bundle``.

Charter: one frozen class per table of the manifest. Sizes and offsets are bytes, offsets count from the beginning of
the bundle file. Hashes are SHA-256, as 32 raw bytes. Everything here was signed.
Source: firmware reference 1.5; format document ``docs/bundle-format.md``.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

ALIGN_BYTES: Final = 4096
CHUNK_BYTES_MIN: Final = 4096
CHUNK_BYTES_MAX: Final = 4 * 1024 * 1024
CHUNK_BYTES_DEFAULT: Final = 1024 * 1024


class PayloadType(enum.StrEnum):
    SLOT_IMAGE = "slot-image"  # the content of a slot, from its first byte
    FILES = "files"  # files that belong to the slot but live outside it
    MCU_FIRMWARE = "mcu-firmware"  # for the control pilot's microcontroller


class Compression(enum.StrEnum):
    NONE = "none"
    ZSTD = "zstd"  # each chunk is one frame of its own


@dataclass(frozen=True, slots=True)
class Chunk:
    """``sha256`` of the content as it is installed; ``stored_*`` as it stands in the file (the same where nothing
    is compressed)."""

    sha256: bytes
    stored_size: int
    stored_sha256: bytes


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a ``files`` payload: a relative path of plain names, at ``offset`` of the payload's content."""

    path: str
    offset: int
    size: int
    mode: int  # 0o444, 0o644, 0o555 or 0o755


@dataclass(frozen=True, slots=True)
class Payload:
    """``size`` is that of the content; every chunk but the last has ``chunk_size`` of it. ``target`` names the slot
    device, files folder or microcontroller in the device's configuration."""

    name: str
    type: PayloadType
    target: str
    offset: int
    size: int
    chunk_size: int
    compression: Compression
    chunks: tuple[Chunk, ...]
    files: tuple[FileEntry, ...] = ()
    version: str = ""  # of a microcontroller's firmware

    @property
    def stored_size(self) -> int:
        return sum(chunk.stored_size for chunk in self.chunks)

    def chunk_offsets(self) -> list[int]:
        """Where each chunk begins in the bundle file."""
        return list(accumulate((chunk.stored_size for chunk in self.chunks[:-1]), initial=self.offset))

    def chunk_length(self, index: int) -> int:
        """Content bytes of one chunk."""
        return min(self.chunk_size, self.size - index * self.chunk_size)


@dataclass(frozen=True, slots=True)
class Requires:
    """Minimum versions of what is on the device already; empty: none."""

    agent: str = ""
    bootloader: str = ""
    mcu: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """``built_ms``: when it was built and signed, UTC in ms since 1970. ``digest``: SHA-256 of the signed bytes, the
    bundle's identity. ``total_size``: of the whole file."""

    compatible: tuple[str, ...]
    hardware_min: int
    hardware_max: int
    version: str
    security_epoch: int
    built_ms: int
    requires: Requires
    payloads: tuple[Payload, ...]
    digest: bytes
    total_size: int
