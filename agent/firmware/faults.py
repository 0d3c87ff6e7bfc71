"""Storage errors as ``SlotFailed``: which file, what happened, what to do.

Charter: the only place of updating that turns ``OSError`` into words. It wraps single calls of the storage, so that an
error of the bundle's source or of a progress listener is never taken for one of the slot. Source: errno(3).
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from typing import Final

from agent.firmware.errors import SlotFailed

_REMEDIES: Final = {
    errno.EBUSY: "it is mounted or in use otherwise; check which device is configured for this slot",
    errno.ENOENT: "check the path in the configuration",
    errno.ELOOP: "it is a symbolic link; name the file or device itself",
    errno.EACCES: "give the update service the right to it",
    errno.EPERM: "give the update service the right to it",
    errno.EROFS: "make it writable for the update service (mount it read-write)",
    errno.ENOSPC: "make room on it",
    errno.EFBIG: "remove the file; it is not the agent's",
    errno.EIO: "the storage is failing; replace it",
}
_LOOK: Final = "check the storage and the kernel's log"
_WRITING: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


@contextlib.contextmanager
def slot_faults(what: object, remedy: str = "") -> Iterator[None]:
    """Around storage calls that concern ``what``. Raises ``SlotFailed`` for their ``OSError``. ``remedy``: what helps
    here, unless it may not be written at all."""
    try:
        yield
    except OSError as error:
        number = error.errno or 0
        if not remedy or number in _WRITING:
            remedy = _REMEDIES.get(number, _LOOK)
        raise SlotFailed(str(what), error.strerror or str(error), remedy) from error
