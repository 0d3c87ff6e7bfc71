"""The contactor: commanded state, mirror contact, weld detection.

Rules:

* Power is allowed in CLOSING, CLOSED and RELEASING only; ``WITHDRAW`` leaves them at once.
* A normal stop is ``RELEASE``: PWM goes off first, and the vehicle has ``release_ms`` to stop
  drawing, so that the contactor opens without load. Then it opens anyway (IEC 61851-1: 6 s).
* Mirror contact still closed ``contactor_open_ms`` after opening was commanded: welded, latched.
  Closed without being commanded starts the same clock.
* Mirror contact not closed ``contactor_close_ms`` after closing was commanded: stuck.
* Time in which the process stood still does not count there: what the board says may wait to be heard, and a polled
  board is not even asked. Power is away meanwhile.
* A board without mirror contact is believed after the same times; welding is then found by the
  meter (current through an open contactor), which feeds ``WELD_SEEN``.
* An autonomous board closes by itself when offered and the vehicle is ready, so CLOSING has no
  deadline there.
* A vehicle that toggles between B and C would wear the contactor out and write a row a second: after a few short
  closures in a row it stays open for a while (``rests_until_ms``), longer each time. That is the station's own pause,
  which nobody pays for. Opening never waits. An autonomous board follows its vehicle by itself while it is offered
  current; it rests where something else opens it again and again, as a fault that comes back with each closing.
* A welded contactor counts as closed whatever its mirror contact says, until a person clears it: the plug stays locked.
* A lost board tells nothing (UNKNOWN); nothing is granted until it has told its contactor.
"""

from __future__ import annotations

import enum

from agent.core.settings import Timing
from agent.core.table import Table, staying


class ContactorState(enum.Enum):
    UNKNOWN = "unknown"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"
    RELEASING = "releasing"
    OPENING = "opening"
    STUCK = "stuck"
    WELDED = "welded"


class ContactorEvent(enum.Enum):
    GRANT = "grant"
    RELEASE = "release"
    WITHDRAW = "withdraw"
    SEEN_CLOSED = "seen_closed"
    SEEN_OPEN = "seen_open"
    VEHICLE_IDLE = "vehicle_idle"
    TIMEOUT = "timeout"
    WELD_SEEN = "weld_seen"
    LOST = "lost"
    CLEAR = "clear"


_S, _E = ContactorState, ContactorEvent


def _row(stay: ContactorState, **moves: ContactorState) -> dict[ContactorEvent, ContactorState]:
    """Every event stays, except those named; a lost board is UNKNOWN from anywhere."""
    return staying(stay, _E.LOST, _S.UNKNOWN, moves)


CONTACTOR = Table(
    "contactor",
    {
        _S.UNKNOWN: _row(_S.UNKNOWN, seen_open=_S.OPEN, seen_closed=_S.OPENING),
        _S.OPEN: _row(_S.OPEN, grant=_S.CLOSING, seen_closed=_S.OPENING, weld_seen=_S.WELDED),
        _S.CLOSING: _row(_S.CLOSING, seen_closed=_S.CLOSED, release=_S.OPENING, withdraw=_S.OPENING, timeout=_S.STUCK),
        _S.CLOSED: _row(_S.CLOSED, seen_open=_S.CLOSING, release=_S.RELEASING, withdraw=_S.OPENING),
        _S.RELEASING: _row(
            _S.RELEASING,
            grant=_S.CLOSED,
            vehicle_idle=_S.OPENING,
            seen_open=_S.OPENING,
            timeout=_S.OPENING,
            withdraw=_S.OPENING,
        ),
        _S.OPENING: _row(_S.OPENING, seen_open=_S.OPEN, timeout=_S.WELDED, weld_seen=_S.WELDED),
        _S.STUCK: _row(_S.STUCK, seen_closed=_S.OPENING, clear=_S.OPENING),
        # Latched: even a mirror contact that opens later does not prove a sound contactor.
        _S.WELDED: _row(_S.WELDED, lost=_S.WELDED, clear=_S.OPENING),
    },
)

_LOOK_MS = 100  # while the board is waited for; the process stood still where a look comes later
_SHORT_MS = 10_000  # a closure that ends sooner
_SHORTS_FREE = 3  # a vehicle may need some tries
_REST_FIRST_MS = 2_000
_REST_MAX_MS = 60_000

POWERED = frozenset({_S.CLOSING, _S.CLOSED, _S.RELEASING})


