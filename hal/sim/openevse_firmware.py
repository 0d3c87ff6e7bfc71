"""The behaviour of the OpenEVSE firmware 8.2.3: states, relay, heartbeat, stored settings. No wire.

Charter: what the board does by itself, driven by ``update`` a few hundred times a second as in the
firmware's main loop, and by the functions behind the RAPI commands. The wire is ``hal.sim.rapi_board``.

Sources: OpenEVSE/open_evse ``J1772EvseController.cpp``; boot lock and delay timer: ``main.cpp`` (read in 9.2.0).
Units: ampere as in the firmware; milliseconds.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from hal.ports import DUTY_F, DUTY_X1, CpState
from hal.sim.vehicle_port import VehiclePort

MIN_A = 6
_ACK_COOKIE = 165
HARD_FAULT, CHARGING, CONNECTED, TIMER, BOOT_LOCK = 0x0002, 0x0040, 0x0100, 0x1000, 0x4000
_NO_STUCK_RELAY_CHECK = 0x0010  # of the settings flags
_PILOT_CODE = {CpState.A: 1, CpState.B: 2, CpState.C: 3, CpState.D: 4, CpState.E: 0, CpState.F: 0}


class State(enum.IntEnum):
    """The firmware's EVSE states."""

    UNKNOWN = 0x00
    A = 0x01
    B = 0x02
    C = 0x03
    VENT_REQUIRED = 0x04
    DIODE = 0x05
    GFCI = 0x06
    NO_GROUND = 0x07
    STUCK_RELAY = 0x08
    GFI_TEST_FAILED = 0x09
    OVER_TEMPERATURE = 0x0A
    OVER_CURRENT = 0x0B
    RELAY_CLOSURE = 0x0E
    SLEEPING = 0xFE
    DISABLED = 0xFF


class Pilot(enum.Enum):
    P12 = "+12 V"
    PWM = "PWM"
    N12 = "-12 V"


_HARD = (State.VENT_REQUIRED, State.DIODE, State.OVER_TEMPERATURE, State.OVER_CURRENT, State.GFI_TEST_FAILED)


@dataclass(frozen=True, slots=True)
class OpenEvseTiming:
    """The firmware's own times; tests shorten them. ``second_ms`` is the unit of the heartbeat interval."""

    debounce_ms: int = 250
    debounce_to_a_ms: int = 25
    sleep_open_ms: int = 3_000
    stuck_check_ms: int = 1_000
    ground_check_ms: int = 1_000  # after closing
    ground_retry_ms: int = 300_000
    boot_ms: int = 200
    second_ms: int = 1_000


