"""Storage errors as ``SlotFailed``: which file, what happened, what to do.

Charter: the only place of the native engine that turns ``OSError`` into words. It wraps single calls of the storage,
so that an error of the bundle's source or of a progress listener is never taken for one of the slot.
Source: errno(3).
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final

from agent.firmware.errors import SlotFailed
from agent.firmware.storage import Storage, StoredFile

_REMEDIES: Final = {
    errno.EBUSY: "it is mounted or in use otherwise; check which device is configured for this slot",
    errno.ENOENT: "check the path in the configuration",
    errno.ELOOP: "it is a symbolic link; name the file or device itself",
    errno.EACCES: "give the agent's user the right to it",
    errno.EPERM: "give the agent's user the right to it",
    errno.EROFS: "make it writable",
    errno.ENOSPC: "make room on it",
    errno.EFBIG: "remove the file; it is not the agent's",
    errno.EIO: "the storage is failing; replace it",
}


@contextlib.contextmanager
def slot_faults(path: Path) -> Iterator[None]:
    """Around storage calls that concern ``path``. Raises ``SlotFailed`` for their ``OSError``."""
    try:
        yield
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, "check the storage and the kernel's log")
        raise SlotFailed(str(path), error.strerror or str(error), remedy) from error


class SlotFile:
    """A ``StoredFile`` that raises ``SlotFailed``; closes at the end of a ``with``."""

    __slots__ = ("_file", "path")

    def __init__(self, path: Path, file: StoredFile) -> None:
        self.path, self._file = path, file

    def __enter__(self) -> SlotFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        with slot_faults(self.path):
            self._file.close()

    @property
    def size(self) -> int:
        return self._file.size

    def read(self, offset: int, length: int) -> bytes:
        with slot_faults(self.path):
            return self._file.read(offset, length)

    def write(self, offset: int, data: bytes | memoryview) -> None:
        with slot_faults(self.path):
            self._file.write(offset, data)

    def sync(self) -> None:
        with slot_faults(self.path):
            self._file.sync()


def open_to_read(storage: Storage, path: Path) -> SlotFile:
    """What it holds on the medium, past the kernel's memory."""
    with slot_faults(path):
        return SlotFile(path, storage.open(path, uncached=True))


def open_to_fill(storage: Storage, path: Path) -> SlotFile:
    """A slot whose content is about to change; refused while it is mounted."""
    with slot_faults(path):
        return SlotFile(path, storage.open(path, writable=True, uncached=True, exclusive=True))


def create(storage: Storage, path: Path, mode: int) -> SlotFile:
    with slot_faults(path):
        return SlotFile(path, storage.create(path, mode))
