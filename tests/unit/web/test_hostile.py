"""Rude clients on a real socket: the page stays small, polite and there for others."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from agent.web import server
from agent.web.guard import Pace
from agent.web.streams import STREAMS_MAX
from tests.support.web_rig import Web, on_page, parsed

pytestmark = pytest.mark.wire

GOOD = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/assets/../app.py",
        "/assets/..%2fapp.py",
        "/assets/%2e%2e/app.py",
        "/assets/page.css%00.js",
        "/assets//page.css",
        "/assets/app.py",
        "/%00",
        "/%ff%fe",
        "//evil.example/",
        "http://evil.example/",
        "*",
        "/tech/receipts/../../x/html",
        "/tech/keys/999999999999999999999.svg",
        "/" + "a" * 1_000,
    ],
)
def test_tricks_with_paths_lead_nowhere(tmp_path: Path, path: str) -> None:
    async def scene(web: Web) -> None:
        cookie = (await web.login()).cookie
        answer = await web.get(path, cookie)
        assert answer.status in (400, 404), answer
        assert b"root:" not in answer.body and b"import" not in answer.body

    on_page(tmp_path, scene)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "", "-", "127.0.0.1:x", "[::1", "localhost.evil.example"]
)
def test_other_hosts_are_refused(tmp_path: Path, host: str) -> None:
    """A site that points its name at this machine (DNS rebinding) reads nothing."""

    async def scene(web: Web) -> None:
        assert (await web.get("/", host=host)).status in (400, 421)

    on_page(tmp_path, scene)


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:80", "127.0.0.1", "192.0.2.7:8080", "[::1]:8080", "charger.lan"]
)
def test_own_hosts_are_served(tmp_path: Path, host: str) -> None:
    async def scene(web: Web) -> None:
        assert (await web.get("/", host=host)).status == 200

    on_page(tmp_path, scene, web='names = ["charger.lan"]')


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\n\r\n",
        b"POST /login HTTP/1.1\r\nhost: localhost\r\ncontent-length: -5\r\n\r\n",
        b"POST /login HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\nxx\r\n",
        b"POST /login HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\nx: " + b"a" * 20_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 20_000,
        b"DELETE / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
    ],
)
def test_what_is_no_request_is_refused_and_the_next_one_served(tmp_path: Path, data: bytes) -> None:
    async def scene(web: Web) -> None:
        answer = await web.raw(data)
        assert answer == b"" or parsed(answer).status in (400, 403, 405, 421, 431)
        assert parsed(await web.raw(GOOD)).status == 200

    on_page(tmp_path, scene)


@pytest.mark.parametrize("told", [True, False])
def test_body_beyond_64_kib_is_refused(tmp_path: Path, told: bool) -> None:
    async def scene(web: Web) -> None:
        body = b"secret=" + b"a" * 200_000
        size = f"content-length: {len(body)}" if told else "transfer-encoding: chunked"
        head = f"POST /login HTTP/1.1\r\nhost: {web.host}\r\norigin: http://{web.host}\r\n{size}\r\n\r\n"
        data = body if told else b"".join(b"%x\r\n%s\r\n" % (50_000, body[:50_000]) for _ in range(4))
        answer = await web.raw(head.encode() + data)
        # Whoever still writes when the page hangs up may not hear why.
        assert answer == b"" or parsed(answer).status == 413
        assert web.line.security_events == [], "nobody tried that secret"

    on_page(tmp_path, scene)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GET / HTTP/1.1\r\nhost: loc",
        b"POST /login HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\nsecret=",
        GOOD.replace(b"connection: close\r\n", b"") + b"GET / HT",
    ],
)
def test_request_that_does_not_come_to_its_end_is_cut(
    tmp_path: Path, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "REQUEST_S", 0.3)

    async def scene(web: Web) -> None:
        await web.raw(data, within_s=8)

    on_page(tmp_path, scene)


def test_drop_by_drop_does_not_stretch_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REQUEST_S", 0.5)

    async def scene(web: Web) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
        writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\n")

        async def drip() -> None:
            while True:
                writer.write(b"x: y\r\n")
                await asyncio.sleep(0.05)

        drops = asyncio.create_task(drip())
        try:
            async with asyncio.timeout(8):
                assert await reader.read() == b""
        except ConnectionError:
            pass
        finally:
            drops.cancel()
            writer.close()

    on_page(tmp_path, scene)


def test_client_that_reads_nothing_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers without end that nobody reads must not stay in memory."""
    monkeypatch.setattr(server, "UNREAD_S", 0.3)
    monkeypatch.setattr("agent.web.guard._REQUESTS_PER_S", 10_000.0)

    async def scene(web: Web) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", web.port, limit=1)
        try:
            with pytest.raises(ConnectionError):
                async with asyncio.timeout(20):
                    while True:
                        writer.write(b"GET /assets/page.css HTTP/1.1\r\nhost: localhost\r\n\r\n" * 50)
                        await writer.drain()
            assert parsed(await web.raw(GOOD)).status == 200
        finally:
            writer.transport.abort()

    on_page(tmp_path, scene)


def test_hundreds_of_connections_of_one_address_leave_room_for_another(tmp_path: Path) -> None:
    async def scene(web: Web) -> None:
        crowd = await asyncio.gather(*(_open(web, "127.0.0.1") for _ in range(200)), return_exceptions=True)
        try:
            await asyncio.sleep(0.2)
            reader, writer = await _open(web, "127.0.0.2")
            writer.write(GOOD)
            async with asyncio.timeout(8):
                assert parsed(await reader.read()).status == 200
            writer.close()
        finally:
            for each in crowd:
                if not isinstance(each, BaseException):
                    each[1].transport.abort()

    on_page(tmp_path, scene)


async def _open(web: Web, source: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", web.port, local_addr=(source, 0))


def test_streams_are_bounded_and_given_back(tmp_path: Path) -> None:
    async def scene(web: Web) -> None:
        request = f"GET /events HTTP/1.1\r\nhost: {web.host}\r\n\r\n".encode()
        writers = []
        for _ in range(STREAMS_MAX):
            reader, writer = await _open(web, "127.0.0.1")
            writer.write(request)
            assert b"200" in await reader.readuntil(b"\r\n")
            writers.append(writer)
        assert (await web.get("/events")).status == 503
        for writer in writers:
            writer.transport.abort()
        async with asyncio.timeout(8):
            while True:
                reader, writer = await _open(web, "127.0.0.1")
                writer.write(request)
                line = await reader.readuntil(b"\r\n")
                writer.transport.abort()
                if b"200" in line:
                    return

    on_page(tmp_path, scene)


def test_however_many_look_the_station_is_asked_once_a_second(tmp_path: Path) -> None:
    async def scene(web: Web) -> None:
        before, began_s = web.line.calls, time.monotonic()
        for _ in range(30):
            assert (await web.get("/")).status == 200
        lasted_s = time.monotonic() - began_s
        assert web.line.calls - before <= 2 + 2 * lasted_s

    on_page(tmp_path, scene)


def test_pace_slows_down_and_then_refuses() -> None:
    now_s = 100.0
    pace = Pace(lambda: now_s)
    delays = [pace.delay_s() for _ in range(300)]
    assert delays[:60] == [0.0] * 60
    waits = [each for each in delays[60:] if each is not None]
    assert waits == sorted(waits) and waits[0] > 0 and waits[-1] <= 5.0
    assert delays[-1] is None
    now_s += 10
    assert pace.delay_s() == 0.0
