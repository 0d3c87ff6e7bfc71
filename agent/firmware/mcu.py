"""The microcontroller's firmware belongs to the slot: after every boot the controller gets what its slot brings.

Charter: the decision (pure) and the run of it, at the station's start, before the pilot driver opens the port and
while no transaction runs; the caller sees to both. A new slot brings the controller forward, a rollback to the old
slot brings it back, by the same rule, and what a power cut left half written is finished by the next boot.
How a controller is written is ``hal.firmware``.

Source: firmware reference 1.5 (payload ``mcu-firmware``), 1.3 items 6 and 15. Units: bytes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from hal.firmware import ControllerFirmware, FirmwareFailed, OnProgress

ATTEMPTS: Final = 3
"""So often a failing write is tried in one boot."""


@dataclass(frozen=True, slots=True)
class Staged:
    """What the booted slot brings for the controller. ``sha256`` of ``image``: 32 raw bytes, from the manifest."""

    version: str
    image: bytes
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Same:
    """The controller runs what belongs to the slot. ``version`` None: nothing is staged, whatever runs is right."""

    version: str | None


@dataclass(frozen=True, slots=True)
class Written:
    """The controller was brought from ``before`` (None: it had no application, or could not tell) to ``version``."""

    before: str | None
    version: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The controller does not run what belongs to the slot. ``reason`` says what, why, and what to do."""

    reason: str
    attempts: int


Outcome = Same | Written | Failed


def must_write(staged: Staged | None, running: str | None) -> bool:
    """``running`` None: the controller has no application, or cannot tell."""
    return staged is not None and running != staged.version


async def bring_in_line(
    staged: Staged | None, controller: ControllerFirmware, on_progress: OnProgress, *, attempts: int = ATTEMPTS
) -> Outcome:
    """Write the staged firmware where another runs, or none. Never raises for what controller or line do.

    Only what a repetition can cure is repeated, at most ``attempts`` times in all: a controller that was written and
    read back, and then tells another version, was given a wrong image.
    """
    if staged is None:
        return Same(None)
    before, touched, reason = None, False, ""
    for attempt in range(1, attempts + 1):
        try:
            running = await controller.version()
            if must_write(staged, running):
                if problem := _problem_of(staged, controller.max_image_bytes):
                    return Failed(problem, attempt)
                if not touched:
                    before, touched = running, True
                await controller.write(staged.image, on_progress)
                running = await controller.version()
                if must_write(staged, running):
                    why = f"was written and read back as {staged.version}, but tells {running or 'no version'}"
                    return Failed(f"controller: {why}; the bundle's image is not of its version", attempt)
        except FirmwareFailed as error:
            reason = str(error)
        else:
            return Written(before, staged.version, attempt) if touched else Same(running)
    return Failed(reason, attempts)


def _problem_of(staged: Staged, max_image_bytes: int) -> str:
    """Why the staged image must not be written; empty: it may."""
    if len(staged.image) > max_image_bytes:
        return f"image of {len(staged.image)} bytes: the controller holds {max_image_bytes}"
    if hashlib.sha256(staged.image).digest() != staged.sha256:
        return "image: its bytes do not have the hash that the manifest promises; install the bundle again"
    return ""
