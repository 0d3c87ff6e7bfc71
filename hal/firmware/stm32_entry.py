"""How a controller gets into its boot loader, and out of it again: that is the board's wiring, not the chip's.

Charter: one small strategy per way. Only ``ByLines`` reaches the boot loader whatever the flash holds; a board that
can be wired so should be.

Sources: ST AN2606 (BOOT0 high at reset selects the boot loader; many families also go there at reset while the first
word of the flash is erased, the "empty check"). Not tried on a device.
Units: milliseconds.
"""

from __future__ import annotations

import asyncio
import enum
from dataclasses import dataclass
from typing import Protocol

from hal.firmware.wire import Wire


class BootEntry(Protocol):
    """The way in and out."""

    @property
    def forced(self) -> bool:
        """Whether ``enter`` works whatever the flash holds and the controller does. If not, ``enter`` is only called
        when nobody answers as boot loader, since it may be one that waits for its first byte."""
        ...

    async def enter(self, wire: Wire) -> None:
        """The controller waits for its first sync byte when this returns, as far as this side can bring it about."""
        ...

    async def leave(self, wire: Wire) -> bool:
        """Start what is in the flash. False: this way cannot, the boot loader must be told to go."""
        ...


class ControlLine(enum.StrEnum):
    DTR = "dtr"
    RTS = "rts"


@dataclass(frozen=True, slots=True, kw_only=True)
class ByLines:
    """BOOT0 and RESET hang on the port's control lines.

    ``boot0``: which line is BOOT0; RESET is the other. ``boot0_asserted``, ``reset_asserted``: whether the line is
    asserted or released when the pin is active. Linux asserts both lines when a port is opened and releases them when
    it is closed. So on a board whose pilot driver uses the same port, both must be False, and the controller is in
    reset while nobody holds the port.
    """

    boot0: ControlLine
    boot0_asserted: bool
    reset_asserted: bool
    pulse_ms: int = 50
    settle_ms: int = 100

    @property
    def forced(self) -> bool:
        return True

    async def enter(self, wire: Wire) -> None:
        await self._reset(wire, boot0=True)

    async def leave(self, wire: Wire) -> bool:
        await self._reset(wire, boot0=False)
        return True

    async def _reset(self, wire: Wire, *, boot0: bool) -> None:
        for active, wait_ms in ((True, self.pulse_ms), (False, self.settle_ms)):
            self._set(wire, boot0=boot0, reset=active)
            await asyncio.sleep(wait_ms / 1000)

    def _set(self, wire: Wire, *, boot0: bool, reset: bool) -> None:
        boot0_line, reset_line = boot0 == self.boot0_asserted, reset == self.reset_asserted
        if self.boot0 is ControlLine.DTR:
            wire.set_lines(dtr=boot0_line, rts=reset_line)
        else:
            wire.set_lines(dtr=reset_line, rts=boot0_line)


@dataclass(frozen=True, slots=True, kw_only=True)
class ByRequest:
    """The application is asked, in its own protocol (8N1 at the same baud rate), to go to the boot loader.

    ``request``: the bytes of it. Where there is no application, the controller must have the empty check. Nothing
    but a person brings a controller back that loses its power while its first page is being erased (some 20 ms), if
    that leaves neither an application nor an erased first word. That is the limit of such a board.
    """

    request: bytes
    settle_ms: int = 200

    @property
    def forced(self) -> bool:
        return False

    async def enter(self, wire: Wire) -> None:
        wire.set_parity(even=False)
        wire.send(self.request)
        await asyncio.sleep(self.settle_ms / 1000)  # the bytes leave, the controller restarts
        wire.set_parity(even=True)

    async def leave(self, wire: Wire) -> bool:  # noqa: ARG002 - the line has no say in it
        return False
