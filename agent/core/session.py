"""One EVSE's session: from plug or token to the end of the transaction.

Rules (OCPP 2.0.1 E01-E15 with TxStartPoint and TxStopPoint "PowerPathClosed": authorized and
connected; OCPP 1.6 section 4.8):

* A transaction begins with a register reading that is still true (fresh, or taken since the contactor
  opened), then its start row, and only when that row is
  durable may energy flow (ACTIVE is the only state that permits it).
* It ends in this order: power away, contactor open, fresh register reading, end row, end told.
* A card that waits for a vehicle is taken back by the same card, and then it is as if its time had ended. A remote
  start is not.
* A stop that comes while the start row is being written is kept and obeyed right after.
* A stop is a row of its own, right after power was taken away. A command that stops is answered when that row is
  durable, and a transaction that was stopped does not go on after a restart.
* Without a fresh reading at the start there is no transaction; at the end the last good reading
  stands, marked as substituted.
* Where the register begins anew, the start of the transaction that follows is one commit with the end of this one,
  so that neither is there without the other. Without a fresh reading, nothing follows.
* A transaction found open after a restart is RECOVERING: it goes on if nobody had stopped it and the same vehicle
  is still there within the resume window, else it is closed with what the register says. Beyond the window an
  autonomous board may have charged anybody: there it is closed as if there were no reading.
* Where unplugging does not end it (E10), the vehicle has ``connect_timeout_ms`` to come back (``absence.py``).
* A vehicle that nobody could see for longer than that (its board is lost, its pilot is shorted) counts as gone.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, Final

from agent.core.events import GapKind
from agent.core.facts import ChargingState, Forerunner, Sample, StopReason, Token, Trigger
from agent.core.table import Table


class SessionState(enum.Enum):
    IDLE = "idle"
    WAITING = "waiting"
    PLUGGED = "plugged"
    BEGIN_READING = "begin_reading"
    BEGIN_WRITING = "begin_writing"
    ACTIVE = "active"
    RELEASING = "releasing"
    END_READING = "end_reading"
    END_WRITING = "end_writing"
    FINISHED = "finished"
    RECOVERING = "recovering"


class SessionEvent(enum.Enum):
    PLUG = "plug"
    UNPLUG = "unplug"
    AUTHORIZE = "authorize"
    CONNECT_TIMEOUT = "connect_timeout"
    READING = "reading"
    NO_READING = "no_reading"
    DURABLE = "durable"
    STOP = "stop"
    OPENED = "opened"
    RESUME = "resume"
    CLOSE = "close"


_S, _E = SessionState, SessionEvent

# STOP and UNPLUG in BEGIN_WRITING stay: the session remembers them (``pending_stop``).
SESSION = Table(
    "session",
    {
        _S.IDLE: {
            _E.PLUG: _S.PLUGGED,
            _E.AUTHORIZE: _S.WAITING,
            _E.UNPLUG: _S.IDLE,
            _E.STOP: _S.IDLE,
        },
        _S.WAITING: {
            _E.PLUG: _S.BEGIN_READING,
            _E.AUTHORIZE: _S.WAITING,
            _E.CONNECT_TIMEOUT: _S.IDLE,
            _E.UNPLUG: _S.WAITING,
            _E.STOP: _S.IDLE,
        },
        _S.PLUGGED: {
            _E.AUTHORIZE: _S.BEGIN_READING,
            _E.UNPLUG: _S.IDLE,
            _E.PLUG: _S.PLUGGED,
            _E.STOP: _S.PLUGGED,
        },
        _S.BEGIN_READING: {
            _E.READING: _S.BEGIN_WRITING,
            _E.NO_READING: _S.PLUGGED,
            _E.UNPLUG: _S.IDLE,
            _E.STOP: _S.PLUGGED,
            _E.PLUG: _S.BEGIN_READING,
        },
        _S.BEGIN_WRITING: {
            _E.DURABLE: _S.ACTIVE,
            _E.STOP: _S.BEGIN_WRITING,
            _E.UNPLUG: _S.BEGIN_WRITING,
            _E.PLUG: _S.BEGIN_WRITING,
        },
        _S.ACTIVE: {
            _E.STOP: _S.RELEASING,
            _E.UNPLUG: _S.RELEASING,
            _E.PLUG: _S.ACTIVE,
        },
        _S.RELEASING: {
            _E.OPENED: _S.END_READING,
            _E.STOP: _S.RELEASING,
            _E.UNPLUG: _S.RELEASING,
            _E.PLUG: _S.RELEASING,
        },
        _S.END_READING: {
            _E.READING: _S.END_WRITING,
            _E.NO_READING: _S.END_WRITING,
            _E.RESUME: _S.BEGIN_WRITING,
            _E.STOP: _S.END_READING,
            _E.UNPLUG: _S.END_READING,
            _E.PLUG: _S.END_READING,
        },
        _S.END_WRITING: {
            _E.DURABLE: _S.FINISHED,
            _E.STOP: _S.END_WRITING,
            _E.UNPLUG: _S.END_WRITING,
            _E.PLUG: _S.END_WRITING,
        },
        _S.FINISHED: {
            _E.UNPLUG: _S.IDLE,
            _E.AUTHORIZE: _S.BEGIN_READING,
            _E.PLUG: _S.FINISHED,
            _E.STOP: _S.FINISHED,
        },
        _S.RECOVERING: {
            _E.RESUME: _S.BEGIN_WRITING,
            _E.CLOSE: _S.END_WRITING,
            _E.PLUG: _S.RECOVERING,
            _E.UNPLUG: _S.RECOVERING,
            _E.STOP: _S.RECOVERING,
        },
    },
)

# States in which a token or a remote start can begin a transaction.
STARTABLE = frozenset({_S.IDLE, _S.PLUGGED, _S.FINISHED})
# States in which the ledger has a start without an end (BEGIN_WRITING: about to).
IN_TRANSACTION = frozenset({_S.BEGIN_WRITING, _S.ACTIVE, _S.RELEASING, _S.END_READING, _S.END_WRITING, _S.RECOVERING})
# States in which the cable belongs to the session.
HOLDS_CABLE = frozenset({_S.BEGIN_READING, *IN_TRANSACTION}) - {_S.END_READING, _S.END_WRITING}


@dataclass(slots=True)
class Stop:
    """Why a transaction shall end. ``at_once``: no graceful release of the contactor."""

    trigger: Trigger
    reason: StopReason
    token: Token | None = None
    at_once: bool = False
    follow_up: bool = False  # the same session goes on in a new transaction

    @classmethod
    def abnormal(cls, reason: StopReason | None) -> Stop:
        """A stop that a fault demands: at once, not gently."""
        return cls(Trigger.ABNORMAL_CONDITION, reason or StopReason.OTHER, at_once=True)

    @classmethod
    def restarted(cls, gap: GapKind, *, vehicle_gone: bool) -> Stop:
        """One that does not go on after a restart."""
        here = StopReason.EV_DISCONNECTED if vehicle_gone else StopReason.OTHER
        return cls(Trigger.ABNORMAL_CONDITION, StopReason.POWER_LOSS if gap is GapKind.POWER else here)


PAUSES_FREE: Final = 6
PAUSE_EVERY_MS: Final = 60_000


@dataclass(slots=True)
class Transaction:
    """What a running transaction carries; everything here can be rebuilt from ledger rows."""

    tx_id: str
    token: Token | None
    group: str | None
    remote_start_id: int | None = None
    authorized_by: str = ""
    profile: dict[str, Any] | None = None  # the charging profile it was started with
    follows: Forerunner | None = None
    next_seq_no: int = 0
    begin_energy_mwh: int = 0
    tariff: str | None = None
    last: Sample | None = None
    durable: Sample | None = None  # the newest reading on its way to disk
    last_durable_ms: int = 0
    told_state: ChargingState = ChargingState.EV_CONNECTED
    pauses_left: int = PAUSES_FREE  # pauses of the vehicle that may be told now
    pauses_since_ms: int = 0
    ever_closed: bool = False
    energy_blocked: bool = False  # the CSMS refused the token, but the transaction stays open
    refusal_unsaid: bool = False  # of which there is no row yet
    next_sample_ms: int | None = None
    stop: Stop | None = None
    vehicle_left: bool = False  # since it was stopped: whoever is plugged in at the end is another one
    stop_ticket: int | None = None  # of the row that says so
    stop_is_durable: bool = False
