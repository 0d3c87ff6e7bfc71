"""The link over real WebSockets: an independent CSMS, hostile messages, the handshake.

The independent peer is the ``ocpp`` package's ``ChargePoint`` class run as a CSMS; hostile and broken
servers are written out frame by frame.
"""

from __future__ import annotations

import asyncio
import base64
import http
import json
from typing import Any

import ocpp.v16
import ocpp.v201
import pytest
from ocpp.routing import on
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from agent.ocpp.endpoint import Endpoint
from agent.ocpp.link import Connection
from agent.ocpp.link_failure import FailureKind, LinkFailure
from agent.ocpp.rpc import CallError, CallResult, Priority
from agent.ocpp.version import Version
from agent.ocpp.websocket import open_websocket
from tests.integration.ocpp_link_rig import heartbeat, idle, linked, server

pytestmark = pytest.mark.wire


# ----------------------------------------------------------------------------- the independent peer


class Csms16(ocpp.v16.ChargePoint):
    @on("Heartbeat")
    async def heartbeat(self) -> Any:
        return ocpp.v16.call_result.Heartbeat(current_time="2026-01-01T00:00:00Z")


class Csms201(ocpp.v201.ChargePoint):
    @on("Heartbeat")
    async def heartbeat(self) -> Any:
        return ocpp.v201.call_result.Heartbeat(current_time="2026-01-01T00:00:00Z")


@pytest.mark.parametrize(
    ("offered", "version", "reset"),
    [
        (["ocpp1.6"], Version.V16, ocpp.v16.call.Reset(type="Soft")),
        (["ocpp2.0.1", "ocpp1.6"], Version.V201, ocpp.v201.call.Reset(type="Immediate")),
    ],
)
def test_ws_02_rpc_01_calls_both_ways_with_an_independent_csms(
    offered: list[str], version: Version, reset: Any
) -> None:
    answers: list[Any] = []

    async def csms(websocket: ServerConnection) -> None:
        peer = (Csms16 if version is Version.V16 else Csms201)("CP 1", websocket)
        reading = asyncio.create_task(peer.start())
        answers.append(await peer.call(reset))
        await asyncio.wait([reading])
        assert isinstance(reading.exception(), ConnectionClosed)

    async def main() -> None:
        async with server(csms, subprotocols=offered) as url, linked(Endpoint(url, "CP 1")) as rig:
            session = await rig.session()
            assert session.version is version
            assert await heartbeat(session) == CallResult({"currentTime": "2026-01-01T00:00:00Z"})
            boot = {"chargePointVendor": "v", "chargePointModel": "m"}
            boot_201 = {"reason": "PowerUp", "chargingStation": {"vendorName": "v", "model": "m"}}
            outcome = await session.call(
                "BootNotification", boot if version is Version.V16 else boot_201, priority=Priority.BOOT
            )
            assert isinstance(outcome, CallError), "the peer has no handler for it"
            await rig.until(lambda: bool(answers))
            assert answers[0].status == "Accepted"
            assert rig.station.handled[0][0] == "Reset"

    asyncio.run(main())


def test_rpc_07_rpc_08_hostile_frames_over_a_real_socket() -> None:
    heard: list[str] = []

    async def csms(websocket: ServerConnection) -> None:
        for message in (
            "hello",
            "{}",
            "[]",
            '[2,"a"]',
            '[5,"a","x","",{}]',
            '[6,"a","Reset",{}]',
            "[" * 100_000,
            '[2,"h",{"not":"hashable"},{}]',
            '[3,"nobody",{}]',
            b"\xff\xfe",
            '[2,"deep","Reset",' + '{"a":' * 40 + "1" + "}" * 41,
        ):
            await websocket.send(message)
        await websocket.send(b"\xc3\x28", text=True)  # a text frame that is not UTF-8
        await websocket.send('[2,"twice","Reset",{"type":"Soft"}]')
        await websocket.send('[2,"twice","Reset",{"type":"Soft"}]')
        await websocket.send('[2,"last","Reset",{"type":"Hard"}]')
        async for message in websocket:
            heard.append(str(message))

    async def main() -> None:
        async with server(csms, subprotocols=["ocpp1.6"]) as url, linked(Endpoint(url, "CP1")) as rig:
            session = await rig.session()
            await rig.until(lambda: any('"last"' in message for message in heard))
            assert session.counters.invalid_messages >= 9
            assert session.counters.stray_answers == 1
            assert session.counters.duplicate_calls == 1
            assert '[3,"last",{"status":"Accepted"}]' in heard
            assert rig.failures == [], "one link survived all of it"

    asyncio.run(main())


