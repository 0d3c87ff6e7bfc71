"""The boot loader in the ROM of STM32 microcontrollers, spoken to over a UART.

Charter: one method per command, each bounded in time, each with a typed error. It knows no image and no order.

Protocol (all of it from ST's application note AN3155 as commonly known; **none of it tried on a device**):

* 8 data bits, even parity, 1 stop bit. The first byte after reset is 0x7F, from which the baud rate is measured.
  Sure. That a second 0x7F counts as half a command is how the known tools behave.
* ACK 0x79, NACK 0x1F. A command is its code and the complement. Addresses and counts come most significant byte
  first. A part of several bytes ends with the XOR of its bytes. Sure.
* After a NACK the boot loader waits for the next command. It waits for the rest of a part for ever; assumed.
* Get 0x00, Get ID 0x02, Read Memory 0x11, Go 0x21, Write Memory 0x31: sure. Counts are told as one less. Extended
  Erase 0x44 takes 16-bit page numbers: sure; boot loaders before version 3.0 know only 0x43, which is not spoken.
* Writing to and erasing a protected page may be acknowledged and do nothing (ST says so of the F1 family): what
  counts is what is read back.

Units: milliseconds, bytes.
"""

from __future__ import annotations

from contextlib import suppress
from functools import reduce
from operator import xor
from typing import Final

from hal.firmware import FirmwareFailed
from hal.firmware.stm32_image import Stm32Settings
from hal.firmware.wire import Wire

_SYNC: Final = 0x7F
_ACK, _NACK = b"\x79", b"\x1f"
_GET, _GET_ID, _READ, _GO, _WRITE, _ERASE = 0x00, 0x02, 0x11, 0x21, 0x31, 0x44
_NEEDED: Final = frozenset((_GET_ID, _READ, _GO, _WRITE, _ERASE))
_MAX_GET_BYTES: Final = 32
_BITS_PER_BYTE: Final = 11
_NOISE: Final = "check the line: baud rate, parity, disturbance"

# The first sync byte meets a boot loader fresh from reset. One that waits for a command takes it for half of one and
# refuses it with the second; the third is for one that was just not ready.
_SYNCS: Final = 3

# One that was left in the middle of a part must first be given the rest. Longest is an erase whose count was cut off
# and made up of sync bytes. A rest whose XOR happens to be right is obeyed: see ``erase``.
_LONGEST_REST_BYTES: Final = 2 + 2 * (0x7F7F + 1) + 1
_REST_STEP_BYTES: Final = 256


class LoaderRefused(FirmwareFailed):
    """The boot loader answered NACK."""


