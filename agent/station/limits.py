"""Charging profiles and load sharing as limits for the core.

Charter: pure. Holds the installed profiles, and says for every EVSE which limit follows from them
and which share of the site's supply it has; and when that changes next by time alone. Times are wall
times in ms (UTC), as profiles are; ``clock_known``: whether that time can be believed. Currents in mA.

The configured supply, and limits of the station by profile, bound all EVSEs together. Their ampere are those of each
phase of the supply: an AC EVSE takes what it gives, and the modules of a DC EVSE take three phases, and more power than
they put out (``_EFFICIENCY_PERCENT``). Watt of the station are converted as if each EVSE had the most power per ampere
that any has, so they are never exceeded where EVSEs differ; where some have fewer phases they are not used up. Where a
limit of the station has lapsed, each EVSE has its own offline limit.

A board that charges by itself and is out of sight takes its least current from both, whether a transaction runs or
not: nobody can keep it from that.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from agent.charging.composite import (
    CompositeSchedule,
    Feed,
    Transaction,
    at_supply,
    composite_schedule,
    current_limit,
    from_supply,
)
from agent.charging.profiles import ChargingProfile, Purpose, RateUnit
from agent.charging.records import profile_from_plain
from agent.charging.rules import Capabilities, Reason, Refusal, Rules
from agent.charging.sharing import Demand, allocate
from agent.charging.store import Criteria, ProfileSet
from agent.charging.timeline import earliest
from agent.core.events import LimitSet

_EFFICIENCY_PERCENT = 93
"""Of rectifiers: those that are made for this give 94 % and more of what they take, at a power factor of 0.99."""

_TO_COME = ""  # the transaction of a profile that is judged before there is one


@dataclass(frozen=True, slots=True)
class Outlook:
    """What holds now, and until when (wall ms; None: until something happens)."""

    limits: tuple[LimitSet, ...]
    next_change_ms: int | None


class Limits:
    """Profiles and supply of one station. ``mains_mv``: what its modules are fed with, phase to neutral."""

    def __init__(
        self, feeds: tuple[Feed, ...], supply_ma: int | None, capabilities: Capabilities, mains_mv: int = 230_000
    ) -> None:
        self._feeds = {feed.evse_id: feed for feed in feeds}
        mains = Feed(0, 0, mains_mv, 3, minimum_ma=0)
        self._behind = replace(mains, voltage_mv=mains_mv * _EFFICIENCY_PERCENT // 100)  # the modules
        self._all_ma = sum(at_supply(feed.hard_limit_ma, feed, self._behind) for feed in feeds)
        widest = max((mains if feed.dc else feed for feed in feeds), key=lambda feed: feed.uw_per_ma)
        limit_ma = self._all_ma if supply_ma is None else min(supply_ma, self._all_ma)
        self._station = replace(mains, hard_limit_ma=limit_ma, voltage_mv=widest.voltage_mv, phases=widest.phases)
        self._capabilities = capabilities
        self.profiles = ProfileSet()
        self.bound = False  # a profile came into force with its transaction, and is not yet on disk
        self._handed_on = False  # on disk they may still be those of the transaction before

    def outlook(
        self, running: dict[int, Transaction], wall_ms: int, *, clock_known: bool, unseen: Collection[int] = ()
    ) -> Outlook:
        """The limits while these transactions run (by EVSE). ``unseen``: EVSEs whose boards charge by themselves and
        are out of sight."""
        own = {
            evse: current_limit(
                self.profiles, replace(feed, transaction=running.get(evse)), wall_ms, clock_known=clock_known
            )
            for evse, feed in self._feeds.items()
        }
        station = current_limit(self.profiles, self._station, wall_ms, clock_known=clock_known)
        wanted = {evse: own[evse].limit_ma for evse in running}
        shares = self._share(station.limit_ma, running, wanted, unseen) if station.limit_ma < self._all_ma else {}
        limits = tuple(
            LimitSet(
                evse,
                None if limit.limit_ma >= self._feeds[evse].hard_limit_ma else limit.limit_ma,
                share_ma=shares.get(evse),
            )
            for evse, limit in own.items()
        )
        return Outlook(limits, earliest(station.next_change_ms, *(limit.next_change_ms for limit in own.values())))

    def _share(
        self, limit_ma: int, running: dict[int, Transaction], wanted: dict[int, int], unseen: Collection[int]
    ) -> dict[int, int]:
        """The limit of the supply over the EVSEs that want something, after the least of the unseen. Of these, one with
        a transaction still has its share: its board takes some seconds until it falls back."""
        least = {n: at_supply(self._feeds[n].minimum_ma, self._feeds[n], self._behind) for n in unseen}
        demands = []
        for evse, ma in wanted.items():
            feed = self._feeds[evse]
            at_least_ma, at_most_ma = (at_supply(each, feed, self._behind) for each in (feed.minimum_ma, ma))
            if evse in least:  # it is served already
                at_least_ma, at_most_ma = 0, max(at_most_ma - at_least_ma, 0)
            demands.append(Demand(evse, running[evse].started_ms, at_most_ma, at_least_ma))
        shares = allocate(limit_ma - sum(least.values()), demands)
        shares = {evse: min(ma + least.get(evse, 0), limit_ma) for evse, ma in shares.items()}
        return {evse: from_supply(ma, self._feeds[evse], self._behind) for evse, ma in shares.items()}

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

    def judge_start(self, plain: dict[str, Any], evse: int, rules: Rules, wall_ms: int) -> Refusal | None:
        """What is wrong with a TxProfile that comes with a remote start (neutral form): the rules are those that would
        hold if its transaction ran already. Raises MalformedRecord."""
        profile = profile_from_plain(plain)
        if profile.purpose is not Purpose.TX or profile.transaction_id is not None:
            return Refusal(Reason.INVALID_PROFILE, "16-CMD-05, F01.FR.10", "not a TxProfile without a transactionId")
        result = self.profiles.install(
            replace(profile, transaction_id=_TO_COME),
            evse,
            rules=rules,
            capabilities=self._capabilities,
            running={evse: _TO_COME},
            wall_ms=wall_ms,
        )
        return result if isinstance(result, Refusal) else None

    def bind(self, plain: dict[str, Any], evse: int, tx_id: str, wall_ms: int) -> None:
        """The transaction of a remote start begins, and with it the profile that came along and was judged."""
        self.profiles = self.profiles.bind(profile_from_plain(plain), evse, tx_id, wall_ms)
        self.bound = True

    def hand_on(self, tx_id: str, to: str) -> None:
        """A session goes on in another transaction, and the profiles with it; so it does after a restart, should the
        disk not know it yet. To be stored when the first has ended: before, a restart may find it still running."""
        self.profiles = self.profiles.hand_on(tx_id, to)
        self._handed_on = True

    def clear(self, criteria: Criteria) -> int:
        """Remove the profiles that match; returns how many."""
        self.profiles, count = self.profiles.clear(criteria)
        return count

    def keep_transactions(self, tx_ids: set[str]) -> bool:
        """Drop the profiles of transactions that no longer run; True if the disk is to know."""
        kept = self.profiles.keep_transactions(tx_ids)
        changed = self._handed_on or kept != self.profiles
        self.profiles, self._handed_on = kept, False
        return changed

    def composite(
        self,
        evse: int,
        duration_s: int,
        unit: RateUnit,
        running: dict[int, Transaction],
        wall_ms: int,
        *,
        clock_known: bool,
    ) -> CompositeSchedule | None:
        """16-SC-08, K08; None for an EVSE that is not there."""
        feeds = {n: replace(feed, transaction=running.get(n)) for n, feed in self._feeds.items()}
        feed = self._station if evse == 0 else feeds.get(evse)
        if feed is None:
            return None
        outlets = tuple(feeds.values()) if evse == 0 else ()
        return composite_schedule(
            self.profiles, feed, wall_ms, duration_s, unit, evses=outlets, clock_known=clock_known
        )
