"""Downloads over real HTTP and HTTPS from a loopback server that misbehaves on demand."""

from __future__ import annotations

import socket
import ssl
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.firmware.errors import SourceLost
from agent.firmware.ports import Source
from agent.security import peer_dates
from agent.sim.file_server import FileServer
from agent.transfer.remote import READ_MAX_BYTES, SKIP_MAX_BYTES, open_remote
from agent.transfer.settings import TransferLimits, TransferTls
from tests.support.file_server import Certificates, Ending, Fault, FaultyServer, redirect
from tests.unit.transfer.rig import DATA, MIB, SIZE, SMALL, Client, Time, ranges

pytestmark = pytest.mark.wire


@pytest.fixture(scope="module")
def for_all() -> Iterator[FaultyServer]:
    """For tests that ask one after the other."""
    with FaultyServer({"big": DATA}) as running:
        yield running


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with FaultyServer({"big": DATA, "small": SMALL, "empty": b""}) as running:
        yield running


# ----------------------------------------------------------------------------------------------- reading


def test_reading_in_order_takes_one_request(server: FaultyServer) -> None:
    with Client().open(server.url("big")) as file:
        source: Source = file
        assert source.size == SIZE
        steps = range(0, SIZE, 70_001)
        assert b"".join(source.read(at, min(70_001, SIZE - at)) for at in steps) == DATA
        assert file.fetched_bytes == server.sent_bytes == SIZE
    (request,) = server.requests
    assert request.headers["accept-encoding"] == "identity"
    assert "range" not in request.headers and "authorization" not in request.headers


def test_a_small_gap_is_read_over_a_wide_one_and_a_step_back_are_asked_for(server: FaultyServer) -> None:
    with Client().open(server.url("big")) as file:
        at = 1000 + SKIP_MAX_BYTES
        assert file.read(0, 1000) == DATA[:1000]
        assert file.read(at, 10) == DATA[at : at + 10]
        assert file.fetched_bytes == at + 10
        assert ranges(server) == [None]
        far = at + 10 + SKIP_MAX_BYTES + 1
        assert file.read(far, 10) == DATA[far : far + 10]
        assert file.read(5, 10) == DATA[5:15]
        assert ranges(server) == [None, f"bytes={far}-", "bytes=5-"]
        assert file.fetched_bytes == at + 30
    assert server.requests[1].headers["if-range"].startswith('"')


def test_a_server_without_ranges_is_read_from_the_beginning(server: FaultyServer) -> None:
    server.always = Fault(no_range=True)
    with Client().open(server.url("big")) as file:
        assert file.read(0, 10) == DATA[:10]
        assert file.read(2_000_000, 10) == DATA[2_000_000:2_000_010]
        assert file.read(2_900_000, 10) == DATA[2_900_000:2_900_010]  # further on: the same answer
        assert len(server.requests) == 2
        assert file.read(1_000_000, 10) == DATA[1_000_000:1_000_010]
        assert len(server.requests) == 3


def test_ranges_that_make_no_sense(server: FaultyServer) -> None:
    with Client().open(server.url("small")) as file:
        assert file.read(len(SMALL), 0) == b""
        with pytest.raises(SourceLost, match="bytes 9999 to 10001 were asked of a file of 10000 bytes") as lost:
            file.read(9_999, 2)
        assert not lost.value.retryable
        for offset, length in ((-1, 1), (0, -1), (0, READ_MAX_BYTES + 1)):
            with pytest.raises(ValueError, match="range of"):
                file.read(offset, length)
    with Client().open(server.url("empty")) as file:
        assert file.size == 0


def test_a_folder_is_served_by_plain_names(tmp_path: Path) -> None:
    (tmp_path / "a b.bin").write_bytes(SMALL)
    (tmp_path / "link").symlink_to(tmp_path / "a b.bin")
    (tmp_path / "sub").mkdir()
    with FileServer(tmp_path) as server:
        with Client().open(server.url("a b.bin")) as file:
            assert file.read(1, 9_999) == SMALL[1:]
        for name in ("link", "sub", "../" + tmp_path.name, ""):
            assert "404 (Not Found)" in str(Client().refusal(server.url(name)))


# ---------------------------------------------------------------------------------------- when it breaks


@pytest.mark.parametrize("ending", list(Ending))
@pytest.mark.parametrize("chunked", [False, True])
def test_a_broken_transfer_is_resumed_where_it_broke(server: FaultyServer, ending: Ending, chunked: bool) -> None:
    server.faults.append(Fault(cut_after=6_000, ending=ending))
    server.faults.append(Fault(cut_after=3_000, ending=ending, chunked=chunked))
    client = Client(read_timeout_s=0.2)
    with client.open(server.url("small")) as file:
        assert file.read(0, len(SMALL)) == SMALL
        assert file.fetched_bytes <= len(SMALL)
    assert ranges(server)[:2] == [None, "bytes=6000-"] or ending is Ending.RESET  # RST may overtake what was sent
    assert client.slept == [1, 2]
    assert client.paused == [True, False, True, False]


