"""The life of the one record that a signing meter holds, as a table. Pure.

Charter: what the meter says of its record (four states) is not enough to know what may be asked of it:
a finished record may or may not have been fetched, and a command may be under way. This machine keeps
the difference. It knows no registers and does no I/O; the driver tells it what it saw and did.

What follows from the table:

* A record can be confirmed only after this run has fetched it, or to accept that it is corrupted; the two
  are different commands here, lest the second be repeated on a good record that nobody has read.
* Whatever a command promised, only what the meter then says moves the machine on.
* A command given up leaves the state unknown; the meter says at the next look where it stands.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

from hal.ports import HeldRecord, RecordFailed, RecordFault


class RecordState(enum.Enum):
    UNKNOWN = "unknown"  # not asked yet, or a command was given up
    IDLE = "idle"
    STARTING = "starting"
    RUNNING = "running"
    ENDING = "ending"
    ABORTING = "aborting"
    READY = "ready"  # finished, never fetched by this run
    UNCONFIRMED = "unconfirmed"  # finished and fetched
    CONFIRMING = "confirming"
    CORRUPTED = "corrupted"
    DISCARDING = "discarding"  # the confirmation of a corrupted record is under way


class RecordEvent(enum.Enum):
    BEGIN = "begin"  # the driver gives this command now
    END = "end"
    ABORT = "abort"
    CONFIRM = "confirm"
    FETCHED = "fetched"  # the whole record was read, and has the shape of one
    GAVE_UP = "gave_up"  # the call that gave a command is over
    SAYS_IDLE = "says_idle"  # the meter's own state
    SAYS_RUNNING = "says_running"
    SAYS_READY = "says_ready"
    SAYS_CORRUPTED = "says_corrupted"


_S, _E = RecordState, RecordEvent


def _row(**moves: RecordState) -> dict[RecordEvent, RecordState]:
    """The meter's word counts from anywhere, unless the row says otherwise."""
    says = {
        _E.SAYS_IDLE: _S.IDLE,
        _E.SAYS_RUNNING: _S.RUNNING,
        _E.SAYS_READY: _S.READY,
        _E.SAYS_CORRUPTED: _S.CORRUPTED,
    }
    return says | {_E(event): state for event, state in moves.items()}


RECORD: Mapping[RecordState, Mapping[RecordEvent, RecordState]] = {
    _S.UNKNOWN: _row(),
    _S.IDLE: _row(begin=_S.STARTING),
    _S.STARTING: _row(says_idle=_S.STARTING, gave_up=_S.UNKNOWN),
    _S.RUNNING: _row(end=_S.ENDING, abort=_S.ABORTING),
    # "Not ready" while it signs is not the same as holding nothing.
    _S.ENDING: _row(says_running=_S.ENDING, says_idle=_S.ENDING, gave_up=_S.UNKNOWN),
    _S.ABORTING: _row(says_running=_S.ABORTING, gave_up=_S.UNKNOWN),
    _S.READY: _row(fetched=_S.UNCONFIRMED),
    _S.UNCONFIRMED: _row(says_ready=_S.UNCONFIRMED, fetched=_S.UNCONFIRMED, confirm=_S.CONFIRMING),
    _S.CONFIRMING: _row(says_ready=_S.CONFIRMING, gave_up=_S.UNCONFIRMED),
    _S.CORRUPTED: _row(confirm=_S.DISCARDING),
    _S.DISCARDING: _row(says_corrupted=_S.DISCARDING, gave_up=_S.UNKNOWN),
}

# Why the meter's record stands in the way of a command, where it does.
_REASONS: Mapping[RecordState, tuple[RecordFault, str]] = {
    _S.IDLE: (RecordFault.NOT_RUNNING, "no record is running"),
    _S.RUNNING: (RecordFault.RUNNING, "a record is running"),
    _S.READY: (RecordFault.UNCONFIRMED, "a finished record waits to be fetched and confirmed"),
    _S.UNCONFIRMED: (RecordFault.UNCONFIRMED, "a fetched record waits to be confirmed"),
    _S.CORRUPTED: (RecordFault.CORRUPTED, "the record is corrupted"),
}

_HELD: Mapping[RecordState, HeldRecord] = {
    _S.IDLE: HeldRecord.NOTHING,
    _S.RUNNING: HeldRecord.RUNNING,
    _S.READY: HeldRecord.FINISHED,
    _S.UNCONFIRMED: HeldRecord.FINISHED,
    _S.CORRUPTED: HeldRecord.CORRUPTED,
}


class RecordLife:
    """Where the record stands. ``device`` names the meter in errors."""

    def __init__(self, device: str) -> None:
        self._device = device
        self.state = RecordState.UNKNOWN

    def happened(self, event: RecordEvent) -> None:
        """Move on. Raises ``RecordFailed`` for a command that the record's state does not allow."""
        after = RECORD[self.state].get(event)
        if after is None:
            raise self.in_the_way(event)
        self.state = after

    def give_up(self) -> None:
        """The call is over: no command is under way any more."""
        self.state = RECORD[self.state].get(RecordEvent.GAVE_UP, self.state)

    def forget(self) -> None:
        """The meter was away and may be another one: nothing fetched counts as this one's."""
        self.state = RecordState.UNKNOWN

    @property
    def held(self) -> HeldRecord:
        """For the port. Only between commands and after a look."""
        return _HELD[self.state]

    def in_the_way(self, event: RecordEvent) -> RecordFailed:
        """The error for a command that the state forbids."""
        reason, detail = _REASONS[self.state]
        if event is RecordEvent.CONFIRM and self.state is RecordState.READY:
            reason, detail = RecordFault.NOT_FETCHED, "the record to confirm was never fetched"
        return RecordFailed(self._device, reason, f"cannot {event.value}: {detail}")
