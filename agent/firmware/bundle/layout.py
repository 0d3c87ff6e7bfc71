"""The bundle file's skeleton: where header, manifest, signature block and payloads are.

Charter: fixed-width numbers, their caps, and the offsets that follow from them. Lengths are checked against the caps
before anything is read by them. All numbers are bytes; offsets count from the beginning of the file. Python's integers
have no width, so sizes over 2 or 4 GiB are ordinary numbers here.
Source: ``docs/bundle-format.md``, "Header".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from agent.firmware.errors import Refusal, UpdateRefused
from agent.firmware.manifest import ALIGN_BYTES

MAGIC: Final = b"EVSEDBDL"
FORMAT_VERSION: Final = 1
HEADER_BYTES: Final = 4096
MANIFEST_BYTES_MAX: Final = 8 * 1024 * 1024 - 1
"""A source hands out less than 8 MiB at once, and the manifest is read in one piece."""
SIGNATURES_BYTES_MAX: Final = 256 * 1024
BUNDLE_BYTES_MAX: Final = 1 << 40

_FIELDS: Final = struct.Struct("<8sHHIIQ")  # magic, format, flags, manifest, signature block, total size
_WHERE: Final = "header"


def align_up(offset: int) -> int:
    """The next multiple of 4096 that is not below ``offset``."""
    return -(-offset // ALIGN_BYTES) * ALIGN_BYTES


@dataclass(frozen=True, slots=True)
class Header:
    """The three lengths; everything else about the first 4096 bytes is fixed."""

    manifest_length: int
    signatures_length: int
    total_size: int

    @property
    def signatures_offset(self) -> int:
        return align_up(HEADER_BYTES + self.manifest_length)

    @property
    def payloads_min(self) -> int:
        """The first payload begins here or, where room for more signatures was left, later."""
        return align_up(self.signatures_offset + self.signatures_length)

    @property
    def payloads_max(self) -> int:
        """The first payload begins here at the latest: the signature block cannot outgrow its cap."""
        return self.signatures_offset + SIGNATURES_BYTES_MAX

    def encode(self) -> bytes:
        """The 4096 bytes."""
        lengths = (self.manifest_length, self.signatures_length, self.total_size)
        return _FIELDS.pack(MAGIC, FORMAT_VERSION, 0, *lengths).ljust(HEADER_BYTES, b"\0")


def parse_header(data: bytes, file_size: int | None) -> Header:
    """The header in the first 4096 bytes of a file of ``file_size``; None: of a file that is not there any more.
    Raises ``UpdateRefused``."""
    if len(data) < HEADER_BYTES:
        raise _malformed(_WHERE, f"the file has {len(data)} bytes and a header alone has {HEADER_BYTES}")
    magic, version, flags, manifest_length, signatures_length, total_size = _FIELDS.unpack_from(data)
    if magic != MAGIC:
        raise _malformed(f"{_WHERE}: magic", "this is not a bundle")
    if version != FORMAT_VERSION:
        why = f"format version {version}, this agent reads version {FORMAT_VERSION}"
        raise _malformed(f"{_WHERE}: format version", why, "make the bundle for this agent, or update the agent first")
    if flags != 0:
        raise _malformed(f"{_WHERE}: flags", f"{flags:#06x} where version {FORMAT_VERSION} knows none")
    if any(data[_FIELDS.size : HEADER_BYTES]):
        raise _malformed(f"{_WHERE}: reserve", "it is not all zero")
    _check_length("manifest length", manifest_length, MANIFEST_BYTES_MAX)
    _check_length("signature block length", signatures_length, SIGNATURES_BYTES_MAX)
    _check_length("total size", total_size, BUNDLE_BYTES_MAX)
    header = Header(manifest_length, signatures_length, total_size)
    if total_size <= header.payloads_min:
        raise _malformed(f"{_WHERE}: total size", f"{total_size} leaves no room for a payload")
    if file_size is not None and total_size != file_size:
        remedy = "fetch it again" if file_size < total_size else ""
        raise _malformed(f"{_WHERE}: total size", f"{total_size}, but the file has {file_size} bytes", remedy)
    return header


def _check_length(name: str, length: int, most: int) -> None:
    if length == 0:
        raise _malformed(f"{_WHERE}: {name}", "it is zero")
    if length > most:
        raise UpdateRefused(Refusal.TOO_LARGE, f"{_WHERE}: {name}", f"{length}, at most {most} are allowed")


def _malformed(where: str, why: str, remedy: str = "") -> UpdateRefused:
    return UpdateRefused(Refusal.MALFORMED, where, why, remedy)
