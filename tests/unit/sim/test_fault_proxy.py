"""The fault proxy by itself: every fault on a plain echo connection, switched while it lives."""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidMessage, InvalidStatus
from websockets.typing import Subprotocol

from agent.sim import fault_proxy
from agent.sim.fault_proxy import FaultProxy
from agent.sim.proxy_faults import (
    NOT_HTTP,
    TLS_ALERT,
    Ending,
    Way,
    fault_of,
    http,
    says,
    silence,
    upgrades_to,
)
from tests.support.file_server import Certificates

pytestmark = pytest.mark.wire
DEADLINE_S = 10.0
QUIET_S = 0.05  # so long nothing may come; long enough for what would come to come


class Echo:
    """A server that sends back what it gets, and knows what it got."""

    def __init__(self) -> None:
        self.heard = b""
        self.ended = asyncio.Event()
        self.error: OSError | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1_024):
                self.heard += data
                writer.write(data)
                await writer.drain()
        except OSError as error:
            self.error = error
        self.ended.set()
        writer.close()


class Client:
    """One connection through the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def hear(self, count: int) -> bytes:
        async with asyncio.timeout(DEADLINE_S):
            return await self.reader.readexactly(count)

    async def rest(self) -> bytes:
        """What comes until FIN; ``ConnectionResetError`` at RST."""
        async with asyncio.timeout(DEADLINE_S):
            return await self.reader.read()

    async def is_quiet(self) -> bool:
        try:
            async with asyncio.timeout(QUIET_S):
                await self.reader.read(1)
        except TimeoutError:
            return True
        return False

    async def echoes(self, data: bytes) -> bool:
        self.send(data)
        return await self.hear(len(data)) == data


Dial = Callable[..., Coroutine[Any, Any, Client]]
Scene = Callable[[FaultProxy, Dial, Echo], Awaitable[None]]


@asynccontextmanager
async def proxied(**options: Any) -> AsyncIterator[tuple[FaultProxy, Dial, Echo]]:
    echo, clients = Echo(), []
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    proxy = FaultProxy("127.0.0.1", server.sockets[0].getsockname()[1], **options)
    await proxy.start()

    async def dial(**tls: Any) -> Client:
        async with asyncio.timeout(DEADLINE_S):
            client = Client(*await asyncio.open_connection("127.0.0.1", proxy.port, **tls))
        clients.append(client)
        return client

    try:
        yield proxy, dial, echo
    finally:
        for client in clients:
            client.writer.transport.abort()
        await proxy.stop()
        server.close()


def play(scene: Scene, **options: Any) -> None:
    async def main() -> None:
        async with asyncio.timeout(3 * DEADLINE_S), proxied(**options) as (proxy, dial, echo):
            await scene(proxy, dial, echo)

    asyncio.run(main())


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not is_so():
            await asyncio.sleep(0.005)


def test_without_faults_everything_passes_and_ends_are_told() -> None:
    async def scene(proxy: FaultProxy, dial: Dial, echo: Echo) -> None:
        client = await dial()
        assert await client.echoes(bytes(range(256)) * 1_000)
        assert proxy.connections == 1 and len(proxy.attempts) == 1
        client.writer.close()
        await asyncio.wait_for(echo.ended.wait(), DEADLINE_S)
        await until(lambda: proxy.connections == 0)
        assert echo.error is None

    play(scene)


def test_latency_delays_by_the_seeds_dice() -> None:
    async def times_of(seed: int) -> list[float]:
        slept: list[float] = []
        real = asyncio.sleep

        async def sleep(delay_s: float) -> None:
            slept.append(delay_s)
            await real(0)

        async with proxied(seed=seed) as (proxy, dial, _echo):
            client = await dial()
            proxy.switch_on("latency", delay_ms=100, jitter_ms=50, way=Way.TO_CSMS)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(asyncio, "sleep", sleep)
                for _ in range(3):
                    assert await client.echoes(b"tick")
        return slept

    first = asyncio.run(times_of(1))
    assert len(first) == 3 and all(0.1 <= each <= 0.15 for each in first) and len(set(first)) == 3
    assert asyncio.run(times_of(1)) == first
    assert asyncio.run(times_of(2)) != first


@pytest.mark.parametrize("way", [Way.TO_CSMS, Way.TO_STATION, Way.BOTH])
def test_stall_holds_and_loses_nothing(way: Way) -> None:
    async def scene(proxy: FaultProxy, dial: Dial, echo: Echo) -> None:
        client = await dial()
        assert await client.echoes(b"before")
        proxy.switch_on("stall", way=way)
        client.send(b" during")
        if way is Way.TO_STATION:
            await until(lambda: echo.heard == b"before during")
        assert await client.is_quiet()
        assert (echo.heard == b"before during") == (way is Way.TO_STATION)
        client.writer.write_eof()  # FIN must not overtake
        assert await client.is_quiet() and echo.ended.is_set() == (way is Way.TO_STATION)
        proxy.switch_off("stall")
        assert await client.rest() == b" during"

    play(scene)


def test_stall_holds_a_bare_end_too() -> None:
    async def scene(proxy: FaultProxy, dial: Dial, echo: Echo) -> None:
        client = await dial()
        assert await client.echoes(b"before")
        proxy.switch_on("stall", way=Way.TO_CSMS)
        client.writer.write_eof()
        assert await client.is_quiet() and not echo.ended.is_set()
        proxy.switch_off("stall")
        assert await client.rest() == b""

    play(scene)


def test_a_stalled_connection_holds_a_bounded_amount() -> None:
    async def scene(proxy: FaultProxy, dial: Dial, echo: Echo) -> None:
        client = await dial()
        proxy.switch_on("stall")
        size, sent = 64 * 1024 * 1024, bytes(1_024 * 1_024)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                for _ in range(size // len(sent)):
                    client.send(sent)
                    await client.writer.drain()
        [connection] = proxy._connections
        assert len(connection.station.reader._buffer) <= 4 * fault_proxy.HELD_BYTES  # type: ignore[attr-defined]
        assert echo.heard == b""

    play(scene)


def test_half_open_is_for_good_and_nobody_is_told() -> None:
    async def scene(proxy: FaultProxy, dial: Dial, echo: Echo) -> None:
        victim = await dial()
        assert await victim.echoes(b"alive")
        proxy.switch_on("half-open")
        victim.send(b"lost")
        assert await victim.is_quiet() and echo.heard == b"alive"
        other = await dial()
        assert await other.echoes(b"new ones work")
        proxy.switch_off("half-open")
        victim.send(b"lost too")
        assert await victim.is_quiet() and echo.heard == b"alivenew ones work"
        proxy.cut(Ending.RESET)
        victim.writer.transport.abort()  # RST or FIN
        with pytest.raises(ConnectionResetError):
            await other.rest()
        await asyncio.wait_for(echo.ended.wait(), DEADLINE_S)  # the other's
        await asyncio.sleep(QUIET_S)
        assert proxy.connections == 1, "the server still believes in the victim"

    play(scene)


def test_half_open_swallows_new_connections_where_asked() -> None:
    async def scene(proxy: FaultProxy, dial: Dial, echo: Echo) -> None:
        proxy.switch_on("half-open", swallow_new=True)
        victim = await dial()
        victim.send(b"hello?")
        assert await victim.is_quiet()
        proxy.switch_off()
        assert await victim.is_quiet() and echo.heard == b""
        assert await (await dial()).echoes(b"hello")

    play(scene)


@pytest.mark.parametrize("ending", Ending)
def test_cut_ends_both_sides(ending: Ending) -> None:
    async def scene(proxy: FaultProxy, dial: Dial, echo: Echo) -> None:
        client = await dial()
        assert await client.echoes(b"alive")
        proxy.cut(ending)
        if ending is Ending.CLOSE:
            assert await client.rest() == b""
        else:
            with pytest.raises(ConnectionResetError):
                await client.rest()
        await asyncio.wait_for(echo.ended.wait(), DEADLINE_S)
        assert (echo.error is not None and echo.error.errno == errno.ECONNRESET) == (ending is Ending.RESET)
        assert await (await dial()).echoes(b"the next one lives")

    play(scene)


@pytest.mark.parametrize(("after_bytes", "ending"), [(0, Ending.CLOSE), (5, Ending.CLOSE), (5, Ending.RESET)])
def test_truncate_counts_from_when_it_is_switched_on(after_bytes: int, ending: Ending) -> None:
    async def scene(proxy: FaultProxy, dial: Dial, echo: Echo) -> None:
        client = await dial()
        assert await client.echoes(b"all of this passes")
        proxy.switch_on("truncate", after_bytes=after_bytes, ending=ending, way=Way.TO_CSMS)
        client.send(b"1")
        if after_bytes:
            assert await client.hear(1) == b"1"
            client.send(b"23456789")
        if ending is Ending.CLOSE:
            await client.rest()
        else:
            with pytest.raises(ConnectionResetError):
                await client.rest()
        await asyncio.wait_for(echo.ended.wait(), DEADLINE_S)
        if ending is Ending.CLOSE:  # RST may overtake the last bytes
            assert echo.heard == b"all of this passes" + b"12345"[:after_bytes]

    play(scene)


def test_corrupt_spoils_one_way() -> None:
    async def scene(proxy: FaultProxy, dial: Dial, echo: Echo) -> None:
        client = await dial()
        proxy.switch_on("corrupt", way=Way.TO_STATION)
        client.send(b"\x00\x0f")
        assert await client.hear(2) == b"\xff\xf0" and echo.heard == b"\x00\x0f"
        proxy.switch_on("corrupt", one_in=4, way=Way.TO_STATION)
        client.send(bytes(1_000))
        spoiled = (await client.hear(1_000)).count(0xFF)
        assert 150 < spoiled < 350
        proxy.switch_off("corrupt")
        assert await client.echoes(b"good again")

    play(scene, seed=7)


def test_trickle_passes_byte_by_byte() -> None:
    async def scene(proxy: FaultProxy, dial: Dial, _echo: Echo) -> None:
        client = await dial()
        proxy.switch_on("trickle", pause_ms=5, way=Way.TO_STATION)
        client.send(b"0123456789")
        assert len(await client.reader.read(100)) == 1
        assert await client.hear(9) == b"123456789"

    play(scene)


def test_refuse_keeps_port_and_live_connections() -> None:
    async def scene(proxy: FaultProxy, dial: Dial, _echo: Echo) -> None:
        client = await dial()
        assert await client.echoes(b"here")
        for _ in range(3):
            proxy.switch_on("refuse")
            for _turn in range(3):
                await asyncio.sleep(0)  # the listener closes in the loop's next turns
            with pytest.raises(ConnectionRefusedError):
                await dial()
            assert await client.echoes(b"still here")
            proxy.switch_off("refuse")
            assert await (await dial()).echoes(b"again")

    play(scene)


# ------------------------------------------------------------------------------------------ impostors


async def upgrade(proxy: FaultProxy) -> str | None:
    """Connect as a station would; the subprotocol that was chosen."""
    offers = [Subprotocol("ocpp1.6")]
    url = f"ws://127.0.0.1:{proxy.port}"
    async with connect(url, subprotocols=offers, proxy=None, open_timeout=DEADLINE_S, close_timeout=0.05) as websocket:
        return websocket.subprotocol


def test_impostors_answer_with_any_status_with_garbage_or_with_nothing() -> None:
    async def scene(proxy: FaultProxy, dial: Dial, echo: Echo) -> None:
        for status in (401, 403, 404, 503):
            proxy.switch_on("impostor", reply=http(status, Retry_After="1"))
            with pytest.raises(InvalidStatus) as refused:
                await upgrade(proxy)
            response = refused.value.response
            assert (response.status_code, response.headers["Retry-After"]) == (status, "1")
        proxy.switch_on("impostor", reply=says(NOT_HTTP))
        with pytest.raises(InvalidMessage):
            await upgrade(proxy)
        proxy.switch_on("impostor", reply=silence)
        client = await dial()
        client.send(b"GET / HTTP/1.1\r\n\r\n")
        assert await client.is_quiet()
        assert echo.heard == b""

    play(scene)


def test_impostor_upgrades_to_what_nobody_asked_for() -> None:
    async def scene(proxy: FaultProxy, dial: Dial, _echo: Echo) -> None:
        proxy.switch_on("impostor", reply=upgrades_to("ocpp1.6"))
        assert await upgrade(proxy) == "ocpp1.6"
        proxy.switch_on("impostor", reply=upgrades_to("mqtt"))
        client = await dial()
        # The example of RFC 6455 4.2.2.
        client.send(b"GET / HTTP/1.1\r\nsec-websocket-key:dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
        head = (await client.reader.readuntil(b"\r\n\r\n")).decode()
        assert "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in head
        assert "Sec-WebSocket-Protocol: mqtt\r\n" in head

    play(scene)


# ------------------------------------------------------------------------------------------------ TLS


def test_tls_ends_at_the_proxy_and_certificates_change_between_connections(tmp_path: Path) -> None:
    authority = Certificates(tmp_path)
    trust = ssl.create_default_context(cafile=authority.ca_file)
    good, expired = authority.server(), authority.server(days=-1)

    async def scene(proxy: FaultProxy, dial: Dial, echo: Echo) -> None:
        client = await dial(ssl=trust, server_hostname="localhost")
        assert await client.echoes(b"secret") and echo.heard == b"secret"
        proxy.tls = expired
        with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
            await dial(ssl=trust, server_hostname="localhost")
        assert await client.echoes(b"the old connection lives")
        proxy.tls = good
        for reply, reason in (
            (TLS_ALERT, "HANDSHAKE_FAILURE"),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", "WRONG_VERSION_NUMBER"),
        ):
            proxy.switch_on("impostor", reply=says(reply), before_tls=True)
            with pytest.raises(ssl.SSLError, match=reason):
                await dial(ssl=trust, server_hostname="localhost")
        proxy.switch_on("impostor", reply=silence, before_tls=True)
        dialing = asyncio.create_task(dial(ssl=trust, server_hostname="localhost"))
        await asyncio.wait([dialing], timeout=QUIET_S)
        assert not dialing.done()
        dialing.cancel()
        proxy.switch_off()
        proxy.cut(Ending.RESET)
        with pytest.raises(ConnectionResetError):
            await client.rest()
        assert await (await dial(ssl=trust, server_hostname="localhost")).echoes(b"good again")

    play(scene, tls=good)


# --------------------------------------------------------------------------------------------- limits


def test_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fault_proxy, "CONNECTIONS_MAX", 2)

    async def scene(proxy: FaultProxy, dial: Dial, _echo: Echo) -> None:
        first, second = await dial(), await dial()
        assert await first.echoes(b"1") and await second.echoes(b"2")
        assert await (await dial()).rest() == b""
        first.writer.close()
        await until(lambda: proxy.connections == 1)
        assert await (await dial()).echoes(b"3")

    play(scene)


def test_it_ends_by_itself_and_stays_ended() -> None:
    async def scene(proxy: FaultProxy, dial: Dial, _echo: Echo) -> None:
        client = await dial()
        with pytest.raises(ConnectionResetError):
            await client.rest()
        proxy.switch_off()
        with pytest.raises(ConnectionRefusedError):
            await dial()

    play(scene, life_s=0.2)


def test_a_dead_server_is_told_as_a_reset() -> None:
    async def main() -> None:
        spare = FaultProxy("127.0.0.1", 0)
        dead_port = await spare.start()
        await spare.stop()
        proxy = FaultProxy("127.0.0.1", dead_port)
        reader, writer = await asyncio.open_connection("127.0.0.1", await proxy.start())
        with pytest.raises(ConnectionResetError):
            async with asyncio.timeout(DEADLINE_S):
                await reader.read()
        writer.transport.abort()
        await proxy.stop()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("earthquake", {}, "unknown fault 'earthquake'; there are: latency, stall"),
        ("stall", {"seconds": 3}, "fault stall: .*seconds"),
        ("truncate", {}, "fault truncate: .*after_bytes"),
        ("truncate", {"after_bytes": -1}, "must not be negative"),
        ("truncate", {"after_bytes": 1, "way": Way.BOTH}, "one way"),
        ("latency", {"delay_ms": 60_001}, "0 to 60000"),
        ("trickle", {"pause_ms": -1}, "0 to 60000"),
        ("corrupt", {"one_in": 0}, "at least 1"),
    ],
)
def test_what_is_no_fault_is_named(name: str, parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        fault_of(name, parameters)


def test_switching_off_what_is_no_fault_is_named() -> None:
    proxy = FaultProxy("127.0.0.1", 1)
    with pytest.raises(ValueError, match="unknown fault 'earthquake'"):
        proxy.switch_off("earthquake")
