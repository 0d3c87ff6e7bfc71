"""How a link is left over real WebSockets: when we wish it, after the last answers; when nobody is there, at once."""

from __future__ import annotations

import asyncio
import json
from time import monotonic
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from agent.ocpp.endpoint import Endpoint
from agent.ocpp.frames import Payload
from agent.ocpp.link_failure import FailureKind
from agent.ocpp.websocket import CLOSE_TIMEOUT_S
from tests.integration.ocpp_link_rig import heartbeat, linked, server

pytestmark = pytest.mark.wire


def test_a01_the_call_that_makes_us_drop_the_link_is_answered_before() -> None:
    """Also when a call of ours is under way: this CSMS reads nothing behind one that it cannot answer any more."""
    heard: list[list[Any]] = []

    async def csms(websocket: ServerConnection) -> None:
        await websocket.send('[2,"set","Reset",{"type":"Soft"}]')
        try:
            while True:
                frame = json.loads(await websocket.recv())
                heard.append(frame)
                if frame[0] == 2:
                    await asyncio.sleep(0.05)
                    await websocket.send(json.dumps([3, frame[1], {"currentTime": "2026-01-01T00:00:00Z"}]))
        except ConnectionClosed:
            return

    async def main() -> None:
        async with server(csms, subprotocols=["ocpp1.6"]) as url, linked(Endpoint(url, "CP1")) as rig:

            async def handle(_action: str, _payload: Payload) -> Payload:
                rig.link.drop("new password")
                await asyncio.sleep(0.05)
                return {"status": "Accepted"}

            rig.station.handle = handle  # type: ignore[assignment, method-assign]
            beating = asyncio.ensure_future(heartbeat(await rig.session()))
            state = await rig.failure()
            assert state.failure is not None and state.failure.kind is FailureKind.DROPPED
            await beating

    asyncio.run(main())
    assert [3, "set", {"status": "Accepted"}] in heard


def test_ws_07_a_silent_link_is_left_without_waiting_for_a_goodbye() -> None:
    async def main() -> None:
        seen = asyncio.Event()

        async def deaf(websocket: ServerConnection) -> None:
            websocket.transport.pause_reading()
            await seen.wait()
            websocket.transport.abort()

        options = {"ping_interval_s": 0.02, "pong_timeout_s": 0.02}
        async with server(deaf) as url, linked(Endpoint(url, "CP1"), **options) as rig:
            await rig.session()
            started_s = monotonic()
            state = await rig.failure()
            took_s = monotonic() - started_s
            seen.set()
            assert state.failure is not None and state.failure.kind is FailureKind.SILENT
            assert took_s < CLOSE_TIMEOUT_S

    asyncio.run(main())


@pytest.mark.parametrize(("interval_s", "waited"), [(0, "7 s"), (0.02, "1 s"), (3, "3 s"), (60, "7 s")])
def test_ws_06_a_pong_may_take_an_interval_but_a_second_at_least(interval_s: float, waited: str) -> None:
    """Field fault 7: a dead link is found within two intervals."""

    async def main() -> None:
        async with linked(Endpoint("ws://127.0.0.1:9", "CP1"), ping_interval_s=interval_s, pong_timeout_s=7) as rig:
            assert f"{rig.link._pong_wait_s():g} s" == waited

    asyncio.run(main())
