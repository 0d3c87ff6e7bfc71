"""A server of files over HTTP on the loopback, as an operator's would be: for the demo, for tests, for rigs.

Charter: serves the files of a folder, or of a dictionary, by their plain names. GET and HEAD, one range per request
(RFC 9110 14), If-Range, strong ETag, Last-Modified, TLS where a context is given. One connection per request.
Counts what it is asked and what it sends. No faults: the tests' server derives from this one and adds them.
"""

from __future__ import annotations

import contextlib
import http.server
import io
import re
import socket
import ssl
import threading
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self
from urllib.parse import quote, unquote, urlsplit

REQUESTS_KEPT: Final = 10_000
_PIECE_BYTES: Final = 64 * 1024
_IDLE_S: Final = 30.0
_UNSENT_BYTES: Final = 64 * 1024  # what the kernel takes counts as sent: it shall not take much
_POLL_S: Final = 0.01  # how soon it notices that it is to stop
_RANGE = re.compile(r"bytes=([0-9]{1,18})-([0-9]{1,18})?")


@dataclass(frozen=True, slots=True)
class Request:
    """``name`` is the file's; header names are in lower case."""

    method: str
    target: str
    name: str
    headers: Mapping[str, str]


@dataclass(slots=True)
class Answer:
    """``body`` stands at the first byte to send; ``length`` bytes of it are sent."""

    status: int
    headers: dict[str, str]
    body: BinaryIO
    length: int


@dataclass(frozen=True, slots=True)
class _Content:
    file: BinaryIO
    size: int
    tag: str
    modified: str


class FileServer:
    """Serves from entering to leaving the ``with`` block. ``files``: a folder, or contents by name (which may change
    meanwhile). With ``tls`` the URLs say https and localhost."""

    def __init__(self, files: Path | Mapping[str, bytes], *, tls: ssl.SSLContext | None = None) -> None:
        self._files = files
        self._started = formatdate(usegmt=True)
        self._listener = _Listener(self, tls)
        self._scheme, self._host = ("http", "127.0.0.1") if tls is None else ("https", "localhost")
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(_POLL_S,), name="file server")
        self._counting = threading.Lock()
        self.stopping = threading.Event()
        self.requests: list[Request] = []
        self.sent_bytes = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopping.set()
        self._listener.shutdown()
        self._thread.join()
        self._listener.hang_up()
        self._listener.server_close()

    @property
    def port(self) -> int:
        return int(self._listener.server_address[1])

    def url(self, name: str) -> str:
        return f"{self._scheme}://{self._host}:{self.port}/{quote(name)}"

    # ------------------------------------------------------------------------------------- one request

    def note(self, request: Request) -> None:
        with self._counting:
            self.requests.append(request)
            del self.requests[:-REQUESTS_KEPT]

    def serve(self, request: Request, wire: io.BufferedIOBase) -> None:
        """Answers ``request`` into ``wire``; the connection is closed afterwards. Raises ``OSError``."""
        answer = self.answer(request)
        with answer.body:
            self.send_head(answer.status, answer.headers, wire)
            if request.method != "HEAD":
                self.send_body(answer.body, answer.length, wire)

    def answer(self, request: Request) -> Answer:
        """What a faultless server says."""
        content = self._find(request.name)
        if content is None:
            return _plain(HTTPStatus.NOT_FOUND)
        headers = {"Accept-Ranges": "bytes", "ETag": content.tag, "Last-Modified": content.modified}
        asked = _RANGE.fullmatch(request.headers.get("range", ""))
        if asked is None or request.headers.get("if-range", content.tag) not in (content.tag, content.modified):
            headers["Content-Length"] = str(content.size)
            return Answer(HTTPStatus.OK, headers, content.file, content.size)
        first, last = int(asked[1]), min(int(asked[2] or content.size), content.size - 1)
        if first > last:
            content.file.close()
            return _plain(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
        headers["Content-Range"] = f"bytes {first}-{last}/{content.size}"
        headers["Content-Length"] = str(last - first + 1)
        content.file.seek(first)
        return Answer(HTTPStatus.PARTIAL_CONTENT, headers, content.file, last - first + 1)

    def send_head(self, status: int, headers: Mapping[str, str], wire: io.BufferedIOBase) -> None:
        phrase = HTTPStatus(status).phrase
        lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in headers.items())]
        wire.write(("\r\n".join([*lines, "Connection: close"]) + "\r\n\r\n").encode("latin-1"))

    def send_body(self, body: BinaryIO, length: int, wire: io.BufferedIOBase) -> None:
        while length > 0 and (piece := body.read(min(length, _PIECE_BYTES))):
            wire.write(piece)
            length -= len(piece)
            with self._counting:
                self.sent_bytes += len(piece)

    def _find(self, name: str) -> _Content | None:
        if not isinstance(self._files, Path):
            data = self._files.get(name)
            if data is None:
                return None
            return _Content(io.BytesIO(data), len(data), f'"{zlib.crc32(data):08x}-{len(data):x}"', self._started)
        path = self._files / name
        if not name or path.name != name or path.is_symlink() or not path.is_file():
            return None
        found = path.stat()
        tag = f'"{found.st_mtime_ns:x}-{found.st_size:x}"'
        return _Content(path.open("rb"), found.st_size, tag, formatdate(found.st_mtime, usegmt=True))


def _plain(status: HTTPStatus) -> Answer:
    text = f"{status.value} {status.phrase}\n".encode()
    return Answer(status, {"Content-Type": "text/plain", "Content-Length": str(len(text))}, io.BytesIO(text), len(text))


class _Handler(http.server.BaseHTTPRequestHandler):
    """Reads one request; ``FileServer.serve`` answers it."""

    timeout = _IDLE_S
    server: _Listener

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _UNSENT_BYTES)
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        super().finish()

    def do_GET(self) -> None:
        self.close_connection = True
        headers = {name.lower(): value for name, value in self.headers.items()}
        name = unquote(urlsplit(self.path).path).removeprefix("/")
        request = Request(self.command, self.path, name, headers)
        self.server.owner.note(request)
        self.server.owner.serve(request, self.wfile)

    do_HEAD = do_GET  # noqa: N815 - the library's name

    def log_message(self, format: str, *args: object) -> None:
        """Not to the terminal: what was asked is in ``FileServer.requests``."""


class _Listener(http.server.ThreadingHTTPServer):
    """Handshakes happen in each connection's own thread: a client that refuses our certificate keeps nobody waiting."""

    daemon_threads = False  # all are joined at the end

    def __init__(self, owner: FileServer, tls: ssl.SSLContext | None) -> None:
        self.owner = owner
        self.connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Handler)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def hang_up(self) -> None:
        """Ends the connections that somebody still waits on."""
        for each in list(self.connections):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that leaves in the middle is its own affair; anything else is shown."""
        import sys

        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]
