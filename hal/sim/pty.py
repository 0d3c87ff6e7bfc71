"""A serial cable made of a pty pair, with a stable name, pacing, and a plug that can be pulled.

Charter: the wire under every serial simulator. It moves bytes and knows no protocol. The driver opens
``path`` as it would open a real port; the simulator writes and hears through this object. A pty does
not pace at the baud rate and cannot do parity or 7 data bits: pacing is done here, and drivers under
test must be configured for parity N.

The slave descriptor stays open here too: otherwise the master sees EIO whenever the driver closes.

Units: ``baud`` in bits per second, ``bits_per_byte`` counts start, data, parity and stop bits.
"""

from __future__ import annotations

import asyncio
import os
import tty
from collections.abc import Callable
from pathlib import Path

_MAX_PENDING_BYTES = 64 * 1024  # what the simulator may have under way before bytes are lost, as on a wire
_READ_BYTES = 4096


class PtyLink:
    """One pty pair. ``link`` gives it a path that survives unplug and replug.

    ``baud`` delays every write by its length on the wire; None sends at once.
    """

    def __init__(self, link: Path | None = None, *, baud: int | None = None, bits_per_byte: int = 10) -> None:
        self._link = link
        self._seconds_per_byte = bits_per_byte / baud if baud else 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_bytes: Callable[[bytes], None] | None = None
        self._line_free_at = 0.0  # loop time
        self._on_the_wire: set[asyncio.TimerHandle] = set()
        self._pending = bytearray()  # arrived at the port, not yet taken by the kernel
        self._pending_bytes = 0  # pending plus still on the wire
        self._master_fd = -1
        self._slave_fd = -1
        self._tty = ""
        self._open()

    @property
    def master_fd(self) -> int:
        """The simulator's end; -1 while unplugged."""
        return self._master_fd

    @property
    def path(self) -> str:
        """What the driver opens. With ``link`` it stays the same over a replug."""
        return str(self._link) if self._link is not None else self._tty

    @property
    def plugged(self) -> bool:
        return self._master_fd >= 0

    def seconds_on_wire(self, byte_count: int) -> float:
        """How long so many bytes take at the configured pace; 0 without one."""
        return byte_count * self._seconds_per_byte

    def start(self, loop: asyncio.AbstractEventLoop, on_bytes: Callable[[bytes], None]) -> None:
        """Begin to hear what the driver writes; call inside the loop's thread. Calling again replaces ``on_bytes``."""
        self._loop = loop
        self._on_bytes = on_bytes
        if self.plugged:
            loop.add_reader(self._master_fd, self._readable)

    def write(self, data: bytes) -> None:
        """Send to the driver; never blocks. Bytes beyond the buffer, or while unplugged, are lost.

        Raises ``RuntimeError`` before ``start``.
        """
        if self._loop is None:
            raise RuntimeError("PtyLink.write before start")
        if not self.plugged or self._pending_bytes + len(data) > _MAX_PENDING_BYTES:
            return
        self._pending_bytes += len(data)
        if not self._seconds_per_byte:
            self._deliver(data)
            return
        arrives = max(self._loop.time(), self._line_free_at) + len(data) * self._seconds_per_byte
        self._line_free_at = arrives

        def arrived() -> None:
            self._on_the_wire.discard(handle)
            self._deliver(data)

        handle = self._loop.call_at(arrives, arrived)
        self._on_the_wire.add(handle)

    def unplug(self) -> None:
        """Pull the plug: both ends close, the driver sees a hang-up, the path disappears."""
        if not self.plugged:
            return
        for handle in self._on_the_wire:
            handle.cancel()
        self._on_the_wire.clear()
        self._pending.clear()
        self._pending_bytes = 0
        self._line_free_at = 0.0
        if self._loop is not None:
            self._loop.remove_reader(self._master_fd)
            self._loop.remove_writer(self._master_fd)
        if self._link is not None:
            self._link.unlink(missing_ok=True)
        os.close(self._master_fd)
        os.close(self._slave_fd)
        self._master_fd = self._slave_fd = -1

    def replug(self) -> None:
        """Plug in again: a fresh pty, at the same link."""
        if self.plugged:
            return
        self._open()
        if self._loop is not None:
            self._loop.add_reader(self._master_fd, self._readable)

    def close(self) -> None:
        """Release everything; harmless when already closed."""
        self.unplug()

    def _open(self) -> None:
        self._master_fd, self._slave_fd = os.openpty()
        tty.setraw(self._master_fd)
        tty.setraw(self._slave_fd)
        os.set_blocking(self._master_fd, False)
        self._tty = os.ttyname(self._slave_fd)
        if self._link is not None:
            fresh = self._link.with_name(self._link.name + ".new")
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(self._tty)
            fresh.replace(self._link)

    def _readable(self) -> None:
        try:
            data = os.read(self._master_fd, _READ_BYTES)
        except BlockingIOError:
            return
        if self._on_bytes is not None:
            self._on_bytes(data)

    def _deliver(self, data: bytes) -> None:
        self._pending += data
        self._writable()

    def _writable(self) -> None:
        assert self._loop is not None
        try:
            sent = os.write(self._master_fd, self._pending)
        except BlockingIOError:
            sent = 0
        del self._pending[:sent]
        self._pending_bytes -= sent
        if self._pending:
            self._loop.add_writer(self._master_fd, self._writable)
        else:
            self._loop.remove_writer(self._master_fd)
