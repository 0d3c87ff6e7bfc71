"""An electric car at an outlet of the simulated world: what it shows on the pilot, and what it draws.

Charter: driven by events alone. Between its own scheduled changes its current is constant; when it will be full, or
its current falls towards the end, is computed from what flows. It reacts to the board after a delay within what
IEC 61851-1 allows (5 s to a changed offer, 3 s from the end of PWM to S2 open), unless a habit says otherwise.

AC: it takes what it may and wants. DC: it accepts up to that, and the power module decides.

Units: mA, mV, ms, mWh, nJ. Randomness comes from the ``random.Random`` given.
"""

from __future__ import annotations

import asyncio
import enum
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from agent.sim.world.meter import NJ_PER_MWH, Line
from agent.sim.world.plug import Plug
from hal.ports import DUTY_DIGITAL, DUTY_F, CpState

_READY_MS = (300, 3_000)  # from an offer to S2 closed
_SLEEPY_MS = (5_000, 60_000)
_DRAW_MS = (200, 2_000)  # from a closed contactor to current
_FOLLOW_MS = (200, 4_900)  # to a changed offer; each car has its own
_STOP_MS = (200, 2_800)  # from the end of PWM to no current and S2 open
_CHATTER_MS = (300, 1_500)
_TAPER_STEPS = 8
_TRICKLE_MA = 6_000


