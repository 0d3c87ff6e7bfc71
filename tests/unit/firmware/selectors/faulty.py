"""A storage that refuses, as a read-only or a dying medium does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agent.firmware.storage import StoredFile
from tests.support.power_disk import PowerDisk


class Faulty:
    """Every change (``on_read``: every access) fails with ``code``."""

    def __init__(self, disk: PowerDisk, code: int, *, on_read: bool = False) -> None:
        self._disk = disk
        self._code = code
        self._on_read = on_read

    def __getattr__(self, name: str) -> Any:
        if name in ("create", "remove", "rename", "sync_folder"):
            return self._refuse
        return getattr(self._disk, name)

    def open(self, path: Path, *, writable: bool = False, **how: bool) -> StoredFile:
        file = self._disk.open(path, **how)  # what is not there is not there here either
        if writable or self._on_read:
            self._refuse()
        return file

    def names(self, folder: Path) -> list[str]:
        if self._on_read:
            self._refuse()
        return self._disk.names(folder)

    def _refuse(self, *_: object) -> Any:
        raise OSError(self._code, "no")
