"""Files that belong to a slot but live outside it: a folder per slot (kernel and device tree on a boot partition).

Charter: the files of slot ``s`` are written to ``<folder>/<s>``, which is emptied first. There is no renaming of
folders, since on FAT, where boot files mostly live, a power cut within one may leave two names for the same clusters;
and none is needed: nothing boots from the folder of a slot that is blocked, and what is there is read back before
that ends. A folder that holds all of it already is left alone. Chunks that stand at the same place in the other
slot's folder are not fetched. An interrupted try begins this payload again.

No link is ever followed: what is there and is not a folder is removed by its name, folders are walked by their kind,
files are made new. Units: bytes; offsets count from the beginning of the payload's content, which is its files one
after another.
Source: firmware reference 1.5; ``docs/bundle-format.md``.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final

from agent.firmware.engines.native_stream import BundleStream, Tally, is_right
from agent.firmware.engines.slot_file import SlotFile, create, open_to_read
from agent.firmware.engines.slot_index import chunks_per_read
from agent.firmware.errors import SlotFailed
from agent.firmware.faults import slot_faults
from agent.firmware.manifest import FileEntry, Payload
from agent.firmware.storage import Kind, Storage


class FileSet:
    """A payload's files as they stand, or shall stand, in one folder."""

    def __init__(self, storage: Storage, payload: Payload, folder: Path) -> None:
        self._storage, self._payload, self.folder = storage, payload, folder
        self._starts: Final = [entry.offset for entry in payload.files]
        paths = [folder / entry.path for entry in payload.files]
        self._paths: Final = dict(zip(paths, payload.files, strict=True))
        inner = {parent for path in paths for parent in path.parents if folder in parent.parents}
        self.folders: Final = [folder, *sorted(inner)]  # each after the one it is in

    def parts(self, first: int, count: int = 1) -> Iterator[tuple[FileEntry, int, int]]:
        """Which file, from where in it, and how many bytes, for the content of some chunks in its order."""
        at = first * self._payload.chunk_size
        end = min(self._payload.size, at + count * self._payload.chunk_size)
        for entry in self._payload.files[max(0, bisect_right(self._starts, at) - 1) :]:
            if entry.offset >= end:
                return
            stop = min(end, entry.offset + entry.size)
            if at < stop:
                yield entry, at - entry.offset, stop - at
                at = stop

    def chunk(self, index: int) -> bytes | None:
        """The right content of one chunk, if the files hold it."""
        content = self._read(index, 1)
        return content if is_right(self._payload.chunks[index], content) else None

    def _read(self, first: int, count: int) -> bytes:
        """What the files hold of some chunks; less, or shifted, where a file is missing or short."""
        pieces = []
        for entry, start, length in self.parts(first, count):
            path = self.folder / entry.path
            if self._kind(path) is Kind.FILE:
                with open_to_read(self._storage, path) as file:
                    pieces.append(file.read(start, length))
        return b"".join(pieces)

    def _kind(self, path: Path) -> Kind | None:
        with slot_faults(path):
            return self._storage.kind(path)

    def fault(self) -> tuple[Path, str] | None:
        """The first thing that is not as it shall be: which path, and what. None: all of it is there, and no more."""
        folders = set(self.folders)
        for folder in self.folders:
            if self._kind(folder) is not Kind.FOLDER:
                return folder, "it is not a folder"
            with slot_faults(folder):
                names = self._storage.names(folder)
            for path in (folder / name for name in names):
                wanted = Kind.FILE if path in self._paths else Kind.FOLDER if path in folders else None
                if self._kind(path) is not wanted:
                    return path, "it does not belong there"
        for path, entry in self._paths.items():
            if self._size(path) != entry.size:
                return path, f"it has not {entry.size} bytes"
        size, count = self._payload.chunk_size, chunks_per_read(self._payload)
        for first in range(0, len(self._payload.chunks), count):
            content = self._read(first, count)
            for index, chunk in enumerate(self._payload.chunks[first : first + count], first):
                start = (index - first) * size
                if not is_right(chunk, content[start : start + self._payload.chunk_length(index)]):
                    entry, at, _ = next(self.parts(index))
                    return self.folder / entry.path, f"chunk {index}, from offset {at}, does not hold what was written"
        return None

    def _size(self, path: Path) -> int | None:
        if self._kind(path) is not Kind.FILE:
            return None
        with open_to_read(self._storage, path) as file:
            return file.size

    def sync(self) -> None:
        """Everything, whoever wrote it."""
        for path in self._paths:
            with open_to_read(self._storage, path) as file:
                file.sync()
        self.sync_names()

    def sync_names(self) -> None:
        for folder in (*reversed(self.folders), self.folder.parent):
            with slot_faults(folder):
                self._storage.sync_folder(folder)

    def make_empty(self) -> None:
        """The folders, without the files that have content."""
        remove_all(self._storage, self.folder)
        for folder in (self.folder.parent, *self.folders):
            with slot_faults(folder):
                self._storage.make_folder(folder)
        for path, entry in self._paths.items():
            if entry.size == 0:
                with create(self._storage, path, entry.mode) as file:
                    file.sync()


