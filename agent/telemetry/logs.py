"""Logs of all processes in one shape: JSON lines under systemd, coloured lines for people.

Charter: configures structlog once per process. Repeated equal lines are collapsed, because a flood
of them wears out flash (charging-behaviour reference). Goes to standard error: standard output belongs
to commands. A process also keeps its newest lines, as JSON, in a ring of files in memory, where the local
page and the diagnostics archive find them without asking journald. Neither place can stop who logs: the ring never
raises, and processes write to standard error by ``agent.telemetry.aside``.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, TextIO

import structlog

from agent.telemetry.aside import Aside
from agent.telemetry.ring_file import RingFile

_REPEAT_S = 60.0
_REMEMBERED = 64

EventDict = MutableMapping[str, Any]


def log_file(folder: Path, process: str) -> Path:
    """The ring in which a process keeps its newest lines."""
    return folder / f"{process}.jsonl"


def configure_logs(
    process: str, level: str, style: str, stream: TextIO | None = None, folder: Path | None = None
) -> None:
    """``level`` is debug, info, warning or error; ``style`` is json, console, or auto: people on a
    terminal, else JSON. ``folder``: where the newest lines are kept as well."""
    out = sys.stderr if stream is None else stream
    for_people = style == "console" or (style == "auto" and out.isatty())
    renderer: Any = structlog.dev.ConsoleRenderer() if for_people else structlog.processors.JSONRenderer()
    stamper = structlog.processors.TimeStamper(fmt="iso", utc=True)
    if isinstance(aside := getattr(out, "buffer", None), Aside):

        def lost_line(count: int) -> str:
            event = {"process": process, "level": "warning", "event": "log lines lost", "count": count}
            return f"{renderer(None, 'warning', stamper(None, 'warning', event))}\n"

        aside.lost_line = lost_line
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            Collapse(),
            stamper,
            *([] if folder is None else [_Kept(RingFile(log_file(folder, process), _not_kept))]),
            structlog.processors.format_exc_info if not for_people else _as_is,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=_BoundFactory(process, out),
        cache_logger_on_first_use=True,
    )


def _as_is(_: Any, __: str, event: EventDict) -> EventDict:
    return event


class _Kept:
    """Puts a copy of each line, as JSON, into the ring."""

    def __init__(self, ring: RingFile) -> None:
        self._ring = ring
        self._render = structlog.processors.JSONRenderer()

    def __call__(self, logger: Any, level: str, event: EventDict) -> EventDict:
        whole = structlog.processors.format_exc_info(logger, level, dict(event))
        self._ring.append(str(self._render(logger, level, whole)))
        return event


def _not_kept(why: str) -> None:
    structlog.get_logger("telemetry").warning("log lines are not kept in memory", reason=why)


class _BoundFactory:
    """Loggers that know their process; the name given to ``get_logger`` is the part's."""

    def __init__(self, process: str, stream: TextIO) -> None:
        structlog.contextvars.bind_contextvars(process=process)
        self._logger = structlog.WriteLogger(stream)  # a line and its end in one write

    def __call__(self, *_: Any) -> structlog.WriteLogger:
        return self._logger


class Collapse:
    """Drops a line that was said within the last minute, and counts how often for when it comes again."""

    def __init__(self) -> None:
        self._said: dict[str, tuple[float, int]] = {}

    def __call__(self, _: Any, level: str, event: EventDict) -> EventDict:
        if level not in ("warning", "error"):
            return event  # facts are never dropped
        key, now_s = repr(sorted(event.items(), key=lambda item: item[0])), time.monotonic()
        first_s, count = self._said.get(key, (-_REPEAT_S, 0))
        if now_s - first_s < _REPEAT_S:
            self._said[key] = (first_s, count + 1)
            raise structlog.DropEvent
        if len(self._said) >= _REMEMBERED:
            self._said.pop(next(iter(self._said)))
        self._said[key] = (now_s, 0)
        if count:
            event["repeated"] = count
        return event
