"""COBS, protobuf and the MCU's messages: vectors, round trips, hostile bytes."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hal.pilots import cobs, mcu_codec, protobuf
from hal.pilots.mcu_codec import (
    BadMessage,
    McuCpState,
    McuErrors,
    McuKeepAlive,
    McuLock,
    McuMessage,
    McuProximity,
    McuRelais,
    McuReset,
    UnknownValue,
)
from hal.ports import BoardFault, CpState, LockPosition

# ------------------------------------------------------------------------------------------- COBS


@pytest.mark.parametrize(
    ("data", "encoded"),
    [
        ("", "01"),
        ("00", "0101"),
        ("0000", "010101"),
        ("11220033", "0311220233"),
        ("11223344", "0511223344"),
        ("11000000", "0211010101"),
    ],
)
def test_cobs_vectors(data: str, encoded: str) -> None:
    assert cobs.encode(bytes.fromhex(data)).hex() == encoded
    assert cobs.decode(bytes.fromhex(encoded)).hex() == data


def test_cobs_block_of_254() -> None:
    block = bytes(range(1, 255))
    assert cobs.decode(b"\xff" + block) == block
    assert cobs.encode(block + b"\x00").startswith(b"\xff" + block + b"\x01")


@given(st.binary(max_size=1200))
@example(bytes(range(1, 255)) * 2)
@example(bytes(range(1, 255)) + b"\x00")
def test_cobs_round_trip(data: bytes) -> None:
    encoded = cobs.encode(data)
    assert 0 not in encoded
    assert cobs.decode(encoded) == data


@pytest.mark.parametrize("frame", ["05 11", "00", "03 11 00", "02"])
def test_cobs_refuses(frame: str) -> None:
    with pytest.raises(cobs.CobsError):
        cobs.decode(bytes.fromhex(frame))


def test_splitter_skips_what_is_too_long_and_recovers() -> None:
    splitter = cobs.Splitter(10)
    assert splitter.feed(b"x" * 8) == []
    assert splitter.feed(b"x" * 8 + b"x" * 5000) == []
    assert splitter.feed(b"tail\x00ok\x00") == [b"ok"]
    assert splitter.overruns == 1


@given(st.binary(max_size=300), st.integers(1, 20))
def test_splitter_does_not_depend_on_the_pieces(data: bytes, piece: int) -> None:
    whole, parts = cobs.Splitter(30), cobs.Splitter(30)
    frames = [frame for at in range(0, len(data), piece) for frame in parts.feed(data[at : at + piece])]
    assert frames == whole.feed(data)
    assert all(0 < len(frame) <= 30 for frame in frames)


# --------------------------------------------------------------------------------------- protobuf


def test_protobuf_vectors() -> None:
    assert protobuf.varint_field(103, 5000).hex() == "b8068827"
    assert protobuf.varint_field(1, 150).hex() == "089601"
    assert protobuf.bytes_field(2, b"testing").hex() == "120774657374696e67"
    assert protobuf.fixed32_field(1, b"\x00\x00\x80\x3f").hex() == "0d0000803f"


_NUMBERS = st.integers(1, (1 << 29) - 1)
_FIELDS = st.tuples(_NUMBERS, st.integers(0, (1 << 64) - 1) | st.binary(max_size=40))


@given(st.lists(_FIELDS, max_size=8))
def test_protobuf_round_trip(values: list[tuple[int, int | bytes]]) -> None:
    message = b"".join(
        protobuf.varint_field(number, value) if isinstance(value, int) else protobuf.bytes_field(number, value)
        for number, value in values
    )
    assert list(protobuf.fields(message)) == values


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ("08", "does not end"),
        ("0880", "does not end"),
        ("08" + "ff" * 10, "does not end"),
        ("08" + "ff" * 9 + "7f", "64 bits"),
        ("0a05", "cut short"),
        ("0d0000", "cut short"),
        ("09", "wire type 1"),
        ("0000", "field number 0"),
    ],
)
def test_protobuf_refuses(message: str, why: str) -> None:
    with pytest.raises(protobuf.ProtobufError, match=why):
        list(protobuf.fields(bytes.fromhex(message)))


@pytest.mark.parametrize("number", [0, 1 << 29])
def test_protobuf_field_number_range(number: int) -> None:
    with pytest.raises(ValueError, match="field number"):
        protobuf.varint_field(number, 1)


# --------------------------------------------------------------------------------------- messages


def test_wire_vector_of_a_duty() -> None:
    assert mcu_codec.pwm_duty_cycle(5000) == bytes.fromhex("09 B8 06 88 27 0C 9D A0 54 00")
    assert mcu_codec.jamcrc(bytes.fromhex("B8068827")) == 0x54A09D0C
    assert mcu_codec.unframe(bytes.fromhex("09 B8 06 88 27 0C 9D A0 54")) == bytes.fromhex("B8068827")


@pytest.mark.parametrize(
    ("frame", "field"),
    [
        (mcu_codec.keep_alive(), (100, b"")),
        (mcu_codec.connector_lock(True), (102, 1)),
        (mcu_codec.pwm_duty_cycle(0), (103, 0)),
        (mcu_codec.allow_power_on(False), (104, 0)),  # a false must be on the wire: it is the withdrawal
        (mcu_codec.reset(), (105, 1)),
    ],
)
def test_messages_to_the_mcu(frame: bytes, field: tuple[int, int | bytes]) -> None:
    assert frame.endswith(b"\x00")
    assert list(protobuf.fields(mcu_codec.unframe(frame[:-1]))) == [field]


_KEEP_ALIVE = (
    protobuf.varint_field(1, 77)
    + protobuf.varint_field(2, 3)
    + protobuf.varint_field(3, 4)
    + protobuf.bytes_field(6, b"2.1")
    + protobuf.varint_field(7, 16)
)


@pytest.mark.parametrize(
    ("message", "meaning"),
    [
        (protobuf.bytes_field(3, _KEEP_ALIVE), McuKeepAlive(3, 4, "2.1", 16)),
        (protobuf.bytes_field(3, b""), McuKeepAlive(0, 0, "", None)),
        (protobuf.varint_field(101, 0), McuReset(watchdog=False)),
        (protobuf.varint_field(101, 1), McuReset(watchdog=True)),
        *[(protobuf.varint_field(102, code), McuCpState(CpState(name))) for code, name in enumerate("ABCDEF")],
        (protobuf.varint_field(103, 1), McuRelais(True)),
        (protobuf.varint_field(103, 0), McuRelais(False)),
        (protobuf.bytes_field(104, b""), McuErrors(frozenset())),
        (
            protobuf.bytes_field(104, b"".join(protobuf.varint_field(flag, 1) for flag in range(1, 8))),
            McuErrors(
                frozenset(
                    {
                        BoardFault.DIODE, BoardFault.RESIDUAL_SELF_TEST, BoardFault.RESIDUAL_CURRENT,
                        BoardFault.NO_VENTILATION, BoardFault.LOCK, BoardFault.PILOT, BoardFault.OVER_CURRENT,
                    }
                )
            ),
        ),
        (protobuf.bytes_field(104, protobuf.varint_field(3, 1)), McuErrors(frozenset({BoardFault.RESIDUAL_CURRENT}))),
        (protobuf.bytes_field(104, protobuf.varint_field(3, 0)), McuErrors(frozenset())),
        (protobuf.varint_field(106, 0), McuProximity(None, fault=False)),
        (protobuf.varint_field(106, 1), McuProximity(13_000, fault=False)),
        (protobuf.varint_field(106, 2), McuProximity(20_000, fault=False)),
        (protobuf.varint_field(106, 3), McuProximity(32_000, fault=False)),
        (protobuf.varint_field(106, 4), McuProximity(63_000, fault=False)),
        (protobuf.varint_field(106, 5), McuProximity(None, fault=True)),
        (protobuf.varint_field(107, 0), McuLock(LockPosition.UNKNOWN)),
        (protobuf.varint_field(107, 1), McuLock(LockPosition.UNLOCKED)),
        (protobuf.varint_field(107, 2), McuLock(LockPosition.LOCKED)),
        (protobuf.bytes_field(105, b"\x08\x01"), None),
        (protobuf.bytes_field(108, b"\x15\x00\x00\x80\x3f"), None),
    ],
)  # fmt: skip
def test_messages_from_the_mcu(message: bytes, meaning: McuMessage | None) -> None:
    assert mcu_codec.decode(message) == meaning


@pytest.mark.parametrize(
    "message",
    [
        b"",
        protobuf.bytes_field(102, b"\x01"),
        protobuf.varint_field(3, 1),
        protobuf.varint_field(104, 1),
        protobuf.bytes_field(104, b"\x08"),
        protobuf.varint_field(102, 1) + protobuf.varint_field(103, 1),
        b"\xb8\x06",
    ],
)
def test_messages_that_the_protocol_does_not_allow(message: bytes) -> None:
    with pytest.raises(BadMessage):
        mcu_codec.decode(message)


@pytest.mark.parametrize(
    ("field", "value", "means"),
    [
        (102, 6, McuCpState(CpState.E)),
        (102, 2**64 - 1, McuCpState(CpState.E)),
        (106, 6, McuProximity(None, fault=True)),
        (107, 3, McuLock(LockPosition.UNKNOWN)),
    ],
)
def test_a_value_that_is_not_known_means_that_nothing_of_before_holds(
    field: int, value: int, means: McuMessage
) -> None:
    with pytest.raises(UnknownValue, match=f"field {field} cannot be {value}") as raised:
        mcu_codec.decode(protobuf.varint_field(field, value))
    assert (raised.value.field, raised.value.means) == (field, means)


def test_what_newer_firmware_says_beside_a_state_is_left_out() -> None:
    beside = protobuf.varint_field(120, 1)
    assert mcu_codec.decode(protobuf.varint_field(102, 1) + beside) == McuCpState(CpState.B)
    assert mcu_codec.decode(beside + protobuf.bytes_field(121, b"")) is None


@given(st.binary(max_size=80))
def test_any_bytes_give_a_message_or_bad_message(data: bytes) -> None:
    for read in (mcu_codec.unframe, mcu_codec.decode):
        try:
            read(data)
        except BadMessage:
            continue


@given(st.binary(max_size=60), st.integers(0, 200), st.integers(1, 255))
def test_a_damaged_byte_never_passes(message: bytes, where: int, flip: int) -> None:
    frame = bytearray(mcu_codec.frame(message)[:-1])
    frame[where % len(frame)] ^= flip
    try:
        assert mcu_codec.unframe(bytes(frame)) == message
        raise AssertionError("a damaged frame was taken for the good one")
    except BadMessage:
        pass
