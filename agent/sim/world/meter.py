"""What flows through one outlet, the meter on it, and the meter's driver: in virtual time, exact to the nanojoule.

Charter: ``Line`` integrates energy between changes of current or voltage and never in between. ``Meter`` is the device
on the wall: it has a serial number and a register that goes on over power cuts and restarts of the station.
``MeterFace`` is the ``EnergyMeter`` of one life of the station; it follows the order of ``hal.meters.modbus_meter``
and holds each register value against the real ``hal.meters.plausibility``, so that a glitch takes its real way.

A poll is one event, at the instant at which its reply arrives; what is read is true of that instant.

Units: mA, mV, ms, nJ (mA x mV x ms), mWh.
Source: ``hal/meters/modbus_meter.py`` (bad polls until a loss, serial number read again after one).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hal.meters.plausibility import ImportRegister
from hal.ports import Back, BadReply, LossKind, Lost, MeterEvent, MeterReading

NJ_PER_MWH = 3_600_000_000
_LOST_AFTER_POLLS = 3
_REPLY_S = 0.06  # from request to the last block at 9600 baud
_FIRST_POLL_S = 0.1
_STUCK_POLL_S = 1.0
_FREQUENCY_MHZ = 50_000
_LATE_MS = 3_000  # a reply that comes later than this after its question is flushed with the line
_AWAKE_MS = 2_000  # from mains to the first reply


class Line:
    """The conductors behind the contactor. ``wired``: phases that the meter sees."""

    __slots__ = (
        "_nj",
        "_since_ms",
        "current",
        "current_ma",
        "mwh",
        "power_mw",
        "rate",
        "voltage",
        "voltage_mv",
        "wired",
    )

    def __init__(self, now_ms: int, wired: int) -> None:
        self.wired = wired
        self.mwh = 0  # all energy that ever went through, up to the last change or question
        self.rate = 0  # nJ per ms
        self._nj = 0  # what is more than ``mwh``
        self._since_ms = now_ms
        self.change(now_ms, 0, 0, 1)

    def change(self, now_ms: int, voltage_mv: int, current_ma: int, phases: int) -> None:
        """From now on this flows, on so many phases."""
        self.total_mwh(now_ms)
        self._since_ms = now_ms
        self.voltage_mv, self.current_ma = voltage_mv, current_ma
        self.rate = voltage_mv * current_ma * phases
        self.power_mw = self.rate // 1_000
        present = self.wired
        self.voltage = (voltage_mv, voltage_mv if present > 1 else 0, voltage_mv if present > 2 else 0)
        self.current = (current_ma, current_ma if phases > 1 else 0, current_ma if phases > 2 else 0)

    def total_mwh(self, now_ms: int) -> int:
        """All energy that ever went through; what is less than a mWh is kept for later."""
        if self.rate:
            nj = self._nj + self.rate * (now_ms - self._since_ms)
            self._since_ms = now_ms
            if nj >= NJ_PER_MWH:
                more_mwh, nj = divmod(nj, NJ_PER_MWH)
                self.mwh += more_mwh
            self._nj = nj
        return self.mwh

    def total_nj(self, now_ms: int) -> int:
        return self.total_mwh(now_ms) * NJ_PER_MWH + self._nj


class Meter:
    """The device. ``odd`` is true while anything but an honest reply is to be expected of it."""

    __slots__ = (
        "_loop", "_offset_mwh", "_wakes", "awake", "frozen_mwh", "garbage", "line", "lose_next", "odd",
        "once_mwh", "once_until_ms", "rollover_mwh", "serial", "silent", "step_mwh",
    )  # fmt: skip

    def __init__(
        self, loop: asyncio.AbstractEventLoop, line: Line, serial: str, register_mwh: int, step_mwh: int,
        rollover_mwh: int | None,
    ) -> None:  # fmt: skip
        self._loop = loop
        self.line = line
        self.serial = serial
        self.step_mwh = step_mwh
        self.rollover_mwh = rollover_mwh
        self._offset_mwh = register_mwh
        self._wakes: asyncio.TimerHandle | None = None
        self.awake = True
        self.silent = self.garbage = False
        self.frozen_mwh: int | None = None
        self.once_mwh: int | None = None  # told instead of the truth, one time
        self.lose_next = False  # the next reply does not come ...
        self.once_until_ms: int | None = None  # ... or comes so late that a later question is answered by it
        self.odd = False

    def register_mwh(self, now_ms: int) -> int:
        """What an honest meter shows now: whole steps, from 0 again after its last digit."""
        mwh = self._offset_mwh + self.line.total_mwh(now_ms)
        if self.rollover_mwh is not None:
            mwh %= self.rollover_mwh
        return mwh - mwh % self.step_mwh

    def turns(self, now_ms: int) -> int:
        """How often its register has begun anew after its last digit."""
        return (self._offset_mwh + self.line.total_mwh(now_ms)) // self.rollover_mwh if self.rollover_mwh else 0

    def owed_mwh(self, now_ms: int) -> int:
        """What it has not shown yet, because it stands still."""
        return 0 if self.frozen_mwh is None else max(0, self.register_mwh(now_ms) - self.frozen_mwh)

    def set_register(self, mwh: int, now_ms: int) -> None:
        """It shows this from now on, and counts on from there."""
        turned_mwh = self.turns(now_ms) * (self.rollover_mwh or 0)
        self._offset_mwh = turned_mwh + mwh - self.line.total_mwh(now_ms)

    def power(self, on: bool) -> None:
        if self._wakes is not None:
            self._wakes.cancel()
            self._wakes = None
        if on:
            self._wakes = self._loop.call_later(_AWAKE_MS / 1_000, self._wake)
        else:
            self.awake = False
            self.look()

    def _wake(self) -> None:
        self._wakes = None
        self.awake = True
        self.look()

    def look(self) -> None:
        """Something about it has changed: may polls take the short way?"""
        self.odd = (
            not self.awake
            or self.silent
            or self.garbage
            or self.lose_next
            or self.frozen_mwh is not None
            or self.once_mwh is not None
        )


class MeterFace:
    """An ``EnergyMeter`` for one life of the station."""

    __slots__ = (
        "_bad_polls",
        "_booted_ms",
        "_busy_s",
        "_device",
        "_identified",
        "_idle_s",
        "_jump_readings",
        "_loop",
        "_max_power_w",
        "_meter",
        "_number_read",
        "_on_event",
        "_register",
        "_serial",
        "_timer",
        "_usable",
        "_when",
    )  # fmt: skip

    def __init__(
        self, loop: asyncio.AbstractEventLoop, meter: Meter, device: str, *, max_power_w: int, poll_ms: int,
        idle_poll_ms: int, booted_ms: int,
    ) -> None:  # fmt: skip
        self._loop = loop
        self._meter = meter
        self._device = device
        self._max_power_w = max_power_w
        self._busy_s, self._idle_s = poll_ms / 1_000, idle_poll_ms / 1_000
        self._booted_ms = booted_ms  # readings carry the machine's monotonic time
        self._on_event: Callable[[MeterEvent], None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self, on_event: Callable[[MeterEvent], None]) -> None:
        if self._timer is not None:
            raise RuntimeError(f"{self._device}: started twice")
        self._on_event = on_event
        self._register = ImportRegister(
            self._device,
            max_power_w=self._max_power_w,
            step_mwh=self._meter.step_mwh,
            jump_readings=_LOST_AFTER_POLLS + 1,
            rollover_mwh=self._meter.rollover_mwh,
        )
        self._serial = ""
        self._number_read: str | None = None
        self._identified = False
        self._usable: bool | None = None
        self._bad_polls = 0
        self._at(self._loop.time() + _FIRST_POLL_S)

    def read_soon(self) -> None:
        """Whatever is read from now on is fresh, so a poll that is nearly due will do."""
        soon = self._loop.time() + _REPLY_S
        if self._timer is not None and self._when > soon:
            self._timer.cancel()
            self._at(soon)

    def look_closer(self) -> None:
        """Something about line or meter has changed: the next poll comes as it does while energy flows."""
        soon = self._loop.time() + self._near_s()
        if self._timer is not None and self._when > soon:
            self._timer.cancel()
            self._at(soon)

    async def close(self) -> None:
        self.detach()

    def detach(self) -> None:
        self._on_event = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _at(self, when: float) -> None:
        self._when = when
        self._timer = self._loop.call_at(when, self._poll)

    def _poll(self) -> None:
        meter = self._meter
        calm = not (meter.line.rate or meter.odd or self._bad_polls or not self._usable)
        self._when = when = self._when + (self._idle_s if calm else self._near_s())
        self._timer = self._loop.call_at(when, self._poll)
        if meter.odd or not self._identified:
            self._poll_the_long_way()
        else:
            now_ms = round(self._loop.time() * 1_000)
            self._take(meter.register_mwh(now_ms), now_ms)

    def _near_s(self) -> float:
        """A register that stands still is found by readings that are near each other: there the pace is a charger's."""
        stuck = self._meter.frozen_mwh is not None and self._meter.line.rate
        return min(self._busy_s, _STUCK_POLL_S) if stuck else self._busy_s

    def _poll_the_long_way(self) -> None:
        meter = self._meter
        now_ms = round(self._loop.time() * 1_000)
        if not meter.awake or meter.silent or meter.lose_next:
            if meter.lose_next and meter.awake:
                meter.lose_next = False
                meter.once_mwh, meter.once_until_ms = meter.register_mwh(now_ms), now_ms + _LATE_MS
            meter.look()
            self._failed(LossKind.SILENT, "no answer")
        elif meter.garbage:
            self._failed(LossKind.GARBAGE, "checksum of a reply is wrong")
        elif not self._identified and self._number_read not in (None, meter.serial):
            self._failed(
                LossKind.GARBAGE, f"serial number changed from {self._number_read} to {meter.serial}: meter exchanged"
            )
        else:
            if not self._identified:
                self._number_read = self._serial = meter.serial
                self._identified = True
            mwh = meter.register_mwh(now_ms) if meter.frozen_mwh is None else meter.frozen_mwh
            if meter.once_mwh is not None:
                if meter.once_until_ms is None or now_ms <= meter.once_until_ms:
                    mwh = meter.once_mwh
                meter.once_mwh = meter.once_until_ms = None
                meter.look()
            self._take(mwh, now_ms)

    def _take(self, mwh: int, now_ms: int) -> None:
        try:
            believed = self._register.believes(mwh, now_ms - self._booted_ms)
        except BadReply as error:
            self._failed(LossKind.GARBAGE, error.detail)
            return
        if not believed:
            self.read_soon()  # the first value of a run waits for a second one that agrees
            return
        on_event = self._on_event
        assert on_event is not None
        self._bad_polls = 0
        if not self._usable:
            self._usable = True
            on_event(Back(f"simulated meter, serial {self._serial}"))
            if self._on_event is None:
                return  # whoever heard it has died of it
        line = self._meter.line
        at_ms = now_ms - self._booted_ms
        on_event(MeterReading(at_ms, self._serial, mwh, 0, line.power_mw, line.voltage, line.current, _FREQUENCY_MHZ))

    def _failed(self, kind: LossKind, detail: str) -> None:
        self._bad_polls += 1
        if self._usable is False or self._bad_polls < _LOST_AFTER_POLLS:
            return
        self._usable = False
        self._identified = False
        assert self._on_event is not None
        self._on_event(Lost(kind, detail))