class Stm32Loader:
    """A controller that is in its boot loader. Every method raises ``FirmwareFailed``."""

    def __init__(self, wire: Wire, settings: Stm32Settings) -> None:
        self._wire = wire
        self._settings = settings
        self._what = f"{settings.port}: boot loader"

    async def sync(self, *, from_reset: bool) -> None:
        """Find the boot loader: afterwards it waits for a command.

        ``from_reset``: it cannot be in the middle of anything. Otherwise that is tried too, and takes another 6 s at
        115200 baud where nobody answers.
        """
        noise = await self._find()
        if noise is not None and not from_reset:
            await self._send_rest()
            noise = await self._find()
        if noise is not None:
            why = f"cannot be made out: {noise.hex()} came" if noise else "does not answer"
            raise FirmwareFailed(self._what, why, "check how the controller gets into it, baud rate, line and power")

    async def check(self) -> None:
        """Whether it can do what is needed, and belongs to the right chip."""
        if missing := _NEEDED.difference(await self._commands()):
            names = " ".join(f"{code:#04x}" for code in sorted(missing))
            raise FirmwareFailed(self._what, f"does not know the commands {names}", "the controller is too old")
        chip_id = int.from_bytes(await self._told(_GET_ID, "asking for its chip"))
        if chip_id != self._settings.chip_id:
            why = f"belongs to chip {chip_id:#x}, not {self._settings.chip_id:#x}"
            raise FirmwareFailed(self._what, why, "check board and settings")

    async def _find(self) -> bytes | None:
        """None: found. Else what came instead of an answer, empty if nothing."""
        answer = b""
        for _ in range(_SYNCS):
            self._wire.discard()
            self._wire.send(bytes((_SYNC,)))
            answer = await self._wire.receive(1, self._settings.sync_ms)
            if answer not in (_ACK, _NACK):
                continue
            with suppress(FirmwareFailed):  # it was no answer, or there was half a command left
                await self._commands()
                return None
        return answer

    async def _send_rest(self) -> None:
        self._wire.discard()
        step_ms = _REST_STEP_BYTES * _BITS_PER_BYTE * 1000 // self._settings.baud + 1
        for _ in range(0, _LONGEST_REST_BYTES, _REST_STEP_BYTES):
            self._wire.send(bytes((_SYNC,)) * _REST_STEP_BYTES)
            if await self._wire.receive(1, step_ms):
                break  # it is out of the part
        await self._wire.receive(_REST_STEP_BYTES, self._settings.sync_ms)  # what else it answers to that

    async def read(self, address: int, count: int) -> bytes:
        """1 to 256 bytes of memory."""
        doing = f"reading {count} bytes at {address:#x}"
        await self._command(_READ, doing)
        await self._part(address.to_bytes(4), doing)
        self._wire.send(_with_complement(count - 1))
        await self._acknowledged(doing, self._settings.reply_ms)
        return await self._bytes(count, doing)

    async def write(self, address: int, data: bytes) -> None:
        """1 to 256 bytes, in whole units, to erased flash. Success is only known by reading back."""
        doing = f"writing {len(data)} bytes at {address:#x}"
        await self._command(_WRITE, doing)
        await self._part(address.to_bytes(4), doing)
        await self._part(bytes((len(data) - 1,)) + data, doing, self._settings.write_ms)

    async def erase(self, *pages: int) -> None:
        """Pages by their numbers, in this order. Success is only known by reading back.

        Page 0 alone is all zeros on the wire: cut behind the third byte, two equal bytes complete it to the erasure
        of another page. Named twice it is not.
        """
        doing = f"erasing page {pages[0]}"
        await self._command(_ERASE, doing)
        numbers = b"".join(page.to_bytes(2) for page in pages)
        await self._part((len(pages) - 1).to_bytes(2) + numbers, doing, self._settings.erase_ms * len(pages))

    async def go(self, address: int) -> None:
        """Start what is in memory there; the boot loader is gone after that."""
        doing = f"starting {address:#x}"
        await self._command(_GO, doing)
        await self._part(address.to_bytes(4), doing)

    async def _commands(self) -> bytes:
        """The codes of the commands that it knows (the first byte is its version)."""
        return (await self._told(_GET, "asking for its commands"))[1:]

    async def _told(self, code: int, doing: str) -> bytes:
        await self._command(code, doing)
        count = (await self._bytes(1, doing))[0] + 1
        if count > _MAX_GET_BYTES:
            raise FirmwareFailed(self._what, f"{doing}: {count} bytes are announced", _NOISE)
        told = await self._bytes(count, doing)
        await self._acknowledged(doing, self._settings.reply_ms)
        return told

    async def _command(self, code: int, doing: str) -> None:
        self._wire.discard()
        self._wire.send(_with_complement(code))
        await self._acknowledged(doing, self._settings.reply_ms)

    async def _part(self, data: bytes, doing: str, timeout_ms: int | None = None) -> None:
        self._wire.send(data + bytes((reduce(xor, data),)))
        await self._acknowledged(doing, timeout_ms or self._settings.reply_ms)

    async def _bytes(self, count: int, doing: str) -> bytes:
        answer = await self._wire.receive(count, self._settings.reply_ms)
        if len(answer) < count:
            why = f"{doing}: {len(answer)} of {count} bytes came within {self._settings.reply_ms} ms"
            raise FirmwareFailed(self._what, why, _NOISE)
        return answer

    async def _acknowledged(self, doing: str, timeout_ms: int) -> None:
        answer = await self._wire.receive(1, timeout_ms)
        if answer == _ACK:
            return
        if answer == _NACK:
            raise LoaderRefused(self._what, f"refuses {doing}", "is the flash protected, or the address wrong?")
        if answer:
            raise FirmwareFailed(self._what, f"{doing}: {answer.hex()} came instead of an answer", _NOISE)
        raise FirmwareFailed(self._what, f"{doing}: no answer within {timeout_ms} ms", "check power and line")


def _with_complement(byte: int) -> bytes:
    return bytes((byte, byte ^ 0xFF))
