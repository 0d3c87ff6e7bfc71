"""Which network profile the next attempt to connect is for.

Charter: each slot in its turn, as often as NetworkProfileConnectionAttempts says, and round again for ever. A slot that
works is kept: after a lost link its attempts count from the beginning. The one that worked before the order was changed
comes last, until one of the order has worked. No I/O here.

A slot works when its CSMS has accepted the station's boot: one that lets it in and does not is the wrong one, as long
as there is another. Once one has worked, none of a lower security profile is tried (A05).

Source: OCPP 2.0.1 part 2 A05, B10; checklist WS-10.
"""

from __future__ import annotations

from collections.abc import Mapping


class NetworkSlots:
    """``order``: at least one slot, the first to be tried first; ``worked_last``: the way back; ``security``: the
    security profile of each."""

    def __init__(self, order: tuple[int, ...], worked_last: int, security: Mapping[int, int]) -> None:
        self._wanted = order
        self._security = security
        self._order = order if worked_last in order else (*order, worked_last)
        self._place = 0
        self._failures = 0
        self._works = False

    @property
    def alone(self) -> bool:
        """There is no other slot to go on to."""
        return len(self._order) == 1

    def choose(self, attempts: int) -> int:
        """The slot for an attempt that begins now."""
        if self._failures >= attempts:
            self.go_on()
        self._works = False
        return self._order[self._place]

    def works(self) -> bool:
        """The CSMS has accepted the station. True if that is news of this connection."""
        news, self._works, self._failures = not self._works, True, 0
        slot = self._order[self._place]
        left = self._wanted if slot in self._wanted else self._order
        least = self._security.get(slot, 0)
        self._order = tuple(each for each in left if self._security.get(each, 0) >= least)
        self._place = self._order.index(slot)
        return news

    def ended(self) -> None:
        """The attempt, or the connection that came of it, is over."""
        if not self._works:
            self._failures += 1

    def go_on(self) -> None:
        """The next slot's turn, whatever was tried of this one."""
        self._place = (self._place + 1) % len(self._order)
        self._failures = 0