class _Filler:
    """Content in its order becomes files; at most one is open."""

    def __init__(self, storage: Storage, files: FileSet) -> None:
        self._storage, self._files = storage, files
        self._open: SlotFile | None = None

    def __enter__(self) -> _Filler:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def put(self, index: int, content: bytes) -> None:
        view = memoryview(content)
        for entry, start, length in self._files.parts(index):
            if self._open is None:
                self._open = create(self._storage, self._files.folder / entry.path, entry.mode)
            self._open.write(start, view[:length])
            view = view[length:]
            if start + length == entry.size:
                self._open.sync()
                self._close()

    def _close(self) -> None:
        file, self._open = self._open, None
        if file is not None:
            file.close()


def write_files(
    storage: Storage, payload: Payload, bundle: BundleStream, tally: Tally, folder: Path, other: Path | None
) -> None:
    """All files are whole and durable in ``folder`` when it returns; ``other`` is the other slot's folder. Raises
    ``UpdateRefused``, ``SourceLost``, ``SlotFailed`` and what the listener raises."""
    files = FileSet(storage, payload, folder)
    is_there = files.fault() is None
    place = files if is_there else FileSet(storage, payload, other) if other is not None else None
    if not is_there:
        files.make_empty()
    with _Filler(storage, files) as filler:
        for index, offset in enumerate(payload.chunk_offsets()):
            content = bundle.chunk(payload, index, offset, partial(place.chunk, index) if place else _nowhere)
            if not is_there:
                filler.put(index, content)
                tally.written_bytes += len(content)
            tally.add(len(content))
    if is_there:
        files.sync()
    else:
        files.sync_names()


def _nowhere() -> None:
    """Where there is no other slot."""


def read_back_files(storage: Storage, payload: Payload, folder: Path, tally: Tally) -> None:
    """Every file from the medium, hashed. Raises ``SlotFailed`` for the first that is wrong."""
    fault = FileSet(storage, payload, folder).fault()
    if fault is not None:
        path, why = fault
        raise SlotFailed(str(path), why, "install again; if it happens again, the storage is failing")
    tally.add(payload.size)


def remove_all(storage: Storage, path: Path) -> None:
    """A file, a link or a folder with all that is in it; nothing happens where nothing is."""
    left = [path]
    while left:
        last = left[-1]
        with slot_faults(last):
            kind = storage.kind(last)
            if kind is Kind.FOLDER and (names := storage.names(last)):
                left.extend(last / name for name in names)
                continue
            if kind is Kind.FOLDER:
                storage.remove_folder(last)
            elif kind is not None:
                storage.remove(last)
        left.pop()
