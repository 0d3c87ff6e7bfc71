"""Logging in and out: secret, waits, sessions, and what the ledger is told of it.

Charter: joins ``secret``, ``attempts`` and ``sessions`` with the clock and the station's log of security events.
Failed logins are told at once, then at most once in ten minutes with their number: rows of the ledger are not for
strangers to make.

Source of the events' names: OCPP 2.0.1 appendix 1, security white paper for 1.6.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from agent.web import secret
from agent.web.attempts import Attempts
from agent.web.sessions import ABSOLUTE_S, Session, Sessions

_TOLD_AGAIN_S = 600.0

log = structlog.get_logger("web")


@dataclass(frozen=True, slots=True)
class LoginResult:
    """``session_id`` None: refused; then ``wait_s`` until the next try makes sense, ``why`` in plain words."""

    session_id: str | None
    wait_s: int = 0
    why: str = ""


class Login:
    """``tell`` notes a security event (type, text) with the station; it may fail, which keeps nobody out."""

    def __init__(
        self,
        file: Path | None,
        tell: Callable[[str, str], Awaitable[None]],
        *,
        secure: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._file = file
        self._tell = tell
        self._clock = clock
        self._attempts = Attempts()
        self._sessions = Sessions()
        self._one_at_a_time = asyncio.Lock()
        self._failures_untold = 0
        self._told_s = float("-inf")
        self.secure = secure
        self.cookie = "__Host-evsed" if secure else "evsed"

    @property
    def offered(self) -> bool:
        """Whether anybody can log in at all."""
        return self._file is not None

    async def enter(self, typed: str, address: str) -> LoginResult:
        """Somebody at ``address`` says that this is the secret."""
        if self._file is None:
            return LoginResult(None, 0, "No technician's secret is set for this charger.")
        if self._one_at_a_time.locked():
            return LoginResult(None, 1, "Somebody else is logging in, try again.")
        async with self._one_at_a_time:
            wait_s = self._attempts.wait_s(address, self._clock())
            if wait_s > 0:
                return LoginResult(None, int(wait_s) + 1, "Too many failed logins.")
            try:
                line = secret.read(self._file)
            except secret.SecretUnusable as error:
                log.error("nobody can log in", reason=str(error))
                return LoginResult(None, 0, "No technician's secret is set for this charger.")
            good = await asyncio.to_thread(secret.matches, line, typed)
        if not good:
            return await self._refuse(address)
        self._attempts.succeeded(address)
        log.info("technician logged in", address=address)
        await self._tell("MaintenanceLoginAccepted", f"local page, from {address}")
        return LoginResult(self._sessions.begin(self._clock()))

    async def _refuse(self, address: str) -> LoginResult:
        now_s = self._clock()
        self._attempts.failed(address, now_s)
        self._failures_untold += 1
        log.warning("login failed", address=address)
        if now_s - self._told_s >= _TOLD_AGAIN_S:
            text = f"local page, {self._failures_untold} failed, the last one from {address}"
            self._told_s, self._failures_untold = now_s, 0
            await self._tell("MaintenanceLoginFailed", text)
        wait_s = self._attempts.wait_s(address, now_s)
        return LoginResult(None, int(wait_s + 0.999), "That is not the secret.")

    def session(self, session_id: str | None) -> Session | None:
        """The session of a request's cookie; the request counts as use of it."""
        return self._sessions.find(session_id, self._clock())

    def lives(self, session: Session) -> bool:
        return self._sessions.lives(session, self._clock())

    def leave(self, session: Session) -> None:
        self._sessions.end(session)

    @property
    def cookie_max_age_s(self) -> int:
        return int(ABSOLUTE_S)
