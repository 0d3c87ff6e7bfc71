"""Firmware of the microcontroller behind the control pilot: the port, and its declared error.

Charter: this module is all that the station may know of it; drivers are beside it. Which firmware belongs on
the controller is decided in ``agent.firmware.mcu``. What every driver keeps:

* Whatever cuts a ``write`` - the power of either side, a cable, a killed process, at any byte - the same call made
  again succeeds once the cause is gone.
* A controller that was cut in mid-write never starts half an application.
* A call that fails before it changed anything leaves the application running that ran before.
* Every wait has a limit, so every call ends.

The controller drives a live contactor: nobody calls these while a vehicle may draw power. A driver opens the serial
port for the length of one call; the pilot driver must not hold it meanwhile.

Units: bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class FirmwareFailed(Exception):
    """Firmware could not be read or written. ``what`` names port or image, ``remedy`` what a person can do."""

    def __init__(self, what: str, why: str, remedy: str = "") -> None:
        super().__init__(f"{what}: {why}" + (f"; {remedy}" if remedy else ""))
        self.what, self.why, self.remedy = what, why, remedy


OnProgress = Callable[[int, int], None]
"""Bytes written and read back so far, and of how many; may raise to give up."""


class ControllerFirmware(Protocol):
    """What runs on one microcontroller, and how to replace it."""

    @property
    def max_image_bytes(self) -> int:
        """The longest image that fits."""
        ...

    async def version(self) -> str | None:
        """Which application the controller has. None where it cannot tell, above all where it has none.
        May restart the controller. Raises ``FirmwareFailed``."""
        ...

    async def write(self, image: bytes, on_progress: OnProgress) -> None:
        """Erase, write, read back, start. ``image`` is what the flash holds from its first byte.
        Raises ``FirmwareFailed``; an image that cannot be right is refused before anything changes."""
        ...
