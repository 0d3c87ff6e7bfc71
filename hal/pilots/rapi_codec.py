"""OpenEVSE RAPI frames: text <-> bytes. Pure.

Charter: checksum, sequence id, framing and typed frames of the serial protocol; not the meaning of
commands (``hal.pilots.openevse``).

Wire: ASCII, ``$`` text ``^XX`` CR. ``XX`` is the XOR of every byte from ``$`` up to, not including,
``^``. An optional last token ``:ss`` (hex, not 00) is echoed in the reply. The board's receive buffer
holds 32 bytes with ``$`` and CR, and it drops longer frames in silence.

Source: OpenEVSE/open_evse ``rapi_proc.h`` and ``rapi_proc.cpp``, RAPI 5.2.1.
Units: ampere (as on the wire).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import xor

MAX_COMMAND_BYTES = 32
_MAX_FRAME_BYTES = 96  # the longest reply is below 64
_START, _END = ord("$"), ord("\r")
_LINE_ENDS = b"\r\n"


@dataclass(frozen=True, slots=True)
class Reply:
    """``$OK`` or ``$NK``. ``sequence_id`` is None where the board could not read the command."""

    ok: bool
    fields: tuple[str, ...]
    sequence_id: int | None


@dataclass(frozen=True, slots=True)
class StateChange:
    """``$AT``: the board's state, the raw pilot's state, the amps offered, the volatile flags."""

    state: int
    pilot: int
    current_a: int
    vflags: int


@dataclass(frozen=True, slots=True)
class Boot:
    """``$AB``: the board has started. ``state`` is 0 where its self-tests passed."""

    state: int
    firmware: str


@dataclass(frozen=True, slots=True)
class Notice:
    """Any other notification (button, Wi-Fi request)."""

    name: str
    fields: tuple[str, ...]


Frame = Reply | StateChange | Boot | Notice


def checksum(text: bytes) -> int:
    """XOR over ``text``, which begins with ``$`` and ends before ``^``."""
    return reduce(xor, text, 0)


def command(text: str, sequence_id: int | None = None) -> bytes:
    """The wire form of a command such as ``SC 16 V``.

    Raises ``ValueError`` for what the board would not read: not ASCII, too long, control or framing
    characters, or a sequence id outside 1..255.
    """
    if sequence_id is not None and not 1 <= sequence_id <= 0xFF:
        raise ValueError(f"RAPI sequence id {sequence_id} is not 1..255")
    if not text or not text.isascii() or not text.isprintable() or set(text) & set("$^*:"):
        raise ValueError(f"RAPI command {text!r} has characters that the frame cannot carry")
    body = f"${text}" if sequence_id is None else f"${text} :{sequence_id:02X}"
    frame = f"{body}^{checksum(body.encode()):02X}\r".encode()
    if len(frame) > MAX_COMMAND_BYTES:
        raise ValueError(f"RAPI command {text!r} takes {len(frame)} bytes, the board reads {MAX_COMMAND_BYTES}")
    return frame


class RapiParser:
    """Turns what the board sends into frames. Noise is skipped up to the next ``$``.

    ``errors`` counts damaged frames and stretches of noise since the parser was made.
    """

    def __init__(self) -> None:
        self.errors = 0
        self._frame: bytearray | None = None  # None: outside a frame
        self._in_noise = False

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that ``data`` completes. Never raises for what arrived; holds one frame at most."""
        frames: list[Frame] = []
        for byte in data:
            if byte == _START:
                if self._frame is not None:
                    self.errors += 1  # the frame before this one never ended
                self._frame = bytearray([byte])
                self._in_noise = False
            elif self._frame is None:
                if byte not in _LINE_ENDS and not self._in_noise:
                    self.errors += 1
                    self._in_noise = True
            elif byte == _END:
                frame = _parse(bytes(self._frame))
                self._frame = None
                if frame is None:
                    self.errors += 1
                else:
                    frames.append(frame)
            elif len(self._frame) >= _MAX_FRAME_BYTES:
                self.errors += 1
                self._frame = None
                self._in_noise = True
            else:
                self._frame.append(byte)
        return frames


def _parse(frame: bytes) -> Frame | None:
    """One frame without its CR; None where it is damaged."""
    text, mark, check = frame.rpartition(b"^")
    if not mark or check != b"%02X" % checksum(text) or not text.isascii():
        return None
    name, *rest = text[1:].decode().split(" ")
    sequence_id = None
    if name in ("OK", "NK"):
        if rest and rest[-1].startswith(":"):
            sequence_id = _number(rest.pop()[1:], 16)
            if sequence_id is None:
                return None
        return Reply(name == "OK", tuple(rest), sequence_id)
    if name == "AT":
        return _state_change(rest)
    if name == "AB":
        state = _number(rest[0], 16) if len(rest) == 2 else None
        return None if state is None else Boot(state, rest[1])
    return Notice(name, tuple(rest))


def _state_change(fields: list[str]) -> StateChange | None:
    if len(fields) != 4:
        return None
    state, pilot, vflags = (_number(fields[at], 16) for at in (0, 1, 3))
    current_a = _number(fields[2], 10)
    if state is None or pilot is None or current_a is None or vflags is None:
        return None
    return StateChange(state, pilot, current_a, vflags)


def _number(text: str, base: int) -> int | None:
    """``int`` without its tolerance for signs, spaces and underscores."""
    digits = "0123456789abcdef"[:base]
    if not text or len(text) > 8 or set(text.lower()) - set(digits):
        return None
    return int(text, base)
