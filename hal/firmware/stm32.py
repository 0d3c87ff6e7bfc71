"""Firmware of an STM32 behind the control pilot, through its ROM boot loader: implements ``ControllerFirmware``.

Charter: the order of things. The protocol is ``stm32_loader``, rules about images ``stm32_image``, the way into the
boot loader ``stm32_entry``.

A write, and what a power cut leaves after each step:

1. The head (first two vectors) is overwritten with zeros, where the boot loader can be forced. From here the old
   application does not start, also while its first page is half erased. Most families allow zeros over anything; a
   refusal is ignored.
2. The first page is erased and read back. If that did not happen (protected), nothing else is touched.
3. The other pages are erased; all but the head is written, block by block, each read back; the first page last.
4. The head is written and read back: from here the new application starts, and it is whole.

On the way out, also after a failure, what is in the flash is started if it is an application.

Which application runs is told by ``heard`` (what the pilot's protocol says), or else read from the flash at
``version_offset``: printable ASCII, a zero byte behind. The latter restarts the controller.

Never tried on a device. Units: bytes, milliseconds.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from hal.firmware import FirmwareFailed, OnProgress
from hal.firmware.stm32_entry import BootEntry
from hal.firmware.stm32_image import (
    VERSION_BYTES,
    Stm32Settings,
    body_blocks,
    checked,
    is_application,
    pages_of,
    version_text,
)
from hal.firmware.stm32_loader import LoaderRefused, Stm32Loader
from hal.firmware.wire import OpenWire, SerialWire, Wire


class Stm32Firmware:
    """One controller. Calls are made one after another."""

    def __init__(
        self,
        settings: Stm32Settings,
        entry: BootEntry,
        *,
        heard: Callable[[], Awaitable[str | None]] | None = None,
        open_wire: OpenWire = SerialWire,
    ) -> None:
        if (heard is None) == (settings.version_offset is None):
            raise ValueError("the version comes from version_offset or from what is heard: exactly one of them")
        self._settings = settings
        self._entry = entry
        self._heard = heard
        self._open_wire = open_wire

    @property
    def max_image_bytes(self) -> int:
        return self._settings.flash_bytes

    async def version(self) -> str | None:
        if self._heard is not None:
            return await self._heard()
        assert self._settings.version_offset is not None
        async with self._boot_loader() as loader:
            if not await self._has_application(loader):
                return None
            address = self._settings.flash_base + self._settings.version_offset
            return version_text(await loader.read(address, VERSION_BYTES))

    async def write(self, image: bytes, on_progress: OnProgress) -> None:
        content = checked(image, self._settings)
        head = slice(0, self._settings.head_bytes)
        async with self._boot_loader() as loader:
            await self._forget_application(loader)
            for page in range(1, pages_of(len(content), self._settings)):
                await loader.erase(page)
            done_bytes = 0
            for block in [*body_blocks(len(content), self._settings), head]:
                on_progress(done_bytes, len(content))
                await self._put(loader, block.start, content[block])
                done_bytes += block.stop - block.start
            on_progress(done_bytes, len(content))

    async def _forget_application(self, loader: Stm32Loader) -> None:
        """Erase the first page, in such a way that what is in it cannot start meanwhile."""
        base, first_page = self._settings.flash_base, self._settings.page_sizes[0]
        if self._entry.forced:
            with suppress(LoaderRefused):
                await loader.write(base, bytes(self._settings.head_bytes))
        await loader.erase(0, 0)  # see there
        step = self._settings.block_bytes
        for offset in range(0, first_page, step):
            if await loader.read(base + offset, step) != b"\xff" * step:
                raise FirmwareFailed(
                    f"{self._settings.port}: flash", "its first page is not erased", "is it write-protected?"
                )

    async def _put(self, loader: Stm32Loader, offset: int, data: bytes) -> None:
        address = self._settings.flash_base + offset
        await loader.write(address, data)
        if await loader.read(address, len(data)) != data:
            raise FirmwareFailed(
                f"{self._settings.port}: flash",
                f"does not hold what was written at {address:#x}",
                "is the page write-protected, page_sizes wrong, or the line disturbed?",
            )

    @asynccontextmanager
    async def _boot_loader(self) -> AsyncIterator[Stm32Loader]:
        """The controller in its boot loader; afterwards the application runs, if there is one."""
        wire = self._open_wire(self._settings.port, self._settings.baud)
        try:
            loader = Stm32Loader(wire, self._settings)
            try:
                await self._enter(wire, loader)
                await loader.check()
                yield loader
            except BaseException:  # whatever ended it, the pilot must not stay without its application
                with suppress(FirmwareFailed):  # the first error is the one that counts
                    if not await self._entry.leave(wire):
                        await loader.sync(from_reset=True)  # quickly; the next call has more patience
                        await self._go(loader)
                raise
            if not await self._entry.leave(wire):
                await self._go(loader)
        finally:
            wire.close()

    async def _enter(self, wire: Wire, loader: Stm32Loader) -> None:
        if not self._entry.forced:
            with suppress(FirmwareFailed):
                await loader.sync(from_reset=True)
                return
        await self._entry.enter(wire)
        await loader.sync(from_reset=self._entry.forced)

    async def _go(self, loader: Stm32Loader) -> None:
        if await self._has_application(loader):
            await loader.go(self._settings.flash_base)

    async def _has_application(self, loader: Stm32Loader) -> bool:
        head = await loader.read(self._settings.flash_base, self._settings.head_bytes)
        return is_application(head, self._settings)
