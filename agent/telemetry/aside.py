"""Standard error of a process that runs for months: whoever writes to it never waits for its reader, and never fails.

Charter: bytes in, bytes out, by a thread of its own. The reader may go away (a closed terminal, the end of ``tee``),
its disk may be full, or it may stand still (Ctrl-S, ``less``, a journal that waits): none of that may stop a charger.
What finds no room, or cannot be written, is lost; how much is said as soon as something can be written again. To make
the descriptor non-blocking would not do: that is a property of the pipe or terminal, which others use as well.
"""

from __future__ import annotations

import atexit
import io
import os
import select
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

ROOM_BYTES: Final = 256 * 1024
_END_S = 0.5
"""How long a process that ends waits for a reader. One that reads takes all there is in far less."""


def stderr_aside() -> None:
    """From now on all that goes to ``sys.stderr`` takes this way: logs, tracebacks, ``print``."""
    # Whoever started us without a standard error gets one, or the next file that is opened would be taken for it.
    descriptor = os.open(os.devnull, os.O_WRONLY) if sys.stderr is None else sys.stderr.fileno()
    aside = Aside(descriptor)
    atexit.register(aside.end)
    sys.stderr = io.TextIOWrapper(aside, "utf-8", "backslashreplace", line_buffering=True)


class Aside(io.RawIOBase):
    """Takes at most ``ROOM_BYTES`` ahead of the reader of ``descriptor``, or one line if that is longer.

    ``lost_line`` makes the text that says how many lines are missing at this place."""

    name = "<stderr>"

    def __init__(self, descriptor: int) -> None:
        self.lost_line: Callable[[int], str] = "{} lines lost\n".format
        self._descriptor = descriptor
        # Re-entrant: a finalizer that complains may run anywhere, in the middle of ``write`` as well.
        self._changed = threading.Condition(threading.RLock())
        self._waiting: deque[tuple[int, bytes]] = deque()  # lines that were lost before, what is to be written
        self._held_bytes = 0  # of all that is not written yet
        self._lost = 0  # since the last that was taken
        self._ended = False
        threading.Thread(target=self._write_all, name="stderr", daemon=True).start()  # ends with the process

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]  # Buffer is of Python 3.12
        taken = bytes(data)
        if self._ended:
            return len(taken)
        with self._changed:
            if self._held_bytes and self._held_bytes + len(taken) > ROOM_BYTES:
                self._lost += taken.count(b"\n")
            else:
                self._waiting.append((self._lost, taken))
                self._lost = 0
                self._held_bytes += len(taken)
                self._changed.notify_all()
        return len(taken)

    def end(self) -> None:
        """Wait a moment until all is written. What comes after that is dropped: while Python ends, the thread may
        hold the lock for ever."""
        self.drain(_END_S)
        self._ended = True

    def drain(self, within_s: float) -> bool:
        """Wait until all is written or lost; False: it is not."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._held_bytes, within_s)

    def _write_all(self) -> None:
        lost, torn = 0, False
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                lost_before, data = self._waiting.popleft()
            lost += lost_before
            note = self.lost_line(lost).encode() if lost else b""
            if left := self._write_now((b"\n" if torn else b"") + note + data):
                lost += data.count(b"\n")
                torn = torn or left < len(note + data)
            else:
                lost, torn = 0, False
            with self._changed:
                self._held_bytes -= len(data)
                self._changed.notify_all()

    def _write_now(self, data: bytes) -> int:
        """How many bytes could not be written."""
        left = memoryview(data)
        try:
            while left:
                try:
                    left = left[os.write(self._descriptor, left) :]
                except BlockingIOError:  # another user of this pipe or terminal made it so
                    poll = select.poll()
                    poll.register(self._descriptor, select.POLLOUT)
                    poll.poll()
        except OSError:
            pass  # counted: there is no other place to say it
        return len(left)
