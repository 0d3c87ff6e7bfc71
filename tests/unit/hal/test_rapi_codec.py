"""RAPI frames: the checked vectors of the maker's header and of independent computation; hostile bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal.pilots import rapi_codec
from hal.pilots.rapi_codec import Boot, Frame, Notice, RapiParser, Reply, StateChange, checksum, command

COMMAND_VECTORS = (
    "GS^30", "GV^35", "GC^20", "GG^24", "GU^36", "GE^26", "GF^25", "GP^33", "G0^53", "GY^3A", "FE^27",
    "FD^26", "FS^31", "FR^30", "SC 16 V^65", "SC 6 V^54", "SY^2E", "SY 30 6^1B", "SY 165^3C", "SY 5 6^2D",
    "S5 M^2F", "S5 1^53",
)  # fmt: skip


@pytest.mark.parametrize("vector", COMMAND_VECTORS)
def test_command_vectors(vector: str) -> None:
    assert command(vector.partition("^")[0]) == f"${vector}\r".encode()


def test_command_with_sequence_id() -> None:
    assert command("GS", 0xA1) == b"$GS :A1^5A\r"


@pytest.mark.parametrize(
    ("wire", "frame"),
    [
        ("$OK 03 125 03 0140^13", Reply(True, ("03", "125", "03", "0140"), None)),
        ("$OK 16^07", Reply(True, ("16",), None)),
        ("$NK 80^09", Reply(False, ("80",), None)),
        ("$NK^21", Reply(False, (), None)),
        ("$OK 5 6 0^33", Reply(True, ("5", "6", "0"), None)),
        ("$NK 5 6 2^30", Reply(False, ("5", "6", "2"), None)),
        ("$OK 5 6 1^32", Reply(True, ("5", "6", "1"), None)),
        ("$AT 02 02 16 0100^37", StateChange(2, 2, 16, 0x0100)),
        ("$AT 03 03 16 0140^33", StateChange(3, 3, 16, 0x0140)),
        ("$AT 01 01 32 0000^30", StateChange(1, 1, 32, 0)),
        ("$AB 00 8.2.3^1E", Boot(0, "8.2.3")),
    ],
)
def test_frame_vectors(wire: str, frame: Frame) -> None:
    parser = RapiParser()
    assert parser.feed(wire.encode() + b"\r") == [frame]
    assert parser.errors == 0


def _wire(text: str) -> bytes:
    return b"$%s^%02X\r" % (text.encode(), checksum(b"$" + text.encode()))


def test_sequence_id_is_taken_off_the_reply() -> None:
    assert RapiParser().feed(_wire("NK 80 :0F")) == [Reply(False, ("80",), 0x0F)]


def test_other_notifications_keep_their_fields() -> None:
    assert RapiParser().feed(_wire("AN 1") + _wire("WF 02")) == [Notice("AN", ("1",)), Notice("WF", ("02",))]


@pytest.mark.parametrize(
    "text", ["AT 02 02 16", "AT 02 02 1x 0100", "AT 02 02 -1 0100", "AB 00", "AB zz 8.2.3", "OK :zz", "OK :", "AT"]
)
def test_well_summed_nonsense_counts_as_damage(text: str) -> None:
    parser = RapiParser()
    assert parser.feed(_wire(text)) == []
    assert parser.errors == 1


@pytest.mark.parametrize("text", ["", "GS\r", "FP 0 0 $", "S^1", "FP 0 0 naïve", "x" * 28, "GS :01"])
def test_commands_that_the_board_cannot_read_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        command(text)


@pytest.mark.parametrize("sequence_id", [0, 256, -1])
def test_sequence_id_range(sequence_id: int) -> None:
    with pytest.raises(ValueError, match="sequence id"):
        command("GS", sequence_id)


def test_longest_command_fills_the_buffer() -> None:
    assert len(command("x" * 27)) == rapi_codec.MAX_COMMAND_BYTES
    assert len(command("x" * 23, 1)) == rapi_codec.MAX_COMMAND_BYTES


@pytest.mark.parametrize(
    "noise", [b"\x00\xff\x80", b"$OK 03 1", b"$OK 16^08\r", b"OK 16^07\r", b"$", b"$OK" + b"x" * 500, b"$$$"]
)
def test_resynchronises_at_the_next_frame(noise: bytes) -> None:
    parser = RapiParser()
    assert parser.feed(noise + b"$OK 16^07\r") == [Reply(True, ("16",), None)]
    assert parser.errors >= 1


def test_line_feeds_between_frames_are_no_damage() -> None:
    parser = RapiParser()
    assert len(parser.feed(b"$OK 16^07\r\n$OK 16^07\r\n")) == 2
    assert parser.errors == 0


@given(st.binary(max_size=2000), st.integers(1, 64))
def test_any_bytes_in_any_pieces_never_raise_and_hold_little(data: bytes, piece: int) -> None:
    whole, parts = RapiParser(), RapiParser()
    frames = [frame for at in range(0, len(data), piece) for frame in parts.feed(data[at : at + piece])]
    assert frames == whole.feed(data)
    assert parts.errors == whole.errors
    assert parts._frame is None or len(parts._frame) <= 96


@given(st.binary(max_size=200).filter(lambda noise: b"$" not in noise))
def test_noise_costs_no_frame(noise: bytes) -> None:
    good = _wire("OK 03 125 03 0140 :7E")
    assert RapiParser().feed(good + noise + good)[-1] == Reply(True, ("03", "125", "03", "0140"), 0x7E)


@given(st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=1, max_size=10), st.integers(1, 255))
def test_what_command_builds_the_same_rules_read(text: str, sequence_id: int) -> None:
    frame = command(f"Z{text}", sequence_id)
    assert RapiParser().feed(frame) == [Notice(f"Z{text}", (f":{sequence_id:02X}",))]
