"""One station at a time on one ledger and one socket.

Charter: locks (flock(2)) in the data and the run directory, taken before anything in them is opened. The kernel lets
go of them when the process ends, whatever ended it. An older station that is just ending is waited for.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from agent.station.build import make_durable_directory

LOCK_FILE: Final = "station.lock"
_PATIENCE_S: Final = 10.0  # a station that was told to stop has left by then
_LOOK_EVERY_S: Final = 0.1


class NotAlone(Exception):
    """Another station works here."""


@contextlib.contextmanager
def alone(data_dir: Path, run_dir: Path) -> Iterator[None]:
    """While this lasts no other station has either directory. Raises ``NotAlone``, and ``OSError`` where a lock cannot
    be made at all."""
    make_durable_directory(data_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    until_s = time.monotonic() + _PATIENCE_S
    with contextlib.ExitStack() as held:
        for folder in dict.fromkeys(each.resolve() for each in (data_dir, run_dir)):
            # Reading is enough for a lock, and lets one user have it after another.
            lock = os.open(folder / LOCK_FILE, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
            held.callback(os.close, lock)
            _take(lock, folder, until_s)
        yield


def _take(lock: int, folder: Path, until_s: float) -> None:
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until_s:
                raise NotAlone(f"another station works on {folder}; stop it first") from None
        time.sleep(_LOOK_EVERY_S)
