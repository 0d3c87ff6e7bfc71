"""The control pilot as seen by the session: what the board says, debounced.

Rules (IEC 61851-1, charging-behaviour reference):

* Power reacts to ``raw`` at once and only ever downwards: leaving C needs no debounce.
* The session (plugged, unplugged, ready) believes a state after it has lasted ``debounce_ms``. An A that was told while
  the process stood still, or just before, is believed at once: it has lasted for nobody knows how long, and power may
  have gone on with another vehicle.
* While the board is lost nothing is known: ``raw`` and ``stable`` are None, power is off. ``unseen_since_ms`` is when
  that began; where it lasts, another vehicle may have come.
* A board that reports F says nothing of the vehicle, so ``stable`` stays. Where it is not we who send it, the vehicle
  is out of sight all the same.
* ``departures`` counts how often a vehicle has left, or may have left unseen: as long as it stays the same, whoever was
  there still is. A vehicle may have left unseen once nothing has been known of it for ``SWAP_MS``; where nobody was,
  nobody leaves.
* ``has_come``: the place was seen empty before this vehicle, which has been in sight since. One that was there before
  us, or may have left unseen, may be anybody's.
"""

from __future__ import annotations

from typing import Final

from hal.ports import CpState

SWAP_MS: Final = 2_000
"""Nobody pulls a plug and puts another vehicle's in within less: a damaged frame or a reset of the board hides none."""

CONNECTED = frozenset({CpState.B, CpState.C, CpState.D})
DRAWING = frozenset({CpState.C, CpState.D})


class Vehicle:
    """Debounced pilot of one EVSE."""

    def __init__(self, debounce_ms: int) -> None:
        self._debounce_ms = debounce_ms
        self.raw: CpState | None = None
        self.stable: CpState | None = None
        self.unseen_since_ms: int | None = None
        self.departures = 0
        self.has_come = False
        self._there: bool | None = None  # when last seen; None: never, or it may have left unseen since
        self._settles_at_ms: int | None = None
        self._stalled_until_ms = 0  # what has waited meanwhile is heard by then

    def observe(self, cp: CpState, at_ms: int) -> None:
        if cp is self.raw:
            return
        self.raw = cp
        if cp is CpState.F:
            self._settles_at_ms = None
        elif self.stable is None:
            self.stable = cp
        elif cp is CpState.A and at_ms < self._stalled_until_ms:
            self.stable, self._settles_at_ms = cp, None
        else:
            self._settles_at_ms = at_ms + self._debounce_ms if cp is not self.stable else None

    def stalled(self, at_ms: int) -> None:
        """The process stood still until now, for long enough that another vehicle may have come."""
        self._stalled_until_ms = at_ms + self._debounce_ms
        if self.raw is CpState.A and self._settles_at_ms is not None:
            self.stable, self._settles_at_ms = self.raw, None

    def lose(self) -> None:
        self.raw = self.stable = self._settles_at_ms = None

    def settle(self, at_ms: int, *, devices_heard: bool, sends_f: bool = False) -> None:
        """Time passed: believe the raw state if it has lasted long enough, and no news may wait behind a stall.
        ``sends_f``: an F that the board reports is ours."""
        if devices_heard and self._settles_at_ms is not None and at_ms >= self._settles_at_ms:
            self.stable = self.raw
            self._settles_at_ms = None
        seen = None if self.raw is CpState.F and not sends_f else self.connected
        if seen is None and self.unseen_since_ms is None:
            self.unseen_since_ms = at_ms
        swap_at_ms = self._swap_at_ms
        if (self._there and seen is False) or (swap_at_ms is not None and at_ms >= swap_at_ms):
            self.departures += 1
            self._there, self.has_come = None, False
        if seen is not None:
            self.has_come = self.has_come or (seen and self._there is False)
            self._there = seen
            self.unseen_since_ms = None

    @property
    def deadline_ms(self) -> int | None:
        due_ms = (self._settles_at_ms, self._swap_at_ms)
        return min((at_ms for at_ms in due_ms if at_ms is not None), default=None)

    @property
    def _swap_at_ms(self) -> int | None:
        """From when on whoever was there may be another, should it stay out of sight."""
        return self.unseen_since_ms + SWAP_MS if self._there and self.unseen_since_ms is not None else None

    @property
    def settled(self) -> bool:
        return self._settles_at_ms is None

    @property
    def connected(self) -> bool | None:
        """None: unknown (board lost, or state E where the pilot is shorted)."""
        if self.stable is None or self.stable is CpState.E:
            return None
        return self.stable in CONNECTED

    def wants_power(self, ventilation: bool) -> bool:
        """The vehicle is ready now, and the place can serve it (D needs ventilation)."""
        return self.raw is CpState.C or (self.raw is CpState.D and ventilation)
