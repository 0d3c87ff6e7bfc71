"""What the station tells whoever started it: a real socket, in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from agent.sim.virtual_time import run_virtual
from agent.station.notify import Notify


def told(monkeypatch: pytest.MonkeyPatch, address: str, bound: str, *, time_us: str | None) -> list[list[bytes]]:
    """All that is heard before it is ready, at once, in 29 s more, and after the end."""
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    if time_us is not None:
        monkeypatch.setenv("WATCHDOG_USEC", time_us)
    heard: list[list[bytes]] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as ear:
        ear.bind(bound)

        def listen() -> None:
            words: list[bytes] = []
            with contextlib.suppress(BlockingIOError):
                while True:
                    words.append(ear.recv(100))
            heard.append(words)

        async def scene() -> None:
            notify = Notify(asyncio.get_running_loop())
            await asyncio.sleep(600)
            listen()
            notify.ready()
            listen()
            await asyncio.sleep(29)
            listen()
            notify.close()
            with capture_logs() as said:
                await asyncio.sleep(600)
            assert said == [], "nor is it tried"
            listen()

        run_virtual(scene())
    return heard


@pytest.mark.parametrize("abstract", [False, True])
def test_life_is_told_from_ready_on_until_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool
) -> None:
    path = str(tmp_path / "notify")
    address, bound = (f"@{path}", f"\0{path}") if abstract else (path, path)
    ready, alive = b"READY=1", b"WATCHDOG=1"
    assert told(monkeypatch, address, bound, time_us="30000000") == [[], [ready, alive], [alive, alive], []]


@pytest.mark.parametrize("time_us", [None, "0", "soon"])
def test_life_is_not_told_where_nobody_asked_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, time_us: str | None
) -> None:
    path = str(tmp_path / "notify")
    assert told(monkeypatch, path, path, time_us=time_us) == [[], [b"READY=1"], [], []]


def test_a_listener_that_is_gone_does_not_disturb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone, path = str(tmp_path / "gone"), str(tmp_path / "notify")
    assert told(monkeypatch, gone, path, time_us="30000000") == [[], [], [], []]


def test_a_listener_that_is_behind_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "notify")
    heard = told(monkeypatch, path, path, time_us="30000")[2]
    assert 0 < len(heard) < 2_900


def test_without_a_listener_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)

    async def scene() -> None:
        notify = Notify(asyncio.get_running_loop())
        notify.ready()
        notify.close()

    run_virtual(scene())
