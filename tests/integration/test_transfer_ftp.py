"""Downloads over FTP: from a common server (pyftpdlib), and from one of our own that speaks TLS and misbehaves."""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Self

import pytest

from agent.firmware.errors import SourceLost
from agent.transfer.location import DEFAULT_PORTS
from agent.transfer.settings import TransferTls
from tests.support.file_server import Certificates
from tests.unit.transfer.rig import DATA, SIZE, SMALL, Client

pytestmark = pytest.mark.wire

FTP = frozenset({"ftp", "ftps"})


# --------------------------------------------------------------------------------------- a common server


@pytest.fixture
def common(tmp_path: Path) -> Iterator[str]:
    """Where a real FTP server is, with user ``bob``, password ``s:cret`` and the files ``big`` and ``d/ä b``."""
    (tmp_path / "big").write_bytes(DATA)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "ä b").write_bytes(SMALL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pyftpdlib.authorizers import DummyAuthorizer  # type: ignore[import-untyped]
        from pyftpdlib.handlers import FTPHandler  # type: ignore[import-untyped]
        from pyftpdlib.servers import FTPServer  # type: ignore[import-untyped]
    logging.getLogger("pyftpdlib").setLevel(logging.CRITICAL)
    people = DummyAuthorizer()
    people.add_user("bob", "s:cret", str(tmp_path))
    people.add_anonymous(str(tmp_path / "d"))
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


def test_reading_forward_and_back(common: str) -> None:
    with Client(schemes=FTP).open(f"ftp://{common}/big") as file:
        assert file.size == SIZE
        assert file.read(0, 300_000) == DATA[:300_000]
        assert file.read(2_000_000, 1_000_000) == DATA[2_000_000:]
        assert file.read(7, 100_000) == DATA[7:100_007]
        assert file.fetched_bytes == 1_400_000


def test_paths_are_decoded_and_nobody_in_particular_may_log_in(common: str) -> None:
    for url in (f"ftp://{common}/d/%C3%A4%20b", f"ftp://{common.partition('@')[2]}/%C3%A4%20b"):
        with Client(schemes=FTP).open(url) as file:
            assert file.read(1, 9_999) == SMALL[1:]


@pytest.mark.parametrize(
    ("path", "password", "why"),
    [
        ("none", "s%3Acret", "FTP answer 550 (no such file, or it is not for this user)"),
        ("d", "s%3Acret", "FTP answer 550"),
        ("big", "topsecret", "FTP answer 530 (the login is refused)"),
    ],
)
def test_refusals_are_final_and_hold_no_secret(common: str, path: str, password: str, why: str) -> None:
    lost = Client(schemes=FTP).refusal(f"ftp://bob:{password}@{common.partition('@')[2]}/{path}")
    assert why in str(lost) and not lost.retryable
    assert "bob" not in str(lost) and "secret" not in str(lost)
    assert lost.__cause__ is None


def test_a_file_that_changes_is_noticed(common: str, tmp_path: Path) -> None:
    with Client(schemes=FTP).open(f"ftp://{common}/big") as file:
        assert file.read(0, 10) == DATA[:10]
        (tmp_path / "big").write_bytes(DATA + b"more")
        with pytest.raises(SourceLost, match="the file changed while it was downloaded") as lost:
            file.read(2_000_000, 10)
        assert not lost.value.retryable


# -------------------------------------------------------------------------------------- a server of ours


class SmallFtp:
    """One file, ``f``, at ``data``. Answers in ``answers`` replace those of commands; ``cuts`` are the bytes that each
    transfer may send. With ``tls`` it takes AUTH TLS, or speaks TLS from the first byte (``at_once``)."""

    def __init__(
        self,
        data: bytes,
        *,
        answers: Mapping[str, str] | None = None,
        cuts: list[int] | None = None,
        tls: ssl.SSLContext | None = None,
        at_once: bool = False,
        host: str = "127.0.0.1",
    ) -> None:
        self._data, self._answers, self._cuts = data, dict(answers or {}), cuts or []
        self._tls, self._at_once, self._host = tls, at_once, host
        self._listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        self._thread = threading.Thread(target=self._accept)
        self._modified = "20260101120000"
        self.port = self._listener.getsockname()[1]
        self.commands: list[str] = []
        self.reused: list[bool | None] = []

    def url(self, scheme: str = "ftp") -> str:
        host = f"[{self._host}]" if ":" in self._host else "localhost" if self._tls else self._host
        return f"{scheme}://{host}:{self.port}/f"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _accept(self) -> None:
        """One client after the other: ours comes again only after it has left."""
        while True:
            try:
                control, _ = self._listener.accept()
            except OSError:
                return
            with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
                self._converse(stack, stack.enter_context(control))

    def _converse(self, stack: contextlib.ExitStack, control: socket.socket) -> None:
        if self._tls and self._at_once:
            control = stack.enter_context(self._tls.wrap_socket(control, server_side=True))
        control.sendall(self._answers.get("", "220 ready\r\n").encode())
        passive, rest = None, 0
        while line := _line(control):
            command, _, argument = line.partition(" ")
            self.commands.append(line)
            if command in self._answers:
                control.sendall(self._answers[command].encode())
            elif command in ("PASV", "EPSV"):
                passive = stack.enter_context(socket.create_server((self._host, 0), family=self._listener.family))
                port = passive.getsockname()[1]
                pasv = f"227 go to (10,9,8,7,{port // 256},{port % 256})\r\n"  # not where we are: not to be believed
                control.sendall((pasv if command == "PASV" else f"229 go to (|||{port}|)\r\n").encode())
            elif command == "REST":
                rest = int(argument)
                control.sendall(b"350 go on\r\n")
            elif command == "RETR":
                assert passive is not None
                self._transfer(control, passive, rest)
                rest = 0
            else:
                control.sendall(self._plain(command).encode())
                if command == "AUTH" and self._tls:
                    control = stack.enter_context(self._tls.wrap_socket(control, server_side=True))

    def _plain(self, command: str) -> str:
        known = {"USER": "331 who", "PASS": "230 in", "TYPE": "200 so be it", "PBSZ": "200 0", "PROT": "200 P"}
        known |= {"SIZE": f"213 {len(self._data)}", "MDTM": f"213 {self._modified}"}
        known |= {"AUTH": "234 go on"} if self._tls else {}
        return known.get(command, "502 unknown") + "\r\n"

    def _transfer(self, control: socket.socket, passive: socket.socket, rest: int) -> None:
        data, _ = passive.accept()
        with contextlib.ExitStack() as stack:
            stack.enter_context(data)
            control.sendall(b"150 here it comes\r\n")
            if self._tls:
                data = stack.enter_context(self._tls.wrap_socket(data, server_side=True))
                self.reused.append(data.session_reused)
            end = rest + self._cuts.pop(0) if self._cuts else len(self._data)
            data.sendall(self._data[rest:end])


def _line(control: socket.socket) -> str:
    line = b""
    while not line.endswith(b"\r\n") and (byte := control.recv(1)):
        line += byte
    return line.decode().rstrip()


def test_a_broken_transfer_is_resumed_where_it_broke() -> None:
    client = Client(schemes=FTP)
    with SmallFtp(SMALL, cuts=[4_000, 0, 3_000]) as server, client.open(server.url()) as file:
        assert file.read(0, len(SMALL)) == SMALL
    assert [each for each in server.commands if each[:4] == "REST"] == ["REST 4000", "REST 4000", "REST 7000"]
    assert client.slept == [1, 2, 4]
    assert client.paused == [True, False, True, False, True, False]


def test_a_server_that_cannot_start_in_the_middle() -> None:
    answers = {"REST": "502 what\r\n"}
    with SmallFtp(SMALL, cuts=[4_000], answers=answers) as server, Client(schemes=FTP).open(server.url()) as file:
        assert file.read(0, len(SMALL)) == SMALL
        assert file.fetched_bytes == 4_000 + len(SMALL)


def test_the_time_of_a_file_is_not_needed() -> None:
    answers = {"MDTM": "500 what\r\n"}
    with SmallFtp(SMALL, cuts=[4_000], answers=answers) as server, Client(schemes=FTP).open(server.url()) as file:
        assert file.read(0, len(SMALL)) == SMALL


def test_another_file_of_the_same_size_is_noticed_by_its_time() -> None:
    with SmallFtp(SMALL, cuts=[4_000]) as server, Client(schemes=FTP).open(server.url()) as file:
        server._modified = "20260101120001"
        with pytest.raises(SourceLost, match="the file changed"):
            file.read(0, len(SMALL))


@pytest.mark.parametrize(
    ("answers", "why", "retryable"),
    [
        ({"SIZE": "502 what\r\n"}, "does not say how long the file is (SIZE)", False),
        ({"SIZE": "213 -5\r\n"}, "does not say how long the file is", False),
        ({"SIZE": "213 99999999999\r\n"}, "the file has 99999999999 bytes, at most 10485760", False),
        ({"SIZE": "nonsense\r\n"}, "the answer cannot be understood", True),
        ({"SIZE": "213-a\r\n" + "x\r\n" * 200}, "the answer cannot be understood", True),
        ({"": "220-" + "x" * 200_000}, "the answer cannot be understood", True),
        ({"": "220-x\r\n" + "x\r\n" * 200_000}, "the answer cannot be understood", True),
        ({"": "421 too many\r\n"}, "FTP answer 421 (the server refuses)", True),
        ({"": ""}, "too slow or silent", True),
        ({"PASV": "227 here\r\n"}, "the answer cannot be understood", True),
        ({"RETR": "550 gone\r\n"}, "FTP answer 550", False),
        ({"RETR": "450 busy\r\n"}, "FTP answer 450", True),
    ],
)
def test_answers_that_are_no_use(answers: dict[str, str], why: str, retryable: bool) -> None:
    with SmallFtp(SMALL, answers=answers) as server:
        lost = Client(schemes=FTP, resumes_max=0, read_timeout_s=0.2).refusal(server.url())
    assert why in str(lost) and lost.retryable == retryable


def test_ipv6() -> None:
    try:
        server = SmallFtp(SMALL, host="::1")
    except OSError:
        pytest.skip("no IPv6 here")
    with server, Client(schemes=FTP).open(server.url()) as file:
        assert file.read(0, len(SMALL)) == SMALL
    assert "EPSV" in server.commands


# ------------------------------------------------------------------------------------------------- TLS


@pytest.mark.parametrize("at_once", [False, True])
def test_both_connections_are_protected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: bool) -> None:
    certificates = Certificates(tmp_path)
    client = Client(schemes=FTP, tls=TransferTls(certificates.ca_file))
    with SmallFtp(SMALL, cuts=[4_000], tls=certificates.server(), at_once=at_once) as server:
        if at_once:
            monkeypatch.setitem(DEFAULT_PORTS, "ftps", server.port)
        with client.open(server.url("ftps")) as file:
            assert file.read(0, len(SMALL)) == SMALL
    assert ("AUTH TLS" in server.commands) != at_once
    assert "PROT P" in server.commands
    assert server.reused == [True, True]  # the data connection continues the session


def test_nothing_is_said_to_a_server_without_tls() -> None:
    with SmallFtp(SMALL) as server:
        lost = Client(schemes=FTP).refusal(server.url("ftps").replace("//", "//bob:secret@"))
    assert "FTP answer 502" in str(lost) and not lost.retryable
    assert server.commands == ["AUTH TLS"]


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda made: made.server(days=-1), "certificate has expired"),
        (lambda made: made.server("other.example"), "Hostname mismatch"),
    ],
)
def test_certificates_that_prove_nothing(
    tmp_path: Path, make: Callable[[Certificates], ssl.SSLContext], why: str
) -> None:
    certificates = Certificates(tmp_path)
    with SmallFtp(SMALL, tls=make(certificates)) as server:
        lost = Client(schemes=FTP, tls=TransferTls(certificates.ca_file)).refusal(server.url("ftps"))
    assert why in str(lost) and not lost.retryable
    assert server.commands == ["AUTH TLS"]
