"""A simulated STM32: its flash, what it does at reset, and its ROM boot loader on a pty.

Charter: the flash is really erased and programmed, in units, and only where it is erased (zeros may be programmed
over anything). Power can be cut after any step of that; what is in the flash stays. Every start of an
application is kept with what the flash held, so that a test can tell whether it was whole. The controller itself
(``SimStm32``) knows no port; ``SimStm32Port`` puts it on a pty.

Faults: ``SILENT``, ``GARBAGE`` (noise instead of an answer), ``REFUSE`` (NACK instead of the ``param``-th write from
now on), ``CORRUPT`` (a bit of read data is wrong), ``UNPLUG``. Write-protected pages and power cuts are set on
``flash``. A pty has neither parity nor control lines; lines are told by ``set_pins``.

Source: ST AN3155, AN2606 as commonly known (see ``hal.firmware.stm32_loader``). The same understanding as the driver's.
Units: bytes.
"""

from __future__ import annotations

import asyncio
import enum
from collections import deque
from collections.abc import Callable, Generator
from functools import reduce
from operator import xor
from pathlib import Path

from hal.sim.faults import Fault, FaultSwitch
from hal.sim.pty import PtyLink

FLASH_BASE = 0x0800_0000
RAM_BASE, RAM_BYTES = 0x2000_0000, 0x9000
CHIP_ID = 0x460
COMMANDS = (0x00, 0x01, 0x02, 0x11, 0x21, 0x31, 0x44, 0x63, 0x73, 0x82, 0x92)

_ACK, _NACK = b"\x79", b"\x1f"
_VERSION = 0x31
_KEPT_STARTS = 1000

Bytes = Generator[None, int, None]
"""A dialogue that is sent one byte after another."""


class PowerCut(Exception):
    """The controller lost its power in the middle of a flash operation."""


class SimFlash:
    """Pages of flash. A step is one unit programmed, or as much of a page erased, from its end to its beginning:
    the order that a careless writer suffers most from. ``whole_erasures``: a page is one step.
    """

    def __init__(self, page_sizes: tuple[int, ...], *, unit_bytes: int = 8, whole_erasures: bool = False) -> None:
        self.content = bytearray(b"\xff" * sum(page_sizes))
        self.protected: set[int] = set()  # pages that cannot be changed; nobody is told
        self.steps = 0
        self._page_sizes = page_sizes
        self._unit_bytes = unit_bytes
        self._whole_erasures = whole_erasures
        self._cut_at: int | None = None

    def cut_after(self, steps: int | None) -> None:
        """Cut the power after so many more steps; None: never."""
        self._cut_at = None if steps is None else self.steps + steps

    def erase(self, page: int) -> bool:
        """False: there is no such page. Raises ``PowerCut``."""
        if not 0 <= page < len(self._page_sizes):
            return False
        begin = sum(self._page_sizes[:page])
        end = begin + self._page_sizes[page]
        unit = end - begin if self._whole_erasures else self._unit_bytes
        for at in range(end - unit, begin - 1, -unit):
            self._step(at, b"\xff" * unit)
        return True

    def program(self, at: int, data: bytes) -> bool:
        """False: outside, not in whole units, or not erased. Raises ``PowerCut``."""
        unit = self._unit_bytes
        if at < 0 or at % unit or len(data) % unit or at + len(data) > len(self.content):
            return False
        for offset in range(0, len(data), unit):
            here, there = data[offset : offset + unit], slice(at + offset, at + offset + unit)
            erased = self.content[there] == b"\xff" * unit
            if not (erased or self._is_protected(there.start)) and any(here):
                return False
            self._step(there.start, here)
        return True

    def _step(self, at: int, data: bytes) -> None:
        if self._cut_at is not None and self.steps >= self._cut_at:
            raise PowerCut
        self.steps += 1
        if not self._is_protected(at):
            self.content[at : at + len(data)] = data

    def _is_protected(self, at: int) -> bool:
        page, end = 0, self._page_sizes[0]
        while at >= end:
            page += 1
            end += self._page_sizes[page]
        return page in self.protected


class Mode(enum.StrEnum):
    OFF = "off"
    APPLICATION = "application"
    BOOT_LOADER = "boot_loader"
    LOCKED = "locked"  # it tried to start what is no application


