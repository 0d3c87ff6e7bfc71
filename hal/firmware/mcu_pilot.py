"""What the protobuf pilot microcontroller's application contributes: its version, and the way to the boot loader.

Charter: a ``heard`` for ``Stm32Firmware`` and a ``request`` for ``ByRequest``, used while no pilot driver holds the
port. Listening sends nothing.
Source: EVerest Yeti protocol: the MCU's keep-alive (field 6 is its version) comes about every second without being
asked; message ``firmware_update`` with ``rom`` set sends the MCU to its boot loader. Not tried on a device.
Units: milliseconds, bits per second.
"""

from __future__ import annotations

import asyncio
from typing import Final

from hal.firmware import FirmwareFailed
from hal.pilots import cobs, mcu_codec, protobuf
from hal.pilots.serial_line import SerialLine

_FIRMWARE_UPDATE, _ROM = 16, 1

# The zero byte ends what the MCU may hold of an older frame, or of sync bytes.
BOOT_LOADER_REQUEST: Final = b"\x00" + mcu_codec.frame(
    protobuf.bytes_field(_FIRMWARE_UPDATE, protobuf.varint_field(_ROM, True))
)


async def heard_version(path: str, *, baud: int = 115_200, timeout_ms: int = 5_000) -> str | None:
    """The software version in the next keep-alive; None where none comes in time, as without an application.

    Raises ``FirmwareFailed`` where the port cannot be opened or is lost.
    """
    told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    splitter = cobs.Splitter(mcu_codec.MAX_PACKET_BYTES)

    def received(data: bytes) -> None:
        for encoded in splitter.feed(data):
            try:
                message = mcu_codec.decode(mcu_codec.unframe(encoded))
            except mcu_codec.BadMessage:
                continue  # the beginning was missed, or it is the boot loader that speaks
            if isinstance(message, mcu_codec.McuKeepAlive) and message.software and not told.done():
                told.set_result(message.software)

    def lost(detail: str) -> None:
        if not told.done():
            told.set_exception(FirmwareFailed(path, f"the line is gone ({detail})", "check cable and adapter"))

    line = SerialLine(path, baud=baud, on_open=lambda: None, on_bytes=received, on_lost=lost)
    line.start()
    try:
        async with asyncio.timeout(timeout_ms / 1000):
            return await told
    except TimeoutError:
        return None
    finally:
        await line.close()
