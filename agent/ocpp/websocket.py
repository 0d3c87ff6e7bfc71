"""A WebSocket to the CSMS by the library, for the link.

Charter: one attempt, one connection, its failures as values. When to try again is the link's: the library's own
loop reconnects without any delay after an established link drops, ends for good at a 401, follows redirects and
obeys proxy variables, so none of that is used.

Sources: OCPP 1.6J section 3 and 5, OCPP 2.0.1 part 4 sections 3 and 5 (checklist WS-01 to WS-11, TLS-01).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import ssl
import sys
from contextlib import suppress
from typing import Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.typing import Subprotocol

from agent.ocpp.endpoint import Endpoint
from agent.ocpp.frames import MESSAGE_MAX_BYTES
from agent.ocpp.link_failure import FailureKind, LinkFailure, NotConnected, classify, code_of_peer, why_closed
from agent.ocpp.session import TransportClosed

_DER: Final = 2  # _ssl.ENCODING_DER
CLOSE_TIMEOUT_S: Final = 3.0
CLOSE_NORMAL: Final = 1000
CLOSE_ABNORMAL: Final = 1006  # never sent: the connection just ends (RFC 6455 7.4.1)

# The library logs headers and frames, passwords included, when its logger is at DEBUG: give it one that never is.
_library_log = logging.getLogger("ocpp.websocket")
_library_log.setLevel(logging.WARNING)


class _DirectConnect(connect):
    """``connect`` that takes a redirect as the failure it is (WS-08)."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


async def open_websocket(endpoint: Endpoint) -> WebSocket:
    """One attempt. Raises ``NotConnected``."""
    try:
        context = endpoint.tls.context() if endpoint.tls else None
    except OSError as error:
        raise NotConnected(LinkFailure(FailureKind.TLS_FILES, f"certificate files: {error}")) from error
    try:
        return WebSocket(await _connect(endpoint, context))
    except (OSError, WebSocketException, UnicodeError) as error:  # UnicodeError: a host name that cannot be one
        raise NotConnected(classify(error)) from error


async def _connect(endpoint: Endpoint, context: ssl.SSLContext | None) -> ClientConnection:
    """With one object: all its settings are fixed when it is made."""
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


class WebSocket:
    """``link.Connection`` over one WebSocket of the library."""

    def __init__(self, websocket: ClientConnection) -> None:
        self._websocket = websocket

    @property
    def subprotocol(self) -> str | None:
        return self._websocket.subprotocol

    @property
    def root(self) -> str:
        """See ``link.Connection``."""
        tls: ssl.SSLObject | None = self._websocket.transport.get_extra_info("ssl_object")
        if tls is None:
            return ""
        if sys.version_info >= (3, 13):
            chain = tls.get_verified_chain()
        else:  # there all along, made public in 3.13
            chain = [each.public_bytes(_DER) for each in tls._sslobj.get_verified_chain()]  # type: ignore[attr-defined]
        return hashlib.sha256(chain[-1]).hexdigest()

    async def ping(self) -> None:
        try:
            await (await self._websocket.ping())
        except ConnectionClosed as closed:
            raise TransportClosed(why_closed(closed), code_of_peer(closed)) from closed

    async def recv(self) -> bytes:
        try:
            return await self._websocket.recv(decode=False)  # so that bad UTF-8 is one bad message, not the end
        except ConnectionClosed as closed:
            raise TransportClosed(why_closed(closed), code_of_peer(closed)) from closed

    async def send(self, text: str) -> None:
        try:
            await self._websocket.send(text)
        except ConnectionClosed as closed:
            raise TransportClosed(why_closed(closed), code_of_peer(closed)) from closed

    async def close(self, code: int, reason: str) -> None:
        # The library's own limit does not cover a peer that does not read.
        try:
            if code != CLOSE_ABNORMAL:
                with suppress(TimeoutError):
                    async with asyncio.timeout(CLOSE_TIMEOUT_S + 1):
                        await self._websocket.close(code, reason)
        finally:
            self._websocket.transport.abort()
