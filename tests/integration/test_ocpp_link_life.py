"""The life of a link over real WebSockets: back-off, keep-alive, reconnect on demand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosedError
from websockets.frames import Close

from agent.ocpp.endpoint import Endpoint
from agent.ocpp.frames import MESSAGE_MAX_BYTES
from agent.ocpp.link import Link, LinkPhase
from agent.ocpp.link_failure import FailureKind, code_of_peer, why_closed
from agent.ocpp.rpc import CallResult, LinkLost, TimedOut
from agent.ocpp.session import Session
from tests.integration.ocpp_link_rig import DEADLINE_S, Station, heartbeat, idle, linked, server

pytestmark = pytest.mark.wire


def test_ws_04_ws_05_a_server_that_accepts_and_drops_is_not_hammered() -> None:
    async def drop(websocket: ServerConnection) -> None:
        await websocket.close(1000)

    async def main() -> None:
        async with server(drop) as url, linked(Endpoint(url, "CP1")) as rig:
            await rig.failure(7)
            assert 10 <= rig.waits[0] <= 20
            for earlier, later in pairwise(rig.waits[:6]):
                assert 2 * earlier <= later <= 2 * earlier + 10
            assert rig.waits[6] == rig.waits[5]
            assert {state.failure.kind for state in rig.failures if state.failure} == {FailureKind.CLOSED}

    asyncio.run(main())


def test_ws_05_a_first_good_answer_resets_the_back_off() -> None:
    links = 0

    async def csms(websocket: ServerConnection) -> None:
        nonlocal links
        links += 1
        if links == 4:
            message_id = json.loads(await websocket.recv())[1]
            await websocket.send(json.dumps([3, message_id, {"currentTime": "2026-01-01T00:00:00Z"}]))
        await websocket.close(1000)

    async def main() -> None:
        async with server(csms, subprotocols=["ocpp1.6"]) as url, linked(Endpoint(url, "CP1")) as rig:
            for _ in range(3):
                await rig.session()
            outcome = await heartbeat(await rig.session())
            assert isinstance(outcome, CallResult)
            await rig.failure(4)
            assert rig.waits[2] > 40
            assert 10 <= rig.waits[3] <= 20

    asyncio.run(main())


def test_ws_05_a_minute_of_life_resets_the_back_off() -> None:
    now = [0]

    async def csms(websocket: ServerConnection) -> None:
        await websocket.recv()
        await websocket.close(1000)

    async def main() -> None:
        async with server(csms) as url, linked(Endpoint(url, "CP1"), clock_ms=lambda: now[0]) as rig:
            for lived_ms in (0, 59_999, 60_000):
                session = await rig.session()
                now[0] += lived_ms
                assert isinstance(await heartbeat(session), LinkLost)
            await rig.failure(3)
            assert rig.waits[1] >= 20
            assert 10 <= rig.waits[2] <= 20

    asyncio.run(main())


@pytest.mark.parametrize("code", [1000, 1009, 1011])
def test_a_call_that_ended_the_link_is_told_with_which_code_the_csms_closed(code: int) -> None:
    async def csms(websocket: ServerConnection) -> None:
        await websocket.recv()
        await websocket.close(code)

    async def main() -> None:
        async with server(csms) as url, linked(Endpoint(url, "CP1")) as rig:
            outcome = await heartbeat(await rig.session())
            assert isinstance(outcome, LinkLost)
            assert (outcome.code, outcome.sent) == (code, True)

    asyncio.run(main())


def test_a_code_that_the_csms_only_echoes_is_not_its_own() -> None:
    """We close with 1009, since its message is too big for us."""

    async def csms(websocket: ServerConnection) -> None:
        await websocket.recv()
        await websocket.send(" " * (MESSAGE_MAX_BYTES + 1))
        await websocket.wait_closed()

    async def main() -> None:
        async with server(csms) as url, linked(Endpoint(url, "CP1")) as rig:
            outcome = await heartbeat(await rig.session())
            assert isinstance(outcome, LinkLost)
            assert (outcome.code, outcome.sent) == (None, True)
            assert outcome.reason.startswith("closed by the station: 1009")

    asyncio.run(main())


@pytest.mark.parametrize(
    ("received", "sent", "received_first", "code"),
    [(1009, 1009, True, 1009), (1009, None, None, 1009), (1009, 1009, False, None), (None, 1009, None, None)],
)
def test_only_who_closes_first_says_why(
    received: int | None, sent: int | None, received_first: bool | None, code: int | None
) -> None:
    theirs, ours = (None if each is None else Close(each, "") for each in (received, sent))
    closed = ConnectionClosedError(theirs, ours, received_first)
    assert code_of_peer(closed) == code
    assert why_closed(closed) == f"closed by the {'station' if code is None else 'CSMS'}: 1009"


# ------------------------------------------------------------------------------------- keep alive


@asynccontextmanager
async def deaf_server() -> AsyncIterator[tuple[str, list[ServerConnection]]]:
    """Completes the handshake, then neither reads nor answers: a half-open link as the station sees it."""
    connections: list[ServerConnection] = []

    async def deaf(websocket: ServerConnection) -> None:
        websocket.transport.pause_reading()
        connections.append(websocket)
        await websocket.wait_closed()

    async with server(deaf) as url:
        yield url, connections
        for websocket in connections:
            websocket.transport.abort()


def test_ws_06_ws_07_a_half_open_link_is_found_by_ping() -> None:
    async def main() -> None:
        async with deaf_server() as (url, connections):
            options = {"ping_interval_s": 0.05, "pong_timeout_s": 0.05}
            async with linked(Endpoint(url, "CP1"), **options) as rig:
                pending = heartbeat(await rig.session())
                assert isinstance(await pending, LinkLost)
                for websocket in connections:
                    websocket.transport.abort()
                state = await rig.failure()
                assert state.failure is not None and state.failure.kind is FailureKind.SILENT

    asyncio.run(main())


def test_ws_07_a_call_without_answer_makes_the_link_prove_itself() -> None:
    """Pings are off: only the timed-out call can start this one."""

    async def main() -> None:
        async with (
            deaf_server() as (url, connections),
            linked(Endpoint(url, "CP1"), ping_interval_s=0, pong_timeout_s=0.05) as rig,
        ):
            assert await heartbeat(await rig.session(), timeout_s=0.05) == TimedOut()
            await asyncio.sleep(0.1)
            for websocket in connections:
                websocket.transport.abort()
            state = await rig.failure()
            assert state.failure is not None and state.failure.kind is FailureKind.SILENT

    asyncio.run(main())


def test_ws_06_the_ping_interval_changes_at_run_time() -> None:
    pings = 0

    async def main() -> None:
        nonlocal pings

        async def csms(websocket: ServerConnection) -> None:
            received = websocket.protocol.recv_frame

            def counted(frame: Any) -> None:
                nonlocal pings
                pings += frame.opcode == 9
                received(frame)

            websocket.protocol.recv_frame = counted  # type: ignore[method-assign]
            await websocket.wait_closed()

        async with server(csms) as url, linked(Endpoint(url, "CP1"), ping_interval_s=0) as rig:
            await rig.session()
            await asyncio.sleep(0.05)
            assert pings == 0
            rig.link.set_ping_interval(0.02)
            await rig.until(lambda: pings >= 3)
            rig.link.set_ping_interval(0)
            await asyncio.sleep(0.03)
            so_far = pings
            await asyncio.sleep(0.1)
            assert pings == so_far
            assert rig.failures == []
            with pytest.raises(ValueError, match="negative"):
                rig.link.set_ping_interval(-1)

    asyncio.run(main())


def test_drop_closes_the_link_and_connects_again() -> None:
    async def main() -> None:
        async with server(idle) as url, linked(Endpoint(url, "CP1")) as rig:
            rig.link.drop("nothing to drop yet")
            await rig.session()
            await rig.until(lambda: rig.link.state.phase is LinkPhase.CONNECTED)
            count = len(rig.failures)
            rig.link.drop("new certificate")
            state = await rig.failure(count + 1)
            assert state.failure is not None
            assert (state.failure.kind, state.failure.detail) == (FailureKind.DROPPED, "new certificate")
            await rig.session()

    asyncio.run(main())


def test_a_fault_of_the_conversation_is_not_hidden() -> None:
    class Broken(Station):
        async def run(self, session: Session) -> None:
            raise LookupError("our own fault")

    async def main() -> None:
        async with server(idle) as url:
            link = Link(lambda: Endpoint(url, "CP1"), lambda _version: Broken())
            async with asyncio.timeout(DEADLINE_S):
                with pytest.raises(ExceptionGroup) as caught:
                    await link.run()
            assert isinstance(caught.value.exceptions[0], LookupError)

    asyncio.run(main())