class OpenEvseFirmware:
    """One board's firmware. Stored settings survive ``power_up``; ``eeprom_writes`` counts their wear.

    ``boot_lock``: built to look at nothing after each boot until it is unlocked. ``delay_timer``: None where it is off,
    else whether its clock says now that the board be awake."""

    def __init__(
        self,
        vehicle: VehiclePort,
        timing: OpenEvseTiming,
        now_ms: Callable[[], int],
        *,
        max_a: int,
        heartbeat: tuple[int, int],
        settings_flags: int,
        boot_lock: bool = False,
        delay_timer: bool | None = None,
    ) -> None:
        self.vehicle = vehicle
        self.eeprom_writes = 0
        self.heartbeat = heartbeat  # stored: interval in seconds (0: off), fallback amps
        self.max_a = max_a  # stored
        self.hardware_max_a = max_a
        self.settings_flags = settings_flags
        self.boot_lock = boot_lock
        self.delay_timer = delay_timer  # stored
        self.over_temperature = False  # throttled: the current may not be raised
        self.found: State | None = None  # what the sensors find wrong
        self._welded = False
        self._timing = timing
        self._now_ms = now_ms
        self.power_up()

    def power_up(self) -> None:
        """Everything volatile. The board comes up enabled, at its stored current."""
        self.state = State.UNKNOWN
        self.pilot = Pilot.P12
        self.pilot_state = 0
        self.vflags = (BOOT_LOCK if self.boot_lock else 0) | (TIMER if self.delay_timer is not None else 0)
        self.amps = self.max_a
        self.heartbeat_trigger = 0
        self._candidate: tuple[int, float] = (-1, 0.0)  # state seen, since when
        self._on_since_ms = self._off_since_ms = self._last_pulse_ms = self._timer_checked_ms = self._now_ms()

    def update(self) -> None:
        """One turn of the main loop."""
        now_ms = self._now_ms()
        if self.state is State.DISABLED or self.vflags & BOOT_LOCK:
            return
        connected = self.vehicle.cp is not CpState.A
        self._flag(CONNECTED, connected)
        if self.state is State.SLEEPING:
            let_go = self.vehicle.cp in (CpState.A, CpState.B)
            waited = now_ms - self._off_since_ms >= self._timing.sleep_open_ms
            if self.vflags & CHARGING and (let_go or waited):
                self._relay(False)
            return
        self._check_heartbeat(now_ms)
        if self.vflags & HARD_FAULT:
            if not connected:
                self._flag(HARD_FAULT, False)
                self._leave_fault()
            return
        fault = self._fault_now(now_ms)
        if fault is not None:
            if fault is not self.state:
                self._enter(fault)
            return
        if self.in_fault:
            self._leave_fault()
        self._debounce(now_ms)

    @property
    def in_fault(self) -> bool:
        return State.VENT_REQUIRED <= self.state <= State.RELAY_CLOSURE

    def check_time(self) -> None:
        """The delay timer, once a second."""
        now_ms = self._now_ms()
        held = self.state is State.DISABLED or self.in_fault or self.vflags & BOOT_LOCK
        if self.delay_timer is None or held or now_ms - self._timer_checked_ms < self._timing.second_ms:
            return
        self._timer_checked_ms = now_ms
        if self.delay_timer:
            self.enable()
        else:
            self.sleep()

    def _fault_now(self, now_ms: int) -> State | None:
        if self._misses_ground(now_ms):
            return State.NO_GROUND
        if self.found not in (None, State.NO_GROUND):
            return self.found
        if self.vehicle.diode_fault and self.pilot is Pilot.PWM and self.vehicle.cp is not CpState.A:
            return State.DIODE
        closed_by_itself = self.vehicle.relay_closed and not self.vflags & CHARGING
        if closed_by_itself and not self.settings_flags & _NO_STUCK_RELAY_CHECK:
            waited = now_ms - self._off_since_ms >= self._timing.stuck_check_ms
            return State.STUCK_RELAY if waited or self.state is State.STUCK_RELAY else None
        return None

    def _misses_ground(self, now_ms: int) -> bool:
        """Only with the relay closed can it be tested; then the board waits, and tries again. (It gives up after the
        sixth time, which is not modelled.)"""
        if self.vflags & CHARGING:
            return self.found is State.NO_GROUND and now_ms - self._on_since_ms >= self._timing.ground_check_ms
        waits = now_ms - self._off_since_ms < self._timing.ground_retry_ms
        return self.state is State.NO_GROUND and bool(self.vflags & CONNECTED) and waits

    def _debounce(self, now_ms: int) -> None:
        raw = _PILOT_CODE[self.vehicle.cp]
        seen = State(raw)
        if seen is State.C and self.pilot is not Pilot.PWM:
            seen = State.B  # without PWM nobody may charge
        if seen is self.state:
            self._candidate = (-1, 0.0)
            self.pilot_state = raw
            return
        if self._candidate[0] != seen:
            self._candidate = (seen, now_ms)
        wait_ms = self._timing.debounce_to_a_ms if seen is State.A else self._timing.debounce_ms
        if now_ms - self._candidate[1] >= wait_ms:
            self.pilot_state = raw
            self._enter(seen)

    def _enter(self, state: State) -> None:
        self.state = state
        self._candidate = (-1, 0.0)
        if state in (State.B, State.C):
            self.pilot = Pilot.PWM
        elif state is not State.STUCK_RELAY:
            self.pilot = Pilot.P12
        if state in _HARD:
            self.vflags |= HARD_FAULT
        self._relay(state is State.C)

    def _leave_fault(self) -> None:
        self.state = State.UNKNOWN
        self.pilot = Pilot.P12
        self.show()

    def _relay(self, closed: bool) -> None:
        if closed:
            self._on_since_ms = self._now_ms()
        else:
            self._off_since_ms = self._now_ms()
        self._flag(CHARGING, closed)
        self.show()

    def show(self) -> None:
        """Show pilot and relay to the vehicle."""
        closed = bool(self.vflags & CHARGING) or (self._welded and self.vehicle.relay_closed)
        duty = {Pilot.P12: DUTY_X1, Pilot.N12: DUTY_F, Pilot.PWM: _duty(self.amps)}[self.pilot]
        self.vehicle.show(duty, closed)

    def _check_heartbeat(self, now_ms: int) -> None:
        interval_s, fallback_a = self.heartbeat
        if interval_s and now_ms - self._last_pulse_ms >= interval_s * self._timing.second_ms:
            self._last_pulse_ms = now_ms
            self.heartbeat_trigger = 2
            self._set_amps(min(self.amps, max(fallback_a, MIN_A)))

    def _set_amps(self, amps: int) -> bool:
        """Whether the wish was within what the board may offer; clamped otherwise."""
        self.amps = min(max(amps, MIN_A), self.max_a)
        self.show()
        return self.amps == amps

    def _flag(self, flag: int, on: bool) -> None:
        self.vflags = self.vflags | flag if on else self.vflags & ~flag

    def set_current(self, amps: int, mode: str) -> tuple[bool, int]:
        """``mode`` V: volatile, M: unit maximum, empty: stored. Returns (taken as asked, amps now in force)."""
        if mode == "M":
            return False, self.hardware_max_a  # may be written once, and has been
        if self.over_temperature and amps > self.amps:
            return False, self.amps
        ok = self._set_amps(amps)
        if not mode:
            self.eeprom_writes += 1
            self.max_a = self.amps
        return ok, self.amps

    def supervise(self, numbers: list[int]) -> bool:
        """None: a pulse. One: acknowledge a miss. Two: set interval and fallback. Whether it is OK."""
        if not numbers:
            self._last_pulse_ms = self._now_ms()
            return self.heartbeat_trigger != 2
        if len(numbers) == 1:
            if numbers[0] != _ACK_COOKIE:
                return False
            if self.heartbeat_trigger == 2:
                self.heartbeat_trigger = 1
                self._set_amps(self.max_a)
            return True
        self.eeprom_writes += 1
        self.heartbeat = (numbers[0], numbers[1])
        self._last_pulse_ms = self._now_ms()
        self.heartbeat_trigger = 0
        return True

    def unlock(self) -> bool:
        """Whether the boot lock is gone, which it is not in a fault. Then the main loop begins."""
        if self.in_fault:
            return False
        self._flag(BOOT_LOCK, False)
        self.update()
        return True

    def end_timer(self) -> None:
        self.eeprom_writes += 1
        self.delay_timer = None
        self._flag(TIMER, False)

    def weld(self, welded: bool) -> None:
        """A welded relay stays closed once it has closed."""
        self._welded = welded
        self.show()

    def enable(self) -> None:
        if self.state in (State.SLEEPING, State.DISABLED):
            self.state = State.UNKNOWN
            self.pilot = Pilot.P12
            self.show()

    def sleep(self) -> None:
        if self.state is not State.SLEEPING:
            self.state = State.SLEEPING
            self.pilot = Pilot.P12
            self._off_since_ms = self._now_ms()
            self.show()

    def disable(self) -> None:
        if self.state is not State.DISABLED:
            self.state = State.DISABLED
            self.pilot = Pilot.N12
            self._relay(False)


def _duty(amps: int) -> int:
    """Duty in 0.01 % as the firmware makes it: 6..51 A, then 51..80 A."""
    return amps * 1000 // 6 if amps <= 51 else amps * 40 + 6400
