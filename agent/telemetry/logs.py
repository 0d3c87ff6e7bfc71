"""Logs of all processes in one shape: JSON lines under systemd, coloured lines for people.

Charter: configures structlog once per process. Repeated equal lines are collapsed, because a flood
of them wears out flash (charging-behaviour reference). Goes to standard error: standard output belongs
to commands.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

_REPEAT_S = 60.0
_REMEMBERED = 64

EventDict = MutableMapping[str, Any]


def configure_logs(process: str, level: str, style: str, stream: TextIO | None = None) -> None:
    """``level`` is debug, info, warning or error; ``style`` is json, console, or auto: people on a
    terminal, else JSON."""
    out = sys.stderr if stream is None else stream
    for_people = style == "console" or (style == "auto" and out.isatty())
    renderer: Any = structlog.dev.ConsoleRenderer() if for_people else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            Collapse(),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info if not for_people else _as_is,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=_BoundFactory(process, out),
        cache_logger_on_first_use=True,
    )


def _as_is(_: Any, __: str, event: EventDict) -> EventDict:
    return event


class _BoundFactory:
    """Print loggers that know their process; the name given to ``get_logger`` is the part's."""

    def __init__(self, process: str, stream: TextIO) -> None:
        structlog.contextvars.bind_contextvars(process=process)
        self._logger = structlog.PrintLogger(stream)

    def __call__(self, *_: Any) -> structlog.PrintLogger:
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
