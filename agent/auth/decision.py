"""May this token start, may it stop? The rules, as pure functions.

Order for a start (16-AUTH-01..07; C10-C15): local list, then cache, then the CSMS, then the offline
rules. An entry that is known and not accepted is asked about again while the CSMS can be reached,
because it may be stale (16-AUTH-05), unless DisablePostAuthorize says not to.

For a stop (16-AUTH-09, -10; C09, C16): the same token, or one of the same group, or the master pass.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from agent.auth.cache import ACCEPTED, Cache, Entry, token_key
from agent.core.facts import Token


class Verdict(enum.Enum):
    ACCEPT = "accept"
    ASK = "ask"  # only the CSMS can say
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Decision:
    verdict: Verdict
    reason: str
    group: str | None = None


@dataclass(frozen=True, slots=True)
class ListEntry:
    """An entry of the site's own list or of the CSMS's local list."""

    status: str = ACCEPTED
    group: str | None = None
    expires_ms: int | None = None

    def status_at(self, wall_ms: int) -> str:
        late = self.expires_ms is not None and wall_ms >= self.expires_ms
        return "Expired" if self.status == ACCEPTED and late else self.status


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings that decide (device-model variables in brackets)."""

    pre_authorize: bool  # AuthCtrlr.LocalPreAuthorize
    authorize_offline: bool  # AuthCtrlr.LocalAuthorizeOffline
    unknown_offline: bool  # AuthCtrlr.OfflineTxForUnknownIdEnabled
    cache_enabled: bool  # AuthCacheCtrlr.Enabled
    cache_life_ms: int  # AuthCacheCtrlr.LifeTime
    cache_final: bool  # AuthCacheCtrlr.DisablePostAuthorize
    list_enabled: bool  # LocalAuthListCtrlr.Enabled
    list_final: bool  # LocalAuthListCtrlr.DisablePostAuthorize
    master_group: str  # AuthCtrlr.MasterPassGroupId, "" = none


@dataclass(frozen=True, slots=True)
class Known:
    """What is known here of tokens."""

    site: Mapping[str, ListEntry]  # the configuration's allow list: valid whatever the CSMS says
    local: Mapping[str, ListEntry]  # the CSMS's local list
    cache: Cache


def decide_start(token: Token, known: Known, policy: Policy, *, online: bool, wall_ms: int) -> Decision:
    """May this token start a transaction?"""
    mine = known.site.get(token_key(token))
    if mine is not None and mine.status_at(wall_ms) == ACCEPTED:
        return Decision(Verdict.ACCEPT, "site list", mine.group)
    found, final = _lookup(token, known, policy, wall_ms)
    if found is not None and _is_master(found[1], policy):
        return Decision(Verdict.REFUSE, "master pass never starts")  # C16
    if online:
        return _decide_online(found, final, policy)
    if found is None:
        unknown = Verdict.ACCEPT if policy.unknown_offline else Verdict.REFUSE
        return Decision(unknown, "unknown token, CSMS away")
    status, group = found
    if status == ACCEPTED and policy.authorize_offline:
        return Decision(Verdict.ACCEPT, "known here, CSMS away", group)
    return Decision(Verdict.REFUSE, f"{status} here, CSMS away" if status != ACCEPTED else "offline start is off")


def _decide_online(found: tuple[str, str | None] | None, final: bool, policy: Policy) -> Decision:
    if found is None or not policy.pre_authorize:
        return Decision(Verdict.ASK, "the CSMS decides")
    status, group = found
    if status == ACCEPTED:
        return Decision(Verdict.ACCEPT, "known here", group)
    return Decision(Verdict.REFUSE, f"{status} here") if final else Decision(Verdict.ASK, f"{status} here")


def decide_stop(
    token: Token,
    started_by: Token | None,
    group: str | None,
    known: Known,
    policy: Policy,
    *,
    online: bool,
    wall_ms: int,
) -> Decision:
    """May this token stop the transaction that ``started_by`` of ``group`` began?"""
    if started_by is not None and token_key(token) == token_key(started_by):
        return Decision(Verdict.ACCEPT, "same token")
    found, _ = _lookup(token, known, policy, wall_ms)
    mine = known.site.get(token_key(token))
    own_group = mine.group if mine is not None else found[1] if found is not None else None
    if found is not None and _is_master(found[1], policy):
        return Decision(Verdict.ACCEPT, "master pass")
    if group and own_group and own_group.casefold() == group.casefold():
        return Decision(Verdict.ACCEPT, "same group", own_group)
    if online and found is None and mine is None:
        return Decision(Verdict.ASK, "the CSMS may know its group")
    return Decision(Verdict.REFUSE, "another token's transaction")


def stops(verdict_group: str | None, tx_group: str | None, policy: Policy) -> bool:
    """Whether a token the CSMS accepted may stop a transaction, by its group."""
    if _is_master(verdict_group, policy):
        return True
    return bool(verdict_group and tx_group and verdict_group.casefold() == tx_group.casefold())


def _lookup(token: Token, known: Known, policy: Policy, wall_ms: int) -> tuple[tuple[str, str | None] | None, bool]:
    """(status, group) as known here, and whether a refusal from there is final. The list beats the cache."""
    if policy.list_enabled and (listed := known.local.get(token_key(token))) is not None:
        return (listed.status_at(wall_ms), listed.group), policy.list_final
    entry: Entry | None = known.cache.find(token) if policy.cache_enabled else None
    if entry is not None:
        return (entry.status_at(wall_ms, policy.cache_life_ms), entry.group), policy.cache_final
    return None, False


def _is_master(group: str | None, policy: Policy) -> bool:
    return bool(group and policy.master_group and group.casefold() == policy.master_group.casefold())
