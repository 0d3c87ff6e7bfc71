"""Infypower V1.13 bits: the document's vectors, and that no frame whatever gets past the types."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal.ports import BadReply, ModuleFault
from hal.power.can_frame import CanFrame
from hal.power.infypower_codec import (
    BROADCAST,
    DEVICE_GROUP,
    DEVICE_MODULE,
    Accepted,
    Capability,
    Command,
    ErrorCode,
    External,
    Header,
    ModuleCount,
    Output,
    Refused,
    State,
    Status,
    faults,
    parse_reply,
    read,
    set_group_output,
    set_module_output,
    switch,
)


def frame(text: str) -> CanFrame:
    can_id, data = text.split("#")
    return CanFrame(int(can_id, 16), bytes.fromhex(data))


@pytest.mark.parametrize(
    ("built", "vector"),
    [
        (set_module_output(400_000, 50_000, 0, 0xF0), "029C00F0#00061A800000C350"),
        (switch(True, 0, 0xF0), "029A00F0#0000000000000000"),
        (switch(False, BROADCAST, 0xF0), "029A3FF0#0100000000000000"),
        (read(Command.READ_OUTPUT, 0, 0xF0), "028300F0#0000000000000000"),
        (read(Command.READ_STATE, 0, 0xF0), "028400F0#0000000000000000"),
        (read(Command.MODULE_COUNT, 1, 0xF0, DEVICE_GROUP), "02C201F0#0000000000000000"),
        (set_group_output(400_000, 50_000, 1, 0xF0), "02DB01F0#00061A800000C350"),
    ],
)
def test_requests_are_the_documents_frames(built: CanFrame, vector: str) -> None:
    assert str(built) == vector


@pytest.mark.parametrize(
    ("vector", "source", "message"),
    [
        ("0283F000#43C8000042480000", 0, Output(400_000, 50_000)),
        ("0289F000#00030D4000001388", 0, Output(200_000, 5_000)),
        ("0284F002#0000010019000100", 2, State(1, 25, Status.DC_OFF)),
        ("0284F000#00000000F6028021", 0, None),
        ("028AF003#03E8009603E80BB8", 3, Capability(1_000_000, 150_000, 100_000, 30_000)),
        ("028CF000#0FA003E800000000", 0, External(400_000, 100_000)),
        ("02C2F001#0000060000000000", 1, ModuleCount(6)),
        ("029AF000#0100000000000000", 0, Accepted()),
        ("0E9CF000#0000000000000000", 0, Refused(ErrorCode.DATA_INVALID)),
        ("1E83F000#", 0, Refused(ErrorCode.STARTING_UP)),
    ],
)
def test_replies_become_typed_messages(vector: str, source: int, message: object) -> None:
    reply = parse_reply(frame(vector))
    assert reply.source == source
    if message is None:
        message = State(
            0,
            -10,
            Status.ID_REPEATED | Status.COMMUNICATION_INTERRUPTED | Status.OUTPUT_SHORT | Status.DISCHARGE_ABNORMAL,
        )
    assert reply.message == message


@pytest.mark.parametrize(
    "bad",
    [
        "0283F000#43C800004248",  # short
        "0284F000#",
        "0283F000#7FC0000042480000",  # NaN volts
        "0283F000#43C800007F800000",  # infinite amperes
        "0283F000#4B18967F00000000",  # ten million volts
        "0289F000#FFFFFFFF00001388",
        "028AF000#0000000000000000",
        "028AF000#009603E803E80BB8",  # minimum above maximum
        "028AF000#FFFFFFFFFFFFFFFF",
        "028CF000#FFFF000000000000",
        "02BEF000#0000000000000000",  # command 3E
    ],
)
def test_what_cannot_be_an_answer_is_a_bad_reply(bad: str) -> None:
    with pytest.raises(BadReply):
        parse_reply(frame(bad))


def test_a_standard_frame_is_no_answer() -> None:
    with pytest.raises(BadReply):
        parse_reply(CanFrame(0x100, bytes(8), extended=False))


def test_a_set_point_never_goes_to_the_broadcast_address() -> None:
    with pytest.raises(ValueError, match="one module"):
        set_module_output(400_000, 10_000, BROADCAST, 0xF0)


@pytest.mark.parametrize(
    ("byte", "bit", "fault"),
    [
        (5, 1, ModuleFault.DUPLICATE_ADDRESS),
        (5, 3, ModuleFault.INPUT),
        (5, 4, ModuleFault.INPUT),
        (5, 5, ModuleFault.INPUT),
        (5, 6, ModuleFault.INPUT),
        (6, 1, ModuleFault.FAULT),
        (6, 2, ModuleFault.PROTECTION),
        (6, 3, ModuleFault.FAN),
        (6, 4, ModuleFault.OVER_TEMPERATURE),
        (6, 5, ModuleFault.OUTPUT_OVER_VOLTAGE),
        (6, 7, ModuleFault.COMMUNICATION),
        (7, 0, ModuleFault.OUTPUT_SHORT),
        (7, 5, ModuleFault.DISCHARGE),
        (5, 0, None),
        (5, 2, None),
        (5, 7, None),
        (6, 0, None),
        (6, 6, None),
        (7, 4, None),
    ],
)
def test_every_status_bit_of_the_document(byte: int, bit: int, fault: ModuleFault | None) -> None:
    payload = bytearray(8)
    payload[byte] = 1 << bit
    reply = parse_reply(CanFrame(0x0284F000, bytes(payload)))
    assert isinstance(reply.message, State)
    assert faults(reply.message.status) == ({fault} if fault else set())


@given(st.integers(0, 0x1FFF_FFFF))
def test_the_identifier_is_lossless(can_id: int) -> None:
    assert Header.decode(can_id).encode() == can_id


def test_a_reply_swaps_the_addresses() -> None:
    request = Header.decode(0x028305F0)
    assert request == Header(Command.READ_OUTPUT, destination=5, source=0xF0, device=DEVICE_MODULE)
    assert request.reply().encode() == 0x0283F005


@given(
    st.one_of(st.integers(0, 0x1FFF_FFFF), st.sampled_from([Header(c, 0xF0, 1).encode() for c in Command])),
    st.binary(max_size=8),
)
def test_any_frame_is_a_message_or_a_bad_reply(can_id: int, data: bytes) -> None:
    try:
        reply = parse_reply(CanFrame(can_id, data))
    except BadReply:
        return
    if isinstance(reply.message, Output):
        assert -10_000 <= reply.message.voltage_mv <= 2_000_000
        assert abs(reply.message.current_ma) <= 1_000_000


@given(st.integers(0, 1_000_000), st.integers(0, 100_000), st.integers(0, 0x3B))
def test_a_set_point_is_carried_exactly(voltage_mv: int, current_ma: int, module: int) -> None:
    sent = set_module_output(voltage_mv, current_ma, module, 0xF0)
    assert struct.unpack(">II", sent.data) == (voltage_mv, current_ma)
    assert Header.decode(sent.id).destination == module
