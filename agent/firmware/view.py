"""What the installer tells of slots and boot loader, and what it is asked to install: plain data of its socket.

Charter: values only, so that station, gateway and command line need nothing else of updating. Times are UTC in ms.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Origin(enum.StrEnum):
    """On whose behalf a bundle comes."""

    OCPP = "ocpp"
    LOCAL = "local"


@dataclass(frozen=True, slots=True)
class InstallOrder:
    """``signing_certificate`` (PEM) and ``signature`` (Base64, over the whole file) come with a signed OCPP order."""

    origin: Origin
    signing_certificate: str = ""
    signature: str = ""


class StagedPhase(enum.StrEnum):
    WRITING = "writing"  # the slot holds a part of it, and does not boot
    READY = "ready"  # all of it is there and was judged
    ACTIVATED = "activated"  # the boot loader will try it, or tries it now
    ROLLED_BACK = "rolled_back"  # it was tried, and the old image came back


@dataclass(frozen=True, slots=True)
class StagedView:
    """The bundle in the inactive slot. ``digest``: of its manifest, hex. ``file_signed``: OCPP's signature over the
    whole file was there and right."""

    slot: str
    phase: StagedPhase
    digest: str
    version: str
    security_epoch: int
    file_signed: bool


@dataclass(frozen=True, slots=True)
class SlotView:
    """One slot. ``version`` and ``digest`` are empty where nobody has installed it from a bundle."""

    slot: str
    running: bool
    bootable: bool
    good: bool
    tries_left: int | None
    version: str
    digest: str
    security_epoch: int | None
    installed_wall_ms: int | None


@dataclass(frozen=True, slots=True)
class InstallerView:
    """``booted``/``primary``: slots; see ``agent.firmware.ports.BootState``. ``security_epoch``: what a bundle must
    have at least. ``notes``: in plain words, what was found and repaired at start."""

    engine: str
    selector: str
    booted: str | None
    primary: str | None
    on_trial: bool
    security_epoch: int
    slots: tuple[SlotView, ...]
    staged: StagedView | None
    notes: tuple[str, ...] = ()
