"""A TCP proxy on the loopback interface that plays the network's faults, switched while connections live.

Charter: stands between a station and its CSMS; passes bytes on as they are, except for the faults that are on
(``agent.sim.proxy_faults``). Ends TLS itself where it is given a server's context, so that certificates can change
from one connection to the next. Knows nothing of WebSocket or OCPP. Everything is bounded: connections, bytes held
for each, and its own life.

Units: milliseconds, bytes; seconds for its life. Its randomness is seeded.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import ssl
import struct
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, cast

from agent.sim.proxy_faults import (
    FAULTS,
    Corrupt,
    Ending,
    Fault,
    HalfOpen,
    Impostor,
    Latency,
    Refuse,
    Stall,
    Trickle,
    Truncate,
    Way,
    fault_of,
)

_HOST: Final = "127.0.0.1"
CONNECTIONS_MAX: Final = 64
CHUNK_BYTES: Final = 4 * 1024
HELD_BYTES: Final = 64 * 1024  # in each direction of a connection, before the sender is made to wait
LIFE_S: Final = 900.0
HANDSHAKE_S: Final = 30.0
SHUTDOWN_S: Final = 1.0
_ATTEMPTS_KEPT: Final = 1_000
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)

F = TypeVar("F", bound=Fault)
W = TypeVar("W", bound=Latency | Stall | Truncate | Corrupt | Trickle)


@dataclass(slots=True, eq=False)
class _End:
    """One end of a connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def end(self, how: Ending) -> None:
        if how is Ending.CLOSE:
            self.writer.close()
            return
        held = cast(socket.socket | None, self.writer.get_extra_info("socket"))
        if held is not None:
            with contextlib.suppress(OSError):  # the peer was faster
                held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.writer.transport.abort()


@dataclass(slots=True, eq=False)
class _Connection:
    """Both ends. ``dead``: half-open for good. ``passed``: bytes each way since the faults last changed."""

    station: _End
    csms: _End | None = None
    dead: bool = False
    passed: dict[Way, int] = field(default_factory=dict)

    def end(self, how: Ending) -> None:
        for end in (self.station, self.csms):
            if end is not None:
                end.end(how)


