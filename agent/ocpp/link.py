"""The WebSocket link to the CSMS: connect, keep alive, reconnect, never give up.

Charter: owns the one connection and when to try again. Which endpoint to try is asked before each
attempt; what is said over the link is the conversation's business. Its failures are values with a kind, told
through ``on_state``; none of them ends ``run``.

The loop is our own: the library's reconnects without any delay after an established link drops, ends for
good at a 401, follows redirects and obeys proxy variables.

Units: seconds for waits (as configured in OCPP), milliseconds for the monotonic clock.
Sources: OCPP 1.6J section 3 and 5, OCPP 2.0.1 part 4 sections 3 and 5 (checklist WS-01 to WS-11, TLS-01).
"""

from __future__ import annotations

import asyncio
import enum
import logging
import random
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.typing import Subprotocol

from agent.ocpp.backoff import DEFAULT_BACKOFF, Backoff, BackoffSettings
from agent.ocpp.endpoint import Endpoint
from agent.ocpp.frames import MESSAGE_MAX_BYTES, Payload
from agent.ocpp.link_failure import FailureKind, LinkFailure, classify, why_closed
from agent.ocpp.session import NO_HOOKS, Hooks, Reply, Session, TransportClosed, monotonic_ms
from agent.ocpp.version import Version

PING_INTERVAL_S: Final = 60.0
PONG_TIMEOUT_S: Final = 20.0
CLOSE_TIMEOUT_S: Final = 3.0
PROVEN_AFTER_MS: Final = 60_000

log = structlog.get_logger("ocpp")

# The library logs headers and frames, passwords included, when its logger is at DEBUG: give it one that never is.
_library_log = logging.getLogger("ocpp.websocket")
_library_log.setLevel(logging.WARNING)


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


