"""A link, a station that says nothing by itself, and a server on the loopback interface.

Waits between attempts are recorded, not slept.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.server import ServerConnection, serve

from agent.ocpp.backoff import BackoffSettings
from agent.ocpp.endpoint import Endpoint
from agent.ocpp.frames import Payload
from agent.ocpp.link import Link, LinkPhase, LinkState
from agent.ocpp.rpc import CallOutcome, Priority
from agent.ocpp.session import Session
from agent.ocpp.version import Version

DEADLINE_S = 10
ServerHandler = Callable[[ServerConnection], Awaitable[None]]


@dataclass
class Station:
    """The conversation of a station that says nothing by itself."""

    versions: list[Version] = field(default_factory=list)
    sessions: asyncio.Queue[Session] = field(default_factory=asyncio.Queue)
    handled: list[tuple[str, Payload]] = field(default_factory=list)
    supported: frozenset[str] = frozenset({"Reset", "ClearCache"})

    def of(self, version: Version) -> Station:
        self.versions.append(version)
        return self

    async def handle(self, action: str, payload: Payload) -> Payload:
        self.handled.append((action, payload))
        return {"status": "Accepted"}

    async def run(self, session: Session) -> None:
        self.sessions.put_nowait(session)


@dataclass
class Rig:
    link: Link
    station: Station
    states: list[LinkState]
    waits: list[float]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                await asyncio.sleep(0.005)

    async def failure(self, count: int = 1) -> LinkState:
        """The state after the ``count``-th failure."""
        await self.until(lambda: len(self.failures) >= count)
        return self.failures[count - 1]

    @property
    def failures(self) -> list[LinkState]:
        return [state for state in self.states if state.failure is not None]

    async def session(self) -> Session:
        async with asyncio.timeout(DEADLINE_S):
            return await self.station.sessions.get()


@asynccontextmanager
async def linked(endpoint: Endpoint | Callable[[], Endpoint], **options: Any) -> AsyncIterator[Rig]:
    station = Station()
    states: list[LinkState] = []
    waits: list[float] = []

    async def sleep(wait_s: float) -> None:
        waits.append(wait_s)
        await asyncio.sleep(0.01 if len(waits) < 20 else DEADLINE_S)

    link = Link(
        endpoint if callable(endpoint) else lambda: endpoint,
        station.of,
        on_state=states.append,
        backoff=BackoffSettings(10, 10, 5),
        random_source=random.Random(1),
        sleep=sleep,
        validate_outgoing=True,
        **options,
    )
    running = asyncio.create_task(link.run())
    try:
        yield Rig(link, station, states, waits)
    finally:
        running.cancel()
        await asyncio.wait([running])
        assert running.cancelled(), running.exception()
        assert link.state.phase is LinkPhase.STOPPED


@asynccontextmanager
async def server(handler: ServerHandler, **options: Any) -> AsyncIterator[str]:
    options.setdefault("subprotocols", ["ocpp2.0.1", "ocpp1.6"])
    async with serve(handler, "127.0.0.1", 0, compression=None, close_timeout=0.2, **options) as running:
        port = running.sockets[0].getsockname()[1]
        yield f"{'wss' if options.get('ssl') else 'ws'}://127.0.0.1:{port}"


async def idle(websocket: ServerConnection) -> None:
    await websocket.wait_closed()


def heartbeat(session: Session, timeout_s: float = 5) -> Awaitable[CallOutcome]:
    return session.call("Heartbeat", {}, priority=Priority.REPORT, timeout_s=timeout_s)
