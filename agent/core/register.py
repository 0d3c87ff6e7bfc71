"""The meter's import register as billing must see it: what it says now, can it have come to that?

Charter: judges one reading against the one before it. A driver tells a glitch from a fact; this is about facts.
Nothing is corrected: what cannot be is named by the OCMF meter state, and the caller ends the session, or waits, at
the last good value.

Rules (metering reference 4.6):

* M: the register fell. One that begins anew at 0 after its last digit has not: that ends the transaction at the
  last reading, and the session goes on in another.
* X: another meter than the one that the running transaction counts on.
* O: it rose by more than this EVSE can have delivered.
* E: it stands still while power flows. What it missed would be billed to whoever charges when it goes on, so nobody
  may charge until it has made up for it, or the station was started anew; and while it is ``behind``, and not yet
  for so long that it is wrong, no transaction begins.

A register that nobody has read since the start, or of a meter that was not here before, has nothing to be held
against: it counts from its second reading on, if that confirms the first. Else a slip could begin a transaction.

The last rule holds the register against three quarters of the power that the same meter tells, so that no meter is
accused for being rough. Its sign does not count: no vehicle feeds in here, so power that seems to come back is that of
a meter connected the wrong way round. Power below what a meter need not count, and between readings that are far apart,
does not count.
"""

from __future__ import annotations

from agent.core.context import Context
from agent.core.effects import ReadMeter
from agent.core.facts import LogEntry, LogFact, Sample
from agent.core.settings import EvseHardware
from hal.ports import MeterReading

ENDS = frozenset("XOE")
"""Where the register is so, a running transaction ends."""

_COUNTED_MW = 100_000  # meters start to count somewhere below (EN 50470-3: 0.4 % of the reference current)
_CLOSE_MS = 15_000  # readings that are farther apart do not tell what flowed between them
_STEPS_BEHIND = 2  # a register that is read between its steps
_JUMP_SLACK_MWH = 100_000  # the step of the coarsest register
_AC_MV, _DC_MV = 3 * 300_000, 1_000_000  # all phases, generously
_MS_PER_HOUR = 3_600_000
_LONGEST_MS = 24 * _MS_PER_HOUR  # no vehicle takes longer; a gap of more tells of a clock that was wrong
_STANDS_STILL = "the register stands still while power flows"