class Habit(enum.StrEnum):
    """What a car may do wrong, by name."""

    OVERDRAW = "overdraw"  # takes half as much again as offered
    IGNORE_STOP = "ignore_stop"  # goes on drawing when PWM is gone
    CHATTER = "chatter"  # toggles between B and C
    NO_DIODE = "no_diode"
    VENTILATION = "ventilation"  # asks for it: state D instead of C
    ERROR = "error"  # state E instead of C
    SLEEPY = "sleepy"  # needs up to a minute to answer an offer


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of car. ``cable_ma``: rating of the cable it brings along (13, 20, 32 or 63 A)."""

    max_current_ma: int = 16_000
    phases: int = 3
    min_current_ma: int = 6_000
    dc_current_ma: int = 125_000
    cable_ma: int = 32_000


class Vehicle:
    """One car. ``wants_mwh`` until it is full; over the last ``taper_mwh`` its current falls in steps.

    ``waits_ms``: its own timer, counted from the plug. ``wakes``: each time it is full, after so many ms it wants so
    many mWh more. ``dozes_ms``: after so long without an offer on AC it sleeps, and sees none until state F wakes it.
    """

    def __init__(
        self,
        kind: Kind,
        wants_mwh: int,
        rng: random.Random,
        *,
        taper_mwh: int = 0,
        waits_ms: int = 0,
        wakes: tuple[int, int] | None = None,
        dozes_ms: int | None = None,
        habits: frozenset[Habit] = frozenset(),
    ) -> None:
        self.kind = kind
        self.habits = habits
        self.draw_ma = 0  # what it would take now if power is there
        self.ready = False  # S2 closed
        self._rng = rng
        self._left_nj = wants_mwh * NJ_PER_MWH
        self._taper_nj = max(1, taper_mwh * NJ_PER_MWH)
        self._waits_ms = waits_ms
        self._wakes = wakes
        self._dozes_ms = dozes_ms
        self._follow_ms = rng.randrange(*_FOLLOW_MS)
        self._awake = True
        self._dozing = False
        self._plug: Plug | None = None
        self._from_nj = 0
        self._bounced = False  # CHATTER: S2 open just now
        self._acts: asyncio.TimerHandle | None = None
        self._acts_at = 0.0
        self._turns: asyncio.TimerHandle | None = None
        self._timer: asyncio.TimerHandle | None = None  # its own clock: wait, wake, chatter
        self._dozes: asyncio.TimerHandle | None = None
        self._offered_ma = self._heeded_ma = 0  # what it sees, and what it follows
        self._to_heed: deque[tuple[asyncio.TimerHandle, int]] = deque()

    # ------------------------------------------------------------------------------------ the outlet's

    @property
    def plugged(self) -> bool:
        return self._plug is not None

    @property
    def full(self) -> bool:
        return self._remaining_nj() <= 0

    @property
    def wants_mwh(self) -> int:
        """How much it still takes."""
        return max(0, -(-self._remaining_nj() // NJ_PER_MWH))

    def attach(
        self,
        loop: asyncio.AbstractEventLoop,
        plug: Plug,
        line: Line,
        on_draw: Callable[[], None],
        told: Callable[[str], None],
        *,
        dc: bool,
    ) -> None:
        """It is plugged in here. ``on_draw``: its ``draw_ma`` has changed."""
        self._loop, self._line, self._on_draw, self._told, self._dc = loop, line, on_draw, told, dc
        self._plug = plug
        self._from_nj = line.total_nj(self._now_ms())
        self._awake = self._waits_ms == 0
        if not self._awake:
            self._timer = loop.call_later(self._waits_ms / 1_000, self._wake, 0)
        plug.set_cable_rating(self.kind.cable_ma)
        plug.set_diode_fault(Habit.NO_DIODE in self.habits)
        plug.set_cp(CpState.B)
        self.changed()

    def detach(self) -> None:
        """The plug is pulled, whatever flows."""
        plug = self._plug
        if plug is None:
            return
        self._left_nj = self._remaining_nj()
        self._plug = None
        for timer in (self._acts, self._turns, self._timer, self._dozes):
            if timer is not None:
                timer.cancel()
        self._acts = self._turns = self._timer = self._dozes = None
        self._dozing = False
        self._offered_ma = 0
        self._heed_at_once()
        self.ready, self.draw_ma = False, 0
        self._on_draw()
        plug.set_diode_fault(False)
        plug.set_cp(CpState.A)
        plug.set_cable_rating(None)

    def changed(self) -> None:
        """Board, contact or mains have changed; it will react in its own time."""
        plug = self._plug
        if plug is None:
            return
        if not plug.relay_closed and self.draw_ma:
            self.draw_ma = 0  # nothing to draw from
            self._on_draw()
        self._see_offer(plug)
        self._doze_or_wake(plug)
        within_ms = self._within_ms(plug)
        if within_ms is not None:
            self._act_in(self._rng.randrange(*within_ms))

    def flow_changed(self) -> None:
        """Current or voltage have changed: when will the next change of its own be due?"""
        if self._turns is not None:
            self._turns.cancel()
            self._turns = None
        rate = self._line.rate
        if self._plug is None or rate <= 0:
            return
        left_nj = self._remaining_nj()
        until_nj = left_nj - self._taper_nj
        if until_nj <= 0:
            until_nj = left_nj - (self._step(left_nj) - 1) * self._taper_nj // _TAPER_STEPS
        self._turns = self._loop.call_later(max(1, -(-until_nj // rate)) / 1_000, self._turn)

    # ------------------------------------------------------------------------------------- what it does

    def _within_ms(self, plug: Plug) -> tuple[int, int] | None:
        """How soon it reacts to what it sees now; None where all is as it should be."""
        ready = self._wants_ready(plug)
        if ready is not self.ready:
            return _STOP_MS if self.ready else _SLEEPY_MS if Habit.SLEEPY in self.habits else _READY_MS
        target_ma = self._target_ma(plug)
        if target_ma != self.draw_ma:
            return _FOLLOW_MS if self.draw_ma else _DRAW_MS
        return None

    def _see_offer(self, plug: Plug) -> None:
        """It follows each change of the offer for itself, and always as late: also one that another follows soon."""
        if plug.offered_current_ma != self._offered_ma:
            self._offered_ma = plug.offered_current_ma
            if self.draw_ma:
                timer = self._loop.call_later(self._follow_ms / 1_000, self._heed)
                self._to_heed.append((timer, self._offered_ma))
        if not self.draw_ma:
            self._heed_at_once()

    def _heed(self) -> None:
        _, self._heeded_ma = self._to_heed.popleft()
        self._act()

    def _heed_at_once(self) -> None:
        for timer, _ in self._to_heed:
            timer.cancel()
        self._to_heed.clear()
        self._heeded_ma = self._offered_ma

    def _doze_or_wake(self, plug: Plug) -> None:
        offers = plug.offered_current_ma > 0 or plug.duty_centipercent == DUTY_DIGITAL
        wakes = plug.duty_centipercent == DUTY_F
        if self._dozing and wakes:
            self._dozing = False
            self._told("state F wakes the car")
        if (offers or wakes) and self._dozes is not None:
            self._dozes.cancel()
            self._dozes = None
        if self._dozes_ms is None or self._dc or offers or wakes or self._dozing or self._dozes is not None:
            return
        self._dozes = self._loop.call_later(self._dozes_ms / 1_000, self._doze)

    def _doze(self) -> None:
        self._dozes = None
        if not self.ready:
            self._dozing = True
            self._told("car falls asleep")

    def _act_in(self, delay_ms: int) -> None:
        """A reaction that is due earlier stays: news never put off what is on its way."""
        at = self._loop.time() + delay_ms / 1_000
        if self._acts is not None:
            if self._acts_at <= at:
                return
            self._acts.cancel()
        self._acts_at = at
        self._acts = self._loop.call_at(at, self._act)

    def _act(self) -> None:
        if self._acts is not None:
            self._acts.cancel()
            self._acts = None
        plug = self._plug
        assert plug is not None
        was_ready, self.ready = self.ready, self._wants_ready(plug)
        draw_ma = self._target_ma(plug)
        if draw_ma != self.draw_ma:
            self.draw_ma = draw_ma
            self._on_draw()
        if self.ready is not was_ready:
            self._told("car asks for power" if self.ready else "car asks for no more power")
            if Habit.CHATTER in self.habits:
                self._bounced = False
                self._chatter_later()
            self._show(plug)
            self.changed()

    def _show(self, plug: Plug) -> None:
        cp = CpState.B
        if self.ready and not self._bounced:
            asks = CpState.D if Habit.VENTILATION in self.habits else CpState.C
            cp = CpState.E if Habit.ERROR in self.habits else asks
        plug.set_cp(cp)

    def _chatter_later(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.ready:
            self._timer = self._loop.call_later(self._rng.randrange(*_CHATTER_MS) / 1_000, self._chatter)

    def _chatter(self) -> None:
        plug = self._plug
        assert plug is not None
        self._bounced = not self._bounced
        if self._bounced and self.draw_ma:
            self.draw_ma = 0
            self._on_draw()
        self._show(plug)
        self._chatter_later()
        self.changed()

    def _wants_ready(self, plug: Plug) -> bool:
        if not self._awake or self._dozing or self.full:
            return False
        if self.ready and Habit.IGNORE_STOP in self.habits:
            return True
        return plug.duty_centipercent == DUTY_DIGITAL or plug.offered_current_ma >= self.kind.min_current_ma

    def _target_ma(self, plug: Plug) -> int:
        if not self.ready or not plug.relay_closed or self._bounced:
            return 0
        if self._dc:
            return self._appetite_ma(self.kind.dc_current_ma)
        offered_ma = self._heeded_ma
        if offered_ma == 0 and Habit.IGNORE_STOP in self.habits:
            offered_ma = self.kind.max_current_ma
        if Habit.OVERDRAW in self.habits:
            return offered_ma * 3 // 2
        return min(offered_ma, self._appetite_ma(self.kind.max_current_ma))

    def _appetite_ma(self, full_ma: int) -> int:
        """Full current, then equal steps down to a trickle."""
        left_nj = self._remaining_nj()
        if left_nj >= self._taper_nj or full_ma <= _TRICKLE_MA:
            return full_ma
        return _TRICKLE_MA + (full_ma - _TRICKLE_MA) * (self._step(left_nj) - 1) // _TAPER_STEPS

    def _step(self, left_nj: int) -> int:
        """Which step of its taper it is in: ``_TAPER_STEPS`` at first, 1 at last."""
        return max(1, -(-left_nj * _TAPER_STEPS // self._taper_nj))

    def _turn(self) -> None:
        """Full, or less hungry."""
        self._turns = None
        if self.full:
            self._told("car is full")
            self._act()
            if self._wakes is not None and self._timer is None:
                self._timer = self._loop.call_later(self._wakes[0] / 1_000, self._wake, self._wakes[1])
        else:
            self._act()
            self.flow_changed()

    def _wake(self, more_mwh: int) -> None:
        self._timer = None
        self._awake = True
        self._told("car wakes up")
        if more_mwh:
            self._left_nj = more_mwh * NJ_PER_MWH
            self._from_nj = self._line.total_nj(self._now_ms())
        self.changed()

    def _remaining_nj(self) -> int:
        if self._plug is None:
            return self._left_nj
        return self._left_nj - (self._line.total_nj(self._now_ms()) - self._from_nj)

    def _now_ms(self) -> int:
        return round(self._loop.time() * 1_000)
