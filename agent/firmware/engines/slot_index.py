"""What is said to stand in a slot: one hash per chunk, in a small file per slot. A hint, never proof.

Charter: the index tells where a chunk may be found without fetching it: at its own place in the slot that is being
filled (from an earlier image, or an earlier try that was interrupted), or anywhere in the other slot. Whoever uses
such a chunk hashes it first, so a wrong or lost index costs time and nothing else; one that cannot be read or
understood is none. Of a slot that nobody wrote through the engine (the factory's) it is made by reading the slot once.

File: magic, chunk size and count (little-endian, 32 bits each), then the hashes (SHA-256, 32 bytes; all zero: not
known). Memory: 32 bytes for each chunk of a slot, about 150 more where chunks are looked up by hash.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from agent.firmware.engines.native_stream import is_right
from agent.firmware.faults import slot_faults
from agent.firmware.manifest import Payload
from agent.firmware.storage import Storage, opened, read_small, replace

MAX_CHUNKS: Final = 65_536
"""As many as a bundle may have."""
HASH_BYTES: Final = 32
_UNKNOWN: Final = bytes(HASH_BYTES)
_READ_BYTES: Final = 1024 * 1024
_PREFIX_BYTES: Final = 16  # enough to look up by; the whole hash is checked on use
_HEAD: Final = struct.Struct("<8sII")
_MAGIC: Final = b"EVSEIDX1"

log = structlog.get_logger(__name__)


class SlotIndex:
    """The hashes of ``count`` chunks of ``chunk_size`` bytes, in their order."""

    __slots__ = ("_hashes", "chunk_size")

    def __init__(self, chunk_size: int, hashes: bytes | bytearray = b"") -> None:
        self.chunk_size = chunk_size
        self._hashes = bytearray(hashes)

    @property
    def count(self) -> int:
        return len(self._hashes) // HASH_BYTES

    def at(self, index: int) -> bytes:
        return bytes(self._hashes[index * HASH_BYTES : (index + 1) * HASH_BYTES])

    def note(self, index: int, sha256: bytes) -> None:
        self._hashes[index * HASH_BYTES : (index + 1) * HASH_BYTES] = sha256

    def positions(self) -> dict[bytes, int]:
        """From the beginning of a hash to a chunk that has it."""
        found = {self.at(index)[:_PREFIX_BYTES]: index for index in reversed(range(self.count))}
        found.pop(_UNKNOWN[:_PREFIX_BYTES], None)
        return found

    def resized(self, count: int) -> SlotIndex:
        """For ``count`` chunks: cut off, or filled up with unknown ones."""
        return SlotIndex(self.chunk_size, self._hashes[: count * HASH_BYTES].ljust(count * HASH_BYTES, b"\0"))


def load(storage: Storage, path: Path, chunk_size: int) -> SlotIndex | None:
    """The index in this file; None where there is none that can be read, and is made of such chunks."""
    try:
        data = read_small(storage, path, _HEAD.size + MAX_CHUNKS * HASH_BYTES)
    except OSError as error:  # a bad sector under a hint must not keep the slot from its update
        log.warning("index of a slot cannot be read, it does without", index=str(path), error=str(error))
        return None
    if data is None or len(data) < _HEAD.size:
        return None
    magic, size, count = _HEAD.unpack_from(data)
    if (magic, size, count * HASH_BYTES) != (_MAGIC, chunk_size, len(data) - _HEAD.size):
        return None
    return SlotIndex(size, data[_HEAD.size :])


def save(storage: Storage, path: Path, index: SlotIndex) -> None:
    """Durable when it returns. Raises ``SlotFailed``."""
    with slot_faults(path):
        replace(storage, path, _HEAD.pack(_MAGIC, index.chunk_size, index.count) + bytes(index._hashes))


def chunks_per_read(payload: Payload) -> int:
    """How many chunks to read from a slot at once: small ones one by one would take long."""
    return max(1, _READ_BYTES // payload.chunk_size)


class OtherSlot:
    """The slot that stays as it is, as a place to take chunks from. It is read only when first asked. What cannot be
    read of it is fetched, since an update must be possible from a slot that wears out."""

    def __init__(self, storage: Storage, path: Path, index_path: Path, payload: Payload) -> None:
        """Where there is no index, as many bytes of the slot are worth one as ``payload`` has."""
        self._storage, self._path, self._index_path, self._payload = storage, path, index_path, payload
        self._positions: dict[bytes, int] | None = None

    def find(self, index: int, on_read: Callable[[], None]) -> bytes | None:
        """The right content of a chunk of the payload, or None. ``on_read`` is called now and then while an index
        is made; it may raise."""
        if self._positions is None:
            known = load(self._storage, self._index_path, self._payload.chunk_size)
            self._positions = (known or self._made(on_read)).positions()
        chunk = self._payload.chunks[index]
        position = self._positions.get(chunk.sha256[:_PREFIX_BYTES])
        if position is None:
            return None
        content = self._read(position * self._payload.chunk_size, self._payload.chunk_length(index))
        if content is None:
            self._positions = {}  # failing storage takes seconds to say so, each time
            return None
        return content if is_right(chunk, content) else None

    def _made(self, on_read: Callable[[], None]) -> SlotIndex:
        size, hashes = self._payload.chunk_size, bytearray()
        step = size * chunks_per_read(self._payload)
        for offset in range(0, self._payload.size, step):
            content = self._read(offset, step)
            if content is None:
                return SlotIndex(size, hashes)
            for start in range(0, len(content), size):
                hashes += hashlib.sha256(content[start : start + size]).digest()
            on_read()
        index = SlotIndex(size, hashes)
        save(self._storage, self._index_path, index)
        return index

    def _read(self, offset: int, length: int) -> bytes | None:
        try:
            with opened(self._storage.open(self._path, uncached=True)) as file:
                return file.read(offset, length)
        except OSError as error:
            log.warning("the running slot cannot be read, chunks are fetched", slot=str(self._path), error=str(error))
            return None