class Contactor:
    """One contactor. ``feed`` moves it; ``tick`` lets its deadline pass. ``welded``: it was, before the restart."""

    def __init__(self, timing: Timing, *, has_feedback: bool, autonomous: bool, welded: bool = False) -> None:
        self._timing = timing
        self._has_feedback = has_feedback
        self._autonomous = autonomous
        self._seen_closed: bool | None = None
        self.state = _S.WELDED if welded else _S.UNKNOWN
        self.since_ms = 0  # when this state was entered
        self.deadline_ms: int | None = None
        self._looked_ms = 0
        self.rests_until_ms = 0
        self._shorts = 0  # closures in a row that were short

    def feed(self, event: ContactorEvent, at_ms: int) -> None:
        if event in (_E.SEEN_CLOSED, _E.SEEN_OPEN):
            self._seen_closed = event is _E.SEEN_CLOSED
        elif event is _E.LOST:
            self._seen_closed = None
        self._move(CONTACTOR.next(self.state, event), at_ms)

    def _move(self, state: ContactorState, at_ms: int) -> None:
        if state is self.state:
            return
        if self.state is _S.CLOSED:
            self._note_closure(at_ms - self.since_ms, at_ms)
        self.state, self.since_ms, self._looked_ms = state, at_ms, at_ms
        timing = self._timing
        after = {
            _S.CLOSING: None if self._autonomous else timing.contactor_close_ms,
            _S.RELEASING: timing.release_ms,
            _S.OPENING: timing.board_open_ms if self._autonomous else timing.contactor_open_ms,
        }.get(state)
        self.deadline_ms = None if after is None else at_ms + after
        # The mirror contact may already say what we now wait for; it tells changes only.
        if state is _S.OPENING and self._has_feedback and self._seen_closed is False:
            self._move(_S.OPEN, at_ms)

    def _note_closure(self, lasted_ms: int, at_ms: int) -> None:
        self._shorts = self._shorts + 1 if lasted_ms < _SHORT_MS else 0
        if self._shorts > _SHORTS_FREE:
            rest_ms = _REST_FIRST_MS << min(self._shorts - _SHORTS_FREE - 1, 8)
            self.rests_until_ms = at_ms + min(rest_ms, _REST_MAX_MS)

    def rests(self, at_ms: int) -> bool:
        """Whether it stays open for now, whatever the vehicle wants."""
        return at_ms < self.rests_until_ms and not self.powered

    def rested(self) -> None:
        """Another vehicle comes: nothing is held against it."""
        self._shorts = self.rests_until_ms = 0

    @property
    def look_ms(self) -> int | None:
        """When ``tick`` is due at the latest."""
        if self.deadline_ms is None or self.state is _S.RELEASING:
            return self.deadline_ms
        return min(self.deadline_ms, self._looked_ms + _LOOK_MS)

    def tick(self, at_ms: int) -> None:
        """Time passed, and what the board had said by now has been heard."""
        if self.deadline_ms is None:
            return
        if self.state is not _S.RELEASING:
            self.deadline_ms += max(0, at_ms - self._looked_ms - _LOOK_MS)
            self._looked_ms = at_ms
        if at_ms < self.deadline_ms:
            return
        self.deadline_ms = None
        if not self._has_feedback and self.state is _S.CLOSING:
            self._move(_S.CLOSED, at_ms)
        elif not self._has_feedback and self.state is _S.OPENING:
            self._move(_S.OPEN, at_ms)
        else:
            self._move(CONTACTOR.next(self.state, _E.TIMEOUT), at_ms)

    def board_back(self, at_ms: int) -> None:
        """The board answers again; one without mirror contact starts open, as its reset leaves it."""
        if not self._has_feedback and self.state is _S.UNKNOWN:
            self._move(_S.OPEN, at_ms)

    @property
    def powered(self) -> bool:
        """Whether the board is (to be) told that power is allowed."""
        return self.state in POWERED

    @property
    def known_open(self) -> bool:
        """No current can flow: opened, or it never closed."""
        return self.state in (_S.OPEN, _S.STUCK)

    @property
    def closed(self) -> bool:
        """Whether current can flow, as far as is known. A welded contactor's mirror contact proves nothing."""
        if self._has_feedback and self.state is not _S.WELDED:
            return bool(self._seen_closed)
        return self.state in POWERED or self.state is _S.WELDED
