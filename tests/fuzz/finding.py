"""What a bad input does, and the same with fewer bytes.

Charter: tells findings apart by the error's type and the line that raised it, as far as that line is ours; and cuts an
input down as long as it is the same finding.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.fuzz.target import Target, feed

_ROOT: Final = Path(__file__).parents[2]
_OURS: Final = (str(_ROOT / "agent"), str(_ROOT / "hal"))
_TRIES_MAX: Final = 3_000


@dataclass(frozen=True, slots=True)
class Finding:
    """``where``: the last line of the product on the way, or of the target where its own check failed."""

    error: str
    where: str

    def __str__(self) -> str:
        return f"{self.error} at {self.where}"


def finding(target: Target, data: bytes) -> Finding | None:
    """None: all is well."""
    try:
        feed(target, data)
    except Exception as error:
        return _of(error)
    return None


def _of(error: BaseException) -> Finding:
    if isinstance(error, BaseExceptionGroup):  # a task group's; the first of several counts
        return _of(error.exceptions[0])
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if frame.filename.startswith(_OURS)] or frames
    # A recursion ends on any line of its circle.
    line = "" if isinstance(error, RecursionError) else f":{ours[-1].lineno}"
    return Finding(type(error).__name__, f"{Path(ours[-1].filename).name}{line}")


def minimised(target: Target, data: bytes) -> bytes:
    """A shorter input with the same finding: ever smaller pieces are left out while that holds."""
    same = finding(target, data)
    tries, size = 0, max(len(data) // 2, 1)
    while size and tries < _TRIES_MAX:
        at, shorter = 0, False
        while at < len(data) and tries < _TRIES_MAX:
            tries += 1
            without = data[:at] + data[at + size :]
            if finding(target, without) == same:
                data, shorter = without, True
            else:
                at += size
        if not shorter or size > 1:
            size //= 2
    return data
