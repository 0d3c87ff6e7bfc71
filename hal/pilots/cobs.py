"""Consistent Overhead Byte Stuffing: frames without zero bytes, ended by one. Pure.

Charter: encode and decode one frame, and cut a byte stream into frames with bounded memory.
Source: Cheshire and Baker, "Consistent Overhead Byte Stuffing", IEEE/ACM ToN 7(2), 1999.
"""

from __future__ import annotations


class CobsError(ValueError):
    """Bytes that no COBS encoder produces."""


def encode(data: bytes) -> bytes:
    """``data`` without zero bytes; the ending zero is not included."""
    out = bytearray()
    for block in data.split(b"\x00"):
        while len(block) >= 254:
            out += b"\xff" + block[:254]
            block = block[254:]
        out += bytes([len(block) + 1]) + block
    return bytes(out)


def decode(frame: bytes) -> bytes:
    """What ``encode`` was given. Raises ``CobsError`` for a zero byte inside or a block cut short."""
    out = bytearray()
    at = 0
    while at < len(frame):
        code = frame[at]
        block = frame[at + 1 : at + code]
        if code == 0 or 0 in block or len(block) != code - 1:
            raise CobsError(f"bad block of code {code} at byte {at} of {len(frame)}")
        out += block
        at += code
        if code != 0xFF and at < len(frame):
            out.append(0)
    return bytes(out)


class Splitter:
    """Cuts a stream at zero bytes. A frame longer than ``max_bytes`` is dropped and counted."""

    def __init__(self, max_bytes: int) -> None:
        self.overruns = 0
        self._max_bytes = max_bytes
        self._frame = bytearray()
        self._skipping = False

    @property
    def unfinished(self) -> bool:
        """Whether bytes of a frame are held whose end has not come."""
        return bool(self._frame)

    def feed(self, data: bytes) -> list[bytes]:
        """The non-empty frames that ``data`` completes."""
        frames: list[bytes] = []
        *ended, tail = data.split(b"\x00")
        for part in ended:
            self._extend(part)
            if self._frame:
                frames.append(bytes(self._frame))
            self._frame.clear()
            self._skipping = False
        self._extend(tail)
        return frames

    def _extend(self, part: bytes) -> None:
        if self._skipping:
            return
        if len(self._frame) + len(part) > self._max_bytes:
            self.overruns += 1
            self._skipping = True
            self._frame.clear()
            return
        self._frame += part
