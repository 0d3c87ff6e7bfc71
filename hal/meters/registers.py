"""Modbus registers of a meter: what they hold, which blocks to read, what the words mean. Pure.

Charter: a ``RegisterMap`` says which registers hold which quantity (``map_file`` reads it from TOML);
this module plans the reads and turns the words of one poll into a ``MeterReading``. No I/O, no clock.

Exactness: values are decoded as exact fractions and rounded once, half to even, to the port's
integers. A float32 register in kWh therefore gives the exact milliwatt-hours its bits say.

Absent: NaN, infinities, and the "not available" marks of integer meters (unsigned all ones, signed
7FFF...) decode to None. A value outside the map's bounds is ``BadReply``: no such reading exists.

Addresses are wire addresses, 0-based. Source: Modbus Application Protocol V1.1b3 sections 6.3, 6.4.
"""

from __future__ import annotations

import enum
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from hal.ports import BadReply, MeterReading

# What one more request costs, in registers of transmission time: 13 bytes of frame and some 25 ms of
# turnaround are about 20 registers at 9600 baud. A hole shorter than this is read through.
_REQUEST_COST_REGISTERS = 20

# Type -> struct format, most significant word first.
FORMATS = {"u16": ">H", "s16": ">h", "u32": ">I", "s32": ">i", "u64": ">Q", "s64": ">q", "f32": ">f"}


TEXT = "chars"  # the type of a serial number in ASCII, two characters per register


class RegisterMapError(ValueError):
    """A register map is wrong. The text names the map and the key."""


class Quantity(enum.StrEnum):
    """What a register can hold; the map's keys."""

    ENERGY_IMPORT = "energy_import"
    ENERGY_EXPORT = "energy_export"
    POWER = "power"  # positive: import
    VOLTAGE_L1 = "voltage_l1"
    VOLTAGE_L2 = "voltage_l2"
    VOLTAGE_L3 = "voltage_l3"
    CURRENT_L1 = "current_l1"
    CURRENT_L2 = "current_l2"
    CURRENT_L3 = "current_l3"
    FREQUENCY = "frequency"


@dataclass(frozen=True, slots=True)
class Register:
    """One value in the meter.

    ``raw / divide`` is the value in the map's unit, and ``port_units`` (mWh, mW, mV, mA, mHz) make one
    of that unit. ``low`` and ``high`` bound the value, in port units.
    """

    function: int  # 3 holding, 4 input
    address: int
    type: str
    word_order: str  # "big": most significant word first; "little": least significant word first
    port_units: int = 1
    divide: int = 1
    low: Fraction = Fraction(0)
    high: Fraction = Fraction(1 << 64)
    text_registers: int = 0  # length of a "chars" register, which is always big-endian

    @property
    def width(self) -> int:
        """Length in registers."""
        return self.text_registers or struct.calcsize(FORMATS[self.type]) // 2

    @property
    def end(self) -> int:
        """First address after it."""
        return self.address + self.width

    def unpack(self, words: Sequence[int]) -> Fraction | None:
        """The value in port units from exactly ``width`` words; None where it is not available."""
        ordered = words if self.word_order == "big" else words[::-1]
        raw = struct.unpack(FORMATS[self.type], struct.pack(f">{self.width}H", *ordered))[0]
        if self.type == "f32":
            absent = not math.isfinite(raw)
        else:
            bits = 16 * self.width
            absent = raw == ((1 << bits) - 1 if self.type.startswith("u") else (1 << (bits - 1)) - 1)
        return None if absent else Fraction(raw) * self.port_units / self.divide

    def pack(self, value: int | None) -> tuple[int, ...]:
        """The words that hold ``value`` (port units) as nearly as the type can; None: not available.

        Raises ``struct.error`` or ``OverflowError`` where the type cannot hold it.
        """
        raw: float
        if self.type == "f32":
            raw = math.nan if value is None else float(Fraction(value) * self.divide / self.port_units)
        elif value is None:
            raw = (1 << 16 * self.width) - 1 if self.type.startswith("u") else (1 << (16 * self.width - 1)) - 1
        else:
            raw = round(Fraction(value) * self.divide / self.port_units)
        words: tuple[int, ...] = struct.unpack(f">{self.width}H", struct.pack(FORMATS[self.type], raw))
        return words if self.word_order == "big" else words[::-1]


@dataclass(frozen=True, slots=True)
class RegisterMap:
    """One meter family. ``energy_import`` and ``power`` are always among the quantities."""

    name: str
    model: str
    source: str  # the document or code the addresses come from
    max_registers: int  # per read
    energy_step_mwh: int  # how coarsely the energy registers advance
    quantities: Mapping[Quantity, Register]
    serial: Register | None