class Link:
    """The link of one station. Create in any order, then await ``run`` for ever; cancel it to stop.

    ``endpoint()`` is asked before each attempt; ``converse(version)`` at each connection, for the version
    the CSMS chose. What either of them or the conversation raises ends ``run``: it is no fault of the link.
    """

    def __init__(
        self,
        endpoint: Callable[[], Endpoint],
        converse: Callable[[Version], Conversation],
        *,
        on_state: Callable[[LinkState], None] = lambda _state: None,
        backoff: BackoffSettings = DEFAULT_BACKOFF,
        ping_interval_s: float = PING_INTERVAL_S,
        pong_timeout_s: float = PONG_TIMEOUT_S,
        hooks: Hooks = NO_HOOKS,
        validate_outgoing: bool = False,
        random_source: random.Random | None = None,
        clock_ms: Callable[[], int] = monotonic_ms,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._endpoint = endpoint
        self._converse = converse
        self._on_state = on_state
        self._backoff = Backoff(backoff, random_source or random.SystemRandom())
        self._hooks = hooks
        self._validate_outgoing = validate_outgoing
        self._clock_ms = clock_ms
        self._sleep = sleep
        self._pong_timeout_s = pong_timeout_s
        self._ping_interval_s = ping_interval_s
        self._ping_wake = asyncio.Event()
        self._ping_wanted = False
        self._ended: asyncio.Future[LinkFailure] | None = None  # of the attempt or link in progress
        self.state = LinkState(LinkPhase.STOPPED)

    # ---------------------------------------------------------------------------- while it runs

    def drop(self, reason: str) -> None:
        """Close the link, or the one being opened, and connect again after the usual wait, e.g. with new credentials.

        Without any effect while waiting: the next attempt uses the new settings anyway.
        """
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
                log.warning("link_down", kind=failure.kind, detail=failure.detail, wait_s=round(wait_s, 1))
                self._publish(LinkState(LinkPhase.WAITING, failure=failure, wait_s=wait_s))
                await self._sleep(wait_s)
        finally:
            self._publish(LinkState(LinkPhase.STOPPED))

    async def _attempt(self) -> LinkFailure:
        """Connect once and stay until the link ends."""
        self._ended = asyncio.get_running_loop().create_future()
        self._publish(LinkState(LinkPhase.CONNECTING))
        endpoint = self._endpoint()
        try:
            context = endpoint.tls.context() if endpoint.tls else None
        except OSError as error:
            return LinkFailure(FailureKind.TLS_FILES, f"certificate files: {error}")
        try:
            websocket = await _open(endpoint, context)
        except (OSError, WebSocketException, UnicodeError) as error:  # UnicodeError: a host name that cannot be one
            return classify(error)
        transport = _WebSocketTransport(websocket)
        try:
            return await self._live(websocket, transport, endpoint, self._ended)
        finally:
            await transport.close(1000, "")

    async def _live(
        self,
        websocket: ClientConnection,
        transport: _WebSocketTransport,
        endpoint: Endpoint,
        ended: asyncio.Future[LinkFailure],
    ) -> LinkFailure:
        version = next((offer for offer in endpoint.versions if offer.subprotocol == websocket.subprotocol), None)
        if version is None:
            return LinkFailure(FailureKind.NO_SUBPROTOCOL, "the CSMS chose no OCPP version")
        conversation = self._converse(version)
        session = Session(
            transport,
            version,
            conversation.handle,
            conversation.supported,
            message_timeout_s=endpoint.message_timeout_s,
            validate_outgoing=self._validate_outgoing,
            hooks=self._hooks,
            on_result=self._backoff.reset,  # WS-05: only now has the link proved itself
            on_timed_out=self._want_ping,
            clock_ms=self._clock_ms,
        )
        log.info("link_up", version=version, url=endpoint.connection_url)
        connected_ms = self._clock_ms()
        self._publish(LinkState(LinkPhase.CONNECTED, version))
        async with asyncio.TaskGroup() as tasks:
            children = [
                tasks.create_task(self._run_session(session)),
                tasks.create_task(self._keep_alive(websocket)),
                tasks.create_task(conversation.run(session)),
            ]
            failure = await ended
            for child in children:
                child.cancel()
        if self._clock_ms() - connected_ms >= PROVEN_AFTER_MS:  # WS-05, without a single answer
            self._backoff.reset()
        return failure

    def _end(self, failure: LinkFailure) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(failure)

    async def _run_session(self, session: Session) -> None:
        self._end(LinkFailure(FailureKind.CLOSED, await session.run()))

    def _publish(self, state: LinkState) -> None:
        self.state = state
        self._on_state(state)

    # ---------------------------------------------------------------------------------- keep alive

    def _want_ping(self) -> None:
        """A call got no answer: a ping tells a slow CSMS from a dead link (WS-07)."""
        self._ping_wanted = True
        self._ping_wake.set()

    async def _keep_alive(self, websocket: ClientConnection) -> None:
        self._ping_wanted = False
        while True:
            await self._ping_due()
            try:
                async with asyncio.timeout(self._pong_timeout_s):
                    await (await websocket.ping())
            except TimeoutError:
                self._end(LinkFailure(FailureKind.SILENT, f"no pong within {self._pong_timeout_s:g} s"))
                return
            except ConnectionClosed:
                return  # the session's reader sees it too and tells why

    async def _ping_due(self) -> None:
        """Wait one ping interval; a new interval starts the wait afresh."""
        while not self._ping_wanted:
            self._ping_wake.clear()
            try:
                async with asyncio.timeout(self._ping_interval_s or None):
                    await self._ping_wake.wait()
            except TimeoutError:
                return
        self._ping_wanted = False


# ------------------------------------------------------------------------------------ the library


class _DirectConnect(connect):
    """``connect`` that takes a redirect as the failure it is (WS-08)."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


async def _open(endpoint: Endpoint, context: ssl.SSLContext | None) -> ClientConnection:
    """One attempt with one object: all its settings are fixed when it is made."""
    return await _DirectConnect(
        endpoint.connection_url,
        subprotocols=[Subprotocol(version.subprotocol) for version in endpoint.versions],
        additional_headers=endpoint.headers,
        user_agent_header="evsed",
        compression=None,
        proxy=None,
        open_timeout=endpoint.open_timeout_s,
        ping_interval=None,
        close_timeout=CLOSE_TIMEOUT_S,
        max_size=MESSAGE_MAX_BYTES,
        max_queue=4,
        logger=_library_log,
        ssl=context,
    )


class _WebSocketTransport:
    """``session.Transport`` over one WebSocket."""

    def __init__(self, websocket: ClientConnection) -> None:
        self._websocket = websocket

    async def recv(self) -> bytes:
        try:
            return await self._websocket.recv(decode=False)  # so that bad UTF-8 is one bad message, not the end
        except ConnectionClosed as closed:
            raise TransportClosed(why_closed(closed)) from closed

    async def send(self, text: str) -> None:
        try:
            await self._websocket.send(text)
        except ConnectionClosed as closed:
            raise TransportClosed(why_closed(closed)) from closed

    async def close(self, code: int, reason: str) -> None:
        # The library's own limit does not cover a peer that does not read.
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT_S + 1):
                    await self._websocket.close(code, reason)
        finally:
            self._websocket.transport.abort()