class FaultProxy:
    """``await start()``, then connect to ``port``. Faults are on until switched off; one of each name at a time.

    ``tls``: the context that new connections are met with, None: no TLS; may be replaced at any time."""

    def __init__(
        self, host: str, port: int, *, tls: ssl.SSLContext | None = None, seed: int = 0, life_s: float = LIFE_S
    ) -> None:
        self.tls = tls
        self.port = 0
        self.attempts: deque[float] = deque(maxlen=_ATTEMPTS_KEPT)
        """When connections came, by the event loop's clock in seconds; refused ones are not seen."""
        self._target = (host, port)
        self._dice = random.Random(seed)
        self._life_s = life_s
        self._on: dict[type[object], Fault] = {}
        self._changed = asyncio.Event()
        self._keeper: socket.socket | None = None  # keeps the port while nobody listens
        self._accepting: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: set[_Connection] = set()
        self._expiry: asyncio.TimerHandle | None = None

    # ------------------------------------------------------------------------------------- life

    async def start(self) -> int:
        """Listen on a free loopback port and return it. Stops by itself after ``life_s``."""
        self._keeper = keeper = socket.socket()
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        keeper.bind((_HOST, 0))
        self.port = keeper.getsockname()[1]
        self._listen()
        self._expiry = asyncio.get_running_loop().call_later(self._life_s, self._end_all)
        return self.port

    async def stop(self) -> None:
        """End everything; to be awaited also after its life has ended."""
        self._end_all()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _end_all(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        if self._keeper is not None:
            self._keeper.close()
            self._keeper = None
        for connection in self._connections:
            connection.end(Ending.RESET)
        for task in self._tasks:
            task.cancel()

    def _listen(self) -> None:
        listener = socket.create_server((_HOST, self.port), reuse_port=True)
        listener.setblocking(False)
        self._accepting = asyncio.create_task(self._accept(listener))
        self._accepting.add_done_callback(lambda _task: listener.close())
        self._keep(self._accepting)

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ----------------------------------------------------------------------------------- faults

    def switch_on(self, name: str, **parameters: Any) -> None:
        """Turn a fault on, in place of one of the same name. Raises ``ValueError`` as ``fault_of``."""
        fault = fault_of(name, parameters)
        self._on[type(fault)] = fault
        for connection in self._connections:
            connection.passed.clear()
            connection.dead = connection.dead or isinstance(fault, HalfOpen)
        if isinstance(fault, Refuse) and self._accepting is not None:
            self._accepting.cancel()
            self._accepting = None
        self._wake()

    def switch_off(self, name: str | None = None) -> None:
        """Turn one fault off, or all. What is off already stays so. Raises ``ValueError`` for an unknown name."""
        if name is None:
            self._on.clear()
        elif name in FAULTS:
            self._on.pop(FAULTS[name], None)
        else:
            raise ValueError(f"unknown fault {name!r}; there are: {', '.join(FAULTS)}")
        if self._accepting is None and self._keeper is not None and self._fault(Refuse) is None:
            self._listen()
        self._wake()

    def cut(self, ending: Ending) -> None:
        """End all connections now, at both ends; but nobody is told of the end of a dead one."""
        for connection in self._connections:
            if not connection.dead:
                connection.end(ending)

    @property
    def connections(self) -> int:
        """How many are open, those that are dead included."""
        return len(self._connections)

    def _fault(self, kind: type[F]) -> F | None:
        fault = self._on.get(kind)
        return fault if isinstance(fault, kind) else None

    def _biting(self, kind: type[W], way: Way) -> W | None:
        """The fault, if it is on for this way."""
        fault = self._on.get(kind)
        return fault if isinstance(fault, kind) and fault.way.covers(way) else None

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    # ------------------------------------------------------------------------------ connections

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            held, _ = await loop.sock_accept(listener)
            self.attempts.append(loop.time())
            if len(self._tasks) > CONNECTIONS_MAX:  # one of them is this one
                held.close()
                continue
            self._keep(loop.create_task(self._serve(held)))

    async def _serve(self, held: socket.socket) -> None:
        impostor = self._fault(Impostor)
        tls = None if impostor is not None and impostor.before_tls else self.tls
        try:
            connection = _Connection(await _meet(held, tls))
        except OSError:  # the client did not like our certificate, or left: its own side tells why
            held.close()
            return
        half_open = self._fault(HalfOpen)
        connection.dead = half_open is not None and half_open.swallow_new
        self._connections.add(connection)
        try:
            if impostor is not None:
                await _pretend(connection.station, impostor)
            elif connection.dead:
                await _until_gone(connection.station.reader)
            else:
                await self._join(connection)
        except OSError:
            connection.end(Ending.RESET)
        finally:
            self._connections.discard(connection)
            connection.end(Ending.CLOSE)

    async def _join(self, connection: _Connection) -> None:
        """Pass bytes and FIN both ways, until both sides have ended or one is reset."""
        reader, writer = await asyncio.open_connection(*self._target, limit=HELD_BYTES)
        station = connection.station
        connection.csms = csms = _End(reader, writer)
        writer.transport.set_write_buffer_limits(HELD_BYTES)
        ways = [
            asyncio.create_task(self._pump(connection, Way.TO_CSMS, station.reader, csms.writer)),
            asyncio.create_task(self._pump(connection, Way.TO_STATION, csms.reader, station.writer)),
        ]
        try:
            done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_EXCEPTION)
            if connection.dead:
                await asyncio.wait(ways)  # what ended one side is not told to the other
            else:
                for way in done:
                    way.result()
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _pump(
        self, connection: _Connection, way: Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while chunk := await reader.read(CHUNK_BYTES):
            await self._hold(connection, way)
            if connection.dead:
                continue
            truncate = self._biting(Truncate, way)
            left = len(chunk) if truncate is None else truncate.after_bytes - connection.passed.get(way, 0)
            chunk = self._spoil(chunk[:left], way)
            await self._write(chunk, way, writer)
            connection.passed[way] = connection.passed.get(way, 0) + len(chunk)
            if truncate is not None and left <= len(chunk):
                connection.end(truncate.ending)
                return
        await self._hold(connection, way)  # FIN does not overtake what is held
        if connection.dead:
            return
        if writer.can_write_eof():
            writer.write_eof()
        else:
            writer.close()

    async def _hold(self, connection: _Connection, way: Way) -> None:
        """Wait as long as the faults want. A dead connection waits for nothing."""
        latency = self._biting(Latency, way)
        if latency is not None:
            await asyncio.sleep((latency.delay_ms + self._dice.uniform(0, latency.jitter_ms)) / 1_000)
        while self._biting(Stall, way) is not None and not connection.dead:
            await self._changed.wait()

    def _spoil(self, chunk: bytes, way: Way) -> bytes:
        corrupt = self._biting(Corrupt, way)
        if corrupt is None:
            return chunk
        return bytes(byte ^ 0xFF if self._dice.randrange(corrupt.one_in) == 0 else byte for byte in chunk)

    async def _write(self, chunk: bytes, way: Way, writer: asyncio.StreamWriter) -> None:
        trickle = self._biting(Trickle, way)
        step = len(chunk) if trickle is None else 1
        for start in range(0, len(chunk), step or 1):
            writer.write(chunk[start : start + step])
            await writer.drain()
            if trickle is not None:
                await asyncio.sleep(trickle.pause_ms / 1_000)


async def _meet(held: socket.socket, tls: ssl.SSLContext | None) -> _End:
    """Streams over an accepted socket. Raises ``OSError`` (``ssl.SSLError`` is one) when TLS cannot be agreed upon."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(HELD_BYTES)
    protocol = asyncio.StreamReaderProtocol(reader)
    timeout_s = None if tls is None else HANDSHAKE_S
    transport, _ = await loop.connect_accepted_socket(lambda: protocol, held, ssl=tls, ssl_handshake_timeout=timeout_s)
    writer = asyncio.StreamWriter(transport, protocol, reader, loop)
    transport.set_write_buffer_limits(HELD_BYTES)
    return _End(reader, writer)


async def _pretend(station: _End, impostor: Impostor) -> None:
    """Answer in place of the CSMS: after the whole head of a request, or after the first bytes of a TLS handshake."""
    try:
        if impostor.before_tls:
            request = await station.reader.read(CHUNK_BYTES)
        else:
            request = await station.reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return
    reply = impostor.reply(request)
    if not reply:
        await _until_gone(station.reader)
        return
    station.writer.write(reply)
    await station.writer.drain()
    if reply.startswith(b"HTTP/1.1 101"):
        await _until_gone(station.reader)


async def _until_gone(reader: asyncio.StreamReader) -> None:
    while await reader.read(CHUNK_BYTES):
        pass