def test_pauses_grow_until_it_is_given_up(server: FaultyServer) -> None:
    server.always = Fault(cut_after=0)
    client = Client(resumes_max=7)
    lost = client.refusal(server.url("small"))
    assert lost.retryable
    assert "the connection ended after 0 of 10000 bytes; given up after 7 resumes" in str(lost)
    assert client.slept == [1, 2, 4, 8, 16, 30, 30]
    assert client.paused == [True, False] * 7
    assert len(server.requests) == 8


def test_a_mebibyte_of_progress_gives_the_tries_back(server: FaultyServer) -> None:
    server.always = Fault(cut_after=MIB)
    client = Client(resumes_max=1)
    with client.open(server.url("big")) as file:
        assert file.read(0, SIZE) == DATA
    assert client.slept == [1, 1]


def test_progress_that_is_thrown_away_does_not_count(server: FaultyServer) -> None:
    server.faults.extend(Fault(no_range=True, cut_after=2 * MIB + 10 * more) for more in range(5))
    client = Client(resumes_max=2)
    with client.open(server.url("big")) as file:
        assert file.read(0, 2 * MIB) == DATA[: 2 * MIB]
        with pytest.raises(SourceLost, match="given up after 2 resumes"):
            file.read(2 * MIB, 100)
    assert len(server.requests) == 3


def test_reading_may_be_tried_again_after_giving_up(server: FaultyServer) -> None:
    server.faults.extend([Fault(cut_after=0)] * 2)
    with Client(resumes_max=1).open(server.url("small")) as file:
        with pytest.raises(SourceLost):
            file.read(0, 10)
        assert file.read(0, len(SMALL)) == SMALL


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    client = Client(resumes_max=2)
    lost = client.refusal(f"http://127.0.0.1:{port}/x")
    assert lost.retryable and "no connection (Connection refused)" in str(lost)
    assert client.paused == [True]


def test_cancelling_ends_pauses_and_reading(server: FaultyServer) -> None:
    server.always = Fault(cut_after=0)
    client = Client(resumes_max=100)
    client.cancelled = lambda: len(client.slept) == 3
    lost = client.refusal(server.url("small"))
    assert not lost.retryable and "cancelled" in str(lost)
    server.always = Fault()
    client = Client()
    with client.open(server.url("big")) as file:
        client.cancelled = lambda: True
    with Client(cancelled=lambda: len(server.requests) > 4 and server.sent_bytes > MIB).open(server.url("big")) as file:
        with pytest.raises(SourceLost, match="cancelled"):
            file.read(0, SIZE)
        assert file.fetched_bytes < SIZE


def test_the_rate_is_limited(server: FaultyServer) -> None:
    """In virtual time: 1 s is free, the rest takes its time."""
    time = Time()
    limits = TransferLimits(max_size_bytes=SIZE, max_bytes_per_s=100_000)
    with open_remote(server.url("big"), limits, schemes={"http"}, clock_ms=time.clock_ms, sleep=time.sleep) as file:
        assert file.read(0, 1_000_000) == DATA[:1_000_000]
    assert time.now_ms == pytest.approx(9_000, rel=0.02)


@settings(max_examples=60)
@given(
    reads=st.lists(st.tuples(st.integers(0, SIZE), st.integers(0, 400_000)), max_size=5),
    cuts=st.lists(st.none() | st.integers(0, 500_000), max_size=8),
    no_range=st.booleans(),
)
def test_reads_give_exactly_the_bytes_or_source_lost(
    for_all: FaultyServer, reads: list[tuple[int, int]], cuts: list[int | None], no_range: bool
) -> None:
    for_all.always = Fault(no_range=no_range)
    for_all.faults = deque(Fault(no_range=no_range, cut_after=cut) for cut in cuts)
    with Client(resumes_max=2).open(for_all.url("big")) as file:
        for offset, length in reads:
            try:
                data = file.read(offset, length)
            except SourceLost as lost:
                assert lost.retryable == (offset + length <= SIZE)
            else:
                assert data == DATA[offset : offset + length] and len(data) == length


# -------------------------------------------------------------------------------- another file, other bytes


@pytest.mark.parametrize(
    "fault",
    [
        Fault(headers={"ETag": '"other"'}),
        Fault(headers={"ETag": '"other"'}, no_range=True),
        Fault(headers={"ETag": None, "Last-Modified": "Thu, 01 Jan 1970 00:00:00 GMT"}),
        Fault(headers={"Content-Range": "bytes 5000-9999/10001", "Content-Length": None}),
        Fault(headers={"Content-Length": "10001"}, no_range=True),
        Fault(status=416),
    ],
)
def test_another_file_under_the_name_is_noticed(server: FaultyServer, fault: Fault) -> None:
    server.faults.extend([Fault(cut_after=5_000), fault])
    lost = Client().refusal(server.url("small"))
    assert not lost.retryable
    assert str(lost) == f"{server.url('small')}: the file changed while it was downloaded"


