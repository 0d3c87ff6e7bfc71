"""Pages of lines: OCPP messages and logs, with a filter, followed live, to be paused.

Charter: pure. A line is made of the same parts whether it stands in the page or comes by the stream of events.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from agent.web.markup import Markup, el
from agent.web.pages.layout import Frame, card, page, stale

_LEVELS = {"debug": "off", "info": "ready", "warning": "wait", "error": "fault", "critical": "fault"}
_DETAIL_MAX_CHARS = 160
_ARROWS = {"out": "→", "in": "←"}
_APART = frozenset({"timestamp", "event", "level", "process"})


@dataclass(frozen=True, slots=True)
class Line:
    """``mark`` and ``tone`` go together; ``kind`` is what the filter looks at; ``body`` is all of it, for whoever
    opens the line."""

    when: str
    tone: str
    mark: str
    title: str
    detail: str
    body: str
    kind: str


@dataclass(frozen=True, slots=True)
class Choice:
    """A field of the filter: its name in the query, its title, what can be chosen, what is."""

    name: str
    title: str
    options: Sequence[tuple[str, str]]
    chosen: str


def message_line(entry: Mapping[str, Any]) -> Line:
    """Of an entry of the trace (``agent.telemetry.trace.TraceEntry``)."""
    kind, out = str(entry.get("kind", "")), entry.get("direction") == "out"
    frame = str(entry.get("frame", ""))
    said = {"call": "", "result": "answer", "error": "error"}.get(kind, kind)
    tone = "fault" if kind == "error" else "busy" if out else "ready"
    detail = " ".join(part for part in (said, str(entry.get("id", ""))[:8]) if part)
    body = f"{entry.get('timestamp', '')}\n{_pretty(frame)}"
    arrow = _ARROWS["out" if out else "in"]
    return Line(_when(entry), tone, arrow, str(entry.get("action") or "?"), detail, body, "")


def log_line(entry: Mapping[str, Any]) -> Line:
    level = str(entry.get("level", ""))
    rest = {name: value for name, value in entry.items() if name not in _APART}
    detail = " ".join(f"{name}={value}" for name, value in rest.items())[:_DETAIL_MAX_CHARS]
    body = json.dumps(entry, indent=1, ensure_ascii=False)
    return Line(_when(entry), _LEVELS.get(level, "off"), level, str(entry.get("event", "")), detail, body, level)


def lines_page(
    frame: Frame, title: str, lines: Sequence[Line], choices: Sequence[Choice], stream: str, note: str
) -> bytes:
    """``stream``: where the script hears of new lines."""
    body = el("ol", *(_item(line) for line in reversed(lines)), class_="lines", id="lines", data_stream=stream)
    fields = [_select(choice) for choice in choices]
    show = el("button", "Show", class_="quiet")
    pause = el(
        "div", el("button", "Pause", type="button", class_="quiet", id="pause", aria_pressed="false", hidden=True)
    )
    bar = el("form", *fields, show, pause, method="get", action=frame.path, class_="bar")
    empty = el("p", "Nothing yet.", class_="note", id="none", hidden=bool(lines))
    return page(
        frame,
        title,
        stale(),
        bar,
        card("Newest first", el("p", note, class_="note"), empty, body),
        scripts=("lines.js",),
    )


def line_data(line: Line) -> dict[str, str]:
    """As the stream sends it."""
    return asdict(line)


def _item(line: Line) -> Markup:
    summary = el(
        "summary",
        el("span", line.when, class_="when"),
        " ",
        el("span", line.mark, class_="way"),
        " ",
        el("strong", line.title),
        " ",
        line.detail,
    )
    return el("li", el("details", summary, el("pre", line.body)), data_tone=line.tone)


def _select(choice: Choice) -> Markup:
    options = (el("option", title, value=value, selected=value == choice.chosen) for value, title in choice.options)
    field = el("select", *options, name=choice.name, id=choice.name)
    return el("div", el("label", choice.title, for_=choice.name), field)


def _when(entry: Mapping[str, Any]) -> str:
    """The time of day to the millisecond, UTC, as it stands in the line; its date is in the body."""
    return str(entry.get("timestamp", ""))[11:23]


def _pretty(frame: str) -> str:
    try:
        return json.dumps(json.loads(frame), indent=1, ensure_ascii=False)
    except (ValueError, RecursionError):
        return frame  # it was too long, and is cut
