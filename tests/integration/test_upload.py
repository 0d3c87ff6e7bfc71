"""Uploads to real servers: HTTP and HTTPS of the standard library, FTP of pyftpdlib, FTP inside TLS of our own."""

from __future__ import annotations

import contextlib
import io
import logging
import socket
import ssl
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.transfer.location import DEFAULT_PORTS
from agent.transfer.upload import (
    SCHEMES,
    FailureKind,
    Parcel,
    Upload,
    UploadFailed,
    UploadSettings,
    destination,
)
from tests.support.file_server import Certificates
from tests.support.upload_server import Server, http_server

pytestmark = pytest.mark.wire

DATA = bytes(range(256)) * 2_000  # more than sockets buffer in one piece
NAME = "evsed-CP-1-diagnostics-20261124T080000Z.tar.gz"
QUICK = UploadSettings(connect_timeout_s=5, io_timeout_s=5)


def send(url: str, settings: UploadSettings = QUICK, data: bytes = DATA) -> Upload:
    upload = Upload(destination(url, NAME, SCHEMES), settings)
    upload.send(Parcel(io.BytesIO(data), len(data), NAME, "application/gzip"))
    return upload


def refusal(url: str, settings: UploadSettings = QUICK) -> UploadFailed:
    with pytest.raises(UploadFailed) as failed:
        send(url, settings)
    assert "secret" not in str(failed.value) and "bob" not in str(failed.value)
    return failed.value


# ------------------------------------------------------------------------------------- HTTP and HTTPS


@pytest.fixture
def web() -> Iterator[Server]:
    with http_server() as server:
        yield server


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/in/", f"/in/{NAME}"),
        ("", f"/{NAME}"),
        ("/in", "/in"),
        ("/in/f.bin?sig=a%2Fb&x=1", "/in/f.bin?sig=a%2Fb&x=1"),
        ("/in/?station=1", f"/in/{NAME}?station=1"),
    ],
)
def test_a_folder_gets_the_name_and_an_address_is_taken_as_it_is(web: Server, path: str, target: str) -> None:
    assert send(web.url + path).sent_bytes == len(DATA)
    (asked,) = web.asked
    assert (asked.method, asked.target, asked.body) == ("PUT", target, DATA)
    assert asked.headers["content-type"] == "application/gzip"
    assert asked.headers["content-disposition"] == f'attachment; filename="{NAME}"'
    assert "authorization" not in asked.headers


def test_credentials_of_the_location_are_used(web: Server) -> None:
    send(web.url.replace("://", "://bob:s%3Acret@") + "/in")
    assert web.asked[0].headers["authorization"] == "Basic Ym9iOnM6Y3JldA=="
    assert web.asked[0].headers["host"] == web.url.removeprefix("http://")


@pytest.mark.parametrize("status", [405, 501])
def test_where_there_is_no_put_the_file_is_posted(web: Server, status: int) -> None:
    web.statuses = [status]
    send(web.url + "/in")
    assert [(each.method, each.body) for each in web.asked] == [("PUT", DATA), ("POST", DATA)]


def test_the_configuration_may_ask_for_post(web: Server) -> None:
    send(web.url + "/in/", UploadSettings(post=True))
    assert [(each.method, each.target) for each in web.asked] == [("POST", f"/in/{NAME}")]


@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        (400, FailureKind.MALFORMED, False),
        (401, FailureKind.DENIED, False),
        (403, FailureKind.DENIED, False),
        (404, FailureKind.BROKEN, False),
        (413, FailureKind.BROKEN, False),
        (429, FailureKind.BROKEN, True),
        (500, FailureKind.BROKEN, True),
        (503, FailureKind.BROKEN, True),
        (302, FailureKind.UNSUPPORTED, False),
        (307, FailureKind.UNSUPPORTED, False),
    ],
)
def test_what_the_server_answers_decides(web: Server, status: int, kind: FailureKind, retryable: bool) -> None:
    web.statuses = [status]
    failed = refusal(web.url.replace("://", "://bob:secret@") + "/in")
    assert (failed.kind, failed.retryable) == (kind, retryable)
    assert f"HTTP status {status}" in failed.why and web.url + "/in" in failed.why
    assert len(web.asked) == 1  # no redirect is followed


def test_neither_put_nor_post(web: Server) -> None:
    web.statuses = [405, 405]
    failed = refusal(web.url + "/in")
    assert (failed.kind, failed.retryable) == (FailureKind.UNSUPPORTED, False)


def test_an_answer_before_the_end_of_the_body_ends_the_try(web: Server) -> None:
    web.deaf, web.statuses = True, [413]
    with pytest.raises(UploadFailed) as failed:  # the answer, or the connection that broke before it was read
        send(web.url + "/in", data=DATA * 20)
    assert "413" in failed.value.why or failed.value.retryable


