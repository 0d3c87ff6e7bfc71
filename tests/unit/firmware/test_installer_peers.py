"""Whoever speaks to the installer may be gone, silent, mistaken or hostile: it goes on, and says what was wrong. So
does the client when the installer is not what it should be.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from agent.firmware import client as client_module
from agent.firmware import server as server_module
from agent.firmware.client import InstallerAway, InstallerClient
from agent.firmware.errors import Refusal, UpdateRefused
from agent.firmware.installer import Installer
from agent.firmware.ports import Progress
from agent.firmware.view import StagedPhase
from agent.firmware.wire import MAX_FRAME_BYTES, PeerGone, receive, send
from tests.support.update_world import OLD, release
from tests.unit.firmware.bundle.making import BytesSource
from tests.unit.firmware.installer_site import (
    BUNDLE,
    DEADLINE_S,
    ON_SITE,
    Site,
    answers,
    frame,
    installs,
    nobody,
    wait_for,
)

pytestmark = pytest.mark.wire

# ------------------------------------------------------------------------------------------- peers that go wrong


def test_a_peer_that_is_gone_in_the_middle_leaves_the_way_free(site: Site) -> None:
    site.start()

    class Gone(BytesSource):
        def read(self, offset: int, length: int) -> bytes:
            if len(self.reads) >= 6:
                client.close()
            return super().read(offset, length)

    client = site.client()
    with pytest.raises(InstallerAway):
        client.install(Gone(BUNDLE), ON_SITE, nobody)
    wait_for(lambda: installs(site))
    assert site.slot("b").startswith(release(*OLD).content)


def test_whoever_has_enough_just_goes(site: Site) -> None:
    class Enough(Exception):
        pass

    def stop(progress: Progress) -> None:
        raise Enough

    site.start()
    with pytest.raises(Enough), site.client() as client:
        client.install(BytesSource(BUNDLE), ON_SITE, stop)
    wait_for(lambda: installs(site))


GARBAGE: Final = {
    "nothing": b"",
    "half a length": b"\0\0",
    "half a frame": frame(b'{"call": "status"}')[:-3],
    "no JSON": frame(b"hello"),
    "no UTF-8": frame(b"\xff\xfe\xfd"),
    "a list": frame(b"[]"),
    "a number": frame(b"7"),
    "an empty frame": frame(b""),
    "too large a frame": (MAX_FRAME_BYTES + 1).to_bytes(4, "big"),
    "an enormous frame": b"\xff\xff\xff\xff" + bytes(100),
    "a deep frame": frame(b"[" * 100_000),
    "a deep object": frame(b'{"a":' * 40_000 + b"1" + b"}" * 40_000),
    "half a character": frame(b'{"call": "\\ud800"}'),
    "half a character as a key": frame(b'{"call": "install", "args": {"size": 1, "order": {"\\ud800": 1}}}'),
    "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
}
NO_CALLS: Final = {
    "no call": b"{}",
    "no name": b'{"call": null}',
    "a list for a name": b'{"call": []}',
    "an object for a name": b'{"call": {"a": 1}}',
    "a number for a name": b'{"call": 3}',
    "unknown": b'{"call": "recover"}',
    "private": b'{"call": "_save"}',
    "dunder": b'{"call": "__init__"}',
    "no arguments": b'{"call": "install"}',
    "a list of arguments": b'{"call": "install", "args": [1]}',
    "no size": b'{"call": "install", "args": {"order": {"origin": "local"}}}',
    "a negative size": b'{"call": "install", "args": {"size": -1, "order": {"origin": "local"}}}',
    "a broken size": b'{"call": "install", "args": {"size": 1.5, "order": {"origin": "local"}}}',
    "an endless size": b'{"call": "install", "args": {"size": Infinity, "order": {"origin": "local"}}}',
    "no order": b'{"call": "install", "args": {"size": 1}}',
    "unknown origin": b'{"call": "install", "args": {"size": 1, "order": {"origin": "moon"}}}',
    "more in the order": b'{"call": "install", "args": {"size": 1, "order": {"origin": "local", "force": true}}}',
    "no digest": b'{"call": "activate"}',
    "a number for a digest": b'{"call": "activate", "args": {"digest": 5}}',
    "no target": b'{"call": "mcu", "args": {}}',
}


@pytest.mark.parametrize("what", GARBAGE)
def test_whoever_speaks_something_else_is_left(site: Site, what: str) -> None:
    with site.start().raw() as sock:
        sock.sendall(GARBAGE[what])
        sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):  # with something unread
            assert sock.recv(1) == b""
    assert answers(site)


@pytest.mark.parametrize("what", NO_CALLS)
def test_a_call_that_is_none_is_answered(site: Site, what: str) -> None:
    with site.start().raw() as sock:
        sock.sendall(frame(NO_CALLS[what]))
        assert receive(sock)["error"]["kind"] == "protocol"
        send(sock, {"call": "status"})
        assert receive(sock)["value"]["booted"] == "a"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ({"data": 5}, "other bytes than were asked for"),
        ({"data": 2**40}, "other bytes than were asked for"),
        ({"data": -1}, "other bytes than were asked for"),
        ({"data": "x"}, "other bytes than were asked for"),
        ({}, "other bytes than were asked for"),
        ({"lost": {}}, ""),
        ({"lost": {"why": "x" * 9_999, "retryable": "yes"}}, "x" * 500),
        ({"call": "status"}, "other bytes than were asked for"),
    ],
)
def test_bytes_that_nobody_asked_for_are_a_lost_source(site: Site, answer: dict[str, Any], says: str) -> None:
    with site.start().raw() as sock:
        send(sock, {"call": "install", "args": {"size": len(BUNDLE), "order": {"origin": "local"}}})
        assert "read" in receive(sock)
        send(sock, answer)
        error = receive(sock)["error"]
    assert (error["kind"], error["retryable"]) == ("lost", False)
    assert says in error["why"]
    assert len(error["why"]) <= 500
    assert answers(site)


def test_a_file_of_another_size_than_was_said_is_refused(site: Site) -> None:
    class Lies(BytesSource):
        def __init__(self, size: int) -> None:
            super().__init__(BUNDLE)
            self.size = size

    with site.start().client() as client:
        for size in (len(BUNDLE) - 1, len(BUNDLE) + 1, 10**300):
            with pytest.raises(UpdateRefused) as caught:
                client.install(Lies(size), ON_SITE, nobody)
            assert caught.value.refusal is Refusal.MALFORMED


def test_a_peer_that_says_nothing_is_left(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "SILENCE_MAX_S", 0.05)
    with site.start().raw() as sock:
        assert sock.recv(1) == b""
    with site.raw() as sock:
        send(sock, {"call": "install", "args": {"size": len(BUNDLE), "order": {"origin": "local"}}})
        assert "read" in receive(sock)
        send(sock, {"coming": True})  # and then no more of it
        error = receive(sock)["error"]
    assert (error["kind"], error["retryable"]) == ("lost", True)


def test_a_peer_whose_bytes_come_slowly_is_waited_for(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    silence_max_s = 0.5
    monkeypatch.setattr(server_module, "SILENCE_MAX_S", silence_max_s)
    monkeypatch.setattr(client_module, "COMING_S", silence_max_s / 50)

    class Slow(BytesSource):
        def read(self, offset: int, length: int) -> bytes:
            if not self.reads:
                threading.Event().wait(2 * silence_max_s)
            return super().read(offset, length)

    with site.start().client() as client:
        assert client.install(Slow(BUNDLE), ON_SITE, nobody).phase is StagedPhase.READY


LONG_CALLS: Final[dict[str, dict[str, Any]]] = {
    "install": {"size": len(BUNDLE), "order": {"origin": "local"}},
    "activate": {"digest": "00"},
}


@pytest.mark.parametrize("method", LONG_CALLS)
def test_a_call_that_takes_long_is_said_to_be_coming(site: Site, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """RAUC writes for longer than a client waits for a word. But what hangs is not said to be coming for ever."""
    monkeypatch.setattr(server_module, "COMING_S", 0.01)
    monkeypatch.setattr(server_module, "WORK_MAX_S", 0.03)
    done = threading.Event()

    def slow(*_: object) -> None:
        assert done.wait(DEADLINE_S)
        raise UpdateRefused(Refusal.BUSY, "installer", "it took so long to see that")

    monkeypatch.setattr(Installer, method, slow)
    with site.start().raw() as sock:
        send(sock, {"call": "status"})
        assert "value" in receive(sock)
        threads = threading.active_count()
        send(sock, {"call": method, "args": LONG_CALLS[method]})
        assert [receive(sock) for _ in range(3)] == [{"coming": True}] * 3
        wait_for(lambda: threading.active_count() <= threads)
        done.set()
        assert receive(sock)["error"]["kind"] == "refused"


def test_nothing_is_said_to_a_peer_that_is_to_bring_bytes(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not listen, perhaps for hours."""
    monkeypatch.setattr(server_module, "COMING_S", 0.01)
    with site.start().raw() as sock:
        send(sock, {"call": "install", "args": LONG_CALLS["install"]})
        while "read" not in receive(sock):
            pass
        sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            sock.recv(1)


