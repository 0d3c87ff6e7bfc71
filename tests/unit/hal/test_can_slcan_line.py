"""The Lawicel text: both directions, and a byte stream with anything in it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal.ports import BadReply
from hal.power.can_frame import CanFrame
from hal.power.slcan_line import BELL, LineCutter, decode_frame, encode_frame, is_frame


@pytest.mark.parametrize(
    ("frame", "line"),
    [
        (CanFrame(0x02A3F0F0, bytes(range(8))), b"T02A3F0F080001020304050607\r"),
        (CanFrame(0x1FFFFFFF, b""), b"T1FFFFFFF0\r"),
        (CanFrame(0x7FF, b"\xab", extended=False), b"t7FF1AB\r"),
    ],
)
def test_frames_are_lines(frame: CanFrame, line: bytes) -> None:
    assert encode_frame(frame) == line
    assert decode_frame(line[:-1]) == frame


def test_a_time_stamp_at_the_end_is_tolerated() -> None:
    assert decode_frame(b"t1002AABB1F40") == CanFrame(0x100, b"\xaa\xbb", extended=False)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"T",
        b"T0283F000",
        b"T0283F00080011",
        b"T0283F0009" + b"00" * 9,
        b"TFFFFFFFF0",
        b"t1002AAB",
        b"t10 0",
        b"V1013",
    ],
)
def test_what_is_not_exactly_a_frame_is_refused(line: bytes) -> None:
    with pytest.raises(BadReply):
        decode_frame(line)


frames = st.one_of(
    st.builds(CanFrame, st.integers(0, 0x1FFF_FFFF), st.binary(max_size=8)),
    st.builds(CanFrame, st.integers(0, 0x7FF), st.binary(max_size=8), st.just(False)),
)


@given(st.lists(frames, max_size=5), st.data())
def test_a_stream_cut_anywhere_gives_the_same_frames(sent: list[CanFrame], data: st.DataObject) -> None:
    stream = b"".join(encode_frame(frame) for frame in sent)
    cut = data.draw(st.integers(0, len(stream)))
    cutter = LineCutter()
    lines = cutter.feed(stream[:cut]) + cutter.feed(stream[cut:])
    assert [decode_frame(line) for line in lines] == sent


@given(st.binary(max_size=300))
def test_after_any_noise_the_next_whole_line_is_understood(noise: bytes) -> None:
    cutter = LineCutter()
    for line in cutter.feed(noise):
        if is_frame(line):
            try:
                decode_frame(line)
            except BadReply:
                continue
    frame = CanFrame(0x0283F000, b"12345678")
    assert decode_frame(cutter.feed(b"\r" + encode_frame(frame))[-1]) == frame


def test_an_endless_line_takes_no_memory_and_is_dropped() -> None:
    cutter = LineCutter()
    assert cutter.feed(b"T" * 10_000) == []
    assert cutter.feed(b"\rV\r") == [b"V"]
    assert cutter.dropped == 1
    assert cutter.feed(b"T012\a") == [BELL]


@pytest.mark.parametrize(
    ("can_id", "data", "extended"), [(0x800, b"", False), (1 << 29, b"", True), (1, bytes(9), True)]
)
def test_a_frame_outside_the_standard_cannot_be_made(can_id: int, data: bytes, extended: bool) -> None:
    with pytest.raises(ValueError, match="CAN"):
        CanFrame(can_id, data, extended)
