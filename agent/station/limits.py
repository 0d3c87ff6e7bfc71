"""Charging profiles and load sharing as limits for the core.

Charter: pure. Holds the installed profiles, and says for every EVSE which limit follows from them
and which share of the site's supply it has; and when that changes next by time alone. Times are wall
times in ms (UTC), as profiles are; currents in mA.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from agent.charging.composite import CompositeSchedule, Feed, Transaction, composite_schedule, current_limit
from agent.charging.profiles import ChargingProfile, RateUnit
from agent.charging.rules import Capabilities, Refusal, Rules
from agent.charging.sharing import Demand, allocate
from agent.charging.store import Criteria, ProfileSet
from agent.charging.timeline import earliest
from agent.core.events import LimitSet


@dataclass(frozen=True, slots=True)
class Outlook:
    """What holds now, and until when (wall ms; None: until something happens)."""

    limits: tuple[LimitSet, ...]
    next_change_ms: int | None


class Limits:
    """Profiles and supply of one station."""

    def __init__(self, feeds: tuple[Feed, ...], supply_ma: int | None, capabilities: Capabilities) -> None:
        self._feeds = {feed.evse_id: feed for feed in feeds}
        total_ma = sum(feed.hard_limit_ma for feed in feeds)
        first = feeds[0]
        self._station = replace(first, evse_id=0, hard_limit_ma=supply_ma or total_ma, minimum_ma=0)
        self._capabilities = capabilities
        self.profiles = ProfileSet()

    def outlook(self, running: dict[int, Transaction], wall_ms: int) -> Outlook:
        """The limits while these transactions run (by EVSE)."""
        own = {
            evse: current_limit(self.profiles, replace(feed, transaction=running.get(evse)), wall_ms)
            for evse, feed in self._feeds.items()
        }
        station = current_limit(self.profiles, self._station, wall_ms)
        demands = [Demand(evse, tx.started_ms, own[evse].limit_ma) for evse, tx in running.items()]
        shares = allocate(station.limit_ma, demands) if self._is_shared(station.limit_ma) else {}
        limits = tuple(
            LimitSet(
                evse,
                None if limit.limit_ma >= self._feeds[evse].hard_limit_ma else limit.limit_ma,
                share_ma=shares.get(evse),
            )
            for evse, limit in own.items()
        )
        return Outlook(limits, earliest(station.next_change_ms, *(limit.next_change_ms for limit in own.values())))

    def _is_shared(self, station_ma: int) -> bool:
        return station_ma < sum(feed.hard_limit_ma for feed in self._feeds.values())

    def install(
        self, profile: ChargingProfile, evse: int, rules: Rules, running: dict[int, Transaction], wall_ms: int
    ) -> Refusal | None:
        """Install a profile; a refusal leaves everything as it was (K01, 16-SC-01..07)."""
        ids = {number: tx.id for number, tx in running.items()}
        result = self.profiles.install(
            profile, evse, rules=rules, capabilities=self._capabilities, running=ids, wall_ms=wall_ms
        )
        if isinstance(result, Refusal):
            return result
        self.profiles = result
        return None

    def clear(self, criteria: Criteria) -> int:
        """Remove the profiles that match; returns how many."""
        self.profiles, count = self.profiles.clear(criteria)
        return count

    def keep_transactions(self, tx_ids: set[str]) -> bool:
        """Drop the profiles of transactions that no longer run; True if any went."""
        kept = self.profiles.keep_transactions(tx_ids)
        changed, self.profiles = kept != self.profiles, kept
        return changed

    def composite(
        self, evse: int, duration_s: int, unit: RateUnit, running: dict[int, Transaction], wall_ms: int
    ) -> CompositeSchedule | None:
        """16-SC-08, K08; None for an EVSE that is not there."""
        feeds = {n: replace(feed, transaction=running.get(n)) for n, feed in self._feeds.items()}
        if evse == 0:
            all_feeds = tuple(feeds.values())
            return composite_schedule(self.profiles, self._station, wall_ms, duration_s, unit, evses=all_feeds)
        if evse not in feeds:
            return None
        return composite_schedule(self.profiles, feeds[evse], wall_ms, duration_s, unit)
