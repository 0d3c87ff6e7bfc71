"""Injectable faults, by name, shared by every device simulator.

Charter: the vocabulary of what a device or its cable can do wrong, and a switch that says which
faults are on now. Simulators ask the switch at the point where the fault bites; this module knows no
protocol, no clock and no I/O. A simulator declares what it can play, so that a test which asks for
anything else fails with a clear error instead of passing by accident.

Units: ``param`` of ``DELAY`` is in milliseconds; others as each simulator documents.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass


class Fault(enum.StrEnum):
    """What can go wrong on the wire or in the device."""

    DROP = "drop"  # the request is heard, no reply is sent
    DELAY = "delay"  # the reply comes late by ``param`` milliseconds
    CORRUPT = "corrupt"  # the reply's checksum or content is damaged
    SHORT = "short"  # a well-formed reply with too little in it, or a truncated one
    GARBAGE = "garbage"  # noise bytes instead of or around the reply
    DUPLICATE = "duplicate"  # the reply or frame is sent twice
    STUCK = "stuck"  # values no longer follow the world
    WRONG_UNIT = "wrong_unit"  # the reply carries another device's address
    REFUSE = "refuse"  # the device answers with its protocol's "no"; ``param`` may give the code
    SILENT = "silent"  # the device is dead: it neither hears nor speaks
    RESET = "reset"  # the device reboots by itself
    UNPLUG = "unplug"  # the adapter is gone: hang-up for whoever holds it open
    # Of meters that sign records by themselves:
    CLOCK_LOST = "clock_lost"  # the clock takes no time any more
    RECORD_CORRUPTED = "record_corrupted"  # an ended record turns out damaged
    RECORD_NEVER_READY = "record_never_ready"  # an ended record is never finished
    RECORD_SIZE = "record_size"  # the record's size is told wrong, as ``param`` registers
    RECORD_SILENT = "record_silent"  # no reply from ``param`` registers into the record on


@dataclass(slots=True)
class _Active:
    left: int | None  # None: until cleared
    param: int | None


class FaultSwitch:
    """Which faults are on now. ``supported`` is what the owning simulator can play.

    ``on_change(fault, on)`` tells the simulator of faults it must act on at once (unplug, reset).
    """

    def __init__(self, supported: frozenset[Fault], on_change: Callable[[Fault, bool], None] | None = None) -> None:
        self.supported = supported
        self._on_change = on_change
        self._active: dict[Fault, _Active] = {}

    def set(self, fault: Fault | str, *, count: int | None = None, param: int | None = None) -> None:
        """Turn a fault on: until cleared, or for the next ``count`` times it bites (1 = one-shot).

        Raises ``ValueError`` for a fault this simulator cannot play or a count below 1.
        """
        fault = self._known(fault)
        if count is not None and count < 1:
            raise ValueError(f"fault {fault}: count must be at least 1, not {count}")
        self._active[fault] = _Active(count, param)
        self._tell(fault, True)

    def clear(self, fault: Fault | str | None = None) -> None:
        """Turn one fault off, or all of them. Clearing what is off does nothing."""
        for each in list(self._active) if fault is None else [self._known(fault)]:
            if self._active.pop(each, None) is not None:
                self._tell(each, False)

    def is_on(self, fault: Fault) -> bool:
        """Whether the fault is on, without using up a count."""
        return fault in self._active

    def take(self, fault: Fault) -> bool:
        """Whether the fault bites now; uses up one of its counts."""
        active = self._active.get(fault)
        if active is None:
            return False
        if active.left is not None:
            active.left -= 1
            if active.left == 0:
                self.clear(fault)
        return True

    def param(self, fault: Fault, default: int) -> int:
        """The fault's parameter, or ``default`` where none was given. Ask before ``take``."""
        active = self._active.get(fault)
        return default if active is None or active.param is None else active.param

    def _known(self, fault: Fault | str) -> Fault:
        names = ", ".join(sorted(self.supported))
        try:
            known = Fault(fault)
        except ValueError:
            raise ValueError(f"unknown fault {fault!r}; this simulator supports: {names}") from None
        if known not in self.supported:
            raise ValueError(f"fault {known.value!r} is not supported here; this simulator supports: {names}")
        return known

    def _tell(self, fault: Fault, on: bool) -> None:
        if self._on_change is not None:
            self._on_change(fault, on)
