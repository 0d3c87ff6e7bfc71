"""The local socket: every method of the port crosses it unharmed, and bad bytes harm nobody."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import os
import socket
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.commands import Command, RemoteStart, RemoteStop
from agent.core.facts import ChargingState, Fact, SecurityFact, Token, TransactionFact, Trigger, TxKind
from agent.core.status import Outcome
from agent.health.model import PartHealth
from agent.ipc.client import RemoteStation
from agent.ipc.codec import CodecError, decode_fact, encode_fact, from_json, from_plain, to_plain
from agent.ipc.port import (
    CommandAnswer,
    Record,
    RestartComing,
    RowsAppended,
    SettingWrite,
    StationLost,
    StationPort,
    Welcome,
)
from agent.ipc.server import METHODS, IpcServer
from agent.ipc.wire import MAX_CALL_BYTES, MAX_FRAME_BYTES, PROTOCOL, TooLarge, WireError, frame, read_message

WELCOME = Welcome(PROTOCOL, "b", "PowerUp", "0", "CP", "V", "M", "S", (1,), {"A.B": "1"}, 3)
FACT = TransactionFact(TxKind.STARTED, "t", 0, 1, Trigger.AUTHORIZED, ChargingState.EV_CONNECTED, False)


class Echo:
    """Answers a few methods; the rest of the port is not needed here."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.seen: list[object] = []

    async def command(self, command: object) -> CommandAnswer:
        self.seen.append(command)
        return CommandAnswer(Outcome.ACCEPTED, "tx")

    async def records(self, after_seq: int, limit: int) -> list[Record]:
        return [Record(after_seq + 1, "tx_started", FACT, 5, 2, True)][:limit]

    async def read_settings(self, reads: list[SettingWrite]) -> list[tuple[str, str | None]]:
        return [("Accepted", read.variable) for read in reads]

    async def link_state(self, online: bool, dialect: str | None, csms_url: str = "") -> None:
        self.seen.append((online, dialect))

    async def report_parts(self, process: str, parts: list[PartHealth]) -> None:
        self.seen.append((process, parts))

    async def clear_cache(self) -> bool:
        await self.gate.wait()
        return True

    async def report(self, base: str) -> list[dict[str, Any]] | None:
        return [{"base": base * MAX_FRAME_BYTES}]


def run(
    test: Callable[[IpcServer, Echo, Path, list[str]], Awaitable[None]], uids: frozenset[int] | None = None
) -> None:
    async def main() -> None:
        with tempfile.TemporaryDirectory() as folder:
            path, echo, gone = Path(folder) / "s", Echo(), list[str]()
            allowed = frozenset({os.getuid()}) if uids is None else uids
            station: Any = echo
            server = IpcServer(path, station, lambda: WELCOME, list, allowed, lambda: gone.append("gone"))
            failures: list[dict[str, Any]] = []  # each would end the station
            asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
            await server.start()
            try:
                await asyncio.wait_for(test(server, echo, path, gone), 5)
            finally:
                await server.close()
                await asyncio.sleep(0)
            assert failures == []

    asyncio.run(main())


@pytest.mark.wire
def test_calls_answers_and_news_cross_the_socket() -> None:
    async def test(server: IpcServer, echo: Echo, path: Path, gone: list[str]) -> None:
        station = await RemoteStation.connect(path)
        assert station.welcome == WELCOME
        command = RemoteStart(Token("AB", "Central"), 1)
        assert await station.command(command) == CommandAnswer(Outcome.ACCEPTED, "tx")
        assert echo.seen == [command]
        assert (await station.records(7, 10))[0].fact == FACT
        assert await station.read_settings([SettingWrite("C", "V", "")]) == [("Accepted", "V")]
        server.publish(RowsAppended(9))
        assert await station.news.get() == RowsAppended(9)
        await station.close()

    run(test)


