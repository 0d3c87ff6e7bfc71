"""The storage below updating: every write that decides what boots goes through here.

Charter: the port (``Storage``, ``StoredFile``) and the real one. It is narrow so that a test can count its steps and
cut the power after each. Nothing is durable before ``StoredFile.sync`` (content) and ``Storage.sync_folder`` (names).
All methods raise ``OSError``. Offsets and sizes are bytes.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import mmap
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

BLOCK_BYTES: Final = 4096
"""Uncached reads are aligned to this."""


class Kind(enum.Enum):
    """What stands under a name; a symbolic link is OTHER, wherever it leads."""

    FILE = "file"
    FOLDER = "folder"
    OTHER = "other"


class StoredFile(Protocol):
    """An open file or block device."""

    size: int

    def read(self, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset``; fewer only at the end."""
        ...

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """All of ``data`` at ``offset``; a file may grow, a device cannot."""
        ...

    def sync(self) -> None:
        """What was written is durable when this returns."""
        ...

    def close(self) -> None: ...


class Storage(Protocol):
    """Files by their paths."""

    def open(
        self, path: Path, *, writable: bool = False, uncached: bool = False, exclusive: bool = False
    ) -> StoredFile:
        """An existing file or device. ``uncached``: reads come from the medium, not from memory, where the
        file system can do that; of a writable one, what is written goes to the medium soon and does not fill the
        memory. ``exclusive``: a device that is in use otherwise (mounted) is refused (EBUSY)."""
        ...

    def create(self, path: Path, mode: int = 0o600) -> StoredFile:
        """A new, empty, writable file. Raises ``FileExistsError``. Its name is durable after ``sync_folder``."""
        ...

    def names(self, folder: Path) -> list[str]:
        """Sorted names in ``folder``."""
        ...

    def kind(self, path: Path) -> Kind | None:
        """What stands there; None: nothing."""
        ...

    def rename(self, old: Path, new: Path) -> None:
        """Replaces what ``new`` was. Durable after ``sync_folder``; on FAT a power cut before that may leave
        both names or neither."""
        ...

    def remove(self, path: Path) -> None: ...

    def make_folder(self, path: Path) -> None:
        """One folder; nothing happens if it is there."""
        ...

    def remove_folder(self, path: Path) -> None:
        """An empty one."""
        ...

    def sync_folder(self, folder: Path) -> None: ...

    def free_bytes(self, folder: Path) -> int:
        """What may still be written on its file system."""
        ...


@contextlib.contextmanager
def opened(file: StoredFile) -> Iterator[StoredFile]:
    """Closes the file whatever happens."""
    try:
        yield file
    finally:
        file.close()


def read_small(storage: Storage, path: Path, max_bytes: int) -> bytes | None:
    """A whole small file; None where there is none. Raises ``OSError`` (EFBIG) where it is larger."""
    try:
        file = storage.open(path)
    except FileNotFoundError:
        return None
    with opened(file):
        if file.size > max_bytes:
            raise OSError(errno.EFBIG, f"{file.size} bytes, at most {max_bytes} expected", str(path))
        return file.read(0, file.size)


def replace(storage: Storage, path: Path, data: bytes, mode: int = 0o600) -> None:
    """Put ``data`` under ``path``: a power cut leaves the old or the new content whole. Not for FAT."""
    aside = path.with_name(f".{path.name}.new")
    with contextlib.suppress(FileNotFoundError):  # what a power cut left of an earlier try
        storage.remove(aside)
    with opened(storage.create(aside, mode)) as file:
        file.write(0, data)
        file.sync()
    storage.rename(aside, path)
    storage.sync_folder(path.parent)


class FileStorage:
    """The machine's own files. Never follows a symbolic link in the last part of a path."""

    def open(
        self, path: Path, *, writable: bool = False, uncached: bool = False, exclusive: bool = False
    ) -> StoredFile:
        flags = (os.O_RDWR if writable else os.O_RDONLY) | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        if exclusive:
            flags |= os.O_EXCL  # means something for block devices only
        direct = False
        if uncached and not writable:
            try:
                descriptor, direct = os.open(path, flags | os.O_DIRECT), True
            except OSError:  # not on this file system
                descriptor = os.open(path, flags)
        else:
            descriptor = os.open(path, flags)
        return _File(descriptor, path, uncached=uncached, direct=direct)

    def create(self, path: Path, mode: int = 0o600) -> StoredFile:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, mode)
        os.fchmod(descriptor, mode)
        return _File(descriptor, path)

    def names(self, folder: Path) -> list[str]:
        return sorted(os.listdir(folder))  # noqa: PTH208 - names are wanted, not paths

    def kind(self, path: Path) -> Kind | None:
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            return None
        return Kind.FILE if stat.S_ISREG(mode) else Kind.FOLDER if stat.S_ISDIR(mode) else Kind.OTHER

    def rename(self, old: Path, new: Path) -> None:
        old.replace(new)

    def remove(self, path: Path) -> None:
        path.unlink()

    def make_folder(self, path: Path) -> None:
        path.mkdir(exist_ok=True)

    def remove_folder(self, path: Path) -> None:
        path.rmdir()

    def sync_folder(self, folder: Path) -> None:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def free_bytes(self, folder: Path) -> int:
        found = os.statvfs(folder)
        return found.f_bavail * found.f_frsize


class _File:
    """See ``StoredFile``."""

    def __init__(self, descriptor: int, path: Path, *, uncached: bool = False, direct: bool = False) -> None:
        self._descriptor = descriptor
        self._uncached = uncached
        self._direct = direct
        mode = os.fstat(descriptor).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "neither a file nor a block device", str(path))
        self.size = os.lseek(descriptor, 0, os.SEEK_END)

    def read(self, offset: int, length: int) -> bytes:
        if self._direct:
            return self._read_direct(offset, length)
        if self._uncached:
            os.posix_fadvise(self._descriptor, offset, length, os.POSIX_FADV_DONTNEED)
        pieces = []
        while length > 0 and (piece := os.pread(self._descriptor, length, offset)):
            pieces.append(piece)
            offset, length = offset + len(piece), length - len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _read_direct(self, offset: int, length: int) -> bytes:
        """Whole blocks into page-aligned memory, as the kernel wants it."""
        start = offset - offset % BLOCK_BYTES
        end = -(-min(offset + length, self.size) // BLOCK_BYTES) * BLOCK_BYTES
        if end <= start:
            return b""
        with mmap.mmap(-1, end - start) as buffer:
            read = 0
            while read < end - start:
                with memoryview(buffer) as view, view[read:] as rest:
                    count = os.preadv(self._descriptor, [rest], start + read)
                if count <= 0:
                    break
                read += count
                if read % BLOCK_BYTES:  # the end of a file that is no multiple of a block
                    break
            return buffer[offset - start : min(offset - start + length, read)]

    def write(self, offset: int, data: bytes | memoryview) -> None:
        view, end = memoryview(data), offset + len(data)
        while view:
            written = os.pwrite(self._descriptor, view, end - len(view))
            view = view[written:]
        self.size = max(self.size, end)
        if self._uncached:  # the kernel begins to write now, and the last sync has little left to wait for
            os.posix_fadvise(self._descriptor, offset, end - offset, os.POSIX_FADV_DONTNEED)

    def sync(self) -> None:
        os.fsync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)
