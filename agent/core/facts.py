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
    EV_CONNECT_TIMEOUT = "EVConnectTimeout"
    EV_DEPARTED = "EVDeparted"
    METER_VALUE_CLOCK = "MeterValueClock"
    METER_VALUE_PERIODIC = "MeterValuePeriodic"
    REMOTE_START = "RemoteStart"
    REMOTE_STOP = "RemoteStop"
    RESET_COMMAND = "ResetCommand"
    STOP_AUTHORIZED = "StopAuthorized"
    TRIGGER = "Trigger"
    ENERGY_LIMIT_REACHED = "EnergyLimitReached"
    TIME_LIMIT_REACHED = "TimeLimitReached"
    COST_LIMIT_REACHED = "CostLimitReached"  # OCPP 2.1; the older dialects say it in their own words
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
    ENERGY_LIMIT_REACHED = "EnergyLimitReached"
    TIME_LIMIT_REACHED = "TimeLimitReached"
    TIMEOUT = "Timeout"  # the vehicle left and did not come back in time: 1.6 says EVDisconnected
    LOCAL_OUT_OF_CREDIT = "LocalOutOfCredit"
    MASTER_PASS = "MasterPass"  # 1.6 says Local
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

    ``substituted`` marks a value that is not a reading of this instant but the last good one;
    ``meter_state`` says why, as OCMF does (ST): G good, T no answer in time, M register fell,
    X meter exchanged, O register jumped out of range, E register stands still while power flows.
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
    meter_state: str = "G"


@dataclass(frozen=True, slots=True)
class Forerunner:
    """The transaction before this one in the same session: the register began anew, and it had to end.

    ``cost_excl`` and ``cost_incl``: what the session has cost up to here, without and with tax, decimal numbers in its
    currency; None where nobody priced it."""

    tx_id: str
    cost_excl: str | None = None
    cost_incl: str | None = None


@dataclass(frozen=True, slots=True)
class TransactionFact:
    """One event in the life of a transaction. ``seq_no`` counts from 0 without gaps.

    ``token`` stands only where one was presented. ``offline`` says that the CSMS could not be
    reached when the event happened. The last sample of Started is the begin reading, the last
    sample of Ended the end reading. ``tariff`` names (by content hash) the tariff a transaction
    starts with, ``authorized_by`` what the start rests on (``agent.auth.policy.Source``, or
    "remote"). ``gap``: the station did not run since the row before, so that time is unknown.
    ``total_cost`` stands in Ended where this station has priced the transaction: a decimal number in
    ``currency``, tax included. ``follows`` stands in Started where the session did not begin with it.
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
    tariff: str | None = None
    gap: bool = False
    authorized_by: str = ""
    total_cost: str | None = None
    currency: str | None = None
    follows: Forerunner | None = None


@dataclass(frozen=True, slots=True)
class CheckpointFact:
    """A meter reading kept for recovery and for pricing: nobody outside is told of it."""

    tx_id: str
    evse: int
    sample: Sample


@dataclass(frozen=True, slots=True)
class StopFact:
    """A running transaction is to end, and why: kept for recovery, so that it does not go on after a restart.
    ``token`` stands where one was presented. The fields of its end will be the same."""

    tx_id: str
    evse: int
    trigger: Trigger
    reason: StopReason
    token: Token | None = None


class PriceCause(enum.StrEnum):
    """Why the price of a running transaction was looked at anew."""

    BOUNDARY = "boundary"  # a time at which another price may hold
    CHOICE = "choice"  # power, current or energy choose another price
    TARIFF = "tariff"  # another tariff holds from here on
    CLOCK = "clock"  # wall time was set


@dataclass(frozen=True, slots=True)
class PriceFact:
    """A point at which the price may change. ``samples`` are the last reading before it and the first
    after it, as far as there are any; ``tariff`` is the content hash of the one that takes effect."""

    tx_id: str
    evse: int
    cause: PriceCause
    samples: tuple[Sample, ...] = ()
    tariff: str | None = None


@dataclass(frozen=True, slots=True)
class LimitFact:
    """What a transaction may use up at most (prepaid). ``max_cost`` is a decimal number in the tariff's
    currency, tax included; it is text because money is never a float."""

    tx_id: str
    evse: int
    max_cost: str | None = None
    max_energy_mwh: int | None = None
    max_time_ms: int | None = None
    source: str = ""


@dataclass(frozen=True, slots=True)
class TariffFact:
    """A tariff was learned: its text exactly as received, named by the hash of its content."""

    content_hash: str
    tariff_id: str
    source: str
    text: str


@dataclass(frozen=True, slots=True)
class CostToldFact:
    """The CSMS said what a transaction costs (so far, or finally). ``cost`` is its decimal text."""

    tx_id: str
    evse: int
    cost: str
    final: bool
    text: str = ""


class LogEntry(enum.StrEnum):
    """What the log book of metering keeps, beside starts, clock and security events."""

    UNCLEAN_STOP = "unclean_stop"
    SETTING_CHANGED = "setting_changed"
    KEY_CREATED = "key_created"
    KEY_IN_USE = "key_in_use"
    METER_SEEN = "meter_seen"
    METER_EXCHANGED = "meter_exchanged"
    METER_ROLLOVER = "meter_rollover"
    METER_BACKWARDS = "meter_backwards"
    METER_SILENT = "meter_silent"
    METER_IMPLAUSIBLE = "meter_implausible"
    SPACE_LOW = "space_low"
    SPACE_ENOUGH = "space_enough"
    TARIFF_REFUSED = "tariff_refused"
    LIMIT_WITHOUT_PRICE = "limit_without_price"
    RECORD_FAILED = "record_failed"
    FAULTS_CLEARED = "faults_cleared"
    AVAILABILITY_CHANGED = "availability_changed"
    PROFILES_CLEARED = "profiles_cleared"
    TARIFFS_CLEARED = "tariffs_cleared"
    VERIFICATION_FAILED = "verification_failed"


@dataclass(frozen=True, slots=True)
class LogFact:
    """A line of the log book. ``details`` are names and values as text."""

    entry: LogEntry
    evse: int | None = None
    details: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class SignedFact:
    """A signed meter record (OCMF), exactly as it was signed. The row's body is the record itself."""

    tx_id: str
    evse: int
    record: str


