"""May this token start a transaction?

Charter: one decision from what is known now; no I/O, no memory. A reservation is checked by the caller,
before (16-AUTH-01). Rules: 16-AUTH-01 to 08 and 15; 2.0.1 C01, C02, C10, C12 to C16. An answer other
than Accepted never gives energy, whatever its name (16-AUTH-15).

Where the clock is not trusted (``WallTime``), an entry with an expiry date that may have passed still
serves offline, since a station without clock must be able to charge; online the CSMS is asked.
"""

from __future__ import annotations

from agent.auth.policy import Accept, AskCsms, AuthSettings, Decision, Knowledge, Known, Refuse, Source
from agent.auth.token import ACCEPTED, NO_AUTHORIZATION, Entry
from agent.core.facts import Token


def decide_start(token: Token, known: Knowledge) -> Decision:
    """The decision for a token that was presented, or sent with a remote start that must be authorized."""
    settings = known.settings
    if token.token_type == NO_AUTHORIZATION:
        return Accept(Source.NOT_NEEDED)
    if not 0 < len(token.id_token) <= settings.max_id_length:
        return Refuse("Invalid", Source.POLICY)
    found = known.find(token)
    if found is not None and settings.is_master_pass(found.entry.group):
        return Refuse("Invalid", Source.MASTER_PASS)  # C16: it can stop, never start
    if found is not None and found.source is Source.SITE:
        return Accept(Source.SITE, found.entry.group)
    return _online(found, known) if known.online else _offline(found, known)


def start_answered(entry: Entry, settings: AuthSettings) -> Accept | Refuse:
    """The decision once the CSMS has answered Authorize."""
    if entry.status != ACCEPTED:
        return Refuse(entry.status, Source.CSMS)
    if settings.is_master_pass(entry.group):
        return Refuse("Invalid", Source.MASTER_PASS)
    return Accept(Source.CSMS, entry.group)


def _online(found: Known | None, known: Knowledge) -> Decision:
    settings, now = known.settings, known.now
    if found is None or not settings.local_pre_authorize:
        return AskCsms()  # 16-AUTH-04
    status = found.entry.status_at(now)
    if status == ACCEPTED:
        in_doubt = found.entry.expires_wall_ms is not None and not now.trusted
        return AskCsms() if in_doubt else Accept(found.source, found.entry.group)  # 16-AUTH-03, C12, C14
    never_ask = (
        settings.list_disable_post_authorize if found.source is Source.LIST else settings.cache_disable_post_authorize
    )
    return Refuse(status, found.source) if never_ask else AskCsms()  # 16-AUTH-05, C12, C14


def _offline(found: Known | None, known: Knowledge) -> Accept | Refuse:
    settings = known.settings
    if found is not None:
        status = found.entry.status_at(known.now)
        if status != ACCEPTED:
            return Refuse(status, found.source)  # 16-AUTH-07: known to be bad is never "unknown"
        if settings.local_authorize_offline:
            return Accept(found.source, found.entry.group)  # 16-AUTH-06, C13
    if settings.offline_unknown:
        return Accept(Source.OFFLINE_UNKNOWN)  # 16-AUTH-07, C15
    return Refuse("Unknown", Source.POLICY)
