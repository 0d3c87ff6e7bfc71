"""A bundle's bytes on their way to the slot: fetched, counted, hashed as a file, admitted chunk by chunk.

Charter: one pass over the bundle in file order. Nothing leaves here whose hash is not what the signed manifest
promises, wherever it came from. Where OCPP's signature over the whole file must be checked (``HashOverFile``), every
byte of the file goes through that hash in the same pass; a chunk that was found on the device stands for the file's
bytes only where the payload is not compressed, else it is fetched. Not here: where chunks are found, where they go.
Units: bytes; offsets count from the beginning of the bundle file.
Source: firmware reference 1.5 ("Native bundle", "Two gates").
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from agent.firmware.bundle.chunks import content_of
from agent.firmware.errors import Refusal, SourceLost, UpdateRefused
from agent.firmware.manifest import Chunk, Compression, Manifest, Payload
from agent.firmware.ports import OnProgress, Progress, Source

_PIECE_BYTES: Final = 1024 * 1024
_THREAD_BYTES_MIN: Final = 64 * 1024  # less is hashed sooner than handed over


def is_right(chunk: Chunk, content: bytes) -> bool:
    """``content`` is what the manifest promises of this chunk."""
    return hashlib.sha256(content).digest() == chunk.sha256


class HashOverFile:
    """SHA-256 over a file's bytes in their order. ``position``: how many it has seen; whoever read the head of the
    file may have given it that already. Fresh for each try.

    A thread of its own hashes one piece while the caller is busy with the next: chunks are hashed as well, and
    without the thread this would take twice the time where the processor has no instructions for SHA-256.
    """

    __slots__ = ("_hash", "_under_way", "_worker", "position")

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._worker = ThreadPoolExecutor(1, "hash-over-file")
        self._under_way: Future[None] | None = None
        self.position = 0

    def update(self, data: bytes) -> None:
        self._wait()
        if len(data) < _THREAD_BYTES_MIN:
            self._hash.update(data)
        else:
            self._under_way = self._worker.submit(self._hash.update, data)
        self.position += len(data)

    def digest(self) -> bytes:
        self._wait()
        return self._hash.digest()

    def _wait(self) -> None:
        if self._under_way is not None:
            self._under_way.result()
            self._under_way = None


class Tally:
    """How far the work is, told to whoever listens."""

    __slots__ = ("_listener", "_total_bytes", "done_bytes", "fetched_bytes", "written_bytes")

    def __init__(self, total_bytes: int, listener: OnProgress) -> None:
        self._total_bytes, self._listener = total_bytes, listener
        self.done_bytes = self.fetched_bytes = self.written_bytes = 0

    def add(self, done_bytes: int) -> None:
        """That much more of the content is in place."""
        self.done_bytes += done_bytes
        self.tell()

    def tell(self) -> None:
        """The listener may raise to end the work."""
        self._listener(Progress(self.done_bytes, self._total_bytes, self.fetched_bytes, self.written_bytes))


class BundleStream:
    """One pass over a bundle whose head was read and judged before. Chunks are asked for in file order.

    Raises ``UpdateRefused`` (a file of another size; corrupt chunks) and ``SourceLost``.
    """

    def __init__(self, manifest: Manifest, source: Source, whole_file: HashOverFile | None, tally: Tally) -> None:
        if source.size != manifest.total_size:
            why = f"it has {source.size} bytes, its manifest says {manifest.total_size}"
            raise UpdateRefused(Refusal.MALFORMED, "bundle file", why, "fetch it again from the beginning")
        self.payloads = sorted(manifest.payloads, key=lambda payload: payload.offset)
        self._total_bytes = manifest.total_size
        self._source = source
        self._whole_file = whole_file
        self._tally = tally

    def needs_every_byte(self, payload: Payload) -> bool:
        """Content that was found on the device saves nothing."""
        return self._whole_file is not None and payload.compression is not Compression.NONE

    def chunk(self, payload: Payload, index: int, offset: int, find: Callable[[], bytes | None]) -> bytes:
        """The content of one chunk, which stands at ``offset`` of the file: found on the device, or fetched.
        ``find`` gives content that was checked already, or None."""
        if not self.needs_every_byte(payload) and (content := find()) is not None:
            if self._whole_file is not None:
                self._hash_up_to(offset)
                self._whole_file.update(content)
            return content
        self._hash_up_to(offset)
        chunk = payload.chunks[index]
        stored = self._fetch(offset, chunk.stored_size)
        where = f"payload {payload.name}, chunk {index}"
        return content_of(chunk, stored, payload.chunk_length(index), payload.compression, where)

    def finish(self) -> None:
        """The bytes behind the last chunk, if the whole file is wanted."""
        self._hash_up_to(self._total_bytes)

    def _hash_up_to(self, offset: int) -> None:
        """What lies between payloads, and the head if it was not hashed by its reader."""
        if self._whole_file is None:
            return
        if self._whole_file.position > offset:
            raise ValueError(f"{self._whole_file.position} bytes of the file are hashed, expected at most {offset}")
        while (left := offset - self._whole_file.position) > 0:
            self._fetch(self._whole_file.position, min(left, _PIECE_BYTES))

    def _fetch(self, offset: int, length: int) -> bytes:
        data = self._source.read(offset, length)
        if len(data) != length:
            raise SourceLost(f"{len(data)} bytes came instead of {length} at {offset}", retryable=True)
        self._tally.fetched_bytes += length
        if self._whole_file is not None:
            self._whole_file.update(data)
        return data
