"""What the station tells about its connectors, and how it answers commands: neutral of any dialect.

Charter: the words shared by core, IPC and dialects. The connector status is that of OCPP 1.6 because
it is the finer one; 2.0.1 reduces it. Outcomes are the union of what both dialects can say.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from agent.core.facts import ChargingState, Token


class ConnectorState(enum.StrEnum):
    """OCPP 1.6 ChargePointStatus."""

    AVAILABLE = "Available"
    PREPARING = "Preparing"
    CHARGING = "Charging"
    SUSPENDED_EV = "SuspendedEV"
    SUSPENDED_EVSE = "SuspendedEVSE"
    FINISHING = "Finishing"
    RESERVED = "Reserved"
    UNAVAILABLE = "Unavailable"
    FAULTED = "Faulted"


class FaultCode(enum.StrEnum):
    """Every fault that keeps an EVSE from charging; ``agent.health.catalogue`` says what each one means."""

    PILOT_LOST = "pilot_lost"
    METER_LOST = "meter_lost"
    METER_IMPLAUSIBLE = "meter_implausible"
    POWER_MODULE_LOST = "power_module_lost"
    POWER_MODULE = "power_module"
    DIODE = "diode"
    PILOT_SHORT = "pilot_short"
    PILOT = "pilot"
    RESIDUAL_CURRENT = "residual_current"
    RESIDUAL_SELF_TEST = "residual_self_test"
    NO_GROUND = "no_ground"
    CONTACTOR_WELDED = "contactor_welded"
    CONTACTOR_OPEN = "contactor_open"
    LOCK = "lock"
    OVER_CURRENT = "over_current"
    OVER_TEMPERATURE = "over_temperature"
    NO_VENTILATION = "no_ventilation"
    PROXIMITY = "proximity"
    BOARD_RESET = "board_reset"
    LEDGER = "ledger"


@dataclass(frozen=True, slots=True)
class ConnectorStatus:
    """The state of one connector at ``wall_ms`` (UTC). ``evse`` 0 is the station as a whole."""

    evse: int
    state: ConnectorState
    faults: tuple[FaultCode, ...]
    wall_ms: int


class Outcome(enum.StrEnum):
    """How the station answers a command."""

    ACCEPTED = "Accepted"
    REJECTED = "Rejected"
    SCHEDULED = "Scheduled"
    UNKNOWN_EVSE = "UnknownEvse"
    UNKNOWN_TRANSACTION = "UnknownTransaction"
    UNLOCKED = "Unlocked"
    UNLOCK_FAILED = "UnlockFailed"
    ONGOING_TRANSACTION = "OngoingTransaction"
    NOT_SUPPORTED = "NotSupported"


@dataclass(frozen=True, slots=True)
class EvseView:
    """A snapshot of one EVSE for people and machines that look on (status command, live view)."""

    evse: int
    state: ConnectorState
    faults: tuple[FaultCode, ...]
    cp: str | None
    charging_state: ChargingState | None
    tx_id: str | None
    token: Token | None
    contactor_closed: bool
    locked: bool | None
    limit_ma: int
    offered_ma: int
    duty_centipercent: int
    power_mw: int | None
    energy_import_mwh: int | None
    session_energy_mwh: int | None
    voltage_mv: tuple[int | None, int | None, int | None]
    current_ma: tuple[int | None, int | None, int | None]
    operative: bool