class Register:
    """The register of one EVSE's meter. ``wrong`` is the OCMF meter state of the newest reading, None if it is good."""

    def __init__(self, hardware: EvseHardware, ctx: Context, behind_ms: int) -> None:
        self._hardware = hardware
        self._ctx = ctx
        self._behind_ms = behind_ms
        self._first: MeterReading | None = None  # of a register that another reading must confirm
        self._seen: MeterReading | None = None
        self._behind_mwh = 0  # what it should have risen by at least, and has not
        self._behind_since_ms: int | None = None
        self._most_mw = hardware.hard_limit_ma * (_DC_MV if hardware.dc else _AC_MV) // 1_000
        self.wrong: str | None = None

    @property
    def behind(self) -> bool:
        """Whether it lags behind the power, by more than its steps explain."""
        return self._behind_since_ms is not None

    def is_known(self, reading: MeterReading, before: MeterReading | None) -> bool:
        """Whether a reading can be judged. ``before``: the last good one; where there is none of this meter, a first
        one must have been confirmed."""
        if before is not None and before.serial == reading.serial:
            self._first = None
            return True
        first, self._first = self._first, reading
        if first is None or first.serial != reading.serial:
            self._ctx.emit(ReadMeter(self._hardware.evse))
            return False
        risen_mwh = reading.energy_import_mwh - first.energy_import_mwh
        return risen_mwh >= 0 and self.can_have_risen(risen_mwh, reading.at_ms - first.at_ms)

    def judge(
        self, reading: MeterReading, before: MeterReading | None, counted: Sample | None, *, bounded: bool, told: bool
    ) -> bool:
        """Judge a reading; True if the register has begun anew at its last digit.

        ``before`` is the last good reading, ``counted`` the last sample of the running transaction (None: none runs,
        or it takes whatever meter is there). ``bounded``: how far it rose counts. ``told``: that something is wrong
        is known already."""
        stands_still = self._stands_still(reading)
        rolled_over = self._has_rolled_over(reading, before)
        if self._fell(reading, before) and not rolled_over:
            wrong: str | None = "M"
            if not told and before is not None:
                self._log_step(LogEntry.METER_BACKWARDS, before.energy_import_mwh, reading)
        elif counted is not None and counted.meter_serial != reading.serial:
            wrong = "X"
            if self.wrong != wrong:
                self._log(LogEntry.METER_EXCHANGED, serial=reading.serial, before=counted.meter_serial)
        elif counted is not None and bounded and self._is_out_of_range(reading, counted):
            wrong = "O"
            if self.wrong != wrong:
                self._log_step(LogEntry.METER_IMPLAUSIBLE, counted.energy_import_mwh, reading, detail="out of range")
        elif stands_still:
            wrong = "E"
            if self.wrong != wrong:
                self._log(LogEntry.METER_IMPLAUSIBLE, detail=_STANDS_STILL, register_mwh=str(reading.energy_import_mwh))
        else:
            wrong = None
        self.wrong = wrong
        if rolled_over and before is not None:
            self._log_step(LogEntry.METER_ROLLOVER, before.energy_import_mwh, reading, serial=reading.serial)
        return rolled_over

    def can_have_risen(self, risen_mwh: int, within_ms: int) -> bool:
        """Whether this EVSE can have delivered so much in that time."""
        charged_ms = min(max(1_000, within_ms + 1_000), _LONGEST_MS)
        return risen_mwh <= self._most_mw * charged_ms // _MS_PER_HOUR + _JUMP_SLACK_MWH

    def lost(self, *, implausible: bool, detail: str) -> None:
        """The meter does not answer any more, or tells what its driver cannot believe."""
        self._log(LogEntry.METER_IMPLAUSIBLE if implausible else LogEntry.METER_SILENT, detail=detail[:200])

    def _stands_still(self, reading: MeterReading) -> bool:
        """Whether it has lagged behind the power for too long; takes every reading into account."""
        last, self._seen = self._seen, reading
        if last is None or last.serial != reading.serial or reading.energy_import_mwh < last.energy_import_mwh:
            self._behind_mwh, self._behind_since_ms = 0, None
            return False
        power_mw, passed_ms = min(abs(last.power_mw), abs(reading.power_mw)), reading.at_ms - last.at_ms
        if power_mw >= _COUNTED_MW and passed_ms <= _CLOSE_MS:
            self._behind_mwh += power_mw * passed_ms * 3 // (4 * _MS_PER_HOUR)
        self._behind_mwh = max(0, self._behind_mwh - (reading.energy_import_mwh - last.energy_import_mwh))
        if self._behind_mwh <= _STEPS_BEHIND * self._hardware.meter_step_mwh:
            self._behind_since_ms = None
        elif self._behind_since_ms is None:
            self._behind_since_ms = reading.at_ms
        return self._behind_since_ms is not None and reading.at_ms - self._behind_since_ms >= self._behind_ms

    def _is_out_of_range(self, reading: MeterReading, counted: Sample) -> bool:
        risen_mwh = reading.energy_import_mwh - counted.energy_import_mwh
        return not self.can_have_risen(risen_mwh, reading.at_ms - counted.at_ms)

    def _has_rolled_over(self, reading: MeterReading, before: MeterReading | None) -> bool:
        modulus_mwh = self._hardware.meter_rollover_mwh
        if modulus_mwh is None or before is None or not self._fell(reading, before):
            return False
        near_mwh = modulus_mwh // 100
        wrapped_mwh = reading.energy_import_mwh + modulus_mwh - before.energy_import_mwh
        near = before.energy_import_mwh >= modulus_mwh - near_mwh and wrapped_mwh <= near_mwh
        return near and self.can_have_risen(wrapped_mwh, reading.at_ms - before.at_ms)  # else it is a slip

    @staticmethod
    def _fell(reading: MeterReading, before: MeterReading | None) -> bool:
        same = before is not None and before.serial == reading.serial
        return same and before is not None and reading.energy_import_mwh < before.energy_import_mwh

    def _log_step(self, entry: LogEntry, before_mwh: int, reading: MeterReading, **details: str) -> None:
        self._log(entry, **details, before_mwh=str(before_mwh), after_mwh=str(reading.energy_import_mwh))

    def _log(self, entry: LogEntry, **details: str) -> None:
        self._ctx.append(LogFact(entry, self._hardware.evse, tuple(details.items())))
