"""The serial line to a boot loader: bytes out, so many bytes back within a time, and the two control lines.

Charter: the transport below ``stm32_loader``, opened for one task and closed after it. Unlike
``hal.pilots.serial_line`` it asks and waits, and never opens again: a hang-up ends the task with a typed error.

Units: milliseconds, bytes, bits per second.
"""

from __future__ import annotations

import asyncio
import os
import termios
from collections.abc import Callable
from typing import Final, Protocol

import serial

from hal.firmware import FirmwareFailed
from hal.pilots.serial_line import is_pty

_READ_BYTES: Final = 4096
_KEPT_BYTES: Final = 4096  # the longest answer has 257; what a chattering line sends beyond is dropped


class Wire(Protocol):
    """An open line. All but ``close`` raise ``FirmwareFailed`` when the line is gone."""

    def send(self, data: bytes) -> None: ...

    async def receive(self, count: int, timeout_ms: int) -> bytes:
        """The next ``count`` bytes; fewer where no more came in time."""
        ...

    def discard(self) -> None:
        """Forget what came so far."""
        ...

    def set_parity(self, *, even: bool) -> None:
        """Even parity, or none. At first it is even, as the STM32 boot loader demands."""
        ...

    def set_lines(self, *, dtr: bool, rts: bool) -> None:
        """True asserts a line. What that does to the controller's pins is the board's wiring."""
        ...

    def close(self) -> None: ...


OpenWire = Callable[[str, int], Wire]
"""Port and baud rate. Raises ``FirmwareFailed``. Called inside the running event loop."""


class SerialWire:
    """See ``Wire``."""

    def __init__(self, path: str, baud: int) -> None:
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._heard = bytearray()
        self._lost = ""
        self._news = asyncio.Event()
        try:
            # inter_byte_timeout=0 makes pyserial set VMIN=1, so that an empty read means hang-up alone.
            self._port = serial.Serial(path, baud, exclusive=True, inter_byte_timeout=0)
        except (OSError, termios.error) as error:  # SerialException is an OSError
            remedy = "check the name of the port, and that no pilot driver holds it"
            raise FirmwareFailed(path, f"cannot be opened ({error})", remedy) from error
        try:
            self.set_parity(even=True)
        except FirmwareFailed:
            self._port.close()
            raise
        self._loop.add_reader(self._port.fileno(), self._readable)

    def send(self, data: bytes) -> None:
        if self._lost:
            raise self._gone()
        try:
            sent = os.write(self._port.fileno(), data)
        except OSError as error:  # also a full buffer: here that is a port that takes nothing any more
            self._lost = str(error)
            raise self._gone() from error
        if sent < len(data):
            self._lost = "takes no more bytes"
            raise self._gone()

    async def receive(self, count: int, timeout_ms: int) -> bytes:
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                while len(self._heard) < count:
                    if self._lost:
                        raise self._gone()
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            pass
        answer = bytes(self._heard[:count])
        del self._heard[:count]
        return answer

    def discard(self) -> None:
        self._heard.clear()

    def set_parity(self, *, even: bool) -> None:
        try:
            self._port.parity = serial.PARITY_EVEN if even else serial.PARITY_NONE
        except termios.error as error:
            if not is_pty(self._path):
                raise FirmwareFailed(self._path, f"refuses its parity ({error})", "use another adapter") from error

    def set_lines(self, *, dtr: bool, rts: bool) -> None:
        try:
            self._port.dtr, self._port.rts = dtr, rts
        except OSError as error:
            raise FirmwareFailed(
                self._path, f"its control lines cannot be set ({error})", "is it a port with DTR and RTS?"
            ) from error

    def close(self) -> None:
        self._loop.remove_reader(self._port.fileno())
        self._port.close()

    def _readable(self) -> None:
        try:
            data = os.read(self._port.fileno(), _READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._hung_up(str(error))
            return
        if not data:
            self._hung_up("hang-up")
            return
        self._heard += data[: _KEPT_BYTES - len(self._heard)]
        self._news.set()

    def _hung_up(self, detail: str) -> None:
        self._lost = detail
        self._loop.remove_reader(self._port.fileno())
        self._news.set()

    def _gone(self) -> FirmwareFailed:
        return FirmwareFailed(self._path, f"the line is gone ({self._lost})", "check cable and adapter")
