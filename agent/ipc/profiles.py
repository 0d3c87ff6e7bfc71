"""What the station says of charging profiles.

Units in names; ``wall_ms`` is UTC in milliseconds since 1970.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class ProfileOutcome(enum.StrEnum):
    ACCEPTED = "Accepted"
    REJECTED = "Rejected"
    UNKNOWN = "Unknown"
    NOT_SUPPORTED = "NotSupported"


@dataclass(frozen=True, slots=True)
class ProfileAnswer:
    outcome: ProfileOutcome
    reason: str = ""


@dataclass(frozen=True, slots=True)
class SchedulePeriod:
    start_s: int
    limit_tenths: int  # 0.1 A or 0.1 W, by the asked unit
    phases: int | None = None


@dataclass(frozen=True, slots=True)
class CompositeSchedule:
    start_wall_ms: int
    duration_s: int
    unit: str  # "A" or "W"
    periods: tuple[SchedulePeriod, ...]
