"""The station's whole pure logic: core, limits and prices stepped together.

Charter: one ``step`` per event, like the core's own, but with what surrounds the core: a new
transaction gets its limits before it may draw and is priced while it runs, an ended one loses its
profiles, a change of settings reaches the core. No I/O; wall time is the core's.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.charging.composite import Transaction
from agent.core.effects import Effect, TransactionEnded
from agent.core.events import ClockSet, Event, LimitSet, Recovered, Tick
from agent.core.station import Station
from agent.station.billing import Billing
from agent.station.limits import Limits


@dataclass(frozen=True, slots=True)
class ProfilesChanged:
    """Profiles were installed or cleared: their limits hold from now on."""


@dataclass(frozen=True, slots=True)
class PricesChanged:
    """Something was told to ``Billing`` (a tariff, a limit): what follows is to be carried out."""


class Logic:
    """Core, limits and prices as one."""

    def __init__(self, core: Station, limits: Limits, billing: Billing) -> None:
        self.core = core
        self.limits = limits
        self.billing = billing
        self._started_at_ms: dict[str, int] = {}
        self._told: dict[int, LimitSet] = {}
        self._next_change_wall_ms: int | None = None
        self._known: set[str] = set()

    def step(self, event: Event | ProfilesChanged | PricesChanged, at_ms: int) -> list[Effect]:
        if isinstance(event, Recovered):
            self._started_at_ms[event.tx_id] = at_ms - event.age_ms
        effects = self.core.step(Tick() if isinstance(event, ProfilesChanged | PricesChanged) else event, at_ms)
        self._bind_profiles()
        if self._limits_are_due(event):
            effects += self._apply_limits(at_ms)
        effects += self.billing.follow(event, effects)
        for effect in effects:
            if isinstance(effect, TransactionEnded):
                self._started_at_ms.pop(effect.tx_id, None)
        return effects

    def deadline_ms(self) -> int | None:
        """When a ``Tick`` is due at the latest (monotonic)."""
        times = [self.core.deadline_ms(), self.billing.deadline_ms()]
        if self._next_change_wall_ms is not None:
            times.append(self._next_change_wall_ms - self.core.ctx.wall_offset_ms)
        return min((at_ms for at_ms in times if at_ms is not None), default=None)

    def running(self) -> dict[int, Transaction]:
        """Running transactions by EVSE, with their start in today's wall time."""
        offset_ms = self.core.ctx.wall_offset_ms
        found = {}
        for evse_id, evse in self.core.evses.items():
            if (tx := evse.flow.tx) is not None:
                started_ms = self._started_at_ms.setdefault(tx.tx_id, self.core.ctx.at_ms)
                found[evse_id] = Transaction(tx.tx_id, started_ms + offset_ms)
        return found

    def _bind_profiles(self) -> None:
        """The profile of a remote start comes into force with the transaction, and goes with it."""
        for evse_id, evse in self.core.evses.items():
            tx = evse.flow.tx
            if tx is not None and tx.profile is not None and tx.tx_id not in self._known:
                self.limits.bind(tx.profile, evse_id, tx.tx_id, self.core.ctx.wall_ms)

    def _limits_are_due(self, event: object) -> bool:
        now = {tx.id for tx in self.running().values()}
        due = self._next_change_wall_ms is not None and self.core.ctx.wall_ms >= self._next_change_wall_ms
        return due or now != self._known or isinstance(event, ClockSet | ProfilesChanged) or not self._told

    def _apply_limits(self, at_ms: int) -> list[Effect]:
        running = self.running()
        self._known = {tx.id for tx in running.values()}
        ctx = self.core.ctx
        outlook = self.limits.outlook(running, ctx.wall_ms, clock_known=ctx.time_status != "U")
        self._next_change_wall_ms = outlook.next_change_ms
        effects: list[Effect] = []
        for limit in outlook.limits:
            if self._told.get(limit.evse) != limit:
                self._told[limit.evse] = limit
                effects += self.core.step(limit, at_ms)
        return effects
