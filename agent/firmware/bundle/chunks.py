"""One chunk of a payload: from what stands in the file to what is installed.

Charter: the stored bytes are checked against the signed manifest before the decompressor sees them, the content after.
Memory: never more than the chunk's length (at most 4 MiB) is made of it. Not here: fetching and writing.
Source: ``docs/bundle-format.md``, "Chunks"; RFC 8878 (Zstandard frames).
"""

from __future__ import annotations

import hashlib

from agent.firmware.errors import Refusal, UpdateRefused
from agent.firmware.manifest import CHUNK_BYTES_MAX, Chunk, Compression


def content_of(chunk: Chunk, stored: bytes, length: int, compression: Compression, where: str = "chunk") -> bytes:
    """The ``length`` bytes of content. ``where`` names the chunk in a refusal. Raises ``UpdateRefused`` (corrupt)."""
    if len(stored) != chunk.stored_size or hashlib.sha256(stored).digest() != chunk.stored_sha256:
        raise _corrupt(where, "its bytes are not those that were signed")
    if compression is Compression.NONE:
        return stored
    content = _unpacked(stored, length, where)
    if hashlib.sha256(content).digest() != chunk.sha256:
        raise _corrupt(where, "its content is not what was signed")
    return content


def _unpacked(stored: bytes, length: int, where: str) -> bytes:
    """One frame, no more, that says itself how long its content is."""
    from zstandard import ZstdDecompressor, ZstdError, get_frame_parameters

    try:
        claimed = get_frame_parameters(stored).content_size
        if claimed != length:  # also where the frame does not say: then it could go on for ever
            raise _corrupt(where, f"its frame does not say that it holds {length} bytes")
        unpacker = ZstdDecompressor(max_window_size=CHUNK_BYTES_MAX)
        return unpacker.decompress(stored, max_output_size=length, allow_extra_data=False)
    except ZstdError as error:
        raise _corrupt(where, f"it cannot be decompressed ({error})") from error


def _corrupt(where: str, why: str) -> UpdateRefused:
    return UpdateRefused(Refusal.CORRUPT, where, why, "fetch it again, or make the bundle again")
