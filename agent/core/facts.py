"""Durable facts: what the ledger keeps and OCPP messages are later derived from.

Charter: plain data, shaped like OCPP 2.0.1 because that is the superset; the 1.6 dialect is a
projection. A fact is written once and never changed. Spellings of enums are those of the OCPP 2.0.1
schemas (part 2 appendices), so that a dialect may pass them on.

Units: milliwatt-hour, milliwatt, milliampere, millivolt; ``at_ms`` is monotonic time of the boot in
whose ledger row the fact stands (the row carries the matching wall time).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class TxKind(enum.StrEnum):
    STARTED = "Started"
    UPDATED = "Updated"
    ENDED = "Ended"


class ChargingState(enum.StrEnum):
    CHARGING = "Charging"
    EV_CONNECTED = "EVConnected"
    SUSPENDED_EV = "SuspendedEV"
    SUSPENDED_EVSE = "SuspendedEVSE"
    IDLE = "Idle"


class Trigger(enum.StrEnum):
    """Why a transaction event happened (OCPP 2.0.1 TriggerReasonEnumType, those we use)."""

    AUTHORIZED = "Authorized"
    CABLE_PLUGGED_IN = "CablePluggedIn"
    CHARGING_STATE_CHANGED = "ChargingStateChanged"
    DEAUTHORIZED = "Deauthorized"
    EV_COMMUNICATION_LOST = "EVCommunicationLost"
    EV_DEPARTED = "EVDeparted"
    METER_VALUE_CLOCK = "MeterValueClock"
    METER_VALUE_PERIODIC = "MeterValuePeriodic"
    REMOTE_START = "RemoteStart"
    REMOTE_STOP = "RemoteStop"
    RESET_COMMAND = "ResetCommand"
    STOP_AUTHORIZED = "StopAuthorized"
    TRIGGER = "Trigger"
    UNLOCK_COMMAND = "UnlockCommand"
    ABNORMAL_CONDITION = "AbnormalCondition"


class StopReason(enum.StrEnum):
    """Why a transaction ended (OCPP 2.0.1 ReasonEnumType, those we use)."""

    DE_AUTHORIZED = "DeAuthorized"
    EMERGENCY_STOP = "EmergencyStop"
    EV_DISCONNECTED = "EVDisconnected"
    IMMEDIATE_RESET = "ImmediateReset"
    REBOOT = "Reboot"  # a soft reset: 1.6 says SoftReset
    LOCAL = "Local"
    OTHER = "Other"
    OVERCURRENT_FAULT = "OvercurrentFault"
    GROUND_FAULT = "GroundFault"
    POWER_LOSS = "PowerLoss"
    REMOTE = "Remote"
    UNLOCK = "UnlockCommand"  # 1.6 only; 2.0.1 says Other with trigger UnlockCommand


class SampleContext(enum.StrEnum):
    BEGIN = "Transaction.Begin"
    PERIODIC = "Sample.Periodic"
    CLOCK = "Sample.Clock"
    END = "Transaction.End"
    TRIGGER = "Trigger"
    INTERRUPTION_BEGIN = "Interruption.Begin"
    INTERRUPTION_END = "Interruption.End"


@dataclass(frozen=True, slots=True)
class Token:
    """An identification token: its text and its OCPP 2.0.1 type (ISO14443, Central, ...)."""

    id_token: str
    token_type: str = "ISO14443"


@dataclass(frozen=True, slots=True)
class Sample:
    """One consistent set of measured values of one EVSE. Absent quantities are None.

    ``substituted`` marks a value that is not a reading of this instant but the last good one,
    because the meter did not answer when the reading was due.
    """

    context: SampleContext
    at_ms: int
    meter_serial: str
    energy_import_mwh: int
    energy_export_mwh: int | None = None
    power_mw: int | None = None
    voltage_mv: tuple[int | None, int | None, int | None] = (None, None, None)
    current_ma: tuple[int | None, int | None, int | None] = (None, None, None)
    offered_current_ma: int | None = None
    frequency_mhz: int | None = None
    substituted: bool = False


@dataclass(frozen=True, slots=True)
class TransactionFact:
    """One event in the life of a transaction. ``seq_no`` counts from 0 without gaps.

    ``token`` stands only where one was presented. ``offline`` says that the CSMS could not be
    reached when the event happened. The last sample of Started is the begin reading, the last
    sample of Ended the end reading.
    """

    kind: TxKind
    tx_id: str
    seq_no: int
    evse: int
    trigger: Trigger
    charging_state: ChargingState
    offline: bool
    samples: tuple[Sample, ...] = ()
    token: Token | None = None
    group: str | None = None
    remote_start_id: int | None = None
    stopped_reason: StopReason | None = None


@dataclass(frozen=True, slots=True)
class CheckpointFact:
    """A meter reading kept for recovery only: nobody outside is told of it."""

    tx_id: str
    evse: int
    sample: Sample


@dataclass(frozen=True, slots=True)
class MeterFact:
    """A clock-aligned reading outside any transaction."""

    evse: int
    sample: Sample


@dataclass(frozen=True, slots=True)
class BootFact:
    """The station process started. ``cause`` is the OCPP 2.0.1 BootReasonEnumType."""

    cause: str
    software_version: str


@dataclass(frozen=True, slots=True)
class ClockFact:
    """Wall time was set. Rows of this boot made before carry ``time_status`` "U" and are restamped
    by the offset between the two clocks that this row fixes."""

    wall_ms: int
    source: str
    previous_wall_ms: int


@dataclass(frozen=True, slots=True)
class SecurityFact:
    """A security event (OCPP 2.0.1 appendix 1 name)."""

    event_type: str
    tech_info: str


Fact = TransactionFact | CheckpointFact | MeterFact | BootFact | ClockFact | SecurityFact

KIND_OF: dict[type, str] = {
    CheckpointFact: "checkpoint",
    MeterFact: "meter",
    BootFact: "boot",
    ClockFact: "clock",
    SecurityFact: "security",
}


def kind_of(fact: Fact) -> str:
    """The ledger row kind of a fact; transactions split in tx_started, tx_updated, tx_ended."""
    if isinstance(fact, TransactionFact):
        return f"tx_{fact.kind.value.lower()}"
    return KIND_OF[type(fact)]
