"""A serial port under the event loop: bytes in by callback, bytes out at once, reopened when lost.

Charter: the transport of the pilot drivers. It knows no protocol. It exists, instead of a library,
because a pilot driver needs two things: a hang-up must be noticed at once and told once, and a
withdrawal of power must overtake whatever still waits to be sent. ``pyserial`` opens and configures
the port; reading and writing use the descriptor directly, so that no thread or task stands between
a byte and the driver.

A port on which nothing at all is heard for half a minute while frames go out is opened anew: an adapter whose reading
has stopped stays open and silent for ever, and nothing else would tell.

The kernel's own transmit buffer cannot be overtaken; pilot protocols send some ten bytes at a time,
so it is empty but for a hung adapter.

Units: seconds, bytes, bits per second.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import termios
from collections import deque
from collections.abc import Callable
from pathlib import Path

import serial

from hal.tty import drop_output

_READ_BYTES = 4096
_BACKLOG_BYTES = 4096  # 0.35 s at 115200; a port that takes no more for that long is stuck
_FIRST_RETRY_S = 0.2
_LAST_RETRY_S = 5.0
_SILENCE_REOPEN_S = 30.0
_DRAIN_STEPS, _DRAIN_STEP_S = 20, 0.01


def is_pty(path: str) -> bool:
    """A pty has no parity; a simulator behind it does not miss it."""
    return str(Path(path).resolve()).startswith("/dev/pts/")


class SerialLine:
    """One serial port. All callbacks run in the event loop's thread.

    ``on_open()`` follows every successful open; ``on_lost(detail)`` follows every loss and the first
    of a series of failed opens, never from inside ``write``. ``parity`` is ``N``, ``E`` or ``O``.
    """

    def __init__(
        self,
        path: str,
        *,
        baud: int,
        parity: str = "N",
        on_open: Callable[[], None],
        on_bytes: Callable[[bytes], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self.path = path
        self._baud = baud
        self._parity = parity
        self._on_open = on_open
        self._on_bytes = on_bytes
        self._on_lost = on_lost
        self._loop: asyncio.AbstractEventLoop | None = None
        self._port: serial.Serial | None = None
        self._fd = -1
        self._backlog: deque[bytes] = deque()
        self._head_begun = False  # part of the first frame is already on the wire
        self._retry: asyncio.TimerHandle | None = None
        self._retry_s = _FIRST_RETRY_S
        self._lost_told = False
        self._closed = False
        self._heard_at_s = 0.0  # or opened

    @property
    def is_open(self) -> bool:
        return self._fd >= 0

    def start(self) -> None:
        """Open now, and again after every loss, until ``close``. Call once, inside the running loop."""
        if self._loop is not None:
            raise RuntimeError(f"{self.path}: started twice")
        self._loop = asyncio.get_running_loop()
        self._open()

    def write(self, frame: bytes) -> None:
        """Send one frame after what already waits. Without an open port it is lost, as on a wire."""
        if not self.is_open or self._loop is None:
            return
        if self._loop.time() - self._heard_at_s > _SILENCE_REOPEN_S:
            self._lose_soon(f"nothing heard for {_SILENCE_REOPEN_S:g} s")
            return
        if sum(map(len, self._backlog)) + len(frame) > _BACKLOG_BYTES:
            self._lose_soon("the port takes no more bytes")
            return
        self._backlog.append(frame)
        self._send()

    def write_urgent(self, frame: bytes) -> bool:
        """Send one frame now, instead of what waits; only a frame already begun is finished first.

        What waited is older than this frame and may contradict it (a grant of power behind its
        withdrawal), so it is discarded. Returns whether that happened: the caller then repeats
        what still holds.
        """
        kept = 1 if self._head_begun else 0
        discarded = len(self._backlog) > kept
        while len(self._backlog) > kept:
            self._backlog.pop()
        self.write(frame)
        return discarded

    async def close(self) -> None:
        """Give what waits a moment to leave, then release the port. No callback comes any more."""
        self._closed = True
        if self._retry is not None:
            self._retry.cancel()
        for _ in range(_DRAIN_STEPS):
            if not self._waits():
                break
            await asyncio.sleep(_DRAIN_STEP_S)
        self._release(flush=self._waits())

    def _waits(self) -> bool:
        """Something has not left yet: here, or in the kernel."""
        if self._backlog or self._port is None:
            return bool(self._backlog)
        with contextlib.suppress(OSError, termios.error):
            return self._port.out_waiting > 0
        return False

    def _open(self) -> None:
        assert self._loop is not None
        self._retry = None
        try:
            self._port = self._open_port()
        except (OSError, termios.error) as error:  # SerialException is an OSError
            self._retry_later()
            self._tell_lost(str(error))
            return
        self._fd = self._port.fileno()
        self._heard_at_s = self._loop.time()
        self._lost_told = False
        self._loop.add_reader(self._fd, self._readable)
        self._on_open()

    def _open_port(self) -> serial.Serial:
        # inter_byte_timeout=0 makes pyserial set VMIN=1, so that an empty read means hang-up alone.
        try:
            return serial.Serial(self.path, self._baud, parity=self._parity, exclusive=True, inter_byte_timeout=0)
        except termios.error:
            if not is_pty(self.path):
                raise
            return serial.Serial(self.path, self._baud, exclusive=True, inter_byte_timeout=0)

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(str(error))
            return
        if not data:
            self._lose("hang-up")
            return
        assert self._loop is not None
        self._heard_at_s = self._loop.time()
        self._retry_s = _FIRST_RETRY_S  # the far end lives: the next loss is a new one
        self._on_bytes(data)

    def _send(self) -> None:
        assert self._loop is not None
        while self._backlog:
            frame = self._backlog[0]
            try:
                sent = os.write(self._fd, frame)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                self._lose_soon(str(error))
                return
            if sent < len(frame):
                self._backlog[0] = frame[sent:]
                self._head_begun = self._head_begun or sent > 0
                self._loop.add_writer(self._fd, self._send)
                return
            self._backlog.popleft()
            self._head_begun = False
        self._loop.remove_writer(self._fd)

    def _lose_soon(self, detail: str) -> None:
        """A write failed: tell it from the loop, because the caller is in the middle of something."""
        assert self._loop is not None
        self._release()
        self._retry_later()
        self._loop.call_soon(self._tell_lost, detail)

    def _lose(self, detail: str) -> None:
        self._release()
        self._retry_later()
        self._tell_lost(detail)

    def _tell_lost(self, detail: str) -> None:
        if self._lost_told or self._closed:
            return
        self._lost_told = True
        self._on_lost(detail)

    def _retry_later(self) -> None:
        assert self._loop is not None
        if self._closed:
            return
        self._retry = self._loop.call_later(self._retry_s, self._open)
        self._retry_s = min(self._retry_s * 2, _LAST_RETRY_S)

    def _release(self, *, flush: bool = True) -> None:
        self._backlog.clear()
        self._head_begun = False
        if self._port is None or self._loop is None:
            return
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        self._fd = -1
        if flush:  # the last words of an orderly end may leave
            drop_output(self._port)
        self._port.close()
        self._port = None
