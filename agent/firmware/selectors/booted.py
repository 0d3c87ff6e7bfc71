"""Which slot this system runs from, as the kernel was told.

Charter: reads the kernel's command line and the boot loader's node of the device tree; nothing else, and never
writes. Both are constant from boot to boot, so they are read once at a start and handed to a selector as a value.
They are the kernel's files, not storage: they cannot lose power.
Sources: Linux admin guide (kernel parameters); Raspberry Pi documentation, "Device trees, overlays, and parameters"
(properties of ``/chosen/bootloader``: 32-bit big-endian cells).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.firmware.errors import SlotFailed
from agent.firmware.selectors.rules import Slots

COMMAND_LINE: Final = Path("/proc/cmdline")
PI_BOOTLOADER: Final = Path("/proc/device-tree/chosen/bootloader")

_PARAMETER: Final = "evsed.slot="
_MAX_BYTES: Final = 64 * 1024
_CELL_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class PiBoot:
    """How a Raspberry Pi came up. None where its firmware does not say. ``partition``: number of the boot partition;
    ``tryboot``: this was a one-shot boot; ``built_at_s``: build time of the EEPROM boot loader (Unix time)."""

    partition: int | None
    tryboot: bool
    built_at_s: int | None


def slot_of_command_line(path: Path, slots: Slots) -> str | None:
    """The slot in ``evsed.slot=``; None where it is absent or names no slot of ours. The last one counts, as for
    the kernel's own parameters. Raises ``SlotFailed`` where there is no command line."""
    content = _read(path)
    if content is None:
        raise SlotFailed(str(path), "no such file", "mount /proc")
    words = content.decode("utf-8", "replace").split()
    named = [word.removeprefix(_PARAMETER) for word in words if word.startswith(_PARAMETER)]
    return named[-1] if named and named[-1] in slots else None


def read_pi_boot(folder: Path) -> PiBoot:
    """What the Raspberry Pi's firmware left in ``folder``. Raises ``SlotFailed`` where the folder cannot be read."""
    return PiBoot(_cell(folder / "partition"), bool(_cell(folder / "tryboot") or 0), _cell(folder / "build-timestamp"))


def _cell(path: Path) -> int | None:
    content = _read(path)
    return int.from_bytes(content, "big") if content is not None and len(content) == _CELL_BYTES else None


def _read(path: Path) -> bytes | None:
    """Pseudo-files have no true size, so this does not go through ``Storage``."""
    try:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SlotFailed(str(path), error.strerror or str(error)) from error
