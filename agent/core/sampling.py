"""When a reading becomes a fact: periodic, clock-aligned, checkpoint (J01, J02; 16-MV-01, 16-MV-02).

Rules:

* Periodic samples count from the transaction's start; aligned ones from 00:00:00 UTC, one per
  interval, and none for an interval that began before the station knew the time.
* A checkpoint is written when nothing else was for ``checkpoint_ms``, so that the newest reading on
  disk is never older than that; ``SCARCE_CHECKPOINT_MS`` while room is scarce, and then no other reading.
"""

from __future__ import annotations

from typing import Final

from agent.core.facts import Sample, SampleContext
from hal.ports import MeterReading

SCARCE_CHECKPOINT_MS: Final = 900_000


def to_sample(reading: MeterReading, context: SampleContext, offered_ma: int | None) -> Sample:
    return Sample(
        context=context,
        at_ms=reading.at_ms,
        meter_serial=reading.serial,
        energy_import_mwh=reading.energy_import_mwh,
        energy_export_mwh=reading.energy_export_mwh,
        power_mw=reading.power_mw,
        voltage_mv=reading.voltage_mv,
        current_ma=reading.current_ma,
        offered_current_ma=offered_ma,
        frequency_mhz=reading.frequency_mhz,
    )


_DAY_MS = 86_400_000


class AlignedClock:
    """Tells when a new clock-aligned interval has begun."""

    def __init__(self) -> None:
        self._interval_ms = 0
        self._slot_ms: int | None = None

    def due(self, wall_ms: int, interval_ms: int, trusted: bool) -> bool:
        """True once per interval, at the first reading in it. A clock that steps back does not
        repeat an interval, unless it was ahead by more than a day: nobody waits for that date to come. One that
        steps forward gives a single sample."""
        if interval_ms <= 0 or not trusted:
            self._slot_ms = None
            return False
        of_day_ms = wall_ms % _DAY_MS
        slot_ms = wall_ms - of_day_ms % interval_ms  # its beginning
        was_ahead = self._slot_ms is not None and self._slot_ms - slot_ms > _DAY_MS
        if interval_ms != self._interval_ms or was_ahead:
            self._slot_ms, self._interval_ms = None, interval_ms
        previous_ms, self._slot_ms = self._slot_ms, max(slot_ms, self._slot_ms or slot_ms)
        return previous_ms is not None and slot_ms > previous_ms
