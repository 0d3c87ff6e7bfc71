"""What happens to a station, folded into hours.

Charter: pure. Is told what changes, in the order in which it happens, and keeps sums of what has not been taken yet;
what was kept before is somebody else's (``store``), who joins both.

Rules:

* Times are counted on the monotonic clock and stand in the hour that the wall clock shows meanwhile. While no clock
  is known they wait, in slots of ten minutes; a slot goes into the hour of its middle.
* Energy is what the register rose since it was last counted, also over restarts: it stands in the hour in which it
  was seen. Where a register fell or another meter answers, counting begins anew.
* An hour has no more time than its length, whatever clocks do (``model.joined``). What finds no room, and what waits
  for too long, is dropped and counted.

Units: as in ``model``; ``at_ms`` is monotonic, plus ``offset_ms`` it is UTC since 1970.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from agent.usage.model import HOUR_MS, STATION, RegisterAt, UsageHour, joined, without_time

SLOT_MS: Final = 600_000
WAITING_SLOTS_MAX: Final = 1_008
"""A week without a clock."""

UNSAVED_HOURS_MAX: Final = 336
"""Two weeks without a disk."""

_Sums = dict[tuple[int, int], UsageHour]


class Levels(NamedTuple):
    """What holds of an EVSE until told otherwise."""

    occupied: bool = False
    charging: bool = False
    faulted: bool = False


@dataclass(frozen=True, slots=True)
class Taken:
    """What is to be kept, together: hours to be joined to those that are kept, and how far the meters are counted."""

    rows: tuple[UsageHour, ...]
    registers: dict[int, RegisterAt]


@dataclass(slots=True)
class _Running:
    """One EVSE since the last change of anything."""

    levels: Levels = field(default_factory=Levels)
    energy_mwh: int = 0
    sessions: int = 0
    faults: int = 0
    peak_power_w: int = 0

    def row(self, hour: int, evse: int, length_ms: int, *, link_up: bool) -> UsageHour:
        """What has come together; counting begins anew."""
        row = UsageHour(
            hour,
            evse,
            length_ms,
            self.energy_mwh,
            self.sessions,
            length_ms * self.levels.occupied,
            length_ms * self.levels.charging,
            self.peak_power_w,
            self.faults,
            length_ms * self.levels.faulted,
            length_ms * link_up,
        )
        self.energy_mwh = self.sessions = self.faults = self.peak_power_w = 0
        return row


class Fold:
    """See the module. ``registers``: how far the meters were counted before.

    ``dropped_ms`` is the time of the station that stands in no hour, so far. ``stirred``: since the last taking more
    has happened than that time passed."""

    def __init__(self, evses: Iterable[int], at_ms: int, registers: Mapping[int, RegisterAt]) -> None:
        self._running = {evse: _Running() for evse in (STATION, *evses)}
        self._registers = dict(registers)
        self._power_w: dict[int, int] = {}
        self._at_ms = at_ms
        self._offset_ms: int | None = None
        self._ends_ms = self._end_of_slot()
        self._link_up = False
        self._hours: _Sums = {}
        self._waiting: _Sums = {}  # by slot of the monotonic clock instead of hour
        self.dropped_ms = 0
        self.stirred = False

    # ------------------------------------------------------------------------------- what happens

    def set_clock(self, at_ms: int, offset_ms: int | None) -> None:
        """The wall clock was set; None: nobody knows the time."""
        self._advance(at_ms)
        self._offset_ms = offset_ms
        self._ends_ms = self._end_of_slot()
        if offset_ms is None:
            return
        waiting, self._waiting = self._waiting, {}
        for (slot, _), row in waiting.items():
            middle_ms = slot * SLOT_MS + SLOT_MS // 2 + offset_ms
            self._keep(replace(row, hour=middle_ms // HOUR_MS))

    def set_link(self, at_ms: int, *, up: bool) -> None:
        self._advance(at_ms)
        self._link_up = up
        self.stirred = True

    def set_levels(self, at_ms: int, evse: int, levels: Levels) -> None:
        self._advance(at_ms)
        self._running[evse].levels = levels
        self.stirred = True

    def session_started(self, at_ms: int, evse: int) -> None:
        self._roll(at_ms)
        self._running[evse].sessions += 1
        self.stirred = True

    def faults_came(self, at_ms: int, evse: int, count: int) -> None:
        self._roll(at_ms)
        self._running[evse].faults += count
        self.stirred = True

    def read(self, at_ms: int, evse: int, register: RegisterAt, power_w: int) -> None:
        """A plausible reading of the meter."""
        self._roll(at_ms)
        running, before = self._running[evse], self._registers.get(evse)
        self._registers[evse] = register
        self.stirred = self.stirred or before != register
        if before is not None and before.serial == register.serial:
            running.energy_mwh += max(0, register.energy_import_mwh - before.energy_import_mwh)
        running.peak_power_w = max(running.peak_power_w, power_w)
        self._power_w[evse] = power_w
        station = self._running[STATION]
        station.peak_power_w = max(station.peak_power_w, sum(self._power_w.values()))

    def meter_lost(self, evse: int) -> None:
        """Its power is not known any more."""
        self._power_w.pop(evse, None)

    # ------------------------------------------------------------------------------- what is kept

    def rows(self, at_ms: int) -> dict[tuple[int, int], UsageHour]:
        """By (hour, EVSE), what has not been taken; without what waits for a clock."""
        self._advance(at_ms)
        return self._hours

    def take(self, at_ms: int) -> Taken | None:
        """Everything up to now; from here on only what comes after it is kept here.

        None while something waits for a clock: it is among what the registers have counted, so that what is kept
        without it would lose it over a restart."""
        self._advance(at_ms)
        if self._waiting:
            return None
        hours, self._hours = self._hours, {}
        self.stirred = False
        return Taken(tuple(hours.values()), dict(self._registers))

    def put_back(self, taken: Taken) -> None:
        """It could not be kept."""
        newer, self._hours = self._hours, {}
        for row in (*taken.rows, *newer.values()):
            self._keep(row)

    # --------------------------------------------------------------------------------------- time

    def _advance(self, at_ms: int) -> None:
        """Count everything up to ``at_ms``."""
        self._roll(at_ms)
        if at_ms > self._at_ms or self._has_counted():
            self._close(max(at_ms, self._at_ms))

    def _roll(self, at_ms: int) -> None:
        """Begin another slot where the running one is over, so that what is counted next stands in its own."""
        while at_ms >= self._ends_ms:
            self._close(self._ends_ms)
            self._ends_ms = self._end_of_slot()

    def _end_of_slot(self) -> int:
        """Of the one that is running."""
        if self._offset_ms is None:
            return (self._at_ms // SLOT_MS + 1) * SLOT_MS
        return ((self._at_ms + self._offset_ms) // HOUR_MS + 1) * HOUR_MS - self._offset_ms

    def _has_counted(self) -> bool:
        return any(
            each.energy_mwh or each.sessions or each.faults or each.peak_power_w for each in self._running.values()
        )

    def _close(self, end_ms: int) -> None:
        """What came together since the last change goes where it belongs."""
        begin_ms, self._at_ms = self._at_ms, end_ms
        for evse, running in self._running.items():
            link_up = evse == STATION and self._link_up
            if self._offset_ms is None:
                self._wait(running.row(begin_ms // SLOT_MS, evse, end_ms - begin_ms, link_up=link_up))
            else:
                hour = (begin_ms + self._offset_ms) // HOUR_MS
                self._keep(running.row(hour, evse, end_ms - begin_ms, link_up=link_up))

    def _wait(self, row: UsageHour) -> None:
        first_slot = min((slot for slot, _ in self._waiting), default=row.hour)
        if row.hour >= first_slot + WAITING_SLOTS_MAX:
            self._note_dropped(row.evse, row.running_ms)
            row = replace(without_time(row), hour=first_slot + WAITING_SLOTS_MAX - 1)
        self._join(self._waiting, row)

    def _keep(self, row: UsageHour) -> None:
        before_ms = self._hours[row.hour, row.evse].running_ms if (row.hour, row.evse) in self._hours else 0
        kept = self._join(self._hours, row)
        self._note_dropped(row.evse, before_ms + row.running_ms - kept.running_ms)
        while len(self._hours) > UNSAVED_HOURS_MAX * len(self._running):
            lost = self._hours.pop(min(self._hours))
            self._note_dropped(lost.evse, lost.running_ms)

    @staticmethod
    def _join(sums: _Sums, row: UsageHour) -> UsageHour:
        key = (row.hour, row.evse)
        sums[key] = joined(sums[key], row) if key in sums else row
        return sums[key]

    def _note_dropped(self, evse: int, dropped_ms: int) -> None:
        if evse == STATION:
            self.dropped_ms += dropped_ms
