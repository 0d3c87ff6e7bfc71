"""When two tokens are the same, and what is known of one.

Charter: the comparison rules of OCPP and the values that list, cache and CSMS answers have in common.
Token texts and groups are opaque and compare case-insensitively (16-AUTH-11, C01). OCPP 2.x compares
the type too; OCPP 1.6 knows no types, so what comes from a 1.6 CSMS carries ``UNTYPED``, which
matches any type.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.core.facts import Token

UNTYPED = ""
NO_AUTHORIZATION = "NoAuthorization"  # C02: start button or free charging; the text is empty
ACCEPTED = "Accepted"
CONCURRENT_TX = "ConcurrentTx"


@dataclass(frozen=True, slots=True)
class WallTime:
    """UTC in milliseconds since 1970. Untrusted (no clock fix since power-on): no more than a floor,
    the true time is not earlier."""

    ms: int
    trusted: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """What list, cache or CSMS say of a token. ``status`` is an OCPP 2.0.1 AuthorizationStatusEnumType
    (or any later one: everything but Accepted refuses). ``group`` is 1.6's parentIdTag."""

    status: str
    group: str | None = None
    expires_wall_ms: int | None = None
    token_type: str = UNTYPED

    def status_at(self, now: WallTime) -> str:
        """The status, with an accepted entry turned Expired once its time is surely over (16-AUTH-08)."""
        over = self.expires_wall_ms is not None and self.expires_wall_ms <= now.ms
        return "Expired" if self.status == ACCEPTED and over else self.status

    def fits(self, token: Token) -> bool:
        """Whether the entry speaks of a token of this type."""
        return types_match(self.token_type, token.token_type)


def fold(id_token: str) -> str:
    """A token's or group's text in the one spelling used for comparison."""
    return id_token.casefold()


def types_match(one: str, other: str) -> bool:
    return UNTYPED in (one, other) or one == other


def same_token(one: Token, other: Token) -> bool:
    """An empty text stands for "no token"; only two starts without authorization are the same."""
    if not one.id_token:
        return one == other == Token("", NO_AUTHORIZATION)
    return fold(one.id_token) == fold(other.id_token) and types_match(one.token_type, other.token_type)


def same_group(one: str | None, other: str | None) -> bool:
    """Two groups are the same only where both are known and not empty (16-AUTH-09)."""
    return bool(one) and bool(other) and fold(one or "") == fold(other or "")