@dataclass(frozen=True, slots=True)
class ReadBlock:
    """One read request: ``count`` registers from ``address`` with function 3 or 4."""

    function: int
    address: int
    count: int

    def holds(self, register: Register) -> bool:
        return (
            register.function == self.function
            and self.address <= register.address
            and register.end <= self.address + self.count
        )


Words = Mapping[ReadBlock, Sequence[int]]  # what one poll brought: the words of each block


# ----------------------------------------------------------------------------------------- planning


def plan_blocks(meter: RegisterMap) -> tuple[ReadBlock, ...]:
    """The cheapest reads that bring every quantity of the map, no two of the same length.

    RTU has no transaction number, so a late reply can only be told from the awaited one by its unit,
    function and length: different lengths make every mix-up visible. The serial number's read counts
    as one of them. Raises ``RegisterMapError`` where the map's limit makes this impossible.
    """
    blocks: list[ReadBlock] = []
    for function in (3, 4):
        wanted = sorted(
            (each for each in meter.quantities.values() if each.function == function), key=lambda each: each.address
        )
        taken = {meter.serial.width} if meter.serial is not None and meter.serial.function == function else set()
        best = _cheapest(wanted, meter.max_registers, frozenset(taken))
        if best is None:
            raise RegisterMapError(
                f"{meter.name}: max_registers {meter.max_registers} leaves no way to read with different lengths"
            )
        blocks.extend(best)
    return tuple(blocks)


def _cheapest(wanted: list[Register], longest: int, taken: frozenset[int]) -> list[ReadBlock] | None:
    """Split ``wanted`` (in address order) into blocks of lengths not in ``taken``, at least cost.

    Tries every split: there are at most ten quantities.
    """
    if not wanted:
        return []
    first = wanted[0]
    best: list[ReadBlock] | None = None
    for upto, last in enumerate(wanted, start=1):
        block = ReadBlock(first.function, first.address, last.end - first.address)
        if block.count > longest:
            break
        if block.count in taken:
            continue
        rest = _cheapest(wanted[upto:], longest, taken | {block.count})
        if rest is not None and (best is None or _cost([block, *rest]) < _cost(best)):
            best = [block, *rest]
    return best


def _cost(blocks: list[ReadBlock]) -> int:
    return sum(_REQUEST_COST_REGISTERS + block.count for block in blocks)


# ----------------------------------------------------------------------------------------- decoding


def decode_reading(device: str, meter: RegisterMap, words: Words, *, serial: str, at_ms: int) -> MeterReading:
    """Turn the words of one poll into a reading.

    Raises ``BadReply`` naming the quantity for a value outside its bounds, and where a quantity that no
    reading can do without (import energy, power) is not available.
    """
    values = {quantity: _value(device, quantity, register, words) for quantity, register in meter.quantities.items()}

    def needed(quantity: Quantity) -> int:
        value = values[quantity]
        if value is None:
            raise BadReply(device, f"{quantity} is not available")
        return value

    return MeterReading(
        at_ms=at_ms,
        serial=serial,
        energy_import_mwh=needed(Quantity.ENERGY_IMPORT),
        energy_export_mwh=values.get(Quantity.ENERGY_EXPORT),
        power_mw=needed(Quantity.POWER),
        voltage_mv=(
            values.get(Quantity.VOLTAGE_L1),
            values.get(Quantity.VOLTAGE_L2),
            values.get(Quantity.VOLTAGE_L3),
        ),
        current_ma=(
            values.get(Quantity.CURRENT_L1),
            values.get(Quantity.CURRENT_L2),
            values.get(Quantity.CURRENT_L3),
        ),
        frequency_mhz=values.get(Quantity.FREQUENCY),
    )


def _value(device: str, quantity: Quantity, register: Register, words: Words) -> int | None:
    block = next(block for block in words if block.holds(register))
    offset = register.address - block.address
    value = register.unpack(words[block][offset : offset + register.width])
    if value is None:
        return None
    if not register.low <= value <= register.high:
        raise BadReply(device, f"{quantity} {float(value):.6g} is outside {register.low} to {register.high}")
    return round(value)


def decode_serial(register: Register, words: Sequence[int]) -> str | None:
    """The serial number as decimal digits or as the text it is; None where the meter has none.

    None is told as zero, all ones, or text that is empty or not printable.
    """
    if register.type == TEXT:
        data = b"".join(word.to_bytes(2) for word in words).partition(b"\0")[0].strip()
        return data.decode("ascii") if data.isascii() and data.decode("ascii").isprintable() and data else None
    value = register.unpack(words)
    return None if value is None or value == 0 else str(value)