@pytest.mark.wire
def test_slow_call_does_not_delay_another() -> None:
    async def test(server: IpcServer, echo: Echo, path: Path, gone: list[str]) -> None:
        station = await RemoteStation.connect(path)
        slow = asyncio.create_task(station.clear_cache())
        await station.records(0, 1)
        assert not slow.done()
        echo.gate.set()
        assert await slow is True
        await station.close()

    run(test)


@pytest.mark.wire
def test_burst_of_calls_lets_other_events_in_between() -> None:
    """Promise 1: opening never waits. Whatever the gateway asks, the loop looks at its devices in between."""

    async def test(server: IpcServer, echo: Echo, path: Path, gone: list[str]) -> None:
        _, writer = await asyncio.open_unix_connection(path)
        call = {"call": 1, "method": "command", "args": {"command": to_plain(RemoteStop("x"), Command)}}
        writer.write(frame(call) * 50)
        seen_before, most = 0, 0
        while len(echo.seen) < 50:
            await asyncio.sleep(0)
            seen_before, most = len(echo.seen), max(most, len(echo.seen) - seen_before)
        assert most <= 2
        writer.close()

    run(test)


@pytest.mark.wire
def test_gateway_that_goes_is_noticed_and_lost_station_fails_calls() -> None:
    async def test(server: IpcServer, echo: Echo, path: Path, gone: list[str]) -> None:
        station = await RemoteStation.connect(path)
        await station.link_state(True, "ocpp1.6")
        await station.close()
        while not gone:
            await asyncio.sleep(0.001)
        other = await RemoteStation.connect(path)
        waiting = asyncio.create_task(other.clear_cache())
        await asyncio.sleep(0.01)
        await server.close()
        with pytest.raises(StationLost):
            await waiting
        assert await other.news.get() is None
        with pytest.raises(StationLost):
            await other.records(0, 1)
        await other.close()

    run(test)


@pytest.mark.wire
def test_a_gateway_without_a_link_is_known_by_its_report_and_others_are_none() -> None:
    async def test(server: IpcServer, echo: Echo, path: Path, gone: list[str]) -> None:
        visitor = await RemoteStation.connect(path)
        await visitor.records(0, 1)
        await visitor.close()
        gateway = await RemoteStation.connect(path)
        await gateway.report_parts("gateway", [])
        assert gone == []
        await gateway.close()
        while not gone:
            await asyncio.sleep(0.01)

    run(test)


@pytest.mark.wire
def test_what_is_too_large_costs_itself_and_nothing_more() -> None:
    async def test(server: IpcServer, echo: Echo, path: Path, gone: list[str]) -> None:
        station = await RemoteStation.connect(path)
        with pytest.raises(CodecError, match="through the local socket"):
            await station.report("x")
        with pytest.raises(TooLarge):
            await station.link_state(True, "x" * MAX_CALL_BYTES)
        server.publish(RestartComing("x" * MAX_FRAME_BYTES))
        server.publish(RowsAppended(9))
        assert await station.news.get() == RowsAppended(9)
        assert await station.records(0, 1) and echo.seen == []
        await station.close()

    run(test)


@pytest.mark.wire
def test_a_long_call_costs_the_peer_that_sent_it() -> None:
    async def test(server: IpcServer, echo: Echo, path: Path, gone: list[str]) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        call = {"call": 1, "method": "link_state", "args": {"online": True, "dialect": "x" * MAX_CALL_BYTES}}
        writer.write(frame(call))
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()
        assert echo.seen == []

    run(test)


@pytest.mark.wire
def test_the_end_of_the_loop_with_a_peer_is_no_error() -> None:
    seen: list[dict[str, Any]] = []

    async def main(path: Path, peer: socket.socket) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(context))
        station: Any = Echo()
        server = IpcServer(path, station, lambda: WELCOME, list, frozenset({os.getuid()}), lambda: None)
        await server.start()
        peer.connect(str(path))
        while not server._peers:
            await asyncio.sleep(0.001)
        await server.close()

    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as peer:
        asyncio.run(main(Path(folder) / "s", peer))
    assert seen == []


