"""The station's side of the local socket.

Charter: accepts peers whose user may speak to the station, answers their calls on a ``StationPort``,
and sends news to all. A peer that does not read is dropped, not waited for: the station never
blocks for anybody. What is too large for the socket costs an answer or a piece of news, never the station. Source of
the peer's identity: SO_PEERCRED (kernel, cannot be forged).
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_type_hints

import structlog

from agent.ipc.codec import CodecError, from_plain, to_plain
from agent.ipc.peer import peer_uid
from agent.ipc.port import News, StationPort, Welcome
from agent.ipc.wire import MAX_CALL_BYTES, TooLarge, WireError, frame, read_message

_MAX_PEERS = 16
_MAX_UNSENT_BYTES = 4 * 1024 * 1024
_MAX_CALLS = 64  # under way at once, per peer

log = structlog.get_logger("ipc")


def _methods() -> dict[str, dict[str, Any]]:
    """Parameter and return types of every method of the port: the protocol is its signature."""
    names = [name for name in vars(StationPort) if not name.startswith("_")]
    return {name: get_type_hints(getattr(StationPort, name)) for name in names}


METHODS = _methods()
_NEEDED = {
    method: {
        name
        for name, parameter in inspect.signature(getattr(StationPort, method)).parameters.items()
        if name != "self" and parameter.default is inspect.Parameter.empty
    }
    for method in METHODS
}


class IpcServer:
    """Serves one ``StationPort`` on a Unix socket at ``path``.

    Whoever connects hears ``welcome`` first, then ``greetings``: news that he would have missed."""

    def __init__(
        self,
        path: Path,
        station: StationPort,
        welcome: Callable[[], Welcome],
        greetings: Callable[[], list[News]],
        uids: frozenset[int],
        on_gateway_gone: Callable[[], None],
    ) -> None:
        self._path = path
        self._station = station
        self._welcome = welcome
        self._greetings = greetings
        self._uids = uids
        self._on_gateway_gone = on_gateway_gone
        self._peers: set[_Peer] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._ours: tuple[int, int] | None = None  # device and inode of the socket's file

    async def start(self) -> None:
        """What stands at ``path`` is replaced: whoever starts has made sure that no other station runs
        (``agent.station.alone``)."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._accept, self._path)
        self._path.chmod(0o660)
        self._ours = _inode(self._path)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for peer in list(self._peers):
            peer.drop()
        if self._ours is not None and _inode(self._path) == self._ours:
            self._path.unlink(missing_ok=True)

    def publish(self, news: News) -> None:
        """Tell everybody who is connected."""
        self._tell(list(self._peers), news)

    def _tell(self, peers: Iterable[_Peer], news: News) -> None:
        try:
            message = frame({"news": to_plain(news, News)})
        except TooLarge as error:
            log.error("news not told", news=type(news).__name__, why=str(error))
            return
        for peer in peers:
            peer.send(message)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A task of our own: that of ``asyncio`` takes its end with the loop for an error.
        serving = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._serving.add(serving)
        serving.add_done_callback(self._serving.discard)
        serving.add_done_callback(_must_not_fail)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        uid = peer_uid(writer.get_extra_info("socket"))
        if uid not in self._uids or len(self._peers) >= _MAX_PEERS:
            log.warning("peer refused", uid=uid, peers=len(self._peers))
            writer.close()
            return
        peer = _Peer(reader, writer, self._station)
        self._peers.add(peer)
        peer.send(frame({"news": {"_type": "Welcome", **to_plain(self._welcome())}}))
        for news in self._greetings():
            self._tell([peer], news)
        try:
            await peer.serve()
        except WireError as error:
            log.warning("peer dropped", uid=uid, reason=str(error))
        finally:
            self._peers.discard(peer)
            peer.drop()
            if peer.is_gateway:
                self._on_gateway_gone()


class _Peer:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, station: StationPort) -> None:
        self._reader = reader
        self._writer = writer
        self._station = station
        self._calls: set[asyncio.Task[None]] = set()
        self.is_gateway = False

    def send(self, data: bytes) -> None:
        if self._writer.is_closing():
            return
        self._writer.write(data)
        if self._writer.transport.get_write_buffer_size() > _MAX_UNSENT_BYTES:
            log.warning("peer dropped", reason="does not read")
            self._writer.transport.abort()

    def drop(self) -> None:
        for call in self._calls:
            call.cancel()
        self._writer.close()

    async def serve(self) -> None:
        while (message := await read_message(self._reader, MAX_CALL_BYTES)) is not None:
            if len(self._calls) >= _MAX_CALLS:
                raise WireError("too many calls at once")
            call = asyncio.create_task(self._answer(message))
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)
            call.add_done_callback(_must_not_fail)
            # One call for each turn of the loop: a burst of them must not stand before the pilot's bytes.
            await asyncio.sleep(0)

    async def _answer(self, message: dict[str, Any]) -> None:
        number, method = message.get("call"), message.get("method")
        hints = METHODS.get(method) if isinstance(method, str) else None
        try:
            if hints is None or not isinstance(number, int):
                # Never the value itself: the text of a deeply nested one costs as many levels of calls.
                name = method if isinstance(method, str) else type(method).__name__
                raise CodecError(f"no such method: {name[:60]!r}")
            arguments = _arguments(str(method), message.get("args"))
        except CodecError as error:
            self.send(frame({"answer": number if isinstance(number, int) else -1, "error": str(error)}))
            return
        self.is_gateway = self.is_gateway or method in ("link_state", "report_parts")
        value = await getattr(self._station, str(method))(**arguments)
        try:
            answer = frame({"answer": number, "value": to_plain(value, hints["return"])})
        except TooLarge as error:
            log.error("answer not told", method=method, why=str(error))
            answer = frame({"answer": number, "error": str(error)})
        self.send(answer)


def _must_not_fail(task: asyncio.Task[None]) -> None:
    """A bug in the station must not hide: the process ends and is restarted safe."""
    if not task.cancelled() and (error := task.exception()) is not None:
        task.get_loop().call_exception_handler({"message": "station call failed", "exception": error})


def _inode(path: Path) -> tuple[int, int] | None:
    """None: there is no such file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _arguments(method: str, given: Any) -> dict[str, Any]:
    """``given`` as the method takes it; what has a default may be left out."""
    hints = METHODS[method]
    if not isinstance(given, dict) or not _NEEDED[method] <= set(given) <= set(hints) - {"return"}:
        raise CodecError("arguments do not fit the method")
    return {name: from_plain(value, hints[name]) for name, value in given.items()}
