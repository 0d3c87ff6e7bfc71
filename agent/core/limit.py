"""How much current may be offered now: the least of all who have a say.

Rules:

* hard limit (board, wiring, configuration), what the board says of itself, cable rating, share of the
  site's supply, limit of the CSMS.
* While the CSMS is away and none of its limits is in force, the configured offline limit holds. A limit in force holds
  over any loss of the link; one that has lapsed arrives here as the offline limit (``charging.composite``).
* Below the minimum current nothing is offered (IEC 61851-1: 6 A for AC); never rounded up.
* Lowering is at once. Raising waits ``raise_limit_every_ms`` since the last change, because a
  vehicle may take 5 s to follow a change.
* For as long it may lawfully draw what was offered before: it has the same time for each change, however soon the
  next one comes.
"""

from __future__ import annotations

from agent.core.of_late import MostOfLate
from agent.core.settings import Behaviour, EvseHardware, Timing


class Limit:
    """Limit and offer of one EVSE, in mA."""

    def __init__(self, hardware: EvseHardware, timing: Timing) -> None:
        self._hardware = hardware
        self._follow_ms = timing.raise_limit_every_ms  # what a vehicle may take to follow a change
        self._drawn_ma = MostOfLate(self._follow_ms)
        self._outside_ma: int | None = None
        self._share_ma: int | None = None
        self.cable_ma: int | None = None
        self.board_ma: int | None = None  # None: it has told none, or the feed is DC and the modules' business
        self.offered_ma = 0
        self._changed_at_ms: int | None = None
        self.deadline_ms: int | None = None

    def set_outside(self, limit_ma: int | None, share_ma: int | None) -> None:
        self._outside_ma, self._share_ma = limit_ma, share_ma

    def allowed_ma(self, behaviour: Behaviour, online: bool) -> int:
        """The limit in force, 0 where it is below the minimum."""
        allowed = self._hardware.hard_limit_ma
        if self.board_ma is not None:
            allowed = min(allowed, self.board_ma)
        if self._hardware.socket:
            allowed = min(allowed, self.cable_ma or 0)
        if self._share_ma is not None:
            allowed = min(allowed, self._share_ma)
        if self._outside_ma is not None:
            allowed = min(allowed, self._outside_ma)
        elif not online and behaviour.offline_limit_ma is not None:
            allowed = min(allowed, behaviour.offline_limit_ma)
        return allowed if allowed >= self._hardware.min_current_ma else 0

    def offer(self, allowed_ma: int, at_ms: int) -> int:
        """Move the offer towards what is allowed (0: nothing may be offered); returns the offer."""
        self.deadline_ms = None
        if allowed_ma > self.offered_ma > 0 and self._changed_at_ms is not None:
            may_raise_at_ms = self._changed_at_ms + self._follow_ms
            if at_ms < may_raise_at_ms:
                self.deadline_ms = may_raise_at_ms
                return self.offered_ma
        if allowed_ma != self.offered_ma:
            self.offered_ma, self._changed_at_ms = allowed_ma, at_ms
            self._drawn_ma.set(allowed_ma, at_ms)
        return self.offered_ma

    def may_draw_ma(self, at_ms: int) -> int:
        """The most that a vehicle may be drawing now: what is offered, or was before it had the time to follow."""
        return self._drawn_ma.most(at_ms)
