"""Who is logged in: sessions with two ends, and the token that each form of theirs must carry.

Charter: pure; times come from the caller (monotonic seconds). A session ends after ``IDLE_S`` without a request,
after ``ABSOLUTE_S`` in any case, by logging out, or when ``SESSIONS_MAX`` newer ones are there. Ids are random;
only their hashes are kept, so that they cannot be read out of this process's memory by looking for a cookie's shape.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass

IDLE_S = 15 * 60.0
ABSOLUTE_S = 8 * 3_600.0
SESSIONS_MAX = 8
_ID_CHARS_MAX = 100


@dataclass(slots=True)
class Session:
    """One login. ``form_token`` guards its forms against requests that another site makes in its name (CSRF)."""

    key: bytes
    form_token: str
    began_s: float
    used_s: float

    def lives(self, now_s: float) -> bool:
        return now_s - self.used_s < IDLE_S and now_s - self.began_s < ABSOLUTE_S

    def owns(self, form_token: str) -> bool:
        return hmac.compare_digest(self.form_token.encode(), form_token.encode())


class Sessions:
    """All sessions of this process; they end with it."""

    def __init__(self) -> None:
        self._sessions: dict[bytes, Session] = {}

    def begin(self, now_s: float) -> str:
        """A new session; returns its id, which is told to nobody but the browser."""
        self._forget(now_s)
        while len(self._sessions) >= SESSIONS_MAX:
            del self._sessions[next(iter(self._sessions))]
        session_id = secrets.token_urlsafe(32)
        key = _key(session_id)
        self._sessions[key] = Session(key, secrets.token_urlsafe(32), now_s, now_s)
        return session_id

    def find(self, session_id: str | None, now_s: float) -> Session | None:
        """The living session of this id, which is thereby used."""
        if session_id is None or len(session_id) > _ID_CHARS_MAX:
            return None
        session = self._sessions.get(_key(session_id))
        if session is None or not self.lives(session, now_s):
            return None
        session.used_s = now_s
        return session

    def lives(self, session: Session, now_s: float) -> bool:
        """Whether it still stands; a stream that only listens does not use it."""
        return self._sessions.get(session.key) is session and session.lives(now_s)

    def end(self, session: Session) -> None:
        self._sessions.pop(session.key, None)

    def _forget(self, now_s: float) -> None:
        for key in [key for key, session in self._sessions.items() if not session.lives(now_s)]:
            del self._sessions[key]


def _key(session_id: str) -> bytes:
    return hashlib.sha256(session_id.encode(errors="replace")).digest()
