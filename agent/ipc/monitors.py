"""Monitors and customer data as station and gateway speak of them.

Charter: plain data of the port (``agent.ipc.port``), shaped like OCPP 2.0.1 blocks N04 and N09.

Units: a monitor's ``value`` is a decimal number as text, in the unit of its variable; seconds where the type is
periodic. ``severity`` is 0 (danger) to 9 (debug).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from agent.core.facts import MonitorOrigin, Token, VariableName


class MonitorType(enum.StrEnum):
    """OCPP 2.0.1 MonitorEnumType."""

    UPPER_THRESHOLD = "UpperThreshold"
    LOWER_THRESHOLD = "LowerThreshold"
    DELTA = "Delta"
    PERIODIC = "Periodic"
    PERIODIC_CLOCK_ALIGNED = "PeriodicClockAligned"


@dataclass(frozen=True, slots=True)
class Monitor:
    """A monitor that exists. ``transaction``: it rests while no transaction runs where it looks."""

    id: int
    name: VariableName
    type: MonitorType
    value: str
    severity: int
    transaction: bool = False
    origin: MonitorOrigin = MonitorOrigin.CUSTOM


@dataclass(frozen=True, slots=True)
class MonitorWrite:
    """A monitor as the CSMS wants it, names as received; ``id``: it is to take the place of that one."""

    name: VariableName
    type: MonitorType
    value: str
    severity: int
    transaction: bool = False
    id: int | None = None


class SetMonitorStatus(enum.StrEnum):
    """OCPP 2.0.1 SetMonitoringStatusEnumType."""

    ACCEPTED = "Accepted"
    UNKNOWN_COMPONENT = "UnknownComponent"
    UNKNOWN_VARIABLE = "UnknownVariable"
    UNSUPPORTED_MONITOR_TYPE = "UnsupportedMonitorType"
    REJECTED = "Rejected"
    DUPLICATE = "Duplicate"


@dataclass(frozen=True, slots=True)
class MonitorAnswer:
    """``id`` stands where it was accepted, ``reason`` (plain words) where not."""

    status: SetMonitorStatus
    id: int | None = None
    reason: str = ""


class ClearMonitorStatus(enum.StrEnum):
    """OCPP 2.0.1 ClearMonitoringStatusEnumType."""

    ACCEPTED = "Accepted"
    REJECTED = "Rejected"
    NOT_FOUND = "NotFound"


@dataclass(frozen=True, slots=True)
class CustomerRequest:
    """Whose data is meant: one of token, free identifier (a token's text, or a group's) and certificate (its serial
    number); and whether it is to be told, to be forgotten, or both."""

    report: bool
    clear: bool
    token: Token | None = None
    identifier: str | None = None
    certificate: str | None = None
