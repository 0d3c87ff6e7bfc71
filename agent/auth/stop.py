"""May this token stop the transaction that runs?

Charter: one decision from what is known now; no I/O, no memory. Rules: 16-AUTH-09 (same group, and a
group is never compared with a token itself), 16-AUTH-10 and C01 (the same token, without asking), C09
(a group that is known locally, without asking), C16 (master pass).
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.auth.policy import Accept, AskCsms, AuthSettings, Decision, Knowledge, Known, Refuse, Source
from agent.auth.token import ACCEPTED, NO_AUTHORIZATION, Entry, same_group, same_token
from agent.core.facts import Token


@dataclass(frozen=True, slots=True)
class Running:
    """The transaction's token and that token's group; both may be unknown (a free or remote start)."""

    token: Token | None
    group: str | None = None


def decide_stop(token: Token, running: Running, known: Knowledge) -> Decision:
    """The decision for a token presented while a transaction runs."""
    if running.token is not None and same_token(token, running.token):
        return Accept(Source.SAME_TOKEN, running.group)
    if token.token_type == NO_AUTHORIZATION or not 0 < len(token.id_token) <= known.settings.max_id_length:
        return Refuse("Invalid", Source.POLICY)
    found = known.find(token)
    if found is not None and _usable(found, known) and found.entry.status_at(known.now) == ACCEPTED:
        allowed = _by_group(found.entry, running, known.settings)
        if allowed is not None:
            return allowed
    if known.online:
        return AskCsms()  # what we know may be stale, and the CSMS may know a group
    return Refuse("Invalid" if found is not None else "Unknown", Source.POLICY)


def stop_answered(entry: Entry, running: Running, settings: AuthSettings) -> Accept | Refuse:
    """The decision once the CSMS has answered Authorize."""
    if entry.status != ACCEPTED:
        return Refuse(entry.status, Source.CSMS)
    return _by_group(entry, running, settings) or Refuse("Invalid", Source.CSMS)


def _usable(found: Known, known: Knowledge) -> bool:
    return known.online or found.source is Source.SITE or known.settings.local_authorize_offline  # 16-AUTH-06


def _by_group(entry: Entry, running: Running, settings: AuthSettings) -> Accept | None:
    if settings.is_master_pass(entry.group):
        return Accept(Source.MASTER_PASS, entry.group)
    if same_group(entry.group, running.group):
        return Accept(Source.SAME_GROUP, entry.group)
    return None