def test_a_silent_server_is_given_up(web: Server) -> None:
    web.silent = True
    failed = refusal(web.url + "/in", UploadSettings(io_timeout_s=0.2))
    assert failed.retryable and "too slow or silent" in failed.why


def test_a_whole_try_has_its_time(web: Server) -> None:
    failed = refusal(web.url + "/in", UploadSettings(total_timeout_s=0.2, max_bytes_per_s=100_000))
    assert failed.retryable and "not done within 0.2 s" in failed.why


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    failed = refusal(f"http://127.0.0.1:{port}/")
    assert failed.retryable and "no connection" in failed.why


def test_end_from_another_thread(web: Server) -> None:
    web.silent = True
    upload = Upload(destination(web.url, NAME, SCHEMES), UploadSettings(io_timeout_s=60))
    failures: list[UploadFailed] = []

    def work() -> None:
        try:
            upload.send(Parcel(io.BytesIO(DATA), len(DATA), NAME, "x/y"))
        except UploadFailed as failed:
            failures.append(failed)

    thread = threading.Thread(target=work)
    thread.start()
    until(lambda: upload.sent_bytes == len(DATA))
    upload.end()
    thread.join(10)
    assert not thread.is_alive() and len(failures) == 1


def test_an_end_before_the_beginning_sends_nothing(web: Server) -> None:
    upload = Upload(destination(web.url, NAME, SCHEMES), QUICK)
    upload.end()
    with pytest.raises(UploadFailed, match="given up"):
        upload.send(Parcel(io.BytesIO(DATA), len(DATA), NAME, "x/y"))
    assert web.asked == []


def test_https_trusts_the_configured_roots_beside_the_systems(tmp_path: Path) -> None:
    good, strange = (Certificates(folder(tmp_path / name)) for name in ("good", "strange"))
    with http_server(good.server()) as server:
        send(server.url + "/in/", UploadSettings(ca_file=good.ca_file))
        assert server.asked[0].body == DATA
        for settings in (UploadSettings(ca_file=strange.ca_file), UploadSettings()):
            failed = refusal(server.url + "/in", settings)
            assert "certificate is refused" in failed.why and not failed.retryable
        missing = refusal(server.url + "/in", UploadSettings(ca_file=tmp_path / "none.pem"))
        assert "CA file" in missing.why
        assert len(server.asked) == 1


# ------------------------------------------------------------------------------------------ locations


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("file:///etc/passwd", "not allowed here"),
        ("/etc/passwd", "not allowed here"),
        ("sftp://h/x", "sftp is not supported"),
        ("C:", "c is not supported"),
        ("", "empty"),
        ("http://", "no host"),
        ("http:///x", "no host"),
        ("http://h/a b", "percent-encoded"),
        ("http://h:99999/", "cannot be read"),
        ("http://h/\r\nX: y", "control character"),
        ("ftp://h/a%0d%0aDELE%20x", "control character"),
        ("ftp://h/d/?x", "query"),
        ("https://[::1/", "cannot be read"),
    ],
)
def test_locations_that_nothing_is_brought_to(url: str, why: str) -> None:
    with pytest.raises(UploadFailed, match=why) as failed:
        destination(url, NAME, SCHEMES)
    assert failed.value.kind is FailureKind.MALFORMED and not failed.value.retryable


def test_schemes_that_are_not_configured_are_refused() -> None:
    with pytest.raises(UploadFailed, match="http is not allowed here; allowed: https"):
        destination("http://h/", NAME, ["https"])


# ------------------------------------------------------------------------------------------------ FTP


@pytest.fixture
def ftp(tmp_path: Path) -> Iterator[str]:
    """A common FTP server: user ``bob``, password ``s:cret``, folder ``in``; anonymous may only read."""
    (tmp_path / "in").mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pyftpdlib.authorizers import DummyAuthorizer  # type: ignore[import-untyped]
        from pyftpdlib.handlers import FTPHandler  # type: ignore[import-untyped]
        from pyftpdlib.servers import FTPServer  # type: ignore[import-untyped]
    logging.getLogger("pyftpdlib").setLevel(logging.CRITICAL)
    people = DummyAuthorizer()
    people.add_user("bob", "s:cret", str(tmp_path), perm="elradfmwMT")
    people.add_anonymous(str(tmp_path))
    handler = type("Handler", (FTPHandler,), {"authorizer": people, "auth_failed_timeout": 0})
    server = FTPServer(("127.0.0.1", 0), handler)
    ending = threading.Event()

    def serve() -> None:
        while not ending.is_set():
            server.serve_forever(timeout=0.01, blocking=False, handle_exit=False)

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"bob:s%3Acret@127.0.0.1:{server.address[1]}"
    ending.set()
    thread.join()
    server.close_all()


