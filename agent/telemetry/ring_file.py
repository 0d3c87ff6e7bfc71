"""The newest lines of a log, in two files of bounded size: written by one process, read by others.

Charter: lines in, lines out; what they say is not known here, but for ``entries``, which reads them as the JSON they
are. ``path`` is the file that is written; when it is full it becomes ``path.1``, and the one before is gone. Meant
for a file system in memory (/run): nothing is synced, and nothing here wears out flash.

Writing never raises and never waits: a log that cannot be kept must not stop a charger. The first failure is told,
later ones are silent. A line that was cut (no room, a kill in mid-write) stays alone: the next one begins a new line.

A reader survives a turn of the ring. After two turns between two looks the lines between them are lost to it.

Units: bytes.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

FILE_BYTES: Final = 512 * 1024
LINE_MAX_BYTES: Final = 32 * 1024

_READ_MAX_BYTES: Final = 4 * FILE_BYTES
_FOLDER_MODE: Final = 0o750
_FILE_MODE: Final = 0o640


def older(path: Path) -> Path:
    """The file that ``path`` becomes when it is full."""
    return path.with_name(f"{path.name}.1")


class RingFile:
    """The writing side. ``on_trouble`` hears once why lines cannot be kept."""

    def __init__(
        self, path: Path, on_trouble: Callable[[str], None] = lambda _why: None, *, file_bytes: int = FILE_BYTES
    ) -> None:
        self._path = path
        self._on_trouble = on_trouble
        self._file_bytes = file_bytes
        self._file: int | None = None
        self._size = 0
        self._told = False

    def append(self, line: str) -> None:
        """Add a line (without its end). One that is too long is replaced by its size."""
        data = line.encode("utf-8", "backslashreplace") + b"\n"
        if len(data) > LINE_MAX_BYTES:
            data = json.dumps({"event": "line left out", "bytes": len(data)}).encode() + b"\n"
        try:
            self._write(data)
        except OSError as error:
            self.close()
            if not self._told:
                self._told = True
                self._on_trouble(f"{self._path}: {error.strerror or error}")

    def close(self) -> None:
        """The next line opens the file again."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.close(self._file)
        self._file = None

    def _write(self, data: bytes) -> None:
        file = self._open() if self._file is None else self._file
        if self._size + len(data) > self._file_bytes:
            self.close()
            self._path.replace(older(self._path))
            file = self._open()
        written = os.write(file, data)
        self._size += written
        if written < len(data):
            raise OSError(errno.ENOSPC, "no room for a whole line")

    def _open(self) -> int:
        if not self._path.parent.is_dir():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.parent.chmod(_FOLDER_MODE)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = file = os.open(self._path, flags, _FILE_MODE)
        os.fchmod(file, _FILE_MODE)  # the group reads, whatever the process's mask is
        self._size = os.fstat(file).st_size
        if self._size and os.pread(file, 1, self._size - 1) != b"\n":
            self._size += os.write(file, b"\n")
        return file


class RingReader:
    """The reading side. Missing files are empty ones; whatever else prevents reading raises ``OSError``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        self._rest = b""  # of a line that is not whole yet

    def last(self, count: int) -> list[str]:
        """The newest ``count`` lines, the oldest first. ``new`` goes on from here."""
        self.close()
        now = self._following()
        before: list[str] = []
        if len(now) < count and not self._is_open(older(self._path)):
            with contextlib.suppress(FileNotFoundError):
                before = _lines(older(self._path).read_bytes()[-_READ_MAX_BYTES:])[0]
        return (before + now)[-count:] if count > 0 else []

    def new(self) -> list[str]:
        """The whole lines that came since the last look."""
        turned = self._file is not None and not self._is_open(self._path)
        lines = self._following()
        if turned:  # nobody writes to the old one any more, so it was read to its end
            self.close()
            lines += self._following()
        return lines

    def close(self) -> None:
        """Forget where reading stopped."""
        if self._file is not None:
            os.close(self._file)
        self._file, self._rest = None, b""

    def _following(self) -> list[str]:
        if self._file is None:
            try:
                self._file = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                return []
        lines, self._rest = _lines(self._rest + os.read(self._file, _READ_MAX_BYTES))
        return lines

    def _is_open(self, path: Path) -> bool:
        if self._file is None:
            return False
        try:
            there = path.stat()
        except FileNotFoundError:
            return False
        here = os.fstat(self._file)
        return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)


def _lines(data: bytes) -> tuple[list[str], bytes]:
    """The whole lines, and what comes after the last."""
    *whole, rest = data.split(b"\n")
    return [line.decode(errors="replace") for line in whole], rest


def entries(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The lines that are JSON objects; of the others (cut ones) nothing can be said."""
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):
            if isinstance(entry := json.loads(line), dict):
                yield entry
