"""When a monitor speaks.

Charter: pure. ``evaluate`` looks at one value of one monitor and says what is to be told, and what is to be
remembered until the next look. Whoever calls it keeps the old memory where nothing could be told: an alert and a
change are then found again at the next look, so what the CSMS believes always comes right in the end.

* A threshold is passed when the value is beyond it, not on it (N07.FR.16, 17), and told at once. It is "back to
  normal" when the value has not been beyond it for ``CLEAR_AFTER_MS``: our hysteresis is one of time, since it fits
  every unit. A boolean counts as 0 or 1.
* Delta: a number has moved by more than the monitor's value since it was last told or the monitor was set
  (N07.FR.18); any other value has changed at all (N07.FR.19).
* Periodic: counted from when the monitor was set, or the station started (N08.FR.06). Clock-aligned: at the multiples
  of the interval in the day, from 00:00 UTC (N08.FR.07).

Units: ``*_ms`` monotonic, ``wall_ms`` UTC; a monitor's value is a decimal number as text.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import Final

from agent.core.facts import EventTrigger
from agent.ipc.monitors import Monitor, MonitorType

CLEAR_AFTER_MS: Final = 5_000
DAY_MS: Final = 86_400_000
_BOOLEANS: Final = {"true": Decimal(1), "false": Decimal(0)}


@dataclass(frozen=True, slots=True)
class Now:
    """Both clocks at one instant."""

    mono_ms: int
    wall_ms: int


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered of a monitor from look to look.

    ``alerting``: beyond its threshold, as far as was told. ``inside_since_ms``: it alerts, and the value is back since
    then. ``told``: the value that a change counts from. ``due_ms``: of the next periodic event. ``slot``: day and
    interval of the day at the last look."""

    alerting: bool = False
    inside_since_ms: int | None = None
    told: str | None = None
    due_ms: int | None = None
    slot: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Spoken:
    """What is to be told."""

    trigger: EventTrigger
    cleared: bool = False


def evaluate(
    monitor: Monitor, memory: Memory, value: str, now: Now, *, numeric: bool = True
) -> tuple[Memory, Spoken | None]:
    """Look at ``value``; ``numeric``: its variable is a number. Returns what to remember once it is told, and what to
    tell."""
    match monitor.type:
        case MonitorType.UPPER_THRESHOLD | MonitorType.LOWER_THRESHOLD:
            return _threshold(monitor, memory, value, now)
        case MonitorType.DELTA:
            return _delta(monitor, memory, value, numeric)
        case MonitorType.PERIODIC:
            return _periodic(monitor, memory, now)
        case MonitorType.PERIODIC_CLOCK_ALIGNED:
            return _clock_aligned(monitor, memory, now)


def number(text: str) -> Decimal | None:
    """A variable's value as a number, a boolean as 0 or 1; None: it is none."""
    return _BOOLEANS[text] if text in _BOOLEANS else decimal(text)


def decimal(text: str) -> Decimal | None:
    """A finite number; None: it is none."""
    try:
        found = Decimal(text)
    except InvalidOperation:
        return None
    return found if found.is_finite() else None


def interval_ms(monitor: Monitor) -> int:
    """Of a periodic monitor."""
    return int(Decimal(monitor.value) * 1_000)


def _threshold(monitor: Monitor, memory: Memory, value: str, now: Now) -> tuple[Memory, Spoken | None]:
    measured, limit = number(value), Decimal(monitor.value)
    upper = monitor.type is MonitorType.UPPER_THRESHOLD
    beyond = measured is not None and (measured > limit if upper else measured < limit)
    if beyond:
        return Memory(alerting=True), None if memory.alerting else Spoken(EventTrigger.ALERTING)
    if not memory.alerting:
        return memory, None
    since_ms = now.mono_ms if memory.inside_since_ms is None else memory.inside_since_ms
    if now.mono_ms - since_ms >= CLEAR_AFTER_MS:
        return Memory(), Spoken(EventTrigger.ALERTING, cleared=True)
    return replace(memory, inside_since_ms=since_ms), None


def _delta(monitor: Monitor, memory: Memory, value: str, numeric: bool) -> tuple[Memory, Spoken | None]:
    if memory.told is None:
        return replace(memory, told=value), None
    before, after = number(memory.told), number(value)
    if numeric and before is not None and after is not None:
        moved = abs(after - before) > Decimal(monitor.value)
    else:
        moved = value != memory.told
    return (replace(memory, told=value), Spoken(EventTrigger.DELTA)) if moved else (memory, None)


def _periodic(monitor: Monitor, memory: Memory, now: Now) -> tuple[Memory, Spoken | None]:
    every_ms = interval_ms(monitor)
    if memory.due_ms is None:
        return replace(memory, due_ms=now.mono_ms + every_ms), None
    if now.mono_ms < memory.due_ms:
        return memory, None
    missed = (now.mono_ms - memory.due_ms) // every_ms  # looks came late: one event is enough
    return replace(memory, due_ms=memory.due_ms + (missed + 1) * every_ms), Spoken(EventTrigger.PERIODIC)


def _clock_aligned(monitor: Monitor, memory: Memory, now: Now) -> tuple[Memory, Spoken | None]:
    day, of_day_ms = divmod(now.wall_ms, DAY_MS)
    slot = day, of_day_ms // interval_ms(monitor)
    if slot == memory.slot:
        return memory, None
    first = memory.slot is None
    return replace(memory, slot=slot), None if first else Spoken(EventTrigger.PERIODIC)
