"""The authorization cache: what the CSMS last said of a token.

Charter: pure, bounded, immutable from outside (changes return what to persist). Rows: 16-AUTH-02, -05,
-08; OCPP 2.0.1 C10, C11, C12. Keys are case-insensitive and carry the token's type where it matters.
Wall times in ms (UTC).
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from agent.core.facts import Token

ACCEPTED = "Accepted"
EXPIRED = "Expired"


def token_key(token: Token) -> str:
    """The one form in which tokens are compared (16-AUTH-11, C01): without regard to case.

    The type is no part of it: 1.6 has none, and a card keeps its rights when the dialect changes."""
    return token.id_token.casefold()


@dataclass(frozen=True, slots=True)
class Entry:
    """``expires_ms``: from the CSMS; ``learned_ms``: when it was told."""

    status: str
    group: str | None
    expires_ms: int | None
    learned_ms: int

    def status_at(self, wall_ms: int, life_time_ms: int) -> str:
        """The status now: an accepted entry expires at its date, or when it is older than its life."""
        aged = life_time_ms > 0 and wall_ms >= self.learned_ms + life_time_ms
        late = self.expires_ms is not None and wall_ms >= self.expires_ms
        return EXPIRED if self.status == ACCEPTED and (aged or late) else self.status

    def to_text(self) -> str:
        return json.dumps([self.status, self.group, self.expires_ms, self.learned_ms])

    @classmethod
    def from_text(cls, text: str) -> Entry:
        """Raises ``ValueError`` for anything that ``to_text`` did not write."""
        match json.loads(text):
            case [str(status), group, expires_ms, int(learned_ms)] if _fits(group, expires_ms):
                return cls(status, group, expires_ms, learned_ms)
            case _:
                raise ValueError(f"no cache entry: {text[:60]!r}")


def _fits(group: object, expires_ms: object) -> bool:
    return (group is None or isinstance(group, str)) and (expires_ms is None or isinstance(expires_ms, int))


class Cache:
    """At most ``most`` entries; when full, those not accepted go first, then the oldest."""

    def __init__(self, most: int) -> None:
        assert most > 0
        self._most = most
        self._entries: dict[str, Entry] = {}

    def restore(self, stored: dict[str, str]) -> list[str]:
        """Take over what was stored; returns the keys that could not be read or did not fit."""
        bad: list[str] = []
        for key, text in stored.items():
            try:
                self._entries[key] = Entry.from_text(text)
            except ValueError:
                bad.append(key)
        return bad + self._evict()

    def learn(self, token: Token, entry: Entry) -> list[str]:
        """Keep what was said; returns the keys that had to go for it."""
        key = token_key(token)
        self._entries.pop(key, None)
        self._entries[key] = entry
        return self._evict(spare=key)

    def find(self, token: Token) -> Entry | None:
        return self._entries.get(token_key(token))

    def clear(self) -> None:
        self._entries.clear()

    def __len__(self) -> int:
        return len(self._entries)

    def _evict(self, spare: str | None = None) -> list[str]:
        gone: list[str] = []
        while len(self._entries) > self._most:
            key = min(
                (key for key in self._entries if key != spare),
                key=lambda k: (self._entries[k].status == ACCEPTED, self._entries[k].learned_ms),
            )
            del self._entries[key]
            gone.append(key)
        return gone
