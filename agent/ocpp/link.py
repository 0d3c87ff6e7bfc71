"""The WebSocket link to the CSMS: connect, keep alive, reconnect, never give up.

Charter: owns the one connection and when to try again. Which endpoint to try is asked before each
attempt; what is said over the link is the conversation's business. Its failures are values with a kind, told
through ``on_state``; none of them ends ``run``. How a connection is made is ``websocket``'s.

Units: seconds for waits (as configured in OCPP), milliseconds for the monotonic clock.
Sources: OCPP 1.6J section 3 and 5, OCPP 2.0.1 part 4 sections 3 and 5 (checklist WS-01 to WS-11, TLS-01).
"""

from __future__ import annotations

import asyncio
import enum
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import Final, Protocol

import structlog

from agent.ocpp.backoff import DEFAULT_BACKOFF, Backoff, BackoffSettings
from agent.ocpp.endpoint import Endpoint
from agent.ocpp.frames import Payload
from agent.ocpp.link_failure import FailureKind, LinkFailure, NotConnected
from agent.ocpp.session import NO_HOOKS, Hooks, Reply, Session, Transport, TransportClosed, monotonic_ms, new_uuid
from agent.ocpp.version import Version
from agent.ocpp.waiting import happens
from agent.ocpp.websocket import CLOSE_ABNORMAL, CLOSE_NORMAL, open_websocket

PING_INTERVAL_S: Final = 60.0
PONG_TIMEOUT_S: Final = 20.0
PONG_TIMEOUT_MIN_S: Final = 1.0
SETTLE_S: Final = 5.0
PROVEN_AFTER_MS: Final = 60_000
UNANSWERED_CALLS: Final = 5
UNANSWERED_FOR_MS: Final = 600_000
"""So many calls in a row without an answer, the first so long ago, and nothing came but pongs: the CSMS behind them is
dead, and the next connection may reach one that lives (field fault 7)."""
_FAILURES: Final = count(1)
"""Numbers the lines of this process, also of a new link after a start of the station: the log drops lines that are the
same."""

log = structlog.get_logger("ocpp")


class LinkPhase(enum.StrEnum):
    """Where the link is in its life."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    WAITING = "waiting"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class LinkState:
    """``version`` is set while connected; ``failure`` and ``wait_s`` while waiting for the next attempt."""

    phase: LinkPhase
    version: Version | None = None
    failure: LinkFailure | None = None
    wait_s: float = 0.0


class Conversation(Protocol):
    """What one OCPP version has to say and to answer; ``dialect.Dialect`` is one."""

    @property
    def supported(self) -> frozenset[str]:
        """The actions ``handle`` takes; others are refused before it (NotImplemented, NotSupported)."""

    async def handle(self, action: str, payload: Payload) -> Payload | Reply:
        """Answer a call of the CSMS, or raise ``RpcError``."""

    async def run(self, session: Session) -> None:
        """Converse over this connection. Cancelled when the link ends; the link stays when it returns."""


class Connection(Transport, Protocol):
    """A WebSocket: messages both ways, and its own sign of life. ``close`` with ``CLOSE_ABNORMAL`` waits for nobody."""

    @property
    def subprotocol(self) -> str | None:
        """What the CSMS chose."""

    @property
    def root(self) -> str:
        """SHA-256 (hex, of the DER form) of the root that the CSMS's certificate rests on; empty without TLS."""

    async def ping(self) -> None:
        """Send a ping and wait for its pong. Raises ``TransportClosed``."""


