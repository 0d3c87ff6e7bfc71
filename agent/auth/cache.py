"""The authorization cache: what the CSMS said of tokens, bounded and ageing.

Charter: a value in memory, without clock or disk; the station saves ``dump`` and restores by ``load``,
so that the cache survives reset and power loss. Who consults it, and when, is ``agent.auth.start``.

Rules: 16-AUTH-02 (a token of the local list is never cached), 16-AUTH-08 (learns accepted and refused
alike; when full, entries that are not accepted go first, then the oldest), C10 (LifeTime).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from agent.auth.token import ACCEPTED, CONCURRENT_TX, NO_AUTHORIZATION, Entry, WallTime, fold
from agent.core.facts import Token

MAX_TEXT_LENGTH = 255  # the longest identifier of any OCPP version; nothing else in an entry is longer


@dataclass(frozen=True, slots=True)
class CachedEntry:
    """``learned_wall_ms`` is None where the clock was not trusted: such an entry's age is unknown."""

    entry: Entry
    learned_wall_ms: int | None


class TokenCache:
    """At most ``capacity`` entries, oldest first; learning a token again makes it the newest."""

    def __init__(self, capacity: int) -> None:
        assert capacity > 0
        self._capacity = capacity
        self._entries: dict[str, CachedEntry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def learn(self, token: Token, entry: Entry, now: WallTime, *, in_local_list: bool = False) -> bool:
        """Take over the CSMS's word; False if there was nothing to keep. The entry takes the token's type."""
        if entry.status == CONCURRENT_TX:
            return False  # it is in use elsewhere just now, which says nothing of the token
        if in_local_list or token.token_type == NO_AUTHORIZATION or not token.id_token:
            return False
        key = fold(token.id_token)
        if max(map(len, (key, token.token_type, entry.status, entry.group or ""))) > MAX_TEXT_LENGTH:
            return False
        self._entries.pop(key, None)
        if len(self._entries) >= self._capacity:
            self._evict(now)
        learned_wall_ms = now.ms if now.trusted else None
        self._entries[key] = CachedEntry(replace(entry, token_type=token.token_type), learned_wall_ms)
        return True

    def lookup(self, token: Token, now: WallTime, life_time_s: int) -> Entry | None:
        """What is known of the token; None where nothing is, or only something older than
        ``life_time_s`` (0: entries do not age)."""
        cached = self._entries.get(fold(token.id_token))
        if cached is None or not cached.entry.fits(token):
            return None
        # An untrusted clock is a floor: what is too old by it is too old.
        age_ms = 0 if cached.learned_wall_ms is None else now.ms - cached.learned_wall_ms
        if life_time_s and age_ms > life_time_s * 1000:
            return None
        return cached.entry

    def forget(self, id_tokens: Iterable[str]) -> None:
        """Drop tokens that now stand in the local list."""
        for id_token in id_tokens:
            self._entries.pop(fold(id_token), None)

    def clear(self) -> None:
        self._entries.clear()

    def dump(self) -> list[dict[str, Any]]:
        """Plain data for disk, oldest first."""
        return [
            {
                "id": key,
                "type": cached.entry.token_type,
                "status": cached.entry.status,
                "group": cached.entry.group,
                "expires_wall_ms": cached.entry.expires_wall_ms,
                "learned_wall_ms": cached.learned_wall_ms,
            }
            for key, cached in self._entries.items()
        ]

    @classmethod
    def load(cls, capacity: int, rows: Iterable[Mapping[str, Any]]) -> TokenCache:
        """The reverse of ``dump``. Rows that are none of ours are left out, and the newest kept: a cache
        may always be lost, but must never stop a station."""
        cache = cls(capacity)
        for row in rows:
            cached = _row(row)
            if cached is None:
                continue
            cache._entries.pop(fold(row["id"]), None)
            cache._entries[fold(row["id"])] = cached
        for key in list(cache._entries)[:-capacity]:
            del cache._entries[key]
        return cache

    def _evict(self, now: WallTime) -> None:
        oldest = next(iter(self._entries))
        refused = (key for key, cached in self._entries.items() if cached.entry.status_at(now) != ACCEPTED)
        del self._entries[next(refused, oldest)]


def _row(row: Mapping[str, Any]) -> CachedEntry | None:
    texts = [row.get(name) for name in ("id", "type", "status")]
    group, expires, learned = (row.get(name) for name in ("group", "expires_wall_ms", "learned_wall_ms"))
    if not all(isinstance(each, str) for each in texts) or not (group is None or isinstance(group, str)):
        return None
    if not all(each is None or (isinstance(each, int) and not isinstance(each, bool)) for each in (expires, learned)):
        return None
    if not 0 < len(row["id"]) <= MAX_TEXT_LENGTH:
        return None
    return CachedEntry(Entry(row["status"], group, expires, row["type"]), learned)
