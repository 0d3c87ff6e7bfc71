"""The connector lock: never released while the contactor may be closed; retried, then a fault.

Rules:

* The wanted position is computed by the EVSE from all its parts; this machine drives towards it.
* Each try of the motor has ``lock_ms``; after ``lock_tries`` it is JAMMED (a self-clearing fault:
  it ends when the wanted position is seen, or when another one is wanted). It is then tried again every
  ``lock_again_ms``: a bolt that comes free, or a board that was lost meanwhile, must not keep a cable for ever.
* A position that changes by itself, or is no longer known, starts the tries again: power waits until the plug is seen
  locked, as at a begin.
* A board without lock (fixed cable) has no such machine: the EVSE holds None.
"""

from __future__ import annotations

import enum

from agent.core.settings import Timing
from agent.core.table import Table, staying
from hal.ports import LockPosition


class LockState(enum.Enum):
    UNKNOWN = "unknown"
    UNLOCKED = "unlocked"
    LOCKING = "locking"
    LOCKED = "locked"
    UNLOCKING = "unlocking"
    JAMMED = "jammed"


class LockEvent(enum.Enum):
    WANT_LOCKED = "want_locked"
    WANT_UNLOCKED = "want_unlocked"
    SEEN_LOCKED = "seen_locked"
    SEEN_UNLOCKED = "seen_unlocked"
    SEEN_NOWHERE = "seen_nowhere"
    TRIES_USED = "tries_used"
    LOST = "lost"


_S, _E = LockState, LockEvent


def _row(stay: LockState, **moves: LockState) -> dict[LockEvent, LockState]:
    """Every event stays, except those named; a lost board is UNKNOWN from anywhere."""
    return staying(stay, _E.LOST, _S.UNKNOWN, moves)


LOCK = Table(
    "lock",
    {
        _S.UNKNOWN: _row(_S.UNKNOWN, want_locked=_S.LOCKING, want_unlocked=_S.UNLOCKING),
        _S.UNLOCKED: _row(_S.UNLOCKED, want_locked=_S.LOCKING, seen_locked=_S.UNLOCKING, seen_nowhere=_S.UNLOCKING),
        _S.LOCKING: _row(_S.LOCKING, seen_locked=_S.LOCKED, want_unlocked=_S.UNLOCKING, tries_used=_S.JAMMED),
        _S.LOCKED: _row(_S.LOCKED, want_unlocked=_S.UNLOCKING, seen_unlocked=_S.LOCKING, seen_nowhere=_S.LOCKING),
        _S.UNLOCKING: _row(_S.UNLOCKING, seen_unlocked=_S.UNLOCKED, want_locked=_S.LOCKING, tries_used=_S.JAMMED),
        _S.JAMMED: _row(_S.JAMMED, seen_locked=_S.LOCKED, seen_unlocked=_S.UNLOCKED),
    },
)


_SEEN = {
    LockPosition.LOCKED: _E.SEEN_LOCKED,
    LockPosition.UNLOCKED: _E.SEEN_UNLOCKED,
    LockPosition.UNKNOWN: _E.SEEN_NOWHERE,
}


class ConnectorLock:
    """One lock. ``command`` tells the shell what to send: None, or the position of a new try."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._want_locked: bool | None = None
        self._position = LockPosition.UNKNOWN
        self._tries_left = 0
        self.state = _S.UNKNOWN
        self.deadline_ms: int | None = None
        self.command: bool | None = None

    def want(self, locked: bool, at_ms: int) -> None:
        if locked is self._want_locked:
            return
        self._want_locked = locked
        if self.state is _S.JAMMED:
            self.state = _S.UNKNOWN  # another wish gets its own tries
        self._move(LOCK.next(self.state, _E.WANT_LOCKED if locked else _E.WANT_UNLOCKED), at_ms)

    def observe(self, position: LockPosition, at_ms: int) -> None:
        self._position = position
        wanted = LockPosition.LOCKED if self._want_locked else LockPosition.UNLOCKED
        if self.state is _S.JAMMED and position is not wanted:
            return  # the same news again is not a release
        self._move(LOCK.next(self.state, _SEEN[position]), at_ms)

    def lose(self) -> None:
        self.state, self.deadline_ms, self.command = _S.UNKNOWN, None, None
        self._want_locked, self._position = None, LockPosition.UNKNOWN

    def tick(self, at_ms: int) -> None:
        if self.deadline_ms is None or at_ms < self.deadline_ms:
            return
        if self.state is _S.JAMMED:
            self._try_again(at_ms)
        elif self._tries_left > 0:
            self._try(at_ms)
        else:
            self._move(LOCK.next(self.state, _E.TRIES_USED), at_ms)

    def _move(self, state: LockState, at_ms: int) -> None:
        if state is self.state:
            return
        self.state, self.deadline_ms = state, None
        if state in (_S.LOCKING, _S.UNLOCKING):
            self._tries_left = self._timing.lock_tries
            self._try(at_ms)
            already = LockPosition.LOCKED if state is _S.LOCKING else LockPosition.UNLOCKED
            if self._position is already:
                self.observe(already, at_ms)
        elif state is _S.JAMMED:
            self.deadline_ms = at_ms + self._timing.lock_again_ms

    def _try(self, at_ms: int) -> None:
        self._tries_left -= 1
        self.deadline_ms = at_ms + self._timing.lock_ms
        self.command = self.state is _S.LOCKING

    def _try_again(self, at_ms: int) -> None:
        """Once, without leaving JAMMED: a fault that came and went with each try would let a session begin."""
        self.command, self.deadline_ms = self._want_locked, at_ms + self._timing.lock_again_ms

    def take_command(self) -> bool | None:
        command, self.command = self.command, None
        return command

    @property
    def locked(self) -> bool:
        return self.state is _S.LOCKED

    @property
    def unlocked(self) -> bool:
        return self.state is _S.UNLOCKED
