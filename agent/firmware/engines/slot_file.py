"""Files of a slot whose storage errors are ``SlotFailed``.

Charter: ``SlotFile`` and the ways to open one. Words and remedies are ``agent.firmware.faults``.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from agent.firmware.faults import slot_faults
from agent.firmware.storage import Storage, StoredFile


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
