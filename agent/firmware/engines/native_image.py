"""A slot image on its way into the slot that is not running.

Charter: fills one device (or file) with one payload, in constant memory and without a temporary copy. Every chunk was
checked before it is written. Before anything changes, the first chunk is overwritten with zeros and synced; it is
written after a sync of all others, and its first block after a sync of its rest. So a slot that is not complete has no
superblock and cannot be mounted, whatever a boot loader may think of it.

A chunk is not fetched where it stands already at its place (an earlier image or an interrupted try), or anywhere in
the other slot; both are looked for by an index and hashed before use. What is synced is noted in the index now and
then: that, and not a record of how far it got, is what makes an interrupted try resume.
Units: bytes; offsets count from the beginning of the slot.
Source: firmware reference 1.5 ("Order of writes", "Rules from the complaints").
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Final

from agent.firmware.engines.native_stream import BundleStream, Tally, is_right
from agent.firmware.engines.slot_file import SlotFile, open_to_fill, open_to_read
from agent.firmware.engines.slot_index import OtherSlot, SlotIndex, chunks_per_read, load, save
from agent.firmware.errors import Refusal, SlotFailed, UpdateRefused
from agent.firmware.manifest import Payload
from agent.firmware.storage import BLOCK_BYTES, Storage

SYNC_BYTES: Final = 32 * 1024 * 1024
"""So much is written between two syncs: it bounds what memory holds, and what a power cut takes back."""


class ImageWriter:
    """One payload into one slot, once."""

    def __init__(
        self,
        storage: Storage,
        payload: Payload,
        bundle: BundleStream,
        tally: Tally,
        path: Path,
        index_path: Path,
        other: OtherSlot | None,
    ) -> None:
        self._storage, self._payload, self._bundle, self._tally = storage, payload, bundle, tally
        self._path, self._index_path, self._other = path, index_path, other
        self._offsets = payload.chunk_offsets()
        index = load(storage, index_path, payload.chunk_size) or SlotIndex(payload.chunk_size)
        self._index = index.resized(len(payload.chunks))
        self._changed = False  # the first chunk is zeros on the medium, and not all others are right yet
        self._unsynced_bytes = 0

    def write(self) -> None:
        """The image is whole and durable when it returns. Raises ``UpdateRefused``, ``SourceLost``, ``SlotFailed``
        and what the listener raises; then the first chunk is still zeros, or nothing was changed."""
        with open_to_fill(self._storage, self._path) as slot:
            if slot.size < self._payload.size:
                why = f"it has {self._payload.size} bytes, {self._path} has room for {slot.size}"
                raise UpdateRefused(Refusal.TOO_LARGE, f"payload {self._payload.name}", why)
            try:
                first = self._fill(slot)
            except SlotFailed:
                raise
            except Exception:
                self._keep(slot)  # the next try goes on from here
                raise
            slot.sync()  # also where nothing was written: an earlier try may have ended without
            if self._changed:
                self._complete(slot, first)

    def _fill(self, slot: SlotFile) -> bytes:
        """All chunks but the first one, which is handed back for later."""
        first, first_was_right = self._obtain(slot, 0)
        self._tally.add(len(first))
        for index in range(1, len(self._payload.chunks)):
            content, was_right = self._obtain(slot, index)
            if not was_right:
                self._spoil(slot)
                slot.write(index * self._payload.chunk_size, content)
                self._note(index)
                self._unsynced_bytes += len(content)
                if self._unsynced_bytes >= SYNC_BYTES:
                    self._keep(slot)
            self._tally.add(len(content))
        if not first_was_right:
            self._spoil(slot)
        return first

    def _obtain(self, slot: SlotFile, index: int) -> tuple[bytes, bool]:
        """A chunk's content, and whether the slot has it at its place."""
        here = self._in_place(slot, index)
        content = self._bundle.chunk(self._payload, index, self._offsets[index], partial(self._find, index, here))
        return content, here is not None

    def _in_place(self, slot: SlotFile, index: int) -> bytes | None:
        chunk = self._payload.chunks[index]
        if self._index.at(index) != chunk.sha256:
            return None
        content = slot.read(index * self._payload.chunk_size, self._payload.chunk_length(index))
        return content if is_right(chunk, content) else None

    def _find(self, index: int, here: bytes | None) -> bytes | None:
        if here is not None or self._other is None:
            return here
        return self._other.find(index, self._tally.tell)

    def _keep(self, slot: SlotFile) -> None:
        """What was written until now survives a power cut, and is found by the next try."""
        if self._unsynced_bytes:
            slot.sync()
            save(self._storage, self._index_path, self._index)
            self._unsynced_bytes = 0

    def _spoil(self, slot: SlotFile) -> None:
        """Once, before the first change: the slot cannot be mounted from here on."""
        if self._changed:
            return
        slot.write(0, bytes(self._payload.chunk_length(0)))
        slot.sync()
        self._changed = True

    def _complete(self, slot: SlotFile, first: bytes) -> None:
        """The first chunk, when all others are on the medium."""
        for start, end in ((BLOCK_BYTES, len(first)), (0, BLOCK_BYTES)):
            if piece := first[start:end]:
                slot.write(start, piece)
                slot.sync()
        self._note(0)
        save(self._storage, self._index_path, self._index)

    def _note(self, index: int) -> None:
        self._index.note(index, self._payload.chunks[index].sha256)
        self._tally.written_bytes += self._payload.chunk_length(index)


def read_back_image(storage: Storage, payload: Payload, path: Path, tally: Tally) -> None:
    """Every chunk from the medium, hashed. Raises ``SlotFailed`` for the first that is wrong."""
    size, count = payload.chunk_size, chunks_per_read(payload)
    with open_to_read(storage, path) as slot:
        for first in range(0, len(payload.chunks), count):
            content = slot.read(first * size, count * size)
            for index, chunk in enumerate(payload.chunks[first : first + count], first):
                start = (index - first) * size
                if not is_right(chunk, content[start : start + payload.chunk_length(index)]):
                    why = f"chunk {index} at offset {index * size} does not hold what was written"
                    raise SlotFailed(str(path), why, "install again; if it happens again, the storage is failing")
                tally.add(payload.chunk_length(index))
