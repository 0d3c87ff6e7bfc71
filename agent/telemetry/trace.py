"""The trace of OCPP messages: each frame as a line that a person and a program can read later.

Charter: takes frames whose secrets are masked already, finds out what they are, and keeps them in a ring. An answer is
kept with the action of the CALL that it answers, as far as that is remembered (the newest 128 CALLs), so
that a reader needs nothing but the line.

Sources: OCPP 1.6J section 4.2, OCPP 2.0.1 part 4 section 4.2 (shapes of frames).
"""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, TypedDict

from agent.telemetry.ring_file import RingFile

FRAME_MAX_CHARS: Final = 4_096
NAME_MAX_CHARS: Final = 64
REMEMBERED: Final = 128

_KINDS: Final = {2: "call", 3: "result", 4: "error"}
_OTHER_WAY: Final = {"in": "out", "out": "in"}


class TraceEntry(TypedDict):
    """A line of the trace. ``direction``: "out" to the CSMS, "in" from it. ``kind``: call, result, error, or "" for
    what is none of them. ``frame`` is its text, cut after 4096 of its ``chars`` characters."""

    timestamp: str  # RFC 3339, UTC
    direction: str
    kind: str
    id: str
    action: str  # empty where it is not known
    chars: int
    frame: str


def wall_ms() -> int:
    return time.time_ns() // 1_000_000


class FrameTrace:
    """Writes to ``ring``; one for each link."""

    def __init__(self, ring: RingFile, now_ms: Callable[[], int] = wall_ms) -> None:
        self._ring = ring
        self._now_ms = now_ms
        self._actions: OrderedDict[tuple[str, str], str] = OrderedDict()

    def note(self, direction: str, frame: str) -> None:
        """Keep a frame; ``frame`` has no secrets."""
        kind, message_id, action = _head(frame)
        if kind == "call":
            self._actions[direction, message_id] = action
            if len(self._actions) > REMEMBERED:
                self._actions.popitem(last=False)
        elif kind:
            action = self._actions.pop((_OTHER_WAY[direction], message_id), "")
        at = datetime.fromtimestamp(self._now_ms() / 1_000, UTC).isoformat(timespec="milliseconds")
        entry = TraceEntry(
            timestamp=at.replace("+00:00", "Z"),
            direction=direction,
            kind=kind,
            id=message_id,
            action=action,
            chars=len(frame),
            frame=frame[:FRAME_MAX_CHARS],
        )
        self._ring.append(json.dumps(entry, ensure_ascii=False, separators=(",", ":")))


def _head(frame: str) -> tuple[str, str, str]:
    """(kind, message id, action of a CALL) of a frame; empty where it is no frame."""
    try:
        parts = json.loads(frame)
    except (ValueError, RecursionError):
        return "", "", ""
    if not isinstance(parts, list) or len(parts) < 3 or not isinstance(parts[0], int):
        return "", "", ""
    kind = _KINDS.get(parts[0], "")
    return kind, _name(parts[1]), _name(parts[2]) if kind == "call" else ""


def _name(value: Any) -> str:
    return str(value)[:NAME_MAX_CHARS]
