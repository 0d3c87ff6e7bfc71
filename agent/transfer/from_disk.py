"""A file on this device (a USB stick): a stream like the others, so that one reader serves all.

Charter: regular files only, never through a symbolic link in the last part of the path, never waiting for a pipe.
A file that changes while it is read is noticed by its inode, size and time of modification.
"""

from __future__ import annotations

import errno
import os
import stat

from agent.firmware.errors import SourceLost
from agent.transfer.location import Location
from agent.transfer.stream import CHANGED, Identity

_MAY_PASS = frozenset({errno.EIO, errno.EINTR, errno.EAGAIN, errno.ENFILE, errno.EMFILE, errno.ENOMEM})


class DiskOpener:
    """See ``Opener``."""

    def __init__(self, location: Location) -> None:
        self._location = location

    def open(self, offset: int, known: Identity | None) -> DiskStream:  # noqa: ARG002 - of no use here
        try:
            file = os.open(self._location.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise _lost(self._location, error) from error
        try:
            return DiskStream(self._location, file, offset)
        except BaseException:
            os.close(file)
            raise


class DiskStream:
    """See ``Stream``. Owns the descriptor."""

    def __init__(self, location: Location, file: int, offset: int) -> None:
        self._location = location
        self._file = file
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise SourceLost(f"{location}: it is not a regular file", retryable=False)
        self.start = os.lseek(file, offset, os.SEEK_SET)
        self.identity = _identity(file)

    def read(self, max_bytes: int) -> bytes:
        try:
            piece = os.read(self._file, max_bytes)
            now = _identity(self._file)
        except OSError as error:
            raise _lost(self._location, error) from error
        if now != self.identity:
            raise SourceLost(f"{self._location}: {CHANGED}", retryable=False)
        return piece

    def close(self) -> None:
        os.close(self._file)


def _identity(file: int) -> Identity:
    found = os.fstat(file)
    return Identity(found.st_size, f"{found.st_dev}-{found.st_ino}-{found.st_mtime_ns}")


def _lost(location: Location, error: OSError) -> SourceLost:
    why = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror
    return SourceLost(f"{location}: {why}", retryable=error.errno in _MAY_PASS)
