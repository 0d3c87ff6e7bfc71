"""Frames on the local socket: a length in four bytes, big-endian, then JSON.

Charter: bytes to messages, with a limit. Three kinds of message:
``{"call": n, "method": m, "args": {...}}``, ``{"answer": n, "value": ...}`` or ``{"answer": n,
"error": text}``, and ``{"news": {...}}``.
"""

from __future__ import annotations

import asyncio
from typing import Any

from agent.ipc.codec import CodecError, from_json, to_json

PROTOCOL = 1
MAX_FRAME_BYTES = 4 * 1024 * 1024


class WireError(Exception):
    """The peer does not speak our protocol; the connection is of no more use."""


async def read_message(reader: asyncio.StreamReader) -> dict[str, Any] | None:
    """The next message; None when the peer is gone."""
    try:
        head = await reader.readexactly(4)
        size = int.from_bytes(head, "big")
        if size > MAX_FRAME_BYTES:
            raise WireError(f"frame of {size} bytes, at most {MAX_FRAME_BYTES} allowed")
        message = from_json(await reader.readexactly(size))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    except CodecError as error:
        raise WireError(str(error)) from error
    if not isinstance(message, dict):
        raise WireError("a message is a JSON object")
    return message


def frame(message: dict[str, Any]) -> bytes:
    body = to_json(message)
    assert len(body) <= MAX_FRAME_BYTES, "our own messages are bounded by their makers"
    return len(body).to_bytes(4, "big") + body
