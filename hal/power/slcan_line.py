"""The serial-line CAN text (Lawicel, "slcan"): frames to lines and back, and the cutting of a byte stream.

Charter: pure text work for both ends, our port and the simulated adapter. No I/O.

A line ends with CR; the adapter's "no" is a single BEL. Data frames are ``t`` + 3 hex digits of id or
``T`` + 8, one digit of length, then the data in hex. An adapter with time stamps on adds 4 digits.
Source: Lawicel CAN232 manual, the command set that CANable and the Linux ``slcan`` driver share.
"""

from __future__ import annotations

from hal.ports import BadReply
from hal.power.can_frame import MAX_DATA_BYTES, CanFrame

CR = b"\r"
BELL = b"\a"

# S codes of the open sequence, bit/s.
BITRATE_CODES = {
    10_000: "S0",
    20_000: "S1",
    50_000: "S2",
    100_000: "S3",
    125_000: "S4",
    250_000: "S5",
    500_000: "S6",
    800_000: "S7",
    1_000_000: "S8",
}

_MAX_LINE_BYTES = 64  # the longest legal line is 31 bytes
_TIMESTAMP_DIGITS = 4
_HEX_DIGITS = frozenset(b"0123456789ABCDEFabcdef")


def encode_frame(frame: CanFrame) -> bytes:
    """The line that carries this frame, CR included."""
    head = f"T{frame.id:08X}" if frame.extended else f"t{frame.id:03X}"
    return f"{head}{len(frame.data)}{frame.data.hex().upper()}\r".encode()


def is_frame(line: bytes) -> bool:
    """Whether the line claims to be a data frame; other lines are answers to commands."""
    return line[:1] in (b"t", b"T")


def decode_frame(line: bytes) -> CanFrame:
    """The frame in a line (without its CR). Raises ``BadReply`` for anything that is not exactly one."""
    extended = line[:1] == b"T"
    id_end = 9 if extended else 4
    digits = line[1:]
    if not is_frame(line) or len(line) <= id_end or not _HEX_DIGITS.issuperset(digits):
        raise BadReply("slcan", f"not a data frame: {line[:_MAX_LINE_BYTES]!r}")
    length = int(line[id_end : id_end + 1], 16)
    data_end = id_end + 1 + 2 * length
    if length > MAX_DATA_BYTES or len(line) not in (data_end, data_end + _TIMESTAMP_DIGITS):
        raise BadReply("slcan", f"length digit does not fit the line: {line[:_MAX_LINE_BYTES]!r}")
    try:
        return CanFrame(int(line[1:id_end], 16), bytes.fromhex(line[id_end + 1 : data_end].decode()), extended)
    except ValueError as error:
        raise BadReply("slcan", str(error)) from error


class LineCutter:
    """Cuts a byte stream into lines. A line that outgrows the limit is thrown away up to its end."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._overlong = False
        self.dropped = 0  # overlong lines so far

    def feed(self, data: bytes) -> list[bytes]:
        """Complete lines, without their CR. A BEL ends what came before it and is a line ``b"\\a"``."""
        lines: list[bytes] = []
        for byte in data:
            if byte == CR[0]:
                self._end_line(lines)
            elif byte == BELL[0]:
                self._line.clear()
                self._overlong = False
                lines.append(BELL)
            elif len(self._line) < _MAX_LINE_BYTES:
                self._line.append(byte)
            else:
                self._overlong = True
        return lines

    def _end_line(self, lines: list[bytes]) -> None:
        if self._overlong:
            self.dropped += 1
        else:
            lines.append(bytes(self._line))
        self._line.clear()
        self._overlong = False
