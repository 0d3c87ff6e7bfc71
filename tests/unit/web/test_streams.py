"""Streams of events: what goes out while nothing changes, and to whom nothing does."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.sim.virtual_time import run_virtual
from agent.web import feed as feed_module
from agent.web.feed import QUIET_S, Feed, Snapshot
from agent.web.streams import _QUIET_S, STREAMS_MAX, field_events
from tests.support.fake_station import T0_MS
from tests.support.web_rig import FakeLine, Web, on_page, status

COMMENT = b": nothing new\n\n"
Heard = list[tuple[float, bytes]]


def listen(monkeypatch: pytest.MonkeyPatch, line: Any, during_s: float, *, chart: bool = False) -> Heard:
    """What a browser hears of the state of EVSE 1, and when, in virtual time."""

    def fields(snapshot: Snapshot) -> dict[str, str]:
        return {"state": "away" if snapshot.status is None else str(snapshot.status.evses[0].state)}

    async def play() -> Heard:
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(feed_module, "time", SimpleNamespace(monotonic=loop.time))
        feed = Feed(SimpleNamespace(port=line))  # type: ignore[arg-type]
        asking = loop.create_task(feed.run())
        began_s, heard = loop.time(), Heard()
        events = field_events(feed, fields, lambda: loop.time() - began_s < during_s, chart=chart)
        async for event in events:
            heard.append((round(loop.time() - began_s, 1), event))
        asking.cancel()
        return heard

    return run_virtual(play())


def test_a_station_that_is_asked_each_second_and_never_changes_is_still_a_word_each_quarter_of_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    line = FakeLine()
    (_, first), *rest = listen(monkeypatch, line, 100.0)
    assert first.startswith(b"event: fields")
    assert line.calls >= 100, "the feed has a new snapshot each second"
    assert {event for _, event in rest} == {COMMENT}
    times = [0.0, *(at for at, _ in rest)]
    assert [after - before for before, after in pairwise(times)] == [_QUIET_S] * 6


def test_also_while_the_station_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(FakeLine):
        async def status(self) -> Any:
            await asyncio.sleep(1e6)

    heard = listen(monkeypatch, Silent(), 100.0)
    times = [at for at, _ in heard]
    assert max(after - before for before, after in pairwise(times)) == _QUIET_S


def test_who_hears_something_anyway_needs_no_comment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The chart has a point oftener."""
    assert QUIET_S < _QUIET_S
    heard = listen(monkeypatch, FakeLine(shown=status(wall_ms=T0_MS)), 100.0, chart=True)
    assert COMMENT not in [event for _, event in heard]
    assert sum(b"event: point" in event for _, event in heard) >= 9


@pytest.mark.wire
@pytest.mark.parametrize("path", ["/events", "/tech/messages/events"])
def test_a_head_alone_opens_no_stream(tmp_path: Path, path: str) -> None:
    async def scene(web: Web) -> None:
        cookie = (await web.login()).cookie
        for _ in range(STREAMS_MAX + 1):
            answer = await web.ask("HEAD", path, cookie, b"")
            assert (answer.status, answer.body) == (200, b"")
            assert answer.headers["content-type"].startswith("text/event-stream")

    on_page(tmp_path, scene)
