"""The listening socket of the local page, with limits that hold before a byte is parsed.

Charter: accepts connections for uvicorn's HTTP protocol and bounds them: how many, how many of one address, how long a
request may take to arrive, how long a client may leave an answer unread. uvicorn's own server is not used: it has no
such limits, and signals of its own. Nothing here knows pages.

Sizes: a browser opens six connections; 48 of them are the file descriptors and the memory that a hostile network can
take from the CSMS link.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from typing import Any

import h11
import structlog
from starlette.types import ASGIApp
from uvicorn.config import Config as UvicornConfig
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from agent.config.web import WebConfig
from agent.web.guard import HEAD_MAX_BYTES

CONNECTIONS_MAX = 48
ADDRESS_MAX = 24
REQUEST_S = 10.0  # for all of a request to arrive
UNREAD_S = 20.0  # an answer that nobody reads
_HANDSHAKE_S = 10.0
_KEEP_S = 5
_BACKLOG = 32
_NO_ROOM_S = 1.0
_UNHEARD_MS = 20_000

log = structlog.get_logger("web")


class LimitedProtocol(H11Protocol):
    """HTTP/1.1 that does not wait for slow clients."""

    def __init__(self, config: UvicornConfig, state: ServerState, on_lost: Callable[[], None]) -> None:
        super().__init__(config, state, {})
        self.was_made = False
        self._on_lost = on_lost
        self._arriving: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.was_made = True
        self._arriving = self.loop.call_later(REQUEST_S, transport.abort)

    def data_received(self, data: bytes) -> None:
        if self._arriving is None and self._wants_more():
            self._arriving = self.loop.call_later(REQUEST_S, self.transport.abort)
        super().data_received(data)
        if self._arriving is not None and not self._wants_more():
            self._arriving.cancel()
            self._arriving = None

    def _wants_more(self) -> bool:
        return self.conn.their_state in (h11.IDLE, h11.SEND_BODY)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self.loop.call_later(UNREAD_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._arriving, self._unread):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)
        self._on_lost()


class Server:
    """Serves one application at one address until it is cancelled."""

    def __init__(self, app: ASGIApp, web: WebConfig) -> None:
        self._web = web
        self._open: Counter[str] = Counter()
        self._state = ServerState()
        self._config = UvicornConfig(
            app,
            http="h11",
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level="critical",  # what strangers send is no news; errors of ours are told by the guard
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=_KEEP_S,
            h11_max_incomplete_event_size=HEAD_MAX_BYTES,
        )
        self._config.load()

    def bind(self) -> socket.socket:
        """The listening socket. Raises ``OSError``."""
        family = socket.AF_INET6 if ":" in self._web.address else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((self._web.address, self._web.port))
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            raise
        return listener

    def tls(self) -> ssl.SSLContext | None:
        """Raises ``OSError`` (``ssl.SSLError`` is one) where certificate or key are no good."""
        if self._web.certificate_file is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._web.certificate_file, self._web.key_file)
        return context

    async def run(self, listener: socket.socket, tls: ssl.SSLContext | None) -> None:
        """For ever."""
        loop, welcoming = asyncio.get_running_loop(), set[asyncio.Task[None]]()
        try:
            while True:
                try:
                    connection, peer = await loop.sock_accept(listener)
                except OSError as error:  # no file descriptor left: others need them, too
                    log.warning("page takes no connection", reason=str(error))
                    await asyncio.sleep(_NO_ROOM_S)
                    continue
                address = str(peer[0])
                if self._open.total() >= CONNECTIONS_MAX or self._open[address] >= ADDRESS_MAX:
                    connection.close()
                    continue
                self._open[address] += 1
                task = loop.create_task(self._welcome(connection, address, tls))
                welcoming.add(task)
                task.add_done_callback(welcoming.discard)
        finally:
            listener.close()
            for each in list(self._state.connections):
                each.transport.abort()
            tasks = [*welcoming, *self._state.tasks]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _welcome(self, connection: socket.socket, address: str, tls: ssl.SSLContext | None) -> None:
        def lost() -> None:
            self._open[address] -= 1
            if not self._open[address]:
                del self._open[address]

        protocol = LimitedProtocol(self._config, self._state, lost)
        options: dict[str, Any] = {} if tls is None else {"ssl": tls, "ssl_handshake_timeout": _HANDSHAKE_S}
        try:
            # Who left without a word is noticed by what he does not acknowledge, sooner than by the kernel (15 min).
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNHEARD_MS)
            await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, connection, **options)
        except OSError as error:
            log.debug("no TLS with this client", address=address, reason=str(error))
        finally:
            if not protocol.was_made:
                connection.close()
                lost()
