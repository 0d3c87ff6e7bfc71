"""Decoding and read planning of meter register maps: worked frames as vectors, rules as properties."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal.meters.map_file import load_map
from hal.meters.registers import (
    FORMATS,
    Quantity,
    ReadBlock,
    Register,
    RegisterMap,
    RegisterMapError,
    decode_reading,
    decode_serial,
    plan_blocks,
)
from hal.ports import BadReply

MAPS = ("eastron_sdm630", "eastron_sdm72")


def words_of(frame: str) -> list[int]:
    """The registers of a reply frame of function 3 or 4."""
    data = bytes.fromhex(frame)[3:-2]
    return list(struct.unpack(f">{len(data) // 2}H", data))


def register(kind: str, *, order: str = "big", port_units: int = 1, divide: int = 1) -> Register:
    return Register(4, 0, kind, order, port_units, divide)


# --------------------------------------------------------------------------------------- one value


def test_worked_reply_of_an_eastron_import_register() -> None:
    value = register("f32", port_units=1_000_000).unpack(words_of("01 04 04 44 9A 50 00 F3 5B"))
    assert value == 1_234_500_000


def test_worked_reply_of_a_scaled_64_bit_import_register() -> None:
    value = register("u64", port_units=1_000_000, divide=100).unpack(words_of("01 03 08 00 00 00 00 00 01 E2 40 8D 47"))
    assert value == 1_234_560_000


def test_least_significant_word_first() -> None:
    assert register("s32", order="little", port_units=1_000, divide=10).unpack([0x08FD, 0x0000]) == 230_100


def test_negative_integers() -> None:
    assert register("s16").unpack([0xFFFE]) == -2
    assert register("s32", order="little").unpack([0xFFFE, 0xFFFF]) == -2


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("u16", [0xFFFF]),
        ("s16", [0x7FFF]),
        ("u32", [0xFFFF, 0xFFFF]),
        ("s32", [0x7FFF, 0xFFFF]),
        ("u64", [0xFFFF] * 4),
        ("s64", [0x7FFF, 0xFFFF, 0xFFFF, 0xFFFF]),
        ("f32", [0x7FC0, 0x0000]),  # NaN
        ("f32", [0x7F80, 0x0000]),  # infinity
        ("f32", [0xFF80, 0x0000]),  # minus infinity
    ],
)
def test_not_available_marks_are_absent(kind: str, words: list[int]) -> None:
    assert register(kind).unpack(words) is None
    assert register(kind).unpack(register(kind).pack(None)) is None


@given(kwh=st.floats(min_value=0, max_value=1e7, width=32))
def test_a_float32_energy_decodes_exactly_and_rounds_once(kwh: float) -> None:
    bits = struct.unpack(">HH", struct.pack(">f", kwh))
    value = register("f32", port_units=1_000_000).unpack(bits)
    assert value == Fraction(kwh) * 1_000_000


@given(
    kind=st.sampled_from(["u16", "s16", "u32", "s32", "u64", "s64"]),
    order=st.sampled_from(["big", "little"]),
    data=st.data(),
)
def test_integers_survive_the_way_through_the_words(kind: str, order: str, data: st.DataObject) -> None:
    bits = 8 * struct.calcsize(FORMATS[kind])
    low, high = (0, 2**bits - 2) if kind[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 2)
    raw = data.draw(st.integers(low, high))
    each = register(kind, order=order, port_units=1_000, divide=10)
    assert each.unpack(each.pack(raw * 100)) == raw * 100


def test_serial_numbers() -> None:
    each = register("u32")
    assert decode_serial(each, [0x00BC, 0x614E]) == "12345678"
    assert decode_serial(each, [0, 0]) is None
    assert decode_serial(each, [0xFFFF, 0xFFFF]) is None


# ------------------------------------------------------------------------------------ whole reading


def block_words(meter: RegisterMap, changed: dict[Quantity, Sequence[int]]) -> dict[ReadBlock, list[int]]:
    """Plausible words for every block of the plan, with some registers replaced."""
    usual: dict[str, int] = {"voltage": 230_000, "current": 10_000, "frequency": 50_000, "power": 6_900_000}
    words = {block: [0] * block.count for block in plan_blocks(meter)}
    for quantity, each in meter.quantities.items():
        data = changed.get(quantity) or each.pack(usual.get(quantity.partition("_")[0], 1_234_500_000))
        block = next(block for block in words if block.holds(each))
        words[block][each.address - block.address : each.end - block.address] = data
    return words


@pytest.mark.parametrize("name", MAPS)
def test_a_whole_reading(name: str) -> None:
    meter = load_map(name)
    reading = decode_reading("m", meter, block_words(meter, {}), serial="42", at_ms=7)
    assert (reading.at_ms, reading.serial) == (7, "42")
    assert (reading.energy_import_mwh, reading.energy_export_mwh) == (1_234_500_000, 1_234_500_000)
    assert reading.power_mw == 6_900_000
    assert reading.voltage_mv == (230_000,) * 3
    assert reading.current_ma == (10_000,) * 3
    assert reading.frequency_mhz == 50_000


def test_values_are_rounded_not_cut() -> None:
    meter = load_map("eastron_sdm630")
    words = block_words(meter, {Quantity.ENERGY_IMPORT: struct.unpack(">HH", struct.pack(">f", 0.7))})
    assert decode_reading("m", meter, words, serial="42", at_ms=0).energy_import_mwh == 700_000  # 0.69999998... kWh


NAN = [0x7FC0, 0x0000]


def test_what_is_not_available_is_absent_not_a_number() -> None:
    meter = load_map("eastron_sdm630")
    words = block_words(meter, {Quantity.FREQUENCY: NAN, Quantity.VOLTAGE_L2: NAN, Quantity.ENERGY_EXPORT: NAN})
    reading = decode_reading("m", meter, words, serial="42", at_ms=0)
    assert reading.frequency_mhz is None
    assert reading.voltage_mv == (230_000, None, 230_000)
    assert reading.energy_export_mwh is None


@pytest.mark.parametrize("quantity", [Quantity.ENERGY_IMPORT, Quantity.POWER])
def test_no_reading_without_energy_and_power(quantity: Quantity) -> None:
    meter = load_map("eastron_sdm630")
    with pytest.raises(BadReply, match=f"m: {quantity} is not available"):
        decode_reading("m", meter, block_words(meter, {quantity: NAN}), serial="42", at_ms=0)


@pytest.mark.parametrize("quantity", list(Quantity))
@pytest.mark.parametrize("value", [-1e9, 3e38])
def test_impossible_values_are_refused_by_name(quantity: Quantity, value: float) -> None:
    meter = load_map("eastron_sdm630")
    words = block_words(meter, {quantity: struct.unpack(">HH", struct.pack(">f", value))})
    with pytest.raises(BadReply, match=f"{quantity} .* is outside"):
        decode_reading("m", meter, words, serial="42", at_ms=0)


@given(data=st.data())
def test_any_words_give_a_reading_within_bounds_or_a_bad_reply(data: st.DataObject) -> None:
    meter = load_map("eastron_sdm630")
    words = {
        block: data.draw(st.lists(st.integers(0, 0xFFFF), min_size=block.count, max_size=block.count))
        for block in plan_blocks(meter)
    }
    try:
        reading = decode_reading("m", meter, words, serial="42", at_ms=0)
    except BadReply:
        return
    assert reading.energy_import_mwh >= 0
    assert all(each is None or 0 <= each <= 400_000 for each in reading.voltage_mv)


# ----------------------------------------------------------------------------------------- planning


def test_plans_read_the_eastron_meters_in_two_short_blocks() -> None:
    for name in MAPS:
        assert plan_blocks(load_map(name)) == (ReadBlock(4, 0x0000, 12), ReadBlock(4, 0x0034, 24))


@st.composite
def meter_maps(draw: st.DrawFn) -> RegisterMap:
    """Maps with any layout of non-overlapping registers over both tables."""
    registers = {}
    address = {3: 0, 4: 0}
    for quantity in draw(st.lists(st.sampled_from(list(Quantity)), min_size=1, unique=True)):
        function = draw(st.sampled_from([3, 4]))
        kind = draw(st.sampled_from(sorted(FORMATS)))
        each = Register(function, address[function] + draw(st.integers(0, 60)), kind, "big")
        registers[quantity] = each
        address[function] = each.end
    serial = draw(st.none() | st.just(Register(3, 0xFC00, "u32", "big")))
    return RegisterMap("drawn", "m", "s", draw(st.integers(4, 125)), 1, registers, serial)


@given(meter=meter_maps())
def test_every_plan_covers_all_registers_within_the_limit_in_blocks_of_different_length(meter: RegisterMap) -> None:
    try:
        blocks = plan_blocks(meter)
    except RegisterMapError as error:
        assert "drawn: max_registers" in str(error)
        return
    for each in meter.quantities.values():
        assert sum(block.holds(each) for block in blocks) == 1
    assert all(1 <= block.count <= meter.max_registers for block in blocks)
    lengths = [(block.function, block.count) for block in blocks]
    if meter.serial is not None:
        lengths.append((meter.serial.function, meter.serial.width))
    assert len(set(lengths)) == len(lengths)


def test_a_map_that_cannot_be_read_in_different_lengths_is_refused() -> None:
    far_apart = {
        quantity: Register(3, 0x100 * index, "u32", "big") for index, quantity in enumerate(list(Quantity)[:2])
    }
    with pytest.raises(RegisterMapError, match="different lengths"):
        plan_blocks(RegisterMap("far", "m", "s", 2, 1, far_apart, None))


def test_a_short_hole_is_read_through_and_a_long_one_is_not() -> None:
    def plan(second: int) -> list[int]:
        registers = {
            Quantity.POWER: Register(3, 0, "u32", "big"),
            Quantity.ENERGY_IMPORT: Register(3, second, "u64", "big"),
        }
        return [block.count for block in plan_blocks(RegisterMap("hole", "m", "s", 125, 1, registers, None))]

    assert plan(20) == [24]
    assert plan(23) == [2, 4]


def test_pack_is_what_a_float32_can_hold() -> None:
    each = register("f32", port_units=1_000_000)
    # 123456.789012 kWh: the nearest float32 is a multiple of 1/128 kWh.
    assert each.unpack(each.pack(123_456_789_012)) == Fraction(15_802_469, 128) * 1_000_000
