"""Firmware updates as station and gateway speak of them: what was asked for, what is to be fetched, how it goes.

Charter: plain data of the port (``agent.ipc.port``).

Units: bytes; ``wall_ms`` is UTC in milliseconds since 1970.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from agent.core.facts import UpdateVia


@dataclass(frozen=True, slots=True)
class UpdateRequest:
    """A firmware update as the CSMS asks for it. Times are UTC; ``install_wall_ms`` None: as soon as possible.

    ``retries``: how often a download is tried at most, None: as the station likes. Certificate (PEM) and
    signature (Base64, over the whole file) come with ``UpdateVia.SIGNED`` only."""

    via: UpdateVia
    request_id: int | None
    location: str
    retrieve_wall_ms: int
    install_wall_ms: int | None = None
    retries: int | None = None
    retry_interval_s: int | None = None
    signing_certificate: str = ""
    signature: str = ""


class UpdateOutcome(enum.StrEnum):
    """OCPP 2.0.1 UpdateFirmwareStatusEnumType, and that this station has no updates at all."""

    ACCEPTED = "Accepted"
    REJECTED = "Rejected"
    ACCEPTED_CANCELED = "AcceptedCanceled"
    INVALID_CERTIFICATE = "InvalidCertificate"
    REVOKED_CERTIFICATE = "RevokedCertificate"
    NOT_SUPPORTED = "NotSupported"


@dataclass(frozen=True, slots=True)
class UpdateAnswer:
    outcome: UpdateOutcome
    reason: str = ""


@dataclass(frozen=True, slots=True)
class FetchOrder:
    """What the gateway is to download and hand to the installer. ``ticket`` names this try in its reports."""

    ticket: int
    location: str
    signing_certificate: str
    signature: str


class FetchStep(enum.StrEnum):
    PROGRESS = "progress"
    PAUSED = "paused"  # the link to the file's server broke; it is tried again
    RESUMED = "resumed"
    STAGED = "staged"  # the installer has all of it, and has judged it
    LOST = "lost"  # the bytes cannot be had
    REFUSED = "refused"  # the installer will not have it
    FAILED = "failed"  # slot or installer failed


@dataclass(frozen=True, slots=True)
class FetchReport:
    """How a download goes. ``retryable`` with LOST; ``refusal`` (``agent.firmware.errors.Refusal``) with REFUSED."""

    ticket: int
    step: FetchStep
    done_bytes: int = 0
    total_bytes: int = 0
    why: str = ""
    retryable: bool = False
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class FirmwareStatus:
    """What a TriggerMessage for FirmwareStatusNotification is answered with; ``request_id`` None with Idle."""

    status: str
    request_id: int | None
    via: UpdateVia


@dataclass(frozen=True, slots=True)
class UpdateView:
    """An update under way, for people: its phase, what it brings, how far it is."""

    phase: str
    version: str
    done_bytes: int
    total_bytes: int
    why: str = ""
