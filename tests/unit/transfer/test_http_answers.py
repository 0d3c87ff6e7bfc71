"""What a single answer of an HTTP server may look like, and which answers are refused in which words. Real sockets."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from agent.firmware.errors import SourceLost
from tests.support.file_server import Ending, Fault, FaultyServer, redirect
from tests.unit.transfer.rig import DATA, SMALL, Client, ranges

pytestmark = pytest.mark.wire


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with FaultyServer({"big": DATA, "small": SMALL}) as running:
        yield running


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (Fault(headers={"Content-Range": "bytes 0-4999/10000"}), "other bytes than asked for"),
        (Fault(headers={"Content-Range": "bytes 5000-9998/10000"}), "other bytes than asked for"),
        (Fault(headers={"Content-Range": "bytes 5000-10000/10000"}), "other bytes than asked for"),
        (Fault(headers={"Content-Range": "bytes 5000-9999/*"}), "status 206 with Content-Range"),
        (Fault(headers={"Content-Range": None}), "status 206 with Content-Range ''"),
        (Fault(headers={"Content-Encoding": "gzip"}), "content encoding 'gzip', expected none"),
        (Fault(headers={"Transfer-Encoding": "gzip, chunked"}), "transfer encoding 'gzip, chunked'"),
        (Fault(headers={"Content-Length": "-1"}), "Content-Length '-1'"),
    ],
)
def test_ranges_that_are_answered_wrongly(server: FaultyServer, fault: Fault, why: str) -> None:
    server.faults.extend([Fault(cut_after=5_000), fault])
    lost = Client().refusal(server.url("small"))
    assert why in str(lost) and not lost.retryable


# --------------------------------------------------------------------------------------------- the answer


@pytest.mark.parametrize(
    ("status", "retryable"),
    [(status, False) for status in (204, 206, 304, 400, 401, 403, 404, 410)]
    + [(status, True) for status in (408, 425, 429, 500, 502, 503)],
)
def test_statuses(server: FaultyServer, status: int, retryable: bool) -> None:
    server.always = Fault(status=status)
    client = Client()
    lost = client.refusal(server.url("small"))
    assert lost.retryable == retryable
    assert f"{status}" in str(lost)
    assert len(client.slept) == (3 if retryable else 0)


@pytest.mark.parametrize(("header", "pause_s"), [("7", 7), ("99999", 300), ("0", 1), ("soon", 1), ("-5", 1)])
def test_retry_after_is_honoured_within_a_cap(server: FaultyServer, header: str, pause_s: int) -> None:
    server.faults.append(Fault(status=503, headers={"Retry-After": header}))
    client = Client()
    with client.open(server.url("small")) as file:
        assert file.read(0, len(SMALL)) == SMALL
    assert client.slept == [pause_s]
    assert client.paused == [True, False]


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (Fault(headers={"Content-Length": "+10000"}), "Content-Length '+10000'"),
        (Fault(headers={"Content-Length": "1_0"}), "Content-Length '1_0'"),
        (Fault(headers={"Content-Length": "9" * 19}), "Content-Length '9999"),
        (Fault(headers={"Content-Length": "10485761"}), "the file has 10485761 bytes, at most 10485760 are allowed"),
        (Fault(headers={"Content-Encoding": "br"}), "content encoding 'br', expected none"),
        (Fault(chunked=True, no_range=True), "does not say how long the file is (no Content-Length)"),
        (Fault(headers={"Content-Length": None}, no_range=True), "does not say how long the file is"),
    ],
)
def test_answers_that_are_refused(server: FaultyServer, fault: Fault, why: str) -> None:
    server.always = fault
    client = Client()
    lost = client.refusal(server.url("small"))
    assert why in str(lost) and not lost.retryable
    assert client.slept == []


def test_a_range_tells_the_size_where_the_answer_does_not(server: FaultyServer) -> None:
    server.always = Fault(chunked=True)
    with Client().open(server.url("small")) as file:
        assert file.read(0, len(SMALL)) == SMALL
    assert ranges(server) == [None, "bytes=0-"]


@pytest.mark.parametrize(
    "fault",
    [
        Fault(raw=b"", ending=Ending.STALL),
        Fault(raw=b"HTTP/1.1 200 OK\r\nX: ", endless=b"y", pause_s=0.02),  # never silent, never done
        Fault(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n", endless=b"z", pause_s=0.02),
    ],
)
def test_slow_servers_are_given_up(server: FaultyServer, fault: Fault) -> None:
    server.always = fault
    began = time.monotonic()
    lost = Client(read_timeout_s=0.25, resumes_max=0).refusal(server.url("small"))
    assert lost.retryable and "too slow or silent" in str(lost)
    assert time.monotonic() - began < 1.5  # the body would take 4 s


HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD.replace(b"200", b"206") + b"Content-Range: bytes 0-9999/10000\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (Fault(raw=HEAD + b"X: ", endless=b"y" * 10_000), "LineTooLong"),
        (Fault(raw=HEAD, endless=b"X: y\r\n"), "HTTPException"),
        (Fault(raw=HEAD, endless=b"X: " + b"y" * 60_000 + b"\r\n"), "131072 bytes came that are not the file's"),
        (Fault(raw=b"", endless=b"HTTP/1.1 100 Continue\r\n\r\n"), "131072 bytes came that are not the file's"),
        (Fault(raw=b"SSH-2.0-OpenSSH\r\n"), "BadStatusLine"),
        (Fault(raw=b"ICY 200 OK\r\n\r\n"), "BadStatusLine"),
        (Fault(raw=HEAD), "no length"),
        (Fault(raw=b""), "no connection (closed by the server)"),
    ],
)
def test_heads_without_end_or_sense(server: FaultyServer, fault: Fault, why: str) -> None:
    server.always = fault
    lost = Client(resumes_max=0).refusal(server.url("small"))
    assert why in str(lost) or (why == "no length" and "how long" in str(lost))


@pytest.mark.parametrize(
    ("body", "endless", "why"),
    [
        (b"0\r\n", b"X: y\r\n", "131072 bytes came that are not the file's"),  # trailers for ever
        (b"5;", b"x" * 1000, "LineTooLong"),
        (b"-5\r\n", b"z" * 100_000, "the body's chunks make no sense"),
        (b"zz\r\n", b"", "the connection ended"),
        (b"", b"0000000000\r\n", "131072 bytes came that are not the file's"),
    ],
)
def test_chunks_without_end_or_sense(server: FaultyServer, body: bytes, endless: bytes, why: str) -> None:
    server.faults.append(Fault(raw=HEAD + b"\r\n"))  # no length: a range is tried
    server.always = Fault(raw=CHUNKED + body, endless=endless)
    with Client(resumes_max=0).open(server.url("small")) as file, pytest.raises(SourceLost, match=why):
        file.read(0, 100)


def test_more_than_the_announced_size_is_never_read(server: FaultyServer) -> None:
    for head in (HEAD + b"Content-Length: 5000\r\n\r\n", CHUNKED + b"fffffff\r\n"):
        if head.startswith(CHUNKED):
            server.faults.append(Fault(raw=HEAD + b"\r\n"))
        server.faults.append(Fault(raw=head, endless=b"e" * 50_000))
        with Client(resumes_max=0).open(server.url("small")) as file:
            assert file.read(0, file.size) == b"e" * file.size
            assert file.fetched_bytes == file.size


# ------------------------------------------------------------------------------------------- redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed_anew_for_each_request(server: FaultyServer, status: int) -> None:
    server.faults.extend(
        [
            redirect("/a?b=1", status),
            redirect(server.url("small"), status),
            Fault(cut_after=5_000),
            redirect("small#part", status),
        ]
    )
    with Client().open(server.url("start")) as file:
        assert file.read(0, len(SMALL)) == SMALL
    assert [each.target for each in server.requests] == ["/start", "/a?b=1", "/small", "/start", "/small"]
    assert ranges(server)[3:] == ["bytes=5000-"] * 2


@pytest.mark.parametrize(
    ("targets", "why"),
    [
        (["/a", "/start"], "redirects lead in a circle"),
        (["/start"], "redirects lead in a circle"),
        (["/a", "/b", "/c", "/d"], "more than 3 redirects"),
        (["ftp://h/x"], "redirected, but location: ftp is not allowed here; allowed: https, http"),
        (["file:///etc/passwd"], "redirected, but location: file is not allowed here"),
        (["//["], "redirected, but not to a location"),
        ([""], "redirected, but location: it is empty"),
        (["http://h/" + "a" * 8000], "redirected, but location: 8009 characters"),
    ],
)
def test_redirects_that_lead_nowhere(server: FaultyServer, targets: list[str], why: str) -> None:
    server.faults.extend(redirect(target) for target in targets)
    lost = Client(schemes=frozenset({"http", "https", "ftp", "file"})).refusal(server.url("start"))
    assert why in str(lost) and not lost.retryable


def test_credentials_go_only_where_the_location_points(server: FaultyServer) -> None:
    with FaultyServer({"small": SMALL}) as elsewhere:
        server.faults.extend([redirect("/again"), redirect(elsewhere.url("small"))])
        with Client().open(server.url("start").replace("//", "//user:pa%3Ass@")) as file:
            assert file.read(0, len(SMALL)) == SMALL
        assert [each.headers.get("authorization") for each in server.requests] == ["Basic dXNlcjpwYTpzcw=="] * 2
        assert [each.headers.get("authorization") for each in elsewhere.requests] == [None]


def test_secrets_are_not_in_errors(server: FaultyServer) -> None:
    url = server.url("small").replace("//", "//user:secret@") + "?token=secret"
    for fault in (
        Fault(status=404),
        Fault(status=503),
        Fault(cut_after=1),
        Fault(raw=b"nonsense"),
        redirect("?token=secret"),
        redirect("ftp://secret@h/"),
    ):
        server.always = fault
        lost: BaseException | None = Client(resumes_max=1).refusal(url)
        assert "small?..." in str(lost)
        while lost is not None:
            assert "secret" not in str(lost) and "user" not in str(lost) and "token" not in str(lost)
            lost = lost.__cause__
