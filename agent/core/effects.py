"""Everything the station can want: the only way out.

Charter: plain data, carried out by the shell in order. Effects that need a durable fact first are
not returned until the core has been told ``Durable`` for its ticket; so a shell can never release
them too early.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.core.facts import Fact, Sample
from agent.core.status import ConnectorStatus, FaultCode, Outcome


@dataclass(frozen=True, slots=True)
class SetDuty:
    """Pilot signal in 0.01 % (subordinate boards)."""

    evse: int
    duty_centipercent: int


@dataclass(frozen=True, slots=True)
class AllowPower:
    """Grant or withdraw power (subordinate boards). Withdrawal comes first among its effects."""

    evse: int
    allowed: bool


@dataclass(frozen=True, slots=True)
class OfferCurrent:
    """Autonomous boards: let the vehicle charge with at most this current."""

    evse: int
    current_ma: int


@dataclass(frozen=True, slots=True)
class StopOffer:
    """Autonomous boards: withdraw the offer; the contactor opens when the vehicle has stopped."""

    evse: int


@dataclass(frozen=True, slots=True)
class DisableBoard:
    """Autonomous boards: open the contactor now."""

    evse: int


@dataclass(frozen=True, slots=True)
class ResetBoard:
    evse: int


@dataclass(frozen=True, slots=True)
class SetLock:
    evse: int
    locked: bool


@dataclass(frozen=True, slots=True)
class SetOutput:
    """DC: voltage and current set-point."""

    evse: int
    voltage_mv: int
    current_ma: int


@dataclass(frozen=True, slots=True)
class SwitchOutput:
    """DC: power module on or off."""

    evse: int
    on: bool


@dataclass(frozen=True, slots=True)
class ReadMeter:
    """Ask the meter for a fresh reading now."""

    evse: int


@dataclass(frozen=True, slots=True)
class Append:
    """Make these facts durable in one commit, then tell the core ``Durable(ticket)``.

    Both clocks are those of the event that caused the facts."""

    ticket: int
    facts: tuple[Fact, ...]
    at_ms: int
    wall_ms: int
    time_status: str  # "S" synchronised (by the CSMS), "I" informative (vouched for), "U" unknown


@dataclass(frozen=True, slots=True)
class SaveAvailability:
    """Keep the operative flag over restarts; ``evse`` None is the station."""

    evse: int | None
    operative: bool


@dataclass(frozen=True, slots=True)
class SaveFaults:
    """Keep these faults of an EVSE over restarts, and no others."""

    evse: int
    faults: tuple[FaultCode, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    command_id: int
    outcome: Outcome
    tx_id: str | None = None


@dataclass(frozen=True, slots=True)
class StatusChanged:
    status: ConnectorStatus


@dataclass(frozen=True, slots=True)
class SampleTaken:
    """The reading that ``TakeSample`` asked for, where no transaction runs or room is scarce."""

    evse: int
    sample: Sample


@dataclass(frozen=True, slots=True)
class TransactionEnded:
    """The end row is durable: the driver may be told, profiles of the transaction may go."""

    evse: int
    tx_id: str


@dataclass(frozen=True, slots=True)
class Restart:
    """All transactions are ended and durable: restart the station. ``cause`` is a BootReason."""

    cause: str


Effect = (
    SetDuty
    | AllowPower
    | OfferCurrent
    | StopOffer
    | DisableBoard
    | ResetBoard
    | SetLock
    | SetOutput
    | SwitchOutput
    | ReadMeter
    | Append
    | SaveAvailability
    | SaveFaults
    | Answer
    | StatusChanged
    | SampleTaken
    | TransactionEnded
    | Restart
)
