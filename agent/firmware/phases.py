"""The phases of a firmware update, and what leads from one to the next. Pure.

Charter: the table, which is also its documentation (``docs/state-machines.md``). What is done and told on the way is
``agent.firmware.machine``. Sources: OCPP 2.0.1 part 2 L01, L02; firmware reference 1.4, 1.5.
"""

from __future__ import annotations

import enum
from typing import Final

from agent.core.table import Table


class Phase(enum.StrEnum):
    IDLE = "idle"
    SCHEDULED = "scheduled"  # waits for the time to download
    DOWNLOADING = "downloading"
    PAUSED = "paused"  # nobody can download just now
    RETRYING = "retrying"  # a try failed, the next one comes
    STAGED = "staged"  # all of it is in the slot; waits for the time to install
    WAITING = "waiting"  # waits for sessions to end
    ACTIVATING = "activating"  # the slot is read back, the boot loader is told
    REBOOTING = "rebooting"
    TESTING = "testing"  # the new image runs, on trial
    CONFIRMING = "confirming"  # it is good: the boot loader is told
    REVERTING = "reverting"  # it is not: back to the old one


class Happening(enum.StrEnum):
    """What moves the machine."""

    ASKED = "asked"
    HANDED = "handed"  # a technician gave the installer a bundle
    DUE = "due"
    AWAY = "away"
    BACK = "back"
    LOST = "lost"
    FAILED = "failed"
    STAGED = "staged"
    FREE = "free"
    ACTIVATED = "activated"
    BOOTED_NEW = "booted_new"
    BOOTED_OLD = "booted_old"
    PASSED = "passed"
    FAULTY = "faulty"
    CONFIRMED = "confirmed"


_P, _H = Phase, Happening


def _before_the_boot_loader(phase: Phase, **moves: Phase) -> dict[Happening, Phase]:
    """A newer request or bundle takes the place of this one; a slot on trial is tested whatever the record says."""
    given_up = {_H.ASKED: _P.SCHEDULED, _H.HANDED: _P.STAGED, _H.BOOTED_NEW: _P.TESTING, _H.BOOTED_OLD: phase}
    return given_up | {_H(name): target for name, target in moves.items()}


_FETCH = {"away": _P.PAUSED, "back": _P.DOWNLOADING, "lost": _P.RETRYING, "failed": _P.IDLE, "staged": _P.STAGED}

UPDATE: Final[Table[Phase, Happening]] = Table(
    "firmware update",
    {
        _P.IDLE: _before_the_boot_loader(_P.IDLE),
        _P.SCHEDULED: _before_the_boot_loader(_P.SCHEDULED, due=_P.DOWNLOADING),
        _P.DOWNLOADING: _before_the_boot_loader(_P.DOWNLOADING, **_FETCH),
        _P.PAUSED: _before_the_boot_loader(_P.PAUSED, **_FETCH),
        _P.RETRYING: _before_the_boot_loader(_P.RETRYING, due=_P.DOWNLOADING),
        _P.STAGED: _before_the_boot_loader(_P.STAGED, due=_P.WAITING),
        _P.WAITING: _before_the_boot_loader(_P.WAITING, free=_P.ACTIVATING),
        _P.ACTIVATING: {
            _H.ACTIVATED: _P.REBOOTING,
            _H.FAILED: _P.IDLE,
            _H.BOOTED_NEW: _P.TESTING,
            _H.BOOTED_OLD: _P.ACTIVATING,
        },
        _P.REBOOTING: {_H.BOOTED_NEW: _P.TESTING, _H.BOOTED_OLD: _P.IDLE},
        _P.TESTING: {
            _H.PASSED: _P.CONFIRMING,
            _H.FAULTY: _P.REVERTING,
            _H.BOOTED_NEW: _P.TESTING,
            _H.BOOTED_OLD: _P.IDLE,
        },
        _P.CONFIRMING: {
            _H.CONFIRMED: _P.IDLE,
            _H.FAULTY: _P.REVERTING,
            _H.BOOTED_NEW: _P.TESTING,
            _H.BOOTED_OLD: _P.IDLE,
        },
        _P.REVERTING: {_H.FAILED: _P.IDLE, _H.BOOTED_NEW: _P.REVERTING, _H.BOOTED_OLD: _P.IDLE},
    },
)

WAITS: Final = frozenset({_P.SCHEDULED, _P.RETRYING, _P.STAGED, _P.WAITING})
FETCHING: Final = frozenset({_P.DOWNLOADING, _P.PAUSED})
CANCELLABLE: Final = frozenset(
    {_P.IDLE, _P.SCHEDULED, _P.DOWNLOADING, _P.PAUSED, _P.RETRYING, _P.STAGED, _P.WAITING},
)
"""Until the boot loader is being told; later requests are Rejected."""

KEEPS_SESSIONS_OUT: Final = frozenset({_P.ACTIVATING, _P.REBOOTING, _P.TESTING, _P.CONFIRMING, _P.REVERTING})
