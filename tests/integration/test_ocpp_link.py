"""The link over real WebSockets on the loopback interface.

The independent peer is the ``ocpp`` package's ``ChargePoint`` class run as a CSMS; hostile and broken
servers are written out frame by frame. Waits between attempts are recorded, not slept.
"""

from __future__ import annotations

import asyncio
import base64
import datetime
import http
import random
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ocpp.v16
import ocpp.v201
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from ocpp.routing import on
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from agent.ocpp.backoff import BackoffSettings
from agent.ocpp.endpoint import Endpoint, TlsSettings
from agent.ocpp.frames import Payload
from agent.ocpp.link import Link, LinkPhase, LinkState
from agent.ocpp.link_failure import FailureKind
from agent.ocpp.rpc import CallError, CallOutcome, CallResult, LinkLost, Priority, TimedOut
from agent.ocpp.session import Session
from agent.ocpp.version import Version

pytestmark = pytest.mark.wire

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


# ----------------------------------------------------------------------------- the independent peer


class Csms16(ocpp.v16.ChargePoint):  # type: ignore[misc]
    @on("Heartbeat")  # type: ignore[untyped-decorator]
    async def heartbeat(self) -> Any:
        return ocpp.v16.call_result.Heartbeat(current_time="2026-01-01T00:00:00Z")


class Csms201(ocpp.v201.ChargePoint):  # type: ignore[misc]
    @on("Heartbeat")  # type: ignore[untyped-decorator]
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


# --------------------------------------------------------------------------------------- back-off


def test_ws_04_ws_05_a_server_that_accepts_and_drops_is_not_hammered() -> None:
    async def drop(websocket: ServerConnection) -> None:
        await websocket.close(1000)

    async def main() -> None:
        async with server(drop) as url, linked(Endpoint(url, "CP1")) as rig:
            await rig.failure(7)
            assert 10 <= rig.waits[0] <= 20
            for earlier, later in zip(rig.waits[:5], rig.waits[1:6], strict=True):
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
            peer = Csms16("CP1", websocket)
            await peer.route_message(await websocket.recv())
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


# --------------------------------------------------------------------------------------------- TLS


@dataclass
class Authority:
    """A throw-away root and a server certificate for ``host``."""

    folder: Path

    def make(self, host: str, *, expired: bool = False) -> tuple[Path, Path, Path]:
        key, root_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        root_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test root")])
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        root = self._builder(root_name, root_name, root_key, days=100).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        leaf = self._builder(name, root_name, key, days=-1 if expired else 100).add_extension(
            x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False
        )
        paths = self.folder / "root.pem", self.folder / "leaf.pem", self.folder / "key.pem"
        pem = serialization.Encoding.PEM
        paths[0].write_bytes(root.sign(root_key, hashes.SHA256()).public_bytes(pem))
        paths[1].write_bytes(leaf.sign(root_key, hashes.SHA256()).public_bytes(pem))
        paths[2].write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        return paths

    @staticmethod
    def _builder(
        name: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, *, days: int
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=10))
            .not_valid_after(now + datetime.timedelta(days=days))
        )


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


@pytest.mark.parametrize(
    ("host", "expired", "wrong_root", "kind"),
    [
        ("localhost", False, False, None),
        ("localhost", True, False, FailureKind.TLS_CERTIFICATE),
        ("elsewhere.example", False, False, FailureKind.TLS_CERTIFICATE),
        ("localhost", False, True, FailureKind.TLS_CERTIFICATE),
    ],
)
def test_tls_03_chain_validity_and_name_are_verified(
    tmp_path: Path, host: str, expired: bool, wrong_root: bool, kind: FailureKind | None
) -> None:
    root, leaf, key = Authority(tmp_path).make(host, expired=expired)
    if wrong_root:
        (tmp_path / "other").mkdir()
        root = Authority(tmp_path / "other").make(host)[0]

    async def main() -> None:
        async with server(idle, ssl=server_context(leaf, key)) as url:
            url = url.replace("127.0.0.1", "localhost")
            async with linked(Endpoint(url, "CP1", tls=TlsSettings(root))) as rig:
                if kind is None:
                    await rig.session()
                    return
                state = await rig.failure()
                assert state.failure is not None and state.failure.kind is kind

    asyncio.run(main())


@asynccontextmanager
async def handshaking(context: ssl.SSLContext) -> AsyncIterator[str]:
    """A blocking TLS server: asyncio's drops the connection before its alert has left."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def handshakes() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, suppress(OSError), context.wrap_socket(connection, server_side=True):
                    pass

        thread = threading.Thread(target=handshakes)
        thread.start()
        try:
            yield f"wss://localhost:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize(
    ("newest", "suites", "kind"),
    [
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-CHACHA20-POLY1305", FailureKind.TLS_CIPHER),
        (ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0", FailureKind.TLS_VERSION),
    ],
)
def test_tls_01_tls_02_old_versions_and_other_suites_are_refused(
    tmp_path: Path, newest: ssl.TLSVersion, suites: str, kind: FailureKind
) -> None:
    root, leaf, key = Authority(tmp_path).make("localhost")
    context = server_context(leaf, key)
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = newest
    context.set_ciphers(suites)

    async def main() -> None:
        async with handshaking(context) as url, linked(Endpoint(url, "CP1", tls=TlsSettings(root))) as rig:
            state = await rig.failure()
            assert state.failure is not None and state.failure.kind is kind

    asyncio.run(main())


def test_tls_05_missing_certificate_files_are_a_failure_that_can_heal(tmp_path: Path) -> None:
    root, leaf, key = Authority(tmp_path).make("localhost")
    moved = root.rename(tmp_path / "moved.pem")

    async def main() -> None:
        async with server(idle, ssl=server_context(leaf, key)) as url:
            url = url.replace("127.0.0.1", "localhost")
            async with linked(Endpoint(url, "CP1", tls=TlsSettings(root))) as rig:
                state = await rig.failure()
                assert state.failure is not None and state.failure.kind is FailureKind.TLS_FILES
                moved.rename(root)
                await rig.session()

    asyncio.run(main())
