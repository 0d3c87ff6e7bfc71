"""The station's whole pure logic: core, limits and prices stepped together.

Charter: one ``step`` per event, like the core's own, but with what surrounds the core: a new
transaction gets its limits before it may draw and is priced while it runs, an ended one loses its
profiles, a change of settings reaches the core. No I/O; wall time is the core's.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.charging.composite import Transaction
from agent.core.effects import Effect, TransactionEnded
from agent.core.events import ClockSet, Configured, Event, LimitSet, Recovered
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
        self._unseen: set[int] = set()

    def step(self, event: Event | ProfilesChanged | PricesChanged, at_ms: int) -> list[Effect]:
        if isinstance(event, Recovered):
            self._started_at_ms[event.tx_id] = at_ms - event.age_ms
        if isinstance(event, ProfilesChanged | PricesChanged):  # for the core nothing has changed
            effects = self.core.step(Configured(self.core.ctx.behaviour), at_ms)
        else:
            effects = self.core.step(event, at_ms)
        self._follow_transactions()
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

    @property
    def clock_known(self) -> bool:
        """Whether somebody vouches for the clock: limits go by no other."""
        return self.core.ctx.time_status != "U"

    def running(self) -> dict[int, Transaction]:
        """Running transactions by EVSE, with their start in today's wall time."""
        offset_ms = self.core.ctx.wall_offset_ms
        found = {}
        for evse_id, evse in self.core.evses.items():
            if (tx := evse.flow.tx) is not None:
                started_ms = self._started_at_ms.setdefault(tx.tx_id, self.core.ctx.at_ms)
                found[evse_id] = Transaction(tx.tx_id, started_ms + offset_ms)
        return found

    def _follow_transactions(self) -> None:
        """The profile of a remote start comes into force with the transaction, and goes with it. Where the session
        only goes on in another transaction, its start and its profiles stay."""
        for evse_id, evse in self.core.evses.items():
            tx = evse.flow.tx
            if tx is None or tx.tx_id in self._known:
                continue
            if tx.profile is not None:
                self.limits.bind(tx.profile, evse_id, tx.tx_id, self.core.ctx.wall_ms)
            if tx.follows is not None:
                self.limits.hand_on(tx.follows.tx_id, tx.tx_id)
                if (started_at_ms := self._started_at_ms.get(tx.follows.tx_id)) is not None:
                    self._started_at_ms[tx.tx_id] = started_at_ms

    def _limits_are_due(self, event: object) -> bool:
        now = {evse.flow.tx.tx_id for evse in self.core.evses.values() if evse.flow.tx is not None}
        due = self._next_change_wall_ms is not None and self.core.ctx.wall_ms >= self._next_change_wall_ms
        changed = now != self._known or self._unseen_now() != self._unseen
        return due or changed or isinstance(event, ClockSet | ProfilesChanged) or not self._told

    def _unseen_now(self) -> set[int]:
        """EVSEs whose boards charge by themselves and are lost or not found yet: what they give is out of our hands."""
        return {n for n, evse in self.core.evses.items() if evse.hardware.autonomous and evse.vehicle.raw is None}

    def _apply_limits(self, at_ms: int) -> list[Effect]:
        running = self.running()
        self._known = {tx.id for tx in running.values()}
        self._unseen = self._unseen_now()
        outlook = self.limits.outlook(running, self.core.ctx.wall_ms, clock_known=self.clock_known, unseen=self._unseen)
        self._next_change_wall_ms = outlook.next_change_ms
        effects: list[Effect] = []
        for limit in outlook.limits:
            if self._told.get(limit.evse) != limit:
                self._told[limit.evse] = limit
                effects += self.core.step(limit, at_ms)
        return effects
