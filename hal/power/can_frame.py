"""One CAN 2.0 data frame, as drivers, buses and simulators pass it around.

Charter: a value type only. No error frames, remote frames or CAN FD: no power module uses them.
Source: ISO 11898-1 (11-bit and 29-bit identifiers, at most 8 data bytes).
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_STANDARD_ID = 0x7FF
MAX_EXTENDED_ID = 0x1FFF_FFFF
MAX_DATA_BYTES = 8


@dataclass(frozen=True, slots=True)
class CanFrame:
    """``id`` is 29 bits wide, or 11 where ``extended`` is false. Raises ``ValueError`` outside that."""

    id: int
    data: bytes
    extended: bool = True

    def __post_init__(self) -> None:
        highest = MAX_EXTENDED_ID if self.extended else MAX_STANDARD_ID
        if not 0 <= self.id <= highest:
            raise ValueError(f"CAN id {self.id:#x} is outside 0..{highest:#x}")
        if len(self.data) > MAX_DATA_BYTES:
            raise ValueError(f"CAN frame {self.id:#x} has {len(self.data)} data bytes, at most {MAX_DATA_BYTES} fit")

    def __str__(self) -> str:
        return f"{self.id:0{8 if self.extended else 3}X}#{self.data.hex().upper()}"
