"""One offer, and what the vehicle makes of it: takes it, or is late, is woken once, and then counts as pausing.

Rules (charging-behaviour reference):

* An offer begins where none was before, after our own pause too. The vehicle has ``vehicle_ready_ms`` to take it.
* One that has slept through our pause may no longer look at the pilot. Where it is still in B when its time is over,
  the pilot shows F for ``wake_up_f_ms``, X1 for ``wake_up_x1_ms``, and then the offer again: once for each offer.
* Whatever else there is to say to the vehicle ends the wake-up at once, and so does a vehicle that asks for power.
* Only ``wake_up_answer_ms`` later does it count as late: until then nobody pays for idling.
* ``wake_up_f_ms`` 0: nobody is woken. Some hybrids latch a permanent fault in state F.
"""

from __future__ import annotations

from agent.core.settings import Timing
from hal.ports import DUTY_F, DUTY_X1


class Invitation:
    """The offer that stands, or none."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._since_ms: int | None = None  # None: nothing is offered
        self._taken = False
        self._f_until_ms = 0
        self._woken_at_ms: int | None = None  # end of the wake-up; None: there was none
        self._wakes_with_ma = 0

    def stand(self, at_ms: int, *, drawing: bool) -> None:
        """Something is offered."""
        if self._since_ms is None:
            self._since_ms = at_ms
        self._taken = self._taken or drawing

    def withdraw(self) -> None:
        self._since_ms = self._woken_at_ms = None
        self._taken = False

    @property
    def taken(self) -> bool:
        """Whether the vehicle has drawn since the offer began."""
        return self._taken

    @property
    def late_at_ms(self) -> int | None:
        """From when on the vehicle is late; None: it is not going to be."""
        if self._since_ms is None or self._taken:
            return None
        if self._woken_at_ms is not None:
            return self._woken_at_ms + self._timing.wake_up_answer_ms
        return self._since_ms + self._timing.vehicle_ready_ms

    def is_late(self, at_ms: int) -> bool:
        return self.late_at_ms is not None and at_ms >= self.late_at_ms

    # ------------------------------------------------------------------------------------- the wake-up

    def wake(self, offered_ma: int, at_ms: int) -> None:
        """The vehicle may be woken now, if it is late and was not woken before."""
        if self._woken_at_ms is None and self.is_late(at_ms) and self._timing.wake_up_f_ms > 0:
            self._f_until_ms = at_ms + self._timing.wake_up_f_ms
            self._woken_at_ms = self._f_until_ms + self._timing.wake_up_x1_ms
            self._wakes_with_ma = offered_ma

    def disturb(self, offered_ma: int, at_ms: int, *, asks: bool) -> None:
        """What ends the wake-up before its time. ``asks``: the vehicle does, for power."""
        if self._woken_at_ms is not None and (asks or offered_ma != self._wakes_with_ma):
            self._woken_at_ms = min(self._woken_at_ms, at_ms)

    def duty(self, at_ms: int) -> int | None:
        """What the pilot shows instead of the offer, in 0.01 %; None: the offer."""
        if self._woken_at_ms is None or at_ms >= self._woken_at_ms:
            return None
        return DUTY_F if at_ms < self._f_until_ms else DUTY_X1

    def shows_f(self, at_ms: int) -> bool:
        """Whether a board that tells state F tells what we send, or sent just now."""
        return self._woken_at_ms is not None and at_ms < self._woken_at_ms + self._timing.wake_up_answer_ms

    @property
    def deadlines(self) -> tuple[int | None, ...]:
        return self.late_at_ms, self._woken_at_ms, None if self._woken_at_ms is None else self._f_until_ms
