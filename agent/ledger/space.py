"""Room on the ledger's disk: a mark under which readings are left out, a floor under which nothing new should begin,
and a reserve to end with.

Charter: looks at the free space of the file system, and in the ledger what cuts have freed (its file does not
shrink), and keeps one file that only takes up space. What is refused below the floor is decided elsewhere. While a
transaction runs its end must fit whatever happens: when a commit finds the disk full, the reserve is given up and the
commit tried once more.

Sources: metering reference 4.2. Units: bytes.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from agent.ledger.database import WAL_KEEP_BYTES
from agent.ledger.reader import LedgerReader

FLOOR_BYTES: Final = 16 * 1024 * 1024
SCARCE_FLOORS: Final = 2
"""Below so many floors only starts and ends should be written: what lies between has room for a thousand of them."""

RESERVE_BYTES: Final = 4 * 1024 * 1024
"""Thousands of rows: more than any night of open transactions needs to end."""

_NO_SPACE: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class FileSystem(Protocol):
    """What is looked at of ``os.statvfs_result``."""

    @property
    def f_bavail(self) -> int: ...

    @property
    def f_frsize(self) -> int: ...


Look = Callable[[Path], FileSystem]


@dataclass(frozen=True, slots=True)
class Room:
    """``free_bytes`` of the file system. ``low``: less than the floor is free, there and in the ledger together, the
    reserve not counted. ``scarce``: so is less than the mark for readings; always where it is ``low``."""

    free_bytes: int
    low: bool
    scarce: bool


def room(path: Path, floor_bytes: int = FLOOR_BYTES, look: Look = os.statvfs, *, was_scarce: bool = False) -> Room:
    """The room where ``path`` is, which need not exist but its directory must. Raises ``OSError``, ``LedgerError``.

    ``was_scarce``: at the last look. It is over only a quarter of a floor above the mark: the WAL comes and goes."""
    free_bytes = _free_bytes(path, look)
    mark_bytes = SCARCE_FLOORS * floor_bytes + (floor_bytes // 4 if was_scarce else 0)
    if free_bytes >= mark_bytes:
        return Room(free_bytes, low=False, scarce=False)
    all_bytes = free_bytes + _free_inside(path, free_bytes)
    return Room(free_bytes, low=all_bytes < floor_bytes, scarce=all_bytes < mark_bytes)


def _free_bytes(path: Path, look: Look) -> int:
    found = look(path.parent)
    return found.f_bavail * found.f_frsize


def _free_inside(path: Path, free_bytes: int) -> int:
    """What counts of the ledger's free pages: nothing unless the WAL has its room outside, since all that is written
    goes there first."""
    with contextlib.suppress(FileNotFoundError):
        free_bytes += path.with_name(path.name + "-wal").stat().st_size
    if free_bytes < WAL_KEEP_BYTES or not path.exists():
        return 0
    with LedgerReader(path) as reader:
        return reader.free_page_bytes()


class Reserve:
    """A file beside the ledger at ``path`` that can be given up for the space it takes."""

    def __init__(
        self,
        path: Path,
        size_bytes: int = RESERVE_BYTES,
        floor_bytes: int = FLOOR_BYTES,
        look: Look = os.statvfs,
    ) -> None:
        self._ledger = path
        self.file = path.with_name(path.name + ".reserve")
        self._size_bytes = size_bytes
        self._floor_bytes = floor_bytes
        self._look = look

    def ensure(self) -> bool:
        """Make it, if it is not there whole and there is room above the floor. Returns whether it is there.

        Call at start and now and then: it comes back when space does. Raises ``OSError`` for anything
        but a lack of space."""
        if self._is_whole():
            return True
        if _free_bytes(self._ledger, self._look) < self._floor_bytes + self._size_bytes:
            return False
        try:
            self._make()
        except OSError as error:
            self.release()
            if error.errno in _NO_SPACE:
                return False
            raise
        return True

    def release(self) -> bool:
        """Give it up; False if there is nothing to give. May be called in any thread."""
        try:
            self.file.unlink()
        except OSError:  # also a file system that became read-only: no room comes of it
            return False
        return True

    def _is_whole(self) -> bool:
        with contextlib.suppress(FileNotFoundError):
            found = self.file.stat()
            # Its length alone may be that of a file with a hole: a power cut came before its blocks.
            return found.st_size == self._size_bytes and found.st_blocks * 512 >= self._size_bytes
        return False

    def _make(self) -> None:
        descriptor = os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, self._size_bytes)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        directory = os.open(self.file.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
