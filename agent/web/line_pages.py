"""The technician's pages of lines: OCPP messages and the logs of the processes.

Charter: reads the ring files that the processes keep in memory, filters, and hands the lines to ``agent.web.pages``.
Files are read in threads.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agent.telemetry.logs import log_file
from agent.telemetry.ring_file import RingReader, entries
from agent.web.answers import Html
from agent.web.pages.lines import Choice, Line, lines_page, log_line, message_line
from agent.web.private import Private
from agent.web.sessions import Session
from agent.web.streams import line_events

_SHOWN: Final = 200
_LOOKED_AT: Final = 2_000  # lines, of which the filter takes some
_PROCESSES: Final = ("station", "gateway", "installer")
_LEVELS: Final = ("debug", "info", "warning", "error", "critical")
_NAME_MAX_CHARS: Final = 64


class LinePages:
    """Handlers of these pages."""

    def __init__(self, private: Private) -> None:
        self._private = private

    def routes(self) -> list[Route]:
        page = self._private.page
        return [
            page("/tech/messages", self._messages),
            page("/tech/messages/events", self._message_events),
            page("/tech/logs", self._logs),
            page("/tech/logs/events", self._log_events),
        ]

    async def _messages(self, request: Request, session: Session) -> Response:
        wanted = request.query_params.get("action", "")[:_NAME_MAX_CHARS]
        found = await asyncio.to_thread(_newest, self._file("gateway", "trace"))
        lines = [message_line(entry) for entry in found]
        actions = sorted({line.title for line in lines} | ({wanted} if wanted else set()))
        choice = Choice("action", "Message", [("", "all"), *((each, each) for each in actions)], wanted)
        shown = [line for line in lines if wanted in ("", line.title)][-_SHOWN:]
        note = "Between this charger and its CSMS; → goes to the CSMS. Secrets are masked. Times are UTC."
        stream = _stream("/tech/messages/events", found, action=wanted)
        frame = self._private.frame("/tech/messages", session)
        return Html(lines_page(frame, "Messages", shown, [choice], stream, note))

    async def _message_events(self, request: Request, session: Session) -> Response:
        wanted = request.query_params.get("action", "")

        def line_of(entry: dict[str, Any]) -> Line | None:
            line = message_line(entry)
            return line if wanted in ("", line.title) else None

        return self._following(request, session, self._file("gateway", "trace"), line_of)

    async def _logs(self, request: Request, session: Session) -> Response:
        process, level = _choice(request)
        found = await asyncio.to_thread(_newest, self._file(process, process))
        shown = [line for line in map(log_line, found) if _at_least(line, level)][-_SHOWN:]
        choices = [
            Choice("process", "Process", [(each, each) for each in _PROCESSES], process),
            Choice("level", "At least", [(each, each) for each in _LEVELS], level),
        ]
        stream = _stream("/tech/logs/events", found, process=process, level=level)
        frame = self._private.frame("/tech/logs", session)
        return Html(lines_page(frame, "Logs", shown, choices, stream, "The newest lines of a process. Times are UTC."))

    async def _log_events(self, request: Request, session: Session) -> Response:
        process, level = _choice(request)

        def line_of(entry: dict[str, Any]) -> Line | None:
            line = log_line(entry)
            return line if _at_least(line, level) else None

        return self._following(request, session, self._file(process, process), line_of)

    def _following(self, request: Request, session: Session, file: Path, line_of: Any) -> Response:
        after, lives = request.query_params.get("after", "")[:_NAME_MAX_CHARS], self._private.login.lives
        return self._private.streams.answer(line_events(file, line_of, after, lambda: lives(session)))

    def _file(self, process: str, name: str) -> Path:
        return log_file(self._private.config.station.log_folder(process), name)


def _newest(file: Path) -> list[dict[str, Any]]:
    reader = RingReader(file)
    try:
        return list(entries(reader.last(_LOOKED_AT)))
    finally:
        reader.close()


def _stream(path: str, found: list[dict[str, Any]], **query: str) -> str:
    """Where news of lines after those ``found`` come from."""
    after = str(found[-1].get("timestamp", "")) if found else ""
    return f"{path}?{urlencode({**query, 'after': after})}"


def _choice(request: Request) -> tuple[str, str]:
    process, level = request.query_params.get("process", ""), request.query_params.get("level", "")
    return process if process in _PROCESSES else _PROCESSES[0], level if level in _LEVELS else "info"


def _at_least(line: Line, level: str) -> bool:
    return line.kind not in _LEVELS or _LEVELS.index(line.kind) >= _LEVELS.index(level)
