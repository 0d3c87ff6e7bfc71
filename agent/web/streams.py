"""Server-sent events: what has changed, at most once a second, to a bounded number of browsers.

Charter: turns snapshots and lines of files into events. Each stream keeps only what it sent last, so a slow browser
costs nothing but its own delay; the protocol drops one that does not read at all (``agent.web.server``).

Source: WHATWG HTML, 9.2 server-sent events.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from agent.telemetry.ring_file import RingReader, entries
from agent.web.feed import Feed, Point, Snapshot
from agent.web.live import Fields
from agent.web.pages.lines import Line, line_data

STREAMS_MAX: Final = 16
_QUIET_S: Final = 15.0  # then a comment, by which both sides notice a dead connection
_LOOK_S: Final = 1.0
_LINES_MAX: Final = 200
_COMMENT: Final = b": nothing new\n\n"


class Streams:
    """Counts the open ones."""

    def __init__(self) -> None:
        self._open = 0

    def answer(self, events: AsyncIterator[bytes]) -> Response:
        """These events as they come, or a refusal where too many browsers listen."""
        if self._open >= STREAMS_MAX:
            return PlainTextResponse("too many browsers are looking\n", 503, {"retry-after": "30"})
        return _Stream(self._counted(events), media_type="text/event-stream")

    async def _counted(self, events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        self._open += 1
        try:
            async for event in events:
                yield event
            yield _event("end", None)
        finally:
            self._open -= 1


class _Stream(StreamingResponse):
    """Whoever asks for its head alone gets that: nothing could be sent to him by which to notice that he has left."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "HEAD":
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": b""})
        else:
            await super().__call__(scope, receive, send)


async def field_events(
    feed: Feed, fields_of: Callable[[Snapshot], Fields], lives: Callable[[], bool], *, chart: bool
) -> AsyncIterator[bytes]:
    """The fields that change, and the chart's points, until ``lives`` says no."""
    now_s = asyncio.get_running_loop().time
    with feed.listening():
        sent: Fields = {}
        sent_s = now_s()
        last_point = None
        if chart:
            points = list(feed.chart)
            last_point = points[-1] if points else None
            yield _event("chart", [_plain(point) for point in points])
        snapshot = await feed.fresh()
        while lives():
            fields = fields_of(snapshot)
            changed = {name: text for name, text in fields.items() if sent.get(name) != text}
            news = []
            if changed:
                sent = fields
                news.append(_event("fields", changed))
            if chart and feed.chart and feed.chart[-1] is not last_point:
                last_point = feed.chart[-1]
                news.append(_event("point", _plain(last_point)))
            if not news and now_s() - sent_s >= _QUIET_S:
                news.append(_COMMENT)
            if news:
                sent_s = now_s()
                yield b"".join(news)
            snapshot = await feed.next(snapshot.version, sent_s + _QUIET_S - now_s())


async def line_events(
    file: Path, line_of: Callable[[dict[str, Any]], Line | None], after: str, lives: Callable[[], bool]
) -> AsyncIterator[bytes]:
    """The lines of a ring file that are newer than the time ``after``, and those that come, until ``lives`` says no.
    ``line_of`` gives None for those that are not wanted."""
    reader = RingReader(file)
    quiet = 0
    try:
        found = await asyncio.to_thread(reader.last, _LINES_MAX)
        while lives():
            new = (entry for entry in entries(found) if str(entry.get("timestamp", "")) > after)
            lines = [line for entry in new if (line := line_of(entry)) is not None]
            quiet = 0 if lines else quiet + 1
            if lines:
                yield _event("lines", [line_data(line) for line in lines[-_LINES_MAX:]])
            elif quiet * _LOOK_S >= _QUIET_S:
                quiet = 0
                yield _COMMENT
            await asyncio.sleep(_LOOK_S)
            found = await asyncio.to_thread(reader.new)
    finally:
        reader.close()


def _plain(point: Point) -> list[int | None]:
    return [point.wall_ms, *(power for _, power in sorted(point.power_mw.items()))]


def _event(name: str, data: Any) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()