@pytest.mark.wire
def test_the_socket_of_another_station_stays() -> None:
    async def test(server: IpcServer, echo: Echo, path: Path, gone: list[str]) -> None:
        station: Any = echo
        other = IpcServer(path, station, lambda: WELCOME, list, frozenset({os.getuid()}), lambda: None)
        await other.start()
        await server.close()
        await (await RemoteStation.connect(path)).close()
        await other.close()
        assert not path.exists()

    run(test)


@pytest.mark.wire
def test_foreign_user_is_refused() -> None:
    async def test(server: IpcServer, echo: Echo, path: Path, gone: list[str]) -> None:
        with pytest.raises(StationLost, match="refused"):
            await RemoteStation.connect(path)

    run(test, frozenset())


@pytest.mark.wire
@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x02[]",
        b"\x00\x00\x00\x01{",
        b"\x00\x00",
        b'\x00\x00\x00\x14{"call":1,"method":1}',
    ],
)
def test_bad_bytes_cost_only_the_peer_that_sent_them(data: bytes) -> None:
    async def test(server: IpcServer, echo: Echo, path: Path, gone: list[str]) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(data)
        writer.write_eof()
        await reader.read()
        writer.close()
        station = await RemoteStation.connect(path)
        assert await station.records(0, 1)
        await station.close()

    run(test)


@pytest.mark.wire
@pytest.mark.parametrize(
    "message, named",
    [
        ({"call": 1, "method": "nonsense", "args": {}}, "no such method: 'nonsense'"),
        ({"call": 1, "method": "records", "args": {"after": 1}}, "arguments do not fit"),
        ({"call": 1, "method": "records", "args": {"after_seq": "x", "limit": 1}}, "invalid"),
    ],
)
def test_wrong_calls_are_answered_with_what_is_wrong(message: dict[str, Any], named: str) -> None:
    async def test(server: IpcServer, echo: Echo, path: Path, gone: list[str]) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        await read_message(reader)
        writer.write(frame(message))
        answer = await read_message(reader)
        assert answer is not None and answer["answer"] == 1 and named in answer["error"]
        writer.close()

    run(test)


def test_client_implements_every_method_of_the_port() -> None:
    for name in METHODS:
        ours, theirs = inspect.signature(getattr(RemoteStation, name)), inspect.signature(getattr(StationPort, name))
        assert ours == theirs, name


def test_fact_bodies_are_canonical_and_whole() -> None:
    body = encode_fact(FACT)
    assert decode_fact("tx_started", body) == FACT and encode_fact(FACT) == body
    assert decode_fact("genesis", b"{}") is None
    assert decode_fact("security", encode_fact(SecurityFact("X", "y"))) == SecurityFact("X", "y")


def test_what_is_stored_may_hold_more_than_is_known_and_what_is_sent_may_not() -> None:
    """Processes are of one release; a ledger outlives it (ADR 29)."""
    newer = json.loads(encode_fact(FACT)) | {"colour": "red"}
    assert decode_fact("tx_started", json.dumps(newer).encode()) == FACT
    with pytest.raises(CodecError, match="colour"):
        from_plain(newer, TransactionFact)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_a_codec_error_or_a_value(data: bytes) -> None:
    try:
        from_plain(from_json(data), Fact)
    except CodecError as error:
        assert str(error)


def test_half_a_character_does_not_get_in() -> None:
    """JSON can escape a lone surrogate; neither ledger nor log nor socket could write it again."""

    async def main() -> None:
        for text, good in ((b'{"why": "\\u00e9"}', True), (b'{"why": "\\ud800"}', False)):
            reader = asyncio.StreamReader()
            reader.feed_data(len(text).to_bytes(4, "big") + text)
            if good:
                assert await read_message(reader) == {"why": "\u00e9"}
            else:
                with pytest.raises(WireError):
                    await read_message(reader)

    asyncio.run(main())