class SimStm32:
    """One controller, switched off. ``tell`` takes what it sends.

    ``request``: bytes that send its application to the boot loader; empty: nothing does. ``empty_check``: at reset it
    goes there by itself while the first word of the flash is erased.
    """

    def __init__(self, flash: SimFlash, *, request: bytes = b"", empty_check: bool = True) -> None:
        self.flash = flash
        self.tell: Callable[[bytes], None] = _nobody
        self.on_unplug: Callable[[bool], None] = _nobody
        self.faults = FaultSwitch(
            frozenset({Fault.SILENT, Fault.GARBAGE, Fault.REFUSE, Fault.CORRUPT, Fault.UNPLUG}), self._fault_changed
        )
        self.mode = Mode.OFF
        self.starts: deque[bytes] = deque(maxlen=_KEPT_STARTS)  # the whole flash, each time an application started
        self._request = request
        self._empty_check = empty_check
        self._heard_by_application = b""
        self._boot0 = self._reset = False
        self._writes_to_refusal: int | None = None
        self._dialogue: Bytes | None = None

    def power_on(self) -> None:
        """Power comes, or came back; any cut that was ordered is over."""
        self.flash.cut_after(None)
        self._boot()

    def power_off(self) -> None:
        self.mode, self._dialogue = Mode.OFF, None

    def set_pins(self, *, boot0: bool, reset: bool) -> None:
        """True: the pin is active. The controller boots when RESET is released."""
        released = self._reset and not reset
        self._boot0, self._reset = boot0, reset
        if self.mode is Mode.OFF:
            return
        if reset:
            self._dialogue = None
        elif released:
            self._boot()

    def hear(self, data: bytes) -> None:
        """What comes in at its UART."""
        if self.mode is Mode.APPLICATION and self._request:
            heard = self._heard_by_application + data
            self._heard_by_application = heard[-len(self._request) :]
            if self._request in heard:
                self._enter_boot_loader()
            return
        for byte in data:
            if self._dialogue is None or self.faults.is_on(Fault.SILENT):
                return
            try:
                self._dialogue.send(byte)
            except PowerCut:
                self.power_off()

    # ---------------------------------------------------------------- reset

    def _boot(self) -> None:
        empty = self._empty_check and self.flash.content[:4] == b"\xff" * 4
        (self._enter_boot_loader if self._boot0 or empty else self._start_application)()

    def _enter_boot_loader(self) -> None:
        self.mode = Mode.BOOT_LOADER
        self._dialogue = self._boot_loader()
        next(self._dialogue)

    def _start_application(self) -> None:
        stack, handler = (int.from_bytes(self.flash.content[at : at + 4], "little") for at in (0, 4))
        in_flash = FLASH_BASE < handler < FLASH_BASE + len(self.flash.content)
        self._dialogue, self._heard_by_application = None, b""
        if handler & 1 and in_flash and RAM_BASE < stack <= RAM_BASE + RAM_BYTES:
            self.mode = Mode.APPLICATION
            self.starts.append(bytes(self.flash.content))
        else:
            self.mode = Mode.LOCKED

    # ---------------------------------------------------------------- boot loader

    def _boot_loader(self) -> Bytes:
        while (yield) != 0x7F:
            pass
        self._answer(_ACK)
        while self.mode is Mode.BOOT_LOADER:
            code = yield
            complement = yield
            if code ^ complement != 0xFF or code not in (0x00, 0x02, 0x11, 0x21, 0x31, 0x44):
                self._answer(_NACK)
                continue
            self._answer(_ACK)
            if code == 0x00:
                self._answer(bytes((len(COMMANDS), _VERSION, *COMMANDS)) + _ACK)
            elif code == 0x02:
                self._answer(b"\x01" + CHIP_ID.to_bytes(2) + _ACK)
            elif code == 0x44:
                yield from self._erase()
            else:
                yield from self._with_address(code)
        while True:  # it runs no more; the last byte of a dialogue must not end its generator
            yield

    def _with_address(self, code: int) -> Bytes:
        address = bytearray()
        while len(address) < 5:
            address.append((yield))
        offset = int.from_bytes(address[:4]) - FLASH_BASE
        if reduce(xor, address) or not 0 <= offset < len(self.flash.content):
            self._answer(_NACK)
            return
        self._answer(_ACK)
        if code == 0x11:
            yield from self._read(offset)
        elif code == 0x31:
            yield from self._write(offset)
        elif offset == 0:
            self._start_application()
        else:
            self.mode = Mode.LOCKED

    def _read(self, offset: int) -> Bytes:
        count = yield
        complement = yield
        if count ^ complement != 0xFF or offset + count >= len(self.flash.content):
            self._answer(_NACK)
            return
        data = self.flash.content[offset : offset + count + 1]
        if self.faults.take(Fault.CORRUPT):
            data[-1] ^= 0x10
        self._answer(_ACK + data)

    def _write(self, offset: int) -> Bytes:
        count = yield
        part = bytearray((count,))
        while len(part) < count + 3:
            part.append((yield))
        refused = reduce(xor, part) != 0 or self._refuses_write()
        self._answer(_NACK if refused or not self.flash.program(offset, bytes(part[1:-1])) else _ACK)

    def _erase(self) -> Bytes:
        high = yield
        low = yield
        count = (high << 8 | low) + 1
        part = bytearray((high, low))
        while len(part) < 2 * count + 3:
            part.append((yield))
        pages = [int.from_bytes(part[at : at + 2]) for at in range(2, 2 * count + 2, 2)]
        erased = reduce(xor, part) == 0 and all(self.flash.erase(page) for page in pages)
        self._answer(_ACK if erased else _NACK)

    def _answer(self, data: bytes | bytearray) -> None:
        self.tell(b"\xa5" * len(data) if self.faults.take(Fault.GARBAGE) else bytes(data))

    # ---------------------------------------------------------------- faults

    def _refuses_write(self) -> bool:
        if self._writes_to_refusal is None:
            return False
        self._writes_to_refusal -= 1
        return self._writes_to_refusal <= 0 and self.faults.take(Fault.REFUSE)

    def _fault_changed(self, fault: Fault, on: bool) -> None:
        if fault is Fault.REFUSE:
            self._writes_to_refusal = self.faults.param(fault, 1) if on else None
        elif fault is Fault.UNPLUG:
            self.on_unplug(on)


def _nobody(_: object) -> None:
    """Not attached yet."""


class SimStm32Port:
    """A controller on a pty; ``path`` is what the driver opens."""

    def __init__(self, controller: SimStm32, link: Path | None = None) -> None:
        self.controller = controller
        self._link = PtyLink(link)
        controller.tell = self._link.write
        controller.on_unplug = self._plug

    @property
    def path(self) -> str:
        return self._link.path

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Power on. Call inside the loop's thread."""
        self._link.start(loop, self.controller.hear)
        self.controller.power_on()

    def close(self) -> None:
        self.controller.power_off()
        self._link.close()

    def _plug(self, unplugged: bool) -> None:
        (self._link.unplug if unplugged else self._link.replug)()
