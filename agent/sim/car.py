"""An electric car at the end of a simulated cable: driver, battery, manners.

Charter: decides what the car shows on the pilot and how much current it draws; integrates its own
battery. No I/O, no clock: ``step`` is told how much time passed. Units: mA, mV, ms, nJ, mWh.

Manners (IEC 61851-1): it asks for power only while PWM offers some, follows a changed offer at a
bounded rate, stops within a second when PWM goes away. Misbehaviour is by name, for tests.
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass

from hal.ports import DUTY_DIGITAL, DUTY_F, CpState
from hal.sim.vehicle_port import VehiclePort

NJ_PER_MWH = 3_600_000_000
_READY_MS = 400  # from an offer to S2 closed
_STOP_MS = 500  # from PWM gone to no current and S2 open
_LATE_MS = 4_900  # to follow a changed offer; IEC 61851-1: 5 s
_DOZES_MS = 60_000  # without an offer, until it sleeps
_RAMP_MA_PER_S = 40_000
_TAPER_FROM_PERCENT = 80
_TRICKLE_MA = 6_000


class Habit(enum.StrEnum):
    """What a car may do wrong, or slowly, by name."""

    OVERDRAW = "overdraw"  # takes half as much again as offered
    IGNORE_STOP = "ignore_stop"  # goes on drawing when PWM is gone
    NO_DIODE = "no_diode"
    CHATTER = "chatter"  # toggles between B and C
    LATE = "late"  # follows each change of the offer, but as late as it may
    DOZES = "dozes"  # sleeps after a minute without an offer, and then only state F wakes it


@dataclass(frozen=True, slots=True)
class Model:
    """A kind of car."""

    capacity_mwh: int = 60_000_000
    max_current_ma: int = 16_000
    phases: int = 3


class Car:
    """One car and its driver, at one outlet."""

    def __init__(self, port: VehiclePort, model: Model, soc_percent: int = 40) -> None:
        self.port = port
        self.model = model
        self.battery_nj = model.capacity_mwh * NJ_PER_MWH * soc_percent // 100
        self.taken_nj = 0  # since it was made
        self.current_ma = 0
        self.plugged = False
        self.wants_energy = True
        self.habits: set[Habit] = set()
        self._offered_for_ms = 0
        self._unoffered_for_ms = 0
        self._chatter_ms = 0
        self._plugged_ms = 0
        self._offers: deque[tuple[int, int]] = deque([(0, 0)])  # (when, mA); the first is the one that it follows now

    # -------------------------------------------------------------------------------------- driver

    def plug(self, cable_ma: int = 32_000) -> None:
        self.plugged = True
        self._offered_for_ms = self._unoffered_for_ms = self._plugged_ms = 0
        self._offers = deque([(0, 0)])
        self.port.set_cable_rating(cable_ma)
        self.port.set_diode_fault(Habit.NO_DIODE in self.habits)
        self.port.set_cp(CpState.B)

    def unplug(self) -> None:
        self.plugged = False
        self.current_ma = 0
        self.port.set_cp(CpState.A)
        self.port.set_cable_rating(None)

    # ----------------------------------------------------------------------------------------- time

    def step(self, passed_ms: int, voltage_mv: int) -> None:
        """Time passes; the car acts and, on AC, takes energy."""
        if not self.plugged:
            return
        offered = self.port.offered_current_ma > 0 or self.port.duty_centipercent == DUTY_DIGITAL
        self._note_offer(passed_ms, offered)
        self._show(passed_ms)
        self._follow(passed_ms)
        self.take(voltage_mv * self.current_ma * self.model.phases * passed_ms)

    def _note_offer(self, passed_ms: int, offered: bool) -> None:
        sleeps = Habit.DOZES in self.habits and self._unoffered_for_ms >= _DOZES_MS
        if sleeps and self.port.duty_centipercent == DUTY_F:
            self._unoffered_for_ms = 0
        sees = offered and not sleeps
        self._offered_for_ms = self._offered_for_ms + passed_ms if sees else 0
        self._unoffered_for_ms = 0 if sees else self._unoffered_for_ms + passed_ms
        self._plugged_ms += passed_ms
        if self.port.offered_current_ma != self._offers[-1][1]:
            self._offers.append((self._plugged_ms, self.port.offered_current_ma))
        late_ms = _LATE_MS if Habit.LATE in self.habits else 0
        while len(self._offers) > 1 and self._offers[1][0] + late_ms <= self._plugged_ms:
            self._offers.popleft()

    def take(self, energy_nj: int) -> None:
        """Energy reached the battery (on DC it comes from outside)."""
        self.battery_nj += energy_nj
        self.taken_nj += energy_nj

    def _show(self, passed_ms: int) -> None:
        hungry = self.wants_energy and self.soc_percent < 100
        ready = hungry and self._offered_for_ms >= _READY_MS
        keeps = hungry and self.port.cp is CpState.C and self._unoffered_for_ms < _STOP_MS
        stubborn = self.port.cp is CpState.C and Habit.IGNORE_STOP in self.habits
        wanted = CpState.C if ready or keeps or stubborn else CpState.B
        if Habit.CHATTER in self.habits and wanted is CpState.C:
            self._chatter_ms += passed_ms
            wanted = CpState.C if self._chatter_ms // 700 % 2 else CpState.B
        if wanted is CpState.B:
            self.current_ma = 0  # S2 opens only when nothing flows
        if self.port.cp is not wanted:
            self.port.set_cp(wanted)

    def _follow(self, passed_ms: int) -> None:
        """The current moves towards what the car may and wants to take."""
        flowing = self.port.relay_closed and self.port.cp is CpState.C
        target_ma = self._target_ma() if flowing else 0
        if target_ma <= self.current_ma:
            self.current_ma = target_ma
        else:
            self.current_ma = min(target_ma, self.current_ma + _RAMP_MA_PER_S * passed_ms // 1_000)

    def _target_ma(self) -> int:
        offered_ma = self._offers[0][1]
        if offered_ma == 0 and Habit.IGNORE_STOP in self.habits:
            offered_ma = self.model.max_current_ma
        if Habit.OVERDRAW in self.habits:
            return offered_ma * 3 // 2
        return min(offered_ma, self.appetite_ma)

    @property
    def appetite_ma(self) -> int:
        """The charging curve: full current, then a straight line down to a trickle."""
        full_ma, soc = self.model.max_current_ma, self.soc_percent
        if soc >= 100:
            return 0
        if soc < _TAPER_FROM_PERCENT:
            return full_ma
        left = (100 - soc) * (full_ma - _TRICKLE_MA) // (100 - _TAPER_FROM_PERCENT)
        return max(_TRICKLE_MA, _TRICKLE_MA + left)

    @property
    def soc_percent(self) -> int:
        return min(100, self.battery_nj * 100 // (self.model.capacity_mwh * NJ_PER_MWH))

    @property
    def taken_mwh(self) -> int:
        return self.taken_nj // NJ_PER_MWH
