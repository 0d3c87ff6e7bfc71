"""A simulated STM32 on a cable without a pty, for virtual time: small pages, images, and a station that can die."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from hal.firmware.mcu_pilot import BOOT_LOADER_REQUEST
from hal.firmware.stm32 import Stm32Firmware
from hal.firmware.stm32_entry import BootEntry, ByLines, ByRequest, ControlLine
from hal.firmware.stm32_image import Stm32Settings
from hal.sim.stm32_bootloader import CHIP_ID, FLASH_BASE, RAM_BASE, Mode, SimFlash, SimStm32

PAGES = (64, 32, 64, 32)
SETTINGS = Stm32Settings(port="bench", chip_id=CHIP_ID, page_sizes=PAGES, block_bytes=32, version_offset=72)
LINES = ByLines(boot0=ControlLine.RTS, boot0_asserted=False, reset_asserted=False)
ASKED = ByRequest(request=BOOT_LOADER_REQUEST)


def image(version: str, size: int) -> bytes:
    """Content of a flash, all of it different from that of another version."""
    vectors = (RAM_BASE + 0x2000).to_bytes(4, "little") + (FLASH_BASE + 0x21).to_bytes(4, "little")
    content = bytearray(vectors + random.Random(version).randbytes(size - 8))
    field = version.encode() + b"\x00"
    content[72 : 72 + len(field)] = field
    return bytes(content)


OLD = image("1.0", sum(PAGES))
NEW = image("1.1", 156)  # no whole unit at the end, and a page less


class StationDied(Exception):
    """The station lost its power. Nothing catches it."""


class Cable:
    """What a controller sends waits here. ``dies_at``: the station dies when so many bytes went over it, either way.
    ``mangle`` gets every answer on its way to the station."""

    def __init__(self, controller: SimStm32) -> None:
        self.controller = controller
        self.moved = 0
        self.dies_at: int | None = None
        self.mangle: Callable[[bytes], bytes] = lambda data: data
        self.waiting = bytearray()
        controller.tell = lambda data: self.waiting.extend(self.mangle(data))

    def move(self, data: bytes) -> bytes:
        """As much of the data as the station lives to see."""
        left = len(data) if self.dies_at is None else max(0, self.dies_at - self.moved)
        self.moved += min(left, len(data))
        return data[:left]

    def check_life(self) -> None:
        if self.dies_at is not None and self.moved >= self.dies_at:
            raise StationDied

    def open_wire(self, port: str, baud: int) -> MemoryWire:
        assert (port, baud) == (SETTINGS.port, SETTINGS.baud)
        self.waiting.clear()
        return MemoryWire(self)


class MemoryWire:
    """See ``Wire``; wired as ``LINES`` says."""

    def __init__(self, cable: Cable) -> None:
        self._cable = cable
        self.set_lines(dtr=True, rts=True)

    def send(self, data: bytes) -> None:
        self._cable.check_life()
        # A boot loader that hears what is meant for its application gets the bytes, too: the worst that can be.
        self._cable.controller.hear(self._cable.move(data))
        self._cable.check_life()

    async def receive(self, count: int, timeout_ms: int) -> bytes:
        self._cable.check_life()
        waiting = self._cable.waiting
        if len(waiting) < count:
            await asyncio.sleep(timeout_ms / 1000)
        answer = self._cable.move(bytes(waiting[:count]))
        del waiting[:count]
        self._cable.check_life()
        return answer

    def discard(self) -> None:
        self._cable.waiting.clear()

    def set_parity(self, *, even: bool) -> None:
        """It makes no difference here."""

    def set_lines(self, *, dtr: bool, rts: bool) -> None:
        self._cable.check_life()
        self._cable.controller.set_pins(boot0=not rts, reset=not dtr)

    def close(self) -> None:
        """The lines stay as they are."""


class Bench:
    """A controller that runs ``OLD`` (or nothing), and the driver for it."""

    def __init__(
        self,
        entry: BootEntry,
        *,
        settings: Stm32Settings = SETTINGS,
        unit_bytes: int = 8,
        whole_erasures: bool = False,
        content: bytes = OLD,
    ) -> None:
        self.flash = SimFlash(settings.page_sizes, unit_bytes=unit_bytes, whole_erasures=whole_erasures)
        self.flash.content[: len(content)] = content
        self.controller = SimStm32(
            self.flash, request=BOOT_LOADER_REQUEST if entry is ASKED else b"", empty_check=entry is ASKED
        )
        self.cable = Cable(self.controller)
        self.firmware = Stm32Firmware(settings, entry, open_wire=self.cable.open_wire)
        self.controller.power_on()

    async def write(self, content: bytes = NEW) -> list[tuple[int, int]]:
        """What it told of its progress."""
        progress: list[tuple[int, int]] = []
        await self.firmware.write(content, lambda done, total: progress.append((done, total)))
        return progress

    def restart(self) -> None:
        """The controller loses its power, and gets it back."""
        self.controller.power_off()
        self.controller.power_on()

    def runs(self, content: bytes) -> bool:
        return self.controller.mode is Mode.APPLICATION and self.flash.content.startswith(content)

    def torn_starts(self) -> list[bytes]:
        """Flash contents that were started and are neither of the two whole applications."""
        return [flash for flash in self.controller.starts if not flash.startswith((OLD, NEW))]