def test_what_is_coming_does_not_get_in_between(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "COMING_S", 0.000_01)
    with site.start().client() as client:
        staged = client.install(BytesSource(BUNDLE), ON_SITE, nobody)
        assert client.activate(staged.digest).phase is StagedPhase.ACTIVATED


def test_it_ends_when_nobody_has_been_there_for_a_while(site: Site) -> None:
    site.idle_s = 0.1
    site.start()
    assert site.thread is not None
    with site.client() as client:
        client.status()
        site.thread.join(0.5)
        assert site.thread.is_alive(), "somebody is there"
    site.thread.join(DEADLINE_S)
    assert not site.thread.is_alive()


# ------------------------------------------------------------------------------------------------- the client


def test_no_installer(tmp_path: Path) -> None:
    with pytest.raises(InstallerAway, match=r"does not answer at .*installer\.sock: No such file"):
        InstallerClient(tmp_path / "installer.sock")


@pytest.fixture
def strange(tmp_path: Path) -> Iterator[tuple[Path, Callable[[bytes], None]]]:
    """A server that answers one call with given bytes, and goes."""
    path = tmp_path / "installer.sock"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(1)
    listener.settimeout(DEADLINE_S)
    threads: list[threading.Thread] = []

    def answer(data: bytes) -> None:
        def serve() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.settimeout(DEADLINE_S)
                receive(peer)
                peer.sendall(data)
                peer.shutdown(socket.SHUT_WR)
                peer.recv(1)

        threads.append(threading.Thread(target=serve))
        threads[-1].start()

    yield path, answer
    for thread in threads:
        thread.join(DEADLINE_S)
    listener.close()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xff\xff\xff",
        frame(b"no JSON"),
        frame(b'{"error": {"kind": "refused", "refusal": "of_a_later_version", "where": "x", "why": "y"}}'),
        frame(b'{"error": {"kind": "of a later version", "why": "y"}}'),
        frame(b'{"error": {}}'),
    ],
)
def test_an_installer_that_speaks_something_else_is_away(
    strange: tuple[Path, Callable[[bytes], None]], data: bytes
) -> None:
    path, answer = strange
    answer(data)
    with InstallerClient(path) as client, pytest.raises(InstallerAway):
        client.status()


def test_a_call_under_way_can_be_ended_from_elsewhere(tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(tmp_path / "installer.sock"))
    listener.listen(1)
    client = InstallerClient(tmp_path / "installer.sock")
    peer, _ = listener.accept()
    ended: list[BaseException] = []

    def call() -> None:
        try:
            client.status()
        except InstallerAway as away:
            ended.append(away)

    thread = threading.Thread(target=call)
    thread.start()
    receive(peer)
    client.close()
    thread.join(DEADLINE_S)
    assert len(ended) == 1
    with pytest.raises(PeerGone):
        receive(peer)
    peer.close()
    listener.close()