def test_rpc_14_a_message_beyond_a_megabyte_ends_the_link_and_only_the_link() -> None:
    codes: list[int | None] = []

    async def csms(websocket: ServerConnection) -> None:
        await websocket.send("[" + " " * 1024 * 1024 + "]")
        await websocket.wait_closed()
        codes.append(websocket.close_code)

    async def main() -> None:
        async with server(csms) as url, linked(Endpoint(url, "CP1")) as rig:
            assert (await rig.failure()).failure.kind is FailureKind.CLOSED  # type: ignore[union-attr]
            await rig.session()
            await rig.session()

    asyncio.run(main())
    assert codes[0] == 1009


# -------------------------------------------------------------------------------------- handshake


def test_ws_01_ws_02_what_the_server_sees_of_the_handshake() -> None:
    """16-SEC-03: user name and password among it. WS-09: no compression is offered."""
    requests: list[Request] = []

    async def see(_connection: ServerConnection, request: Request) -> None:
        requests.append(request)

    async def main() -> None:
        async with server(idle, process_request=see) as url:
            endpoint = Endpoint(f"{url}/ocpp?t=1", "RDAM|123", password=b"\x00\xffpw")
            async with linked(endpoint) as rig:
                session = await rig.session()
                assert session.version is Version.V201

    asyncio.run(main())
    headers = requests[0].headers
    assert requests[0].path == "/ocpp/RDAM%7C123?t=1"
    assert headers["Sec-WebSocket-Protocol"] == "ocpp2.0.1, ocpp1.6"
    assert base64.b64decode(headers["Authorization"].removeprefix("Basic ")) == b"RDAM|123:\x00\xffpw"
    assert "Sec-WebSocket-Extensions" not in headers


def test_ws_09_a_csms_that_can_compress_is_spoken_to_without() -> None:
    """And a link that was not compressed is not closed for it."""
    extensions: list[Any] = []

    async def csms(websocket: ServerConnection) -> None:
        extensions.extend(websocket.protocol.extensions)
        frame = json.loads(await websocket.recv())
        await websocket.send(json.dumps([3, frame[1], {"currentTime": "2026-01-01T00:00:00Z"}]))
        await websocket.wait_closed()

    async def main() -> None:
        async with serve(csms, "127.0.0.1", 0, compression="deflate", subprotocols=[Subprotocol("ocpp1.6")]) as running:
            port = running.sockets[0].getsockname()[1]
            async with linked(Endpoint(f"ws://127.0.0.1:{port}", "CP1")) as rig:
                answer = await heartbeat(await rig.session())
                assert answer == CallResult({"currentTime": "2026-01-01T00:00:00Z"})
                assert rig.failures == []

    asyncio.run(main())
    assert extensions == []


def test_16_sec_03_the_password_goes_with_every_handshake() -> None:
    shown: list[str] = []

    def see(_connection: ServerConnection, request: Request) -> None:
        shown.append(request.headers["Authorization"])

    async def csms(websocket: ServerConnection) -> None:
        await websocket.close(1012)

    async def main() -> None:
        async with (
            server(csms, process_request=see) as url,
            linked(Endpoint(url, "CP1", password=b"a password of sixteen")) as rig,
        ):
            await rig.failure(3)

    asyncio.run(main())
    assert len(shown) >= 3
    assert set(shown) == {f"Basic {base64.b64encode(b'CP1:a password of sixteen').decode()}"}


def test_ws_02_without_a_chosen_subprotocol_the_link_is_closed() -> None:
    async def main() -> None:
        async with server(idle, subprotocols=None) as url, linked(Endpoint(url, "CP1")) as rig:
            state = await rig.failure()
            assert state.failure is not None and state.failure.kind is FailureKind.NO_SUBPROTOCOL
            assert rig.station.versions == []

    asyncio.run(main())


