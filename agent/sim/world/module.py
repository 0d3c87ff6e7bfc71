"""The DC power modules of one outlet and their driver, in virtual time.

Charter: the modules as one rectifier with a voltage, a current and a switch, and a ``PowerModule`` that behaves as
``hal.power.infypower`` does without frames: OFF first after every return, then the set-point, then ON if that is
still wanted; lost after three seconds without a measurement. Modules that hear nobody switch themselves off.

While nothing flows and nothing changes, no output is told and no event is spent; the real driver repeats it.

Units: mV, mA, W, ms.
Source: ``hal/power/infypower_group.py``, ``infypower_config.py`` (10 s own time-out, 3 s measurement time-out).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from hal.boards import HardLimits
from hal.ports import Back, LossKind, Lost, ModuleFault, ModuleFaults, PowerEvent, PowerLimits, PowerOutput

SILENCE_MS = 10_000  # the modules' own time-out
_OUTPUT_TIMEOUT_MS = 3_000
_POLL_MS = 1_000
_WIRE_S = 0.005
_SOFT_START_S = 0.4
_ANSWER_S = 0.15
_BOOT_S = 3.0


class Rectifier:
    """The modules. ``voltage_mv`` and ``current_ma`` are what they can drive now, 0 while off."""

    def __init__(self, loop: asyncio.AbstractEventLoop, limits: HardLimits, on_change: Callable[[], None]) -> None:
        """``on_change``: the output has changed."""
        self.limits = limits
        self.lost = False  # no answer on the bus
        self.hot = False
        self.powered = True
        self.on = False
        self.voltage_mv = self.current_ma = 0
        self.face: ModuleFace | None = None
        self._loop = loop
        self._on_change = on_change
        self._setpoint = (0, 0)
        self._boots: asyncio.TimerHandle | None = None
        self._starts: asyncio.TimerHandle | None = None
        self._silence: asyncio.TimerHandle | None = None

    @property
    def reachable(self) -> bool:
        return self.powered and not self.lost

    def power(self, on: bool) -> None:
        if self._boots is not None:
            self._boots.cancel()
            self._boots = None
        if on:
            self._boots = self._loop.call_later(_BOOT_S, self._boot)
        else:
            self.powered = False
            self.switch(False)
            self.contact_changed()

    def _boot(self) -> None:
        self._boots = None
        self.powered = True
        self.contact_changed()

    def set_lost(self, lost: bool) -> None:
        self.lost = lost
        self.contact_changed()

    def set_hot(self, hot: bool) -> None:
        """Over-temperature: an alarm, and no output while it lasts."""
        self.hot = hot
        if hot:
            self.switch(False)
        if self.face is not None and self.reachable:
            self.face.hear()

    def attach(self, face: ModuleFace) -> None:
        self.face = face
        self.contact_changed()

    def detach(self) -> None:
        if self.face is not None:
            self.face.detach()
            self.face = None
            self.contact_changed()

    def contact_changed(self) -> None:
        heard = self.face is not None and self.reachable
        if heard and self._silence is not None:
            self._silence.cancel()
            self._silence = None
        elif not heard and self._silence is None and self.on:
            self._silence = self._loop.call_later(SILENCE_MS / 1_000, self._deserted)
        if self.face is not None:
            self.face.contact_changed()

    def _deserted(self) -> None:
        self._silence = None
        self.switch(False)

    # --------------------------------------------------------------------------------- what it is told

    def set_output(self, voltage_mv: int, current_ma: int) -> None:
        self._setpoint = (voltage_mv, current_ma)
        if self.on:
            self._drive()

    def switch(self, on: bool) -> None:
        if self._starts is not None:
            self._starts.cancel()
            self._starts = None
        if on and not self.on and not self.hot:
            self._starts = self._loop.call_later(_SOFT_START_S, self._start)
        elif not on and self.on:
            self.on = False
            self._drive()

    def _start(self) -> None:
        self._starts = None
        self.on = True
        self._drive()

    def _drive(self) -> None:
        limits, (voltage_mv, current_ma) = self.limits, self._setpoint
        below = voltage_mv < (limits.min_voltage_mv or 0)
        if not self.on or below:
            voltage_mv = current_ma = 0
        else:
            voltage_mv = min(voltage_mv, limits.max_voltage_mv or voltage_mv)
            current_ma = min(current_ma, limits.max_current_ma)
            if limits.max_power_w is not None:
                current_ma = min(current_ma, limits.max_power_w * 1_000_000 // voltage_mv)
        if (voltage_mv, current_ma) != (self.voltage_mv, self.current_ma):
            self.voltage_mv, self.current_ma = voltage_mv, current_ma
            self._on_change()
        if self.face is not None:
            self.face.output_changed()


class ModuleFace:
    """A ``PowerModule`` for one life of the station."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        module: Rectifier,
        rng: random.Random,
        flowing_ma: Callable[[], int],
        booted_ms: int,
        poll_ms: int,
    ) -> None:
        """``flowing_ma``: what flows out of the modules now. ``booted_ms``: when the station's machine did."""
        self._poll_s = poll_ms / 1_000
        self._booted_ms = booted_ms
        self._loop = loop
        self._module = module
        self._rng = rng
        self._flowing_ma = flowing_ma
        self._on_event: Callable[[PowerEvent], None] | None = None
        self._present: bool | None = None
        self._wanted_on = False
        self._setpoint: tuple[int, int] | None = None
        self._told_faults: ModuleFaults | None = None
        self._contact: asyncio.TimerHandle | None = None
        self._report: asyncio.TimerHandle | None = None

    def start(self, on_event: Callable[[PowerEvent], None]) -> None:
        self._on_event = on_event
        self._module.attach(self)

    def set_output(self, voltage_mv: int, current_ma: int) -> None:
        if voltage_mv < 0 or current_ma < 0:
            raise ValueError(f"set-point {voltage_mv} mV, {current_ma} mA is negative")
        self._setpoint = (voltage_mv, current_ma)
        self._drive_soon()

    def switch(self, on: bool) -> None:
        self._wanted_on = on
        self._drive_soon()

    async def close(self) -> None:
        if self._on_event is None:
            return
        self.switch(False)
        await asyncio.sleep(2 * _WIRE_S)
        if self._module.face is self:
            self._module.detach()

    def detach(self) -> None:
        self._on_event = None
        for timer in (self._contact, self._report):
            if timer is not None:
                timer.cancel()
        self._contact = self._report = None

    def _drive_soon(self) -> None:
        if self._on_event is not None:
            self._loop.call_later(_WIRE_S, self._drive, self._wanted_on, self._setpoint)

    def _drive(self, wanted_on: bool, setpoint: tuple[int, int] | None) -> None:
        """Frames arrive: OFF before all else, a set-point before ON."""
        if not self._module.reachable:
            return
        if not wanted_on or setpoint is None:
            self._module.switch(False)
        elif self._present:
            self._module.set_output(*setpoint)
            self._module.switch(True)

    def contact_changed(self) -> None:
        if self._contact is not None:
            self._contact.cancel()
            self._contact = None
        if self._module.reachable and not self._present:
            self._contact = self._loop.call_later(_ANSWER_S, self._return)
        elif not self._module.reachable and self._present is not False:
            delay_ms = _OUTPUT_TIMEOUT_MS + self._rng.randrange(_POLL_MS)
            self._contact = self._loop.call_later(delay_ms / 1_000, self._lose)

    def _return(self) -> None:
        """The modules answer (again): OFF, then what is wanted."""
        self._contact = None
        self._present = True
        self._module.switch(False)
        limits = self._module.limits
        self._tell(Back("simulated power modules"))
        self._tell(
            PowerLimits(
                limits.min_voltage_mv or 0,
                limits.max_voltage_mv or 0,
                limits.max_current_ma,
                limits.max_power_w or 0,
                1,
            )
        )
        self._told_faults = None
        self.hear()
        self._tell_output()
        self._drive_soon()

    def _lose(self) -> None:
        self._contact = None
        self._present = False
        self._tell(Lost(LossKind.SILENT, f"no output measurement for {_OUTPUT_TIMEOUT_MS} ms"))

    def hear(self) -> None:
        faults = ModuleFaults(frozenset({ModuleFault.OVER_TEMPERATURE} if self._module.hot else ()))
        if faults != self._told_faults and self._present:
            self._told_faults = faults
            self._tell(faults)
        if not self._module.hot and self._wanted_on and not self._module.on:
            self._drive_soon()

    def output_changed(self) -> None:
        """Told with the next poll; while the output is on, with every later one."""
        if self._on_event is not None:
            if self._report is not None:
                self._report.cancel()
            self._report = self._loop.call_later(self._rng.randrange(100, _POLL_MS) / 1_000, self._poll)

    def _poll(self) -> None:
        self._report = None
        if self._module.reachable and self._present:
            self._tell_output()
        if self._module.on:
            self._report = self._loop.call_later(self._poll_s, self._poll)

    def _tell_output(self) -> None:
        module = self._module
        at_ms = round(self._loop.time() * 1_000) - self._booted_ms
        self._tell(PowerOutput(at_ms, module.voltage_mv, self._flowing_ma(), module.on))

    def _tell(self, event: PowerEvent) -> None:
        if self._on_event is not None:
            self._on_event(event)
