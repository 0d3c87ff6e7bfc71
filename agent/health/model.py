"""The words of health: parts, conditions, severities, and the state of one part.

Charter: plain data, shared by the station that knows, the port that carries it, and whoever shows it.

Units: ``*_wall_ms`` is UTC in milliseconds since 1970. Severities are those of OCPP 2.0.1 (N07, SetMonitoringData).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Part(enum.StrEnum):
    """What a station is made of, as a technician sees it."""

    METER = "meter"
    PILOT = "pilot"
    CONTACTOR = "contactor"
    POWER_MODULE = "power_module"
    LOCK = "lock"
    READER = "reader"
    BUS = "bus"
    LEDGER = "ledger"
    DISK = "disk"
    CLOCK = "clock"
    CSMS_LINK = "csms_link"
    CERTIFICATES = "certificates"
    SLOTS = "slots"
    TEMPERATURE = "temperature"
    PROCESSES = "processes"


class Condition(enum.StrEnum):
    """How a part is. ``unknown``: nobody can tell (yet); ``absent``: this station has no such part."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"
    UNKNOWN = "unknown"
    ABSENT = "absent"


class Severity(enum.IntEnum):
    """OCPP 2.0.1 severity of an event: the lower, the worse."""

    DANGER = 0
    HARDWARE_FAILURE = 1
    SYSTEM_FAILURE = 2
    CRITICAL = 3
    ERROR = 4
    ALERT = 5
    WARNING = 6
    NOTICE = 7
    INFORMATIONAL = 8
    DEBUG = 9


@dataclass(frozen=True, slots=True)
class PartHealth:
    """What is to be said of a part at ``evse`` (0: the station as a whole).

    A part that several troubles have at once has one of these for each, the worst first; a part without trouble has
    exactly one, with ``code`` "". ``reason`` and ``remedy`` are plain words. ``latched``: a person must clear it."""

    part: Part
    evse: int
    condition: Condition
    code: str = ""
    reason: str = ""
    remedy: str = ""
    since_wall_ms: int = 0
    latched: bool = False
