"""How long to wait before the next connection attempt.

Charter: the OCPP 2.x back-off, also used for 1.6: first RetryBackOffWaitMinimum plus a random part of up
to RetryBackOffRandomRange; then twice the previous wait plus a new random part, RetryBackOffRepeatTimes
times; then the last wait for ever. Doubling ends at ``DOUBLED_MAX_S``, whatever the variables say: a station
must not be away for days because its CSMS was away for a night. The random part stays, so that a fleet
does not come back together. Pure: the random source is injected, nobody sleeps here.

Units: seconds. Source: OCPP 2.0.1 part 4 section 5.3 (checklist WS-04, WS-05).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class BackoffSettings:
    """The three RetryBackOff variables. Raises ``ValueError`` for a negative value or a wait without minimum."""

    wait_minimum_s: float = 10
    random_range_s: float = 10
    repeat_times: int = 5

    def __post_init__(self) -> None:
        if self.wait_minimum_s <= 0:
            raise ValueError("RetryBackOffWaitMinimum must be above 0: without it a dead server is hammered")
        if self.random_range_s < 0 or self.repeat_times < 0:
            raise ValueError("RetryBackOffRandomRange and RetryBackOffRepeatTimes must not be negative")


DEFAULT_BACKOFF: Final = BackoffSettings()
DOUBLED_MAX_S: Final = 3600.0


class Backoff:
    """The sequence of waits between failures. ``settings`` may be replaced at any time."""

    def __init__(self, settings: BackoffSettings, random_source: random.Random) -> None:
        self.settings = settings
        self._random = random_source
        self._doublings = 0
        self._last_wait_s: float | None = None

    def next_wait_s(self) -> float:
        """The wait after one more failure."""
        if self._last_wait_s is None:
            self._last_wait_s = self.settings.wait_minimum_s + self._jitter_s()
        elif self._doublings < self.settings.repeat_times:
            self._doublings += 1
            self._last_wait_s = min(2 * self._last_wait_s, DOUBLED_MAX_S) + self._jitter_s()
        return max(self._last_wait_s, self.settings.wait_minimum_s)

    def reset(self) -> None:
        """The link has proved itself: the next failure starts from the minimum again."""
        self._doublings = 0
        self._last_wait_s = None

    def _jitter_s(self) -> float:
        return self._random.uniform(0, self.settings.random_range_s)
