"""An HTTP server of the standard library that takes files, and does so badly where a test wants it."""

from __future__ import annotations

import contextlib
import http.server
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Asked:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Server:
    """``statuses`` are given one by one, then 201; ``deaf``: answers without reading the body, and closes."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    deaf: bool = False
    silent: bool = False
    asked: list[Asked] = field(default_factory=list)


@contextlib.contextmanager
def http_server(tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    server = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.close_connection = True
            if server.silent:
                with contextlib.suppress(OSError):
                    self.rfile.read()
                return
            body = b"" if server.deaf else self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            server.asked.append(Asked(self.command, self.path, headers, body))
            self.send_response(server.statuses.pop(0) if server.statuses else 201)
            self.send_header("Location", "http://elsewhere.example/secret")
            self.end_headers()

        do_POST = do_PUT  # noqa: N815 - the library's name

        def log_message(self, format: str, *args: object) -> None:
            pass

    listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        listener.socket = tls.wrap_socket(listener.socket, server_side=True, do_handshake_on_connect=False)
    host = "127.0.0.1" if tls is None else "localhost"
    server.url = f"{'http' if tls is None else 'https'}://{host}:{listener.server_address[1]}"
    thread = threading.Thread(target=listener.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown()
        thread.join()
        listener.server_close()