@pytest.mark.parametrize(
    ("path", "file"),
    [("", NAME), ("/", NAME), ("/in/", f"in/{NAME}"), ("/in", f"in/{NAME}"), ("/in/other.bin", "in/other.bin")],
)
def test_ftp_asks_whether_the_location_is_a_folder(ftp: str, tmp_path: Path, path: str, file: str) -> None:
    send(f"ftp://{ftp}{path}")
    until(lambda: (tmp_path / file).exists() and (tmp_path / file).read_bytes() == DATA)
    assert {each.name for each in tmp_path.rglob("*") if each.is_file()} == {Path(file).name}


@pytest.mark.parametrize(
    ("user", "path", "why"),
    [
        ("bob:secret@", "/in", "FTP answer 530 (the login is refused)"),
        ("", "/in", "FTP answer 550"),
        ("bob:s%3Acret@", "/none/x", "FTP answer 550"),
    ],
)
def test_ftp_refusals_are_final(ftp: str, user: str, path: str, why: str) -> None:
    failed = refusal(f"ftp://{user}{ftp.partition('@')[2]}{path}")
    assert why in failed.why and failed.kind is FailureKind.DENIED and not failed.retryable


class SmallFtps:
    """Takes one file inside TLS: AUTH TLS, or TLS from the first byte (``at_once``). ``final``: its last word."""

    def __init__(self, context: ssl.SSLContext, *, at_once: bool = False, final: str = "226 have it") -> None:
        self._context, self._at_once, self._final = context, at_once, final
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.stored: dict[str, bytes] = {}
        self.commands: list[str] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._thread.join(10)
        self._listener.close()

    def _serve(self) -> None:
        connection: socket.socket = self._listener.accept()[0]
        if self._at_once:
            connection = self._context.wrap_socket(connection, server_side=True)
        data = socket.create_server(("127.0.0.1", 0))
        with contextlib.suppress(OSError), data:
            connection.sendall(b"220 here\r\n")
            while line := _line(connection):
                word, _, rest = line.partition(" ")
                self.commands.append(word)
                if word == "AUTH":
                    connection.sendall(b"234 go\r\n")
                    connection = self._context.wrap_socket(connection, server_side=True)
                elif word in ("EPSV", "PASV"):
                    port = data.getsockname()[1]
                    connection.sendall(f"227 (127,0,0,1,{port >> 8},{port & 255})\r\n".encode())
                elif word == "STOR":
                    connection.sendall(b"150 come\r\n")
                    with self._context.wrap_socket(data.accept()[0], server_side=True) as stream:
                        pieces = []
                        while piece := stream.recv(65_536):  # ends with close_notify, else it raises
                            pieces.append(piece)
                    self.stored[rest] = b"".join(pieces)
                    connection.sendall(f"{self._final}\r\n".encode())
                else:
                    answers = {"USER": "331 and", "PASS": "230 in", "CWD": "550 no", "QUIT": "221 bye"}
                    connection.sendall(f"{answers.get(word, '200 yes')}\r\n".encode())
        connection.close()


def _line(connection: socket.socket) -> str:
    text = b""
    while not text.endswith(b"\n"):
        if not (byte := connection.recv(1)):
            return ""
        text += byte
    return text.decode().strip()


@pytest.mark.parametrize("at_once", [False, True])
def test_ftps_protects_both_connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: bool) -> None:
    certificates = Certificates(tmp_path)
    server = SmallFtps(certificates.server(), at_once=at_once)
    if at_once:
        monkeypatch.setitem(DEFAULT_PORTS, "ftps", server.port)
    send(f"ftps://bob:secret@localhost:{server.port}/d/f.gz", UploadSettings(ca_file=certificates.ca_file))
    server.close()
    assert server.stored == {"d/f.gz": DATA}
    assert ("AUTH" in server.commands) is not at_once
    assert server.commands.index("PROT") < server.commands.index("STOR")


@pytest.mark.parametrize(
    ("final", "why", "retryable"),
    [
        ("552 full", "FTP answer 552 (the server has no room)", False),
        ("452 full", "FTP answer 452 (the server has no room)", True),
        ("426 oops secret", "FTP answer 426 (the server refuses)", True),
        ("nonsense", "the answer cannot be understood", True),
    ],
)
def test_a_file_has_arrived_when_the_server_says_so(tmp_path: Path, final: str, why: str, retryable: bool) -> None:
    certificates = Certificates(tmp_path)
    server = SmallFtps(certificates.server(), final=final)
    failed = refusal(f"ftps://bob:secret@localhost:{server.port}/f", UploadSettings(ca_file=certificates.ca_file))
    server.close()
    assert why in failed.why and failed.retryable is retryable


def test_ftps_of_a_stranger_is_not_told_the_password(tmp_path: Path) -> None:
    good, strange = (Certificates(folder(tmp_path / name)) for name in ("good", "strange"))
    server = SmallFtps(strange.server())
    failed = refusal(f"ftps://bob:secret@localhost:{server.port}/f", UploadSettings(ca_file=good.ca_file))
    server.close()
    assert "certificate is refused" in failed.why and "USER" not in server.commands


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def until(is_so: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < end_s
        time.sleep(0.01)
