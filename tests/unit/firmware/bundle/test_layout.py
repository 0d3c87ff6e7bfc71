"""The header: lengths are believed only within their caps, at any size of file."""

from __future__ import annotations

import struct

import pytest

from agent.firmware.bundle.layout import (
    BUNDLE_BYTES_MAX,
    HEADER_BYTES,
    MANIFEST_BYTES_MAX,
    SIGNATURES_BYTES_MAX,
    Header,
    align_up,
    parse_header,
)
from agent.firmware.errors import Refusal, UpdateRefused

GOOD = Header(1000, 500, 20_000)


def changed(offset: int, data: bytes) -> bytes:
    good = bytearray(GOOD.encode())
    good[offset : offset + len(data)] = data
    return bytes(good)


def test_header_is_read_as_it_was_written() -> None:
    assert len(GOOD.encode()) == HEADER_BYTES
    assert parse_header(GOOD.encode(), 20_000) == GOOD


@pytest.mark.parametrize("size", [2**31 - 1, 2**31, 2**31 + 1, 2**32 - 1, 2**32, 2**32 + 4096, BUNDLE_BYTES_MAX])
def test_sizes_beyond_two_and_four_gib_are_ordinary_numbers(size: int) -> None:
    header = Header(MANIFEST_BYTES_MAX, SIGNATURES_BYTES_MAX, size)
    assert parse_header(header.encode(), size) == header
    for other in (size % 2**31, size + 2**31, size + 2**32):  # what is left of it in fewer bits
        if other != size:
            with pytest.raises(UpdateRefused, match="total size"):
                parse_header(header.encode(), other)


FAULTS = [
    ("no magic", changed(0, b"EVSEDBDM"), "header: magic", Refusal.MALFORMED),
    ("another version", changed(8, b"\2"), "header: format version", Refusal.MALFORMED),
    ("version 0x101", changed(9, b"\1"), "header: format version", Refusal.MALFORMED),
    ("flags", changed(10, b"\1"), "header: flags", Refusal.MALFORMED),
    ("high flag", changed(11, b"\x80"), "header: flags", Refusal.MALFORMED),
    ("no manifest", changed(12, bytes(4)), "header: manifest length", Refusal.MALFORMED),
    (
        "manifest over its cap",
        changed(12, struct.pack("<I", MANIFEST_BYTES_MAX + 1)),
        "header: manifest length",
        Refusal.TOO_LARGE,
    ),
    ("manifest of 4 GiB", changed(12, b"\xff" * 4), "header: manifest length", Refusal.TOO_LARGE),
    ("no signature block", changed(16, bytes(4)), "header: signature block length", Refusal.MALFORMED),
    (
        "signatures over their cap",
        changed(16, struct.pack("<I", SIGNATURES_BYTES_MAX + 1)),
        "header: signature block length",
        Refusal.TOO_LARGE,
    ),
    ("empty file", changed(20, bytes(8)), "header: total size", Refusal.MALFORMED),
    ("2**64 - 1 bytes", changed(20, b"\xff" * 8), "header: total size", Refusal.TOO_LARGE),
    ("another size", changed(20, struct.pack("<Q", 20_001)), "header: total size", Refusal.MALFORMED),
    ("reserve begins with 1", changed(28, b"\1"), "header: reserve", Refusal.MALFORMED),
    ("reserve ends with 1", changed(4095, b"\1"), "header: reserve", Refusal.MALFORMED),
]


@pytest.mark.parametrize(("data", "where", "refusal"), [row[1:] for row in FAULTS], ids=[row[0] for row in FAULTS])
def test_faults_of_the_header_are_named(data: bytes, where: str, refusal: Refusal) -> None:
    with pytest.raises(UpdateRefused) as caught:
        parse_header(data, 20_000)
    assert (caught.value.where, caught.value.refusal) == (where, refusal)


def test_file_without_room_for_a_payload_is_no_bundle() -> None:
    assert GOOD.payloads_min == 3 * 4096
    assert parse_header(Header(1000, 500, 3 * 4096 + 1).encode(), 3 * 4096 + 1).total_size == 3 * 4096 + 1
    with pytest.raises(UpdateRefused, match="no room for a payload"):
        parse_header(Header(1000, 500, 3 * 4096).encode(), 3 * 4096)


@pytest.mark.parametrize("length", [0, 1, 8, 27, 4095])
def test_short_file_is_no_bundle(length: int) -> None:
    with pytest.raises(UpdateRefused, match=f"{length} bytes"):
        parse_header(GOOD.encode()[:length], length)


@pytest.mark.parametrize(("offset", "aligned"), [(0, 0), (1, 4096), (4096, 4096), (2**32 + 1, 2**32 + 4096)])
def test_alignment(offset: int, aligned: int) -> None:
    assert align_up(offset) == aligned