class Link:
    """The link of one station. Create in any order, then await ``run`` for ever; cancel it to stop.

    ``endpoint()`` is asked before each attempt; ``open`` then connects, or raises ``NotConnected``;
    ``converse(version)`` is asked at each connection, for the version the CSMS chose; ``on_heard()`` is called for each
    good answer of the CSMS and each call that the conversation takes. A ``ValueError`` of ``endpoint`` or ``open`` is
    a failed attempt too: a profile that makes no endpoint is data, and there may be others. What else any of them or
    the conversation raises ends ``run``: it is no fault of the link.
    """

    def __init__(
        self,
        endpoint: Callable[[], Endpoint],
        converse: Callable[[Version], Conversation],
        *,
        on_state: Callable[[LinkState], None] = lambda _state: None,
        on_heard: Callable[[], None] = lambda: None,
        backoff: BackoffSettings = DEFAULT_BACKOFF,
        ping_interval_s: float = PING_INTERVAL_S,
        pong_timeout_s: float = PONG_TIMEOUT_S,
        hooks: Hooks = NO_HOOKS,
        validate_outgoing: bool = False,
        open: Callable[[Endpoint], Awaitable[Connection]] = open_websocket,
        random_source: random.Random | None = None,
        clock_ms: Callable[[], int] = monotonic_ms,
        new_id: Callable[[], str] = new_uuid,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._endpoint = endpoint
        self._converse = converse
        self._on_state = on_state
        self._on_heard = on_heard
        self._backoff = Backoff(backoff, random_source or random.SystemRandom())
        self._hooks = hooks
        self._validate_outgoing = validate_outgoing
        self._open = open
        self._clock_ms = clock_ms
        self._new_id = new_id
        self._sleep = sleep
        self._pong_timeout_s = pong_timeout_s
        self._ping_interval_s = ping_interval_s
        self._ping_wake = asyncio.Event()
        self._ping_wanted = False
        self._unanswered_since_ms = 0
        self._ended: asyncio.Future[LinkFailure] | None = None  # of the attempt or link in progress
        self._drop_wanted = asyncio.Event()
        self._drop_reason = ""
        self.state = LinkState(LinkPhase.STOPPED)

    # ---------------------------------------------------------------------------- while it runs

    def drop(self, reason: str) -> None:
        """Close the link, or the one being opened, and connect again after the usual wait, e.g. with new credentials.

        What the CSMS has asked is answered before, in particular the call that set them (A01). Without any effect
        while waiting: the next attempt uses the new settings anyway.
        """
        self._drop_reason = reason
        self._drop_wanted.set()
        if self.state.phase is LinkPhase.CONNECTING:
            self._end(LinkFailure(FailureKind.DROPPED, reason))

    def set_ping_interval(self, interval_s: float) -> None:
        """WebSocketPingInterval, effective at once; 0 = no pings (WS-06). Raises ``ValueError`` below 0."""
        if interval_s < 0:
            raise ValueError("WebSocketPingInterval must not be negative")
        self._ping_interval_s = interval_s
        self._ping_wake.set()

    def set_backoff(self, settings: BackoffSettings) -> None:
        """New RetryBackOff variables, effective from the next wait."""
        self._backoff.settings = settings

    # ---------------------------------------------------------------------------------- the loop

    async def run(self) -> None:
        """Keep the link up until cancelled."""
        try:
            while True:
                failure = await self._attempt()
                wait_s = max(self._backoff.next_wait_s(), failure.retry_after_s)
                log.warning(
                    "link_down",
                    kind=failure.kind,
                    detail=failure.detail,
                    wait_s=round(wait_s, 1),
                    failures=next(_FAILURES),
                )
                self._publish(LinkState(LinkPhase.WAITING, failure=failure, wait_s=wait_s))
                await self._sleep(wait_s)
        finally:
            self._publish(LinkState(LinkPhase.STOPPED))

    async def _attempt(self) -> LinkFailure:
        """Connect once and stay until the link ends."""
        self._ended = asyncio.get_running_loop().create_future()
        self._publish(LinkState(LinkPhase.CONNECTING))
        try:
            endpoint = self._endpoint()
            connection = await self._open(endpoint)
        except NotConnected as error:
            return error.failure
        except ValueError as error:
            return LinkFailure(FailureKind.NO_ENDPOINT, str(error))
        code = CLOSE_NORMAL
        try:
            failure = await self._live(connection, endpoint, self._ended)
            if failure.kind is FailureKind.SILENT:
                code = CLOSE_ABNORMAL  # nobody is there to say goodbye to
            return failure
        finally:
            await connection.close(code, "")

    async def _live(
        self,
        connection: Connection,
        endpoint: Endpoint,
        ended: asyncio.Future[LinkFailure],
    ) -> LinkFailure:
        version = next((offer for offer in endpoint.versions if offer.subprotocol == connection.subprotocol), None)
        if version is None:
            return LinkFailure(FailureKind.NO_SUBPROTOCOL, "the CSMS chose no OCPP version")
        conversation = self._converse(version)

        async def handle(action: str, payload: Payload) -> Payload | Reply:
            self._on_heard()
            return await conversation.handle(action, payload)

        session = Session(
            connection,
            version,
            handle,
            conversation.supported,
            message_timeout_s=endpoint.message_timeout_s,
            validate_outgoing=self._validate_outgoing,
            hooks=self._hooks,
            on_result=self._answered,
            on_timed_out=lambda: self._timed_out(session.counters.unanswered_calls),
            clock_ms=self._clock_ms,
            new_id=self._new_id,
        )
        log.info("link_up", version=version, url=endpoint.connection_url)
        connected_ms = self._clock_ms()
        self._drop_wanted.clear()
        self._publish(LinkState(LinkPhase.CONNECTED, version))
        async with asyncio.TaskGroup() as tasks:
            children = [
                tasks.create_task(self._run_session(session)),
                tasks.create_task(self._keep_alive(connection, session)),
                tasks.create_task(self._drop_when_settled(session)),
                tasks.create_task(conversation.run(session)),
            ]
            failure = await ended
            for child in children:
                child.cancel()
        if self._clock_ms() - connected_ms >= PROVEN_AFTER_MS and not session.counters.unanswered_calls:
            self._backoff.reset()  # WS-05, without a single answer, but it did not owe one
        return failure

    def _answered(self) -> None:
        self._backoff.reset()  # WS-05: only now has the link proved itself
        self._on_heard()

    async def _drop_when_settled(self, session: Session) -> None:
        await self._drop_wanted.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_S):
                await session.settled()
        self._end(LinkFailure(FailureKind.DROPPED, self._drop_reason))

    def _end(self, failure: LinkFailure) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(failure)

    async def _run_session(self, session: Session) -> None:
        self._end(LinkFailure(FailureKind.CLOSED, await session.run()))

    def _publish(self, state: LinkState) -> None:
        self.state = state
        self._on_state(state)

    # ---------------------------------------------------------------------------------- keep alive

    def _timed_out(self, in_a_row: int) -> None:
        """A call got no answer: a ping tells a slow CSMS from a dead link (WS-07), patience from a dead one."""
        if in_a_row == 1:
            self._unanswered_since_ms = self._clock_ms()
        if in_a_row >= UNANSWERED_CALLS and self._clock_ms() - self._unanswered_since_ms >= UNANSWERED_FOR_MS:
            self._end(LinkFailure(FailureKind.SILENT, "answers nothing, though it pongs"))
        self._ping_wanted = True
        self._ping_wake.set()

    async def _keep_alive(self, connection: Connection, session: Session) -> None:
        self._ping_wanted = False
        while True:
            await self._ping_due()
            timeout_s = self._pong_wait_s()
            try:
                async with asyncio.timeout(timeout_s):
                    await connection.ping()
            except TimeoutError:
                failure = LinkFailure(FailureKind.SILENT, f"no pong within {timeout_s:g} s")
                session.lose(failure.detail)  # not cancelled: it may be the message under way that silenced the link
                self._end(failure)
                return
            except TransportClosed:
                return  # the session's reader sees it too and tells why

    def _pong_wait_s(self) -> float:
        """Not longer than an interval, so that a dead link is found within two (field fault 7)."""
        if self._ping_interval_s == 0:
            return self._pong_timeout_s
        return min(self._pong_timeout_s, max(PONG_TIMEOUT_MIN_S, self._ping_interval_s))

    async def _ping_due(self) -> None:
        """Wait one ping interval; a new interval starts the wait afresh."""
        while not self._ping_wanted:
            self._ping_wake.clear()
            if not await happens(self._ping_wake, self._ping_interval_s or None):
                return
        self._ping_wanted = False
