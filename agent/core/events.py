"""Everything that can happen to the station: the only way in.

Charter: plain data. Each event is given to ``Station.step(event, at_ms)`` with its monotonic time.
Events of hardware are the port events of ``hal.ports`` wrapped with the EVSE they belong to.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

from agent.core.commands import Command
from agent.core.facts import Forerunner, Sample, StopFact, StopReason, Token, Trigger
from agent.core.settings import Behaviour
from hal.ports import MeterEvent, PilotEvent, PowerEvent


@dataclass(frozen=True, slots=True)
class FromPilot:
    evse: int
    event: PilotEvent


@dataclass(frozen=True, slots=True)
class FromMeter:
    evse: int
    event: MeterEvent


@dataclass(frozen=True, slots=True)
class FromPower:
    evse: int
    event: PowerEvent


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed; deadlines are looked at. From a timer only: what devices had said by then has been heard before."""


@dataclass(frozen=True, slots=True)
class ClockSet:
    """Wall time is now ``wall_ms``. ``trusted``: it comes from the CSMS, NTP or a kept RTC."""

    wall_ms: int
    source: str
    trusted: bool


@dataclass(frozen=True, slots=True)
class LinkChanged:
    """The CSMS can (not) be reached."""

    online: bool


@dataclass(frozen=True, slots=True)
class Authorized:
    """The token may start a transaction here. ``source`` is what that rests on, in the words of
    ``agent.auth.policy.Source``; ``profile`` is that of the ``RemoteStart`` which asked for it. ``shown``: held up
    here, so whoever did can take it back."""

    evse: int
    token: Token
    group: str | None
    remote_start_id: int | None = None
    source: str = ""
    profile: dict[str, Any] | None = None
    shown: bool = False


@dataclass(frozen=True, slots=True)
class StopAuthorized:
    """The token may stop the transaction that runs here: its driver's, or one of his group; or a ``master_pass``
    (OCPP 2.0.1 C16)."""

    evse: int
    token: Token
    master_pass: bool = False


@dataclass(frozen=True, slots=True)
class Deauthorized:
    """The CSMS refused the token of a running transaction. ``stop`` ends it (StopTxOnInvalidId),
    otherwise only its energy stops."""

    tx_id: str
    stop: bool


@dataclass(frozen=True, slots=True)
class Exhausted:
    """A running transaction has used up what it may (prepaid): it ends."""

    tx_id: str
    trigger: Trigger
    reason: StopReason


@dataclass(frozen=True, slots=True)
class LimitSet:
    """The current limit from charging profiles, until the next one comes; None: no limit from there.

    ``share_ma`` is this EVSE's part of the site's supply (local load sharing); None: not shared."""

    evse: int
    limit_ma: int | None
    share_ma: int | None = None


@dataclass(frozen=True, slots=True)
class DcDemand:
    """What the vehicle asks of a DC output. The bench profile gives it at start; an ISO 15118
    controller gives it while charging: this event is where it plugs in."""

    evse: int
    voltage_mv: int
    current_ma: int


@dataclass(frozen=True, slots=True)
class Configured:
    """Settings that govern behaviour changed."""

    behaviour: Behaviour


@dataclass(frozen=True, slots=True)
class Commanded:
    command_id: int
    command: Command


@dataclass(frozen=True, slots=True)
class Durable:
    """Everything appended under this ticket is on disk."""

    ticket: int


@dataclass(frozen=True, slots=True)
class LedgerLost:
    """The ledger cannot be written: no billing, no power."""


@dataclass(frozen=True, slots=True)
class LedgerRoom:
    """Whether the disk has room for another transaction; one that runs can always be finished. ``scarce``: there is
    none for readings in between (20-TE-12)."""

    enough: bool
    scarce: bool = False


class GapKind(enum.StrEnum):
    """What cut an open transaction."""

    PROCESS = "process"  # the station process restarted, the machine did not
    POWER = "power"  # the machine restarted


@dataclass(frozen=True, slots=True)
class UpdateHold:
    """A firmware update waits for the station to be free (``on``): no new session begins, and what nobody uses is
    shown as unavailable. What the CSMS said of availability is untouched, so it holds again afterwards."""

    on: bool


@dataclass(frozen=True, slots=True)
class Recovered:
    """A transaction that has a start but no end in the ledger; told before any device event.

    ``last`` is the newest durable reading. ``gap_ms`` is None where no clock can tell it; ``age_ms`` is the time since
    the session began, without a gap that nobody knows.
    ``energy_blocked``: the CSMS had refused the token. ``stop``: it was to end. ``follows``: the session did not begin
    with it."""

    evse: int
    tx_id: str
    next_seq_no: int
    token: Token | None
    group: str | None
    begin_energy_mwh: int
    last: Sample
    gap: GapKind
    gap_ms: int | None
    authorized_by: str = ""
    energy_blocked: bool = False
    stop: StopFact | None = None
    age_ms: int = 0
    follows: Forerunner | None = None


@dataclass(frozen=True, slots=True)
class Stalled:
    """The process stood still for longer than another vehicle needs to come (``vehicle.SWAP_MS``). What devices say
    next has waited for nobody knows how long."""


Event = (
    FromPilot
    | FromMeter
    | FromPower
    | Tick
    | Stalled
    | ClockSet
    | LinkChanged
    | Authorized
    | StopAuthorized
    | Deauthorized
    | Exhausted
    | LimitSet
    | DcDemand
    | Configured
    | Commanded
    | Durable
    | LedgerLost
    | LedgerRoom
    | UpdateHold
    | Recovered
)
