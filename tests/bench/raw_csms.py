"""A CSMS that costs next to nothing: JSON and fixed answers, no schemas, no book.

Charter: the far end of every measurement, stamping each CALL as it comes off the socket. It believes
all it is told; whether the frames are right is the business of the tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

OnCall = Callable[[str, dict[str, Any], int], None]
"""Action, payload, monotonic ns of its arrival."""

_ACCEPTED = {"status": "Accepted"}


class RawCsms:
    """One CSMS on a loopback port for one station. ``results`` and ``errors`` count its answers to us;
    ``unanswered`` our calls on this connection that have none yet."""

    def __init__(self, version: str, on_call: OnCall = lambda _action, _payload, _at_ns: None) -> None:
        self.version = version
        self.on_call = on_call
        self.connected = asyncio.Event()
        self.results = 0
        self.errors = 0
        self.unanswered = 0
        self._server: Server | None = None
        self._connection: ServerConnection | None = None
        self._ids = itertools.count(1)
        self._transaction_ids = itertools.count(1)

    async def start(self) -> str:
        """Listen; returns the URL for the station's configuration."""
        subprotocol: Any = f"ocpp{self.version}"
        self._server = await serve(
            self._serve, "127.0.0.1", 0, subprotocols=[subprotocol], compression=None, ping_interval=None
        )
        port = next(iter(self._server.sockets)).getsockname()[1]
        return f"ws://127.0.0.1:{port}/ocpp"

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def call(self, action: str, payload: dict[str, Any]) -> None:
        """Send a CALL and do not wait for its answer. Raises ``ConnectionError`` without a link."""
        if self._connection is None:
            raise ConnectionError("the station is not connected")
        self.unanswered += 1
        await self._connection.send(json.dumps([2, f"bench-{next(self._ids)}", action, payload]))

    async def _serve(self, connection: ServerConnection) -> None:
        self._connection = connection
        self.unanswered = 0
        self.connected.set()
        with contextlib.suppress(ConnectionClosed):
            while True:
                text = await connection.recv()
                at_ns = time.monotonic_ns()
                message = json.loads(text)
                if message[0] == 2:
                    self.on_call(message[2], message[3], at_ns)
                    await connection.send(json.dumps([3, message[1], self._answer(message[2], message[3])]))
                else:
                    self.unanswered -= 1
                    self.results += message[0] == 3
                    self.errors += message[0] == 4
        self.connected.clear()
        self._connection = None

    def _answer(self, action: str, payload: dict[str, Any]) -> dict[str, Any]:
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        match action:
            case "BootNotification":
                return {"currentTime": now, "interval": 300, **_ACCEPTED}
            case "Heartbeat":
                return {"currentTime": now}
            case "Authorize":
                return {"idTagInfo": _ACCEPTED} if self.version == "1.6" else {"idTokenInfo": _ACCEPTED}
            case "StartTransaction":
                return {"transactionId": next(self._transaction_ids), "idTagInfo": _ACCEPTED}
            case "TransactionEvent" if "idToken" in payload:
                return {"idTokenInfo": _ACCEPTED}
        return {}
