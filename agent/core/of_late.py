"""What held of late: how long readings in a row have shown something, and the most that a value was.

Charter: two small memories for judging what devices measure. Whoever follows a lower value takes time, and one reading
proves nothing.
"""

from __future__ import annotations

_LOWERINGS_KEPT = 16  # within the time to follow one


class Lasting:
    """What readings in a row show. Two of them prove nothing: one from before a stall is heard after it."""

    def __init__(self) -> None:
        self._readings = self._since_ms = 0

    def lasts_ms(self, shown: bool, at_ms: int) -> int:
        """For how long it has been shown now; 0 where that is not proven."""
        self._readings = self._readings + 1 if shown else 0
        if self._readings == 1:
            self._since_ms = at_ms
        return at_ms - self._since_ms if self._readings > 2 else 0


class MostOfLate:
    """A value that others follow, a lower one within ``follow_ms``: the same time for each lowering, however soon the
    next one comes."""

    def __init__(self, follow_ms: int) -> None:
        self._follow_ms = follow_ms
        self.value = 0
        self._lowered: list[tuple[int, int]] = []  # (when, from what), those that may not have been followed yet

    def set(self, value: int, at_ms: int) -> None:
        if value < self.value:
            before, lowered = self.value, self._not_yet_followed(at_ms)
            if len(lowered) == _LOWERINGS_KEPT:  # then in favour of whoever follows
                before = max(before, lowered.pop()[1])
            self._lowered = [*lowered, (at_ms, before)]
        self.value = value

    def most(self, at_ms: int) -> int:
        """The value, or what it was before there was the time to follow."""
        return max([self.value, *(before for _, before in self._not_yet_followed(at_ms))])

    def _not_yet_followed(self, at_ms: int) -> list[tuple[int, int]]:
        return [each for each in self._lowered if at_ms - each[0] <= self._follow_ms]