def test_a_file_that_really_changes_is_noticed() -> None:
    files = {"small": SMALL}
    with FaultyServer(files) as server:
        server.faults.append(Fault(cut_after=5_000))
        with Client().open(server.url("small")) as file:
            files["small"] = bytes(reversed(SMALL))
            with pytest.raises(SourceLost, match="the file changed"):
                file.read(0, len(SMALL))


@pytest.mark.parametrize(
    ("headers", "validator"),
    [
        ({"ETag": 'W/"weak"'}, "date"),
        ({"ETag": None}, "date"),
        ({"ETag": None, "Last-Modified": None}, None),
        ({"ETag": '"a\x80"', "Last-Modified": "x\x80"}, None),
    ],
)
def test_weak_tags_are_not_used_and_nothing_is_needed(
    server: FaultyServer, headers: dict[str, str | None], validator: str | None
) -> None:
    server.faults.extend([Fault(cut_after=5_000, headers=headers), Fault(headers={"ETag": 'W/"x"'})])
    with Client().open(server.url("small")) as file:
        assert file.read(0, len(SMALL)) == SMALL
    sent = server.requests[1].headers.get("if-range")
    assert (sent is None) == (validator is None) and (sent or "GMT").endswith("GMT")


# ------------------------------------------------------------------------------------------------- TLS


def test_https_with_an_own_root(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    with FaultyServer({"big": DATA}, tls=certificates.server()) as server:
        server.faults.append(Fault(cut_after=1_000_000))
        client = Client(tls=TransferTls(certificates.ca_file))
        for url in (server.url("big"), server.url("big").replace("localhost", "127.0.0.1")):
            with client.open(url) as file:
                assert file.read(0, SIZE) == DATA


@pytest.mark.parametrize(
    ("case", "why"),
    [
        ("expired", "certificate is refused: certificate has expired"),
        ("host", "certificate is refused: Hostname mismatch, certificate is not valid for 'localhost'"),
        ("root", "certificate is refused: unable to get local issuer certificate"),
        ("system store", "certificate is refused: unable to get local issuer certificate"),
    ],
)
def test_certificates_that_prove_nothing(tmp_path: Path, case: str, why: str) -> None:
    certificates = Certificates(tmp_path)
    context = certificates.server(
        "other.example" if case == "host" else "localhost", days=-1 if case == "expired" else 9
    )
    (tmp_path / "stranger").mkdir()
    root = Certificates(tmp_path / "stranger").ca_file if case == "root" else certificates.ca_file
    client = Client(tls=None if case == "system store" else TransferTls(root))
    with FaultyServer({"small": SMALL}, tls=context) as server:
        lost = client.refusal(server.url("small"))
        assert why in str(lost) and not lost.retryable
        assert server.requests == []


@pytest.mark.parametrize(
    ("proven", "days", "why"), [(True, 9, "not yet valid"), (False, 9, ""), (False, -1, "expired")]
)
def test_the_first_day_is_asked_only_where_the_clock_is_proven(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proven: bool, days: int, why: str
) -> None:
    monkeypatch.setattr(peer_dates, "clock_is_proven", lambda _: proven)
    certificates = Certificates(tmp_path)
    client = Client(tls=TransferTls(certificates.ca_file))
    context = certificates.server(first_day=1 if days > 0 else -10, days=days)
    with FaultyServer({"small": SMALL}, tls=context) as server:
        if why:
            assert why in str(client.refusal(server.url("small")))
            assert server.requests == []
        else:
            with client.open(server.url("small")) as file:
                assert file.read(0, len(SMALL)) == SMALL


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_tls_is_refused(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    context = certificates.server()
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with FaultyServer({"small": SMALL}, tls=context) as server:
        lost = Client(resumes_max=0, tls=TransferTls(certificates.ca_file)).refusal(server.url("small"))
    assert "TLS failed (TLSV1_ALERT_PROTOCOL_VERSION)" in str(lost)


def test_a_handshake_that_does_not_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/x"
        lost = Client(connect_timeout_s=0.2, resumes_max=0).refusal(url)
    assert lost.retryable and "too slow or silent" in str(lost)


def test_a_ca_file_that_is_not_usable(tmp_path: Path) -> None:
    bad = tmp_path / "bad.pem"
    for content, why in ((None, "No such file"), ("nonsense", "CA file")):
        if content:
            bad.write_text(content)
        lost = Client(tls=TransferTls(bad)).refusal("https://127.0.0.1:1/x")
        assert why in str(lost) and str(bad) in str(lost) and not lost.retryable


def test_a_redirect_may_lead_into_tls_but_not_out_of_it(tmp_path: Path, server: FaultyServer) -> None:
    certificates = Certificates(tmp_path)
    client = Client(tls=TransferTls(certificates.ca_file))
    with FaultyServer({"small": SMALL}, tls=certificates.server()) as secure:
        server.faults.append(redirect(secure.url("small")))
        with client.open(server.url("start")) as file:
            assert file.read(0, len(SMALL)) == SMALL
        secure.faults.append(redirect(server.url("small")))
        lost = client.refusal(secure.url("start"))
        assert "redirected, but location: http is not allowed here; allowed: https" in str(lost)
        assert not lost.retryable