@dataclass(frozen=True, slots=True)
class ReceiptFact:
    """A transaction's receipt, exactly as it was signed. The row's body is the receipt itself."""

    tx_id: str
    evse: int
    document: str


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


class UpdateVia(enum.StrEnum):
    """Who asked for a firmware update, and in which words he is told of it."""

    PLAIN = "plain"  # OCPP UpdateFirmware without certificate (1.6 core, 2.0.1 L02)
    SIGNED = "signed"  # with signing certificate and signature (1.6 SignedUpdateFirmware, 2.0.1 L01)
    LOCAL = "local"  # a technician: the CSMS hears of the new version, not of the steps


@dataclass(frozen=True, slots=True)
class FirmwareFact:
    """A step of a firmware update. ``status`` is the OCPP 2.0.1 FirmwareStatusEnumType; ``why`` says in plain
    words what a failure was."""

    status: str
    via: UpdateVia
    request_id: int | None
    version: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class VariableName:
    """The name of a device model variable (OCPP 2.0.1 ComponentType and VariableType)."""

    component: str
    variable: str
    instance: str | None = None
    evse: int | None = None
    connector: int | None = None
    component_instance: str | None = None


class EventTrigger(enum.StrEnum):
    """OCPP 2.0.1 EventTriggerEnumType."""

    ALERTING = "Alerting"
    DELTA = "Delta"
    PERIODIC = "Periodic"


class MonitorOrigin(enum.StrEnum):
    """Who made a monitor (OCPP 2.0.1 EventNotificationEnumType, those we use)."""

    HARD_WIRED = "HardWiredMonitor"
    CUSTOM = "CustomMonitor"


@dataclass(frozen=True, slots=True)
class EventFact:
    """A monitor spoke (OCPP 2.0.1 N07, N08); the number of its row is the event's id.

    ``value`` is the variable's, as text; ``tech_code`` a code of the health catalogue. ``in_tx``: the transaction that
    ran there then, of whose own record the event is no part."""

    name: VariableName
    trigger: EventTrigger
    monitor_id: int
    origin: MonitorOrigin
    severity: int
    value: str
    cleared: bool = False
    tech_code: str = ""
    tech_info: str = ""
    in_tx: str | None = None

    @property
    def evse(self) -> int | None:
        return self.name.evse


Fact = (
    TransactionFact
    | CheckpointFact
    | StopFact
    | PriceFact
    | LimitFact
    | TariffFact
    | CostToldFact
    | MeterFact
    | BootFact
    | ClockFact
    | SecurityFact
    | FirmwareFact
    | EventFact
    | LogFact
    | SignedFact
    | ReceiptFact
)

KIND_OF: dict[type, str] = {
    CheckpointFact: "checkpoint",
    StopFact: "stop",
    PriceFact: "price",
    LimitFact: "limit",
    TariffFact: "tariff",
    CostToldFact: "cost_told",
    MeterFact: "meter",
    BootFact: "boot",
    ClockFact: "clock",
    SecurityFact: "security",
    FirmwareFact: "firmware",
    EventFact: "event",
    LogFact: "log",
    SignedFact: "signed",
    ReceiptFact: "receipt",
}


def kind_of(fact: Fact) -> str:
    """The ledger row kind of a fact; transactions split in tx_started, tx_updated, tx_ended."""
    if isinstance(fact, TransactionFact):
        return f"tx_{fact.kind.value.lower()}"
    return KIND_OF[type(fact)]
