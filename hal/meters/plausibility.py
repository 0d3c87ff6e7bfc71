"""Whether a meter's import register can be believed. Pure.

Charter: a CRC of 16 bits and a bus glitch will one day agree. What is billed is the import register, so
each value is held against the one before it: the register never falls, and never rises faster than the
installation can draw. Nothing is corrected or invented here: a value is believed, refused with
``BadReply``, or (at the start) waits for a second one that agrees.

Rules, in the order they are applied:

1. Start: the first value needs a second that follows from it, or one glitch would become the base from
   which the first true value looks like consumption.
2. A fall is refused. Meters that reboot show zeros for some seconds, so a fall may pass; after
   ``FALLS_UNTIL_RESET`` in a row the register was reset or the meter exchanged, differences against the
   old base have lost their meaning, and every later value is refused until the driver is restarted.
   A register whose last digit is known (``rollover_mwh``) may begin anew at 0 there: that is no fall.
3. A rise beyond ``max_power_w`` times the time that passed is refused: one jump is a glitch. A register
   that goes on from the higher value is a fact, and believed once ``jump_readings`` in a row agree.

Units: milliwatt-hour, watt, millisecond of the monotonic clock.
Source: the faults met in the field (register jumps, zeros, another register's value after a glitch).
"""

from __future__ import annotations

from dataclasses import dataclass

from hal.ports import BadReply

FALLS_UNTIL_RESET = 10
_READINGS_AT_START = 2
_MJ_PER_MWH = 3_600  # 1 mWh = 3.6 J


@dataclass(frozen=True, slots=True)
class _Point:
    energy_mwh: int
    at_ms: int


class ImportRegister:
    """The history one driver run keeps of a meter's import register.

    ``step_mwh`` is how coarsely the register advances; ``jump_readings`` at least 2. ``rollover_mwh`` is the
    value at which the register begins anew, where that is known.
    """

    def __init__(
        self, device: str, *, max_power_w: int, step_mwh: int, jump_readings: int, rollover_mwh: int | None = None
    ) -> None:
        self._device = device
        self._max_power_w = max_power_w
        self._step_mwh = step_mwh
        self._jump_readings = jump_readings
        self._rollover_mwh = rollover_mwh
        self._believed: _Point | None = None
        self._candidate: _Point | None = None
        self._agreeing = 0  # readings in a row that support the candidate, itself included
        self._falls = 0  # in a row

    def believes(self, energy_mwh: int, at_ms: int) -> bool:
        """True: use the reading. False: only at the start, read again to confirm it.

        Raises ``BadReply`` for a value that cannot be.
        """
        now = _Point(energy_mwh, at_ms)
        base = self._believed
        if self._falls >= FALLS_UNTIL_RESET:
            raise BadReply(self._device, "import register was reset or the meter exchanged; restart to go on")
        if base is not None and self._follows(base, now):
            self._believe(now)
            return True
        if base is not None and now.energy_mwh < base.energy_mwh:
            self._falls += 1
            self._candidate = None
            raise BadReply(self._device, f"import register fell from {base.energy_mwh} to {now.energy_mwh} mWh")
        self._falls = 0
        contradicted = self._candidate is not None and not self._follows(self._candidate, now)
        self._agreeing = 1 if self._candidate is None or contradicted else self._agreeing + 1
        self._candidate = now
        if self._agreeing >= (_READINGS_AT_START if base is None else self._jump_readings):
            self._believe(now)
            return True
        if base is not None:
            raise BadReply(self._device, f"import register jumped from {base.energy_mwh} to {now.energy_mwh} mWh")
        if contradicted:
            raise BadReply(self._device, f"import register contradicts itself: {now.energy_mwh} mWh does not follow")
        return False

    def _believe(self, point: _Point) -> None:
        self._believed = point
        self._candidate = None
        self._falls = 0

    def _follows(self, before: _Point, now: _Point) -> bool:
        """Whether the register can have gone from one to the other.

        Allowed above the maximum power: two steps of the register, and two of the last float32 digits.
        """
        possible = self._max_power_w * (now.at_ms - before.at_ms) // _MJ_PER_MWH
        slack = 2 * self._step_mwh + (before.energy_mwh >> 22)
        risen_mwh = now.energy_mwh - before.energy_mwh
        if risen_mwh < 0 and self._rollover_mwh is not None and before.energy_mwh < self._rollover_mwh:
            risen_mwh += self._rollover_mwh
        return 0 <= risen_mwh <= possible + slack
