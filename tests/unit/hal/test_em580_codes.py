"""The EM580's registers: what is written for a request, and which bytes count as a record or a key."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal.meters import em580_codes as codes
from hal.meters.em580 import MAP_NAME, Em580
from hal.meters.map_file import load_map
from hal.meters.modbus_line import ModbusLine
from hal.meters.modbus_meter import ModbusMeterConfig
from hal.meters.registers import Register, decode_serial, plan_blocks
from hal.ports import BadReply, RecordFailed, RecordFault, RecordRequest
from hal.sim.em580 import READY, SimEm580
from hal.sim.meter import with_crc

REQUEST = RecordRequest(
    True, "SECURE", ("ISO15118_PNC", "OCPP_CERTIFIED"), "EMAID", "DEABC", "T1", "CBIDC", "CB1", 1_782_000_000_000, 60
)
RECORD = b'OCMF|{"FV":"1.0","TT":"a}b","RD":[{"RV":1.0}]}|{"SA":"x","SD":"00"}'


def words_of(data: bytes) -> list[int]:
    data += b"\0" * (len(data) % 2)
    return [int.from_bytes(data[at : at + 2]) for at in range(0, len(data), 2)]


# ------------------------------------------------------------------------------------------ writing


def test_a_request_as_register_writes() -> None:
    assert codes.request_writes("meter", REQUEST) == [
        (0x7000, (1,)),
        (0x7001, (5,)),
        (0x7002, (0, 7, 1, 0)),
        (0x7006, (20,)),
        (0x7007, (0x4445, 0x4142, 0x4300)),
        (0x701B, (1,)),
        (0x701C, (0x4342, 0x3100)),
        (0x6900, (0x5431, 0x0000)),
        (0x7036, (0,)),
    ]


def test_the_clock_as_register_writes() -> None:
    # 1 782 000 000 is 6A37 2980 in hexadecimal; least significant word first.
    assert codes.clock_writes(1_782_000_000, -90) == [(0x7031, (0xFFA6,)), (0x7032, (0x2980, 0x6A37, 0, 0))]


def test_the_longest_tariff_text_needs_two_writes() -> None:
    writes = codes.request_writes("meter", dataclasses.replace(REQUEST, tariff_text="t" * 251))
    tariff = [(address, len(words)) for address, words in writes if 0x6900 <= address < 0x6A00]
    assert tariff == [(0x6900, 123), (0x697B, 3)]


@pytest.mark.parametrize(
    "changes",
    [
        {"id_level": "GOOD"},
        {"id_type": "RFID"},
        {"id_flags": ("RFID_PLAIN", "RFID_PSK")},
        {"id_flags": ("NFC_PLAIN",)},
        {"point_id_type": "SERIAL"},
        {"id_data": "x" * 40},
        {"point_id": "x" * 40},
        {"tariff_text": "x" * 252},
        {"tariff_text": "a|b"},
        {"tariff_text": "0,50 €"},
        {"id_data": "a\0b"},
    ],
)
def test_what_does_not_fit_the_meter_is_told(changes: dict[str, object]) -> None:
    with pytest.raises(RecordFailed) as caught:
        codes.request_writes("meter", dataclasses.replace(REQUEST, **changes))  # type: ignore[arg-type]
    assert caught.value.reason is RecordFault.TEXT


# ------------------------------------------------------------------------------------------ reading


@given(st.integers(1, codes.FILE_MAX_REGISTERS))
def test_the_pieces_of_a_file_cover_it_and_differ_from_their_neighbours(size: int) -> None:
    reads = codes.file_reads(size)
    assert reads[0][0] == codes.FILE
    assert all(address + count == following for (address, count), (following, _) in pairwise(reads))
    assert reads[-1][0] + reads[-1][1] == codes.FILE + size
    assert all(1 <= count <= 125 for _, count in reads)
    assert all(count != following for (_, count), (_, following) in pairwise(reads))


def test_no_part_of_a_record_passes_for_a_whole_one() -> None:
    assert codes.file_text("meter", words_of(RECORD)) == RECORD
    for end in range(len(RECORD)):
        with pytest.raises(BadReply):
            codes.file_text("meter", words_of(RECORD[:end]))
        with pytest.raises(BadReply):
            codes.file_text("meter", words_of(RECORD[end + 1 :]))


@pytest.mark.parametrize("hole", [b"\0", b"\0\0", b"|"])
def test_a_record_with_a_hole_or_a_bar_too_many_is_none(hole: bytes) -> None:
    with pytest.raises(BadReply):
        codes.file_text("meter", words_of(RECORD[:20] + hole + RECORD[20:]))


def test_only_zeros_that_end_the_text_are_taken_away() -> None:
    spaced = RECORD.replace(b",", b" ,\r\n")
    assert codes.file_text("meter", words_of(spaced + b"\0" * 40)) == spaced


@pytest.mark.parametrize(("length", "block"), [(91, 46), (92, 46), (124, 62)])
def test_a_key_is_as_long_as_its_header_says(length: int, block: int) -> None:
    der = bytes((0x30, length - 2)) + b"\1" * (length - 2)
    words = words_of(der)
    assert len(words) == block
    assert codes.key_der("meter", words) == der
    for wrong in (b"\x31" + der[1:], bytes((0x30, length)) + der[2:], bytes((0x30, 20)) + der[2:], bytes(length)):
        with pytest.raises(BadReply, match="no DER"):
            codes.key_der("meter", words_of(wrong))


# ------------------------------------------------------------------------------------------- the rest


def test_the_live_map_reads_blocks_of_different_lengths() -> None:
    meter = load_map(MAP_NAME)
    assert meter.serial is not None
    lengths = [block.count for block in plan_blocks(meter)] + [meter.serial.width]
    assert len(set(lengths)) == len(lengths)
    assert meter.serial.width == 7


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"BY0520010020L", "BY0520010020L"),
        (b"BY052001002000", "BY052001002000"),
        (b"", None),
        (b"\xff" * 14, None),
        (b"\1\2", None),
    ],
)
def test_a_serial_number_in_characters(data: bytes, told: str | None) -> None:
    register = Register(4, 0x5000, "chars", "little", text_registers=7)
    assert decode_serial(register, words_of(data.ljust(14, b"\0"))) == told


def test_another_meters_map_is_refused() -> None:
    config = ModbusMeterConfig("p", "eastron_sdm630", 22_000)
    with pytest.raises(ValueError, match="map must be carlo_gavazzi_em580"):
        Em580(config, ModbusLine(config.line), lambda: 0)


def frame(function: int, address: int, *words: int, count: int | None = None) -> bytes:
    head = bytes((1, function)) + address.to_bytes(2) + (count or len(words)).to_bytes(2)
    tail = bytes((2 * len(words),)) + b"".join(word.to_bytes(2) for word in words) if function == 16 else b""
    return with_crc(head + tail)


def test_the_simulator_refuses_a_start_while_a_record_is_unconfirmed() -> None:
    sim = SimEm580(now_ms=lambda: 0, follow_ms=0, sign_ms=0)
    begin, end, confirm = frame(16, 0x7040, ord("B")), frame(16, 0x7040, ord("E")), frame(16, 0x7100, 0)
    for request in (begin, end):
        assert [reply.data[1] for reply in sim.hear(request)] == [0x10]
    sim.hear(frame(4, 0x7100, count=1))
    assert sim.state == READY
    assert [reply.data for reply in sim.hear(begin)] == [with_crc(bytes((1, 0x90, 3)))]
    assert [reply.data[1] for reply in sim.hear(confirm)] == [0x10]
    assert [reply.data[1] for reply in sim.hear(begin)] == [0x10]


@pytest.mark.parametrize(
    ("request_frame", "code"),
    [
        (frame(4, 0x2600, count=20), 2),  # the key: only whole
        (frame(4, 0x0050, count=1), 2),
        (frame(4, 0x7110, count=126), 3),
        (frame(3, 0x7100, count=1), 1),
        (frame(16, 0x7101, 5), 2),
        (frame(16, 0x7100, 1), 3),
        (frame(16, 0x7040, ord("X")), 3),
    ],
)
def test_the_simulator_refuses_what_the_device_would(request_frame: bytes, code: int) -> None:
    [reply] = SimEm580().hear(request_frame)
    assert reply.data == with_crc(bytes((1, request_frame[1] | 0x80, code)))
