"""Which errors of files pass by themselves.

Charter: one judgement for all who must not give up for good on account of one: a process that says "a person has to
change something" is not started again.
"""

from __future__ import annotations

import errno
from typing import Final

_A_PERSONS: Final = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.EROFS}
)


def is_passing(error: OSError) -> bool:
    """Whether nobody need do anything about it: not what only a person can change (no such file, no right to it), but
    a storage that cannot be read just now, or no memory for it."""
    return error.errno is not None and error.errno not in _A_PERSONS