def test_ws_03_the_choice_may_differ_at_the_next_connection() -> None:
    choices = iter(["ocpp2.0.1", "ocpp1.6"])

    async def csms(websocket: ServerConnection) -> None:
        if websocket.subprotocol == "ocpp2.0.1":
            await websocket.close(1012)
        await websocket.wait_closed()

    async def main() -> None:
        options = {"select_subprotocol": lambda _connection, _offered: next(choices)}
        async with server(csms, **options) as url, linked(Endpoint(url, "CP1")) as rig:
            await rig.until(lambda: len(rig.station.versions) == 2)
            assert rig.station.versions == [Version.V201, Version.V16]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("status", "headers", "kind"),
    [
        (401, {}, FailureKind.UNAUTHORIZED),
        (403, {}, FailureKind.UNAUTHORIZED),
        (404, {}, FailureKind.UNKNOWN_IDENTITY),
        (302, {"Location": "ws://127.0.0.1:1/elsewhere"}, FailureKind.REDIRECTED),
        (308, {"Location": "/elsewhere"}, FailureKind.REDIRECTED),
        (429, {"Retry-After": "1234"}, FailureKind.HTTP_STATUS),
        (503, {"Retry-After": "99999999"}, FailureKind.HTTP_STATUS),
        (500, {"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}, FailureKind.HTTP_STATUS),
    ],
)
def test_ws_08_every_refusal_is_named_and_tried_again(status: int, headers: dict[str, str], kind: FailureKind) -> None:
    paths: list[str] = []

    def refuse(connection: ServerConnection, request: Request) -> Response:
        paths.append(request.path)
        response = connection.respond(http.HTTPStatus(status), "no")
        response.headers.update(headers)
        return response

    async def main() -> None:
        async with server(idle, process_request=refuse) as url, linked(Endpoint(url, "CP1")) as rig:
            await rig.failure(3)
            assert {state.failure.kind for state in rig.failures if state.failure} == {kind}
            assert set(paths) == {"/CP1"}, "no redirect is followed"
            if status == 429:
                assert rig.waits[0] == 1234
            if status == 503:
                assert rig.waits[0] == 3600

    asyncio.run(main())


@pytest.mark.parametrize(
    ("waits", "wait_s"), [(["120", "30"], 120), (["Fri, 31 Dec 1999 23:59:59 GMT", "77"], 77), (["x", "9" * 99], 0)]
)
def test_ws_08_of_two_times_to_wait_the_longer_one_holds(waits: list[str], wait_s: int) -> None:
    """A proxy adds its own Retry-After to that of the CSMS."""

    def refuse(connection: ServerConnection, _request: Request) -> Response:
        response = connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "no")
        for each in waits:
            response.headers["Retry-After"] = each
        return response

    async def main() -> None:
        async with server(idle, process_request=refuse) as url, linked(Endpoint(url, "CP1")) as rig:
            state = await rig.failure()
            assert state.failure == LinkFailure(FailureKind.HTTP_STATUS, "HTTP status 503", wait_s)

    asyncio.run(main())


def test_ws_10_a_profile_that_makes_no_endpoint_is_a_failed_attempt() -> None:
    """The next one gets its turn. It may also be found out as late as at the connection."""

    async def main() -> None:
        async with server(idle) as url:
            profiles = iter([("Wss//host", "CP1"), ("wss://host", "CP1"), (url, "C:P"), (url, "CP1"), (url, "CP1")])

            async def open_it(endpoint: Endpoint) -> Connection:
                if len(rig.failures) == 3:
                    raise ValueError("server_hostname cannot start with a leading dot.")
                return await open_websocket(endpoint)

            async with linked(lambda: Endpoint(*next(profiles)), open=open_it) as rig:
                await rig.session()
                failures = [state.failure for state in rig.failures if state.failure is not None]
                assert [each.kind for each in failures] == [FailureKind.NO_ENDPOINT] * 4
                assert [each.detail.split(":")[0] for each in failures[:3]] == ["url", "tls", "identity"]

    asyncio.run(main())


def test_ws_08_a_new_password_takes_effect_at_the_next_attempt() -> None:
    passwords = iter([b"old", b"new"])

    def check(connection: ServerConnection, request: Request) -> Response | None:
        if base64.b64decode(request.headers["Authorization"].split()[1]) == b"CP1:new":
            return None
        return connection.respond(http.HTTPStatus.UNAUTHORIZED, "no")

    async def main() -> None:
        async with (
            server(idle, process_request=check) as url,
            linked(lambda: Endpoint(url, "CP1", password=next(passwords))) as rig,
        ):
            await rig.session()
            assert [state.failure.kind for state in rig.failures if state.failure] == [FailureKind.UNAUTHORIZED]

    asyncio.run(main())


def test_nobody_listens_and_a_peer_that_speaks_no_http() -> None:
    async def mute(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\r\n")
        await writer.drain()
        writer.close()

    async def main() -> None:
        listener = await asyncio.start_server(mute, "127.0.0.1", 0)
        async with listener:
            port = listener.sockets[0].getsockname()[1]
            async with linked(Endpoint(f"ws://127.0.0.1:{port}", "CP1")) as rig:
                state = await rig.failure()
                assert state.failure is not None and state.failure.kind is FailureKind.NOT_WEBSOCKET
        async with linked(Endpoint(f"ws://127.0.0.1:{port}", "CP1")) as rig:
            state = await rig.failure(2)
            assert state.failure is not None and state.failure.kind is FailureKind.UNREACHABLE

    asyncio.run(main())


def test_a_peer_that_never_answers_the_handshake() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def main() -> None:
        async with await asyncio.start_server(silent, "127.0.0.1", 0) as listener:
            port = listener.sockets[0].getsockname()[1]
            endpoint = Endpoint(f"ws://127.0.0.1:{port}", "CP1", open_timeout_s=0.1)
            async with linked(endpoint) as rig:
                state = await rig.failure()
                assert state.failure is not None and state.failure.kind is FailureKind.TIMED_OUT

    asyncio.run(main())
