"""Chunks: nothing but signed bytes reaches the decompressor, and nothing but signed content leaves it."""

from __future__ import annotations

import hashlib
import tracemalloc

import pytest
import zstandard

from agent.firmware.bundle.chunks import content_of
from agent.firmware.bundle.head import judge_head
from agent.firmware.errors import Refusal, UpdateRefused
from agent.firmware.manifest import Chunk, Compression
from tests.unit.firmware.bundle.making import BytesSource, files, image, make_bundle, mcu
from tests.unit.firmware.bundle.pki import NOW, POLICY

CONTENT = bytes(range(256)) * 64


def packed(content: bytes = CONTENT) -> bytes:
    return zstandard.ZstdCompressor(write_content_size=True).compress(content)


def chunk_of(content: bytes, stored: bytes) -> Chunk:
    return Chunk(hashlib.sha256(content).digest(), len(stored), hashlib.sha256(stored).digest())


def corrupt(
    chunk: Chunk, stored: bytes, compression: Compression = Compression.ZSTD, length: int = len(CONTENT)
) -> UpdateRefused:
    with pytest.raises(UpdateRefused) as caught:
        content_of(chunk, stored, length, compression, "payload rootfs, chunk 7")
    assert (caught.value.refusal, caught.value.where) == (Refusal.CORRUPT, "payload rootfs, chunk 7")
    return caught.value


def test_right_chunks_give_their_content() -> None:
    assert content_of(chunk_of(CONTENT, CONTENT), CONTENT, len(CONTENT), Compression.NONE) == CONTENT
    assert content_of(chunk_of(CONTENT, packed()), packed(), len(CONTENT), Compression.ZSTD) == CONTENT


@pytest.mark.parametrize("compression", list(Compression))
def test_any_changed_or_missing_byte_is_refused(compression: Compression) -> None:
    stored = CONTENT if compression is Compression.NONE else packed()
    chunk = chunk_of(CONTENT, stored)
    for wrong in (stored[:-1], stored + b"\0", b"", b"\xff" + stored[1:], stored[:-1] + bytes([stored[-1] ^ 1])):
        assert "not those that were signed" in corrupt(chunk, wrong, compression).why


def test_unsigned_bytes_never_reach_the_decompressor(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("it was asked")

    monkeypatch.setattr(zstandard, "get_frame_parameters", never)
    monkeypatch.setattr(zstandard, "ZstdDecompressor", never)
    corrupt(chunk_of(CONTENT, packed()), packed(b"other"))


def streamed(content: bytes) -> bytes:
    """A frame that does not say how long it is."""
    packer = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    return packer.compress(content) + packer.flush()


def claiming(content: bytes, size: int) -> bytes:
    """A frame that says it is ``size`` long, which is a lie."""
    frame = bytearray(packed(content))
    assert frame[4] >> 6 in (1, 2)
    width = 2 if frame[4] >> 6 == 1 else 4
    frame[5 : 5 + width] = (size - (256 if width == 2 else 0)).to_bytes(width, "little")
    return bytes(frame)


BOMB = packed(bytes(32 * 2**20))
SKIPPED = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"


@pytest.mark.parametrize(
    ("stored", "why"),
    [
        (BOMB, "does not say that it holds 16384"),
        (streamed(CONTENT), "does not say"),
        (streamed(bytes(16 * 2**20)), "does not say"),
        (claiming(CONTENT * 2, len(CONTENT)), "cannot be decompressed"),
        (claiming(CONTENT[:-100], len(CONTENT)), "cannot be decompressed"),
        (packed() + b"\0", "cannot be decompressed"),
        (packed() + packed(), "cannot be decompressed"),
        (packed() + SKIPPED, "cannot be decompressed"),
        (SKIPPED + packed(), "does not say"),
        (packed()[:-1], "cannot be decompressed"),
        (packed()[:3], "cannot be decompressed"),
        (b"", "cannot be decompressed"),
        (b"not zstd at all", "cannot be decompressed"),
        (packed(CONTENT[::-1]), "content is not what was signed"),
    ],
    ids=range(14),
)
def test_signed_bomb_or_fault_of_the_maker_stays_bounded(stored: bytes, why: str) -> None:
    """The stored bytes are signed here, so they do reach the decompressor."""
    chunk = chunk_of(CONTENT, stored)
    tracemalloc.start()
    try:
        assert why in corrupt(chunk, stored).why
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_chunks_of_a_bundle_cannot_be_swapped() -> None:
    """Between places, payloads, and bundles that the same person signed."""
    data = make_bundle(
        image(b"A" * 4096 + b"B" * 4096, compression=Compression.ZSTD),
        files({"x": b"C" * 4096}),
        mcu(b"D" * 4096),
    )
    payloads = judge_head(BytesSource(data), POLICY, NOW).payloads
    pieces = {
        (payload.name, index): (payload, chunk, data[offset : offset + chunk.stored_size], payload.chunk_length(index))
        for payload in payloads
        for index, (chunk, offset) in enumerate(zip(payload.chunks, payload.chunk_offsets(), strict=True))
    }
    assert len(pieces) == 4
    for place, (payload, chunk, _, length) in pieces.items():
        for other, (_, _, stored, _) in pieces.items():
            if place == other:
                assert len(content_of(chunk, stored, length, payload.compression)) == 4096
            else:
                with pytest.raises(UpdateRefused, match="not those that were signed"):
                    content_of(chunk, stored, length, payload.compression)
