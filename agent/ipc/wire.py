"""Frames on the local socket: a length in four bytes, big-endian, then JSON.

Charter: bytes to messages and back, with limits both ways. Three kinds of message:
``{"call": n, "method": m, "args": {...}}``, ``{"answer": n, "value": ...}`` or ``{"answer": n,
"error": text}``, and ``{"news": {...}}``.
"""

from __future__ import annotations

import asyncio
from typing import Any

from agent.ipc.codec import CodecError, from_json, to_json

PROTOCOL = 1
MAX_FRAME_BYTES = 4 * 1024 * 1024
MAX_CALL_BYTES = 256 * 1024
"""Of a call, which the station reads between two looks at its devices; no answer to a CSMS needs more."""


class WireError(Exception):
    """The peer does not speak our protocol; the connection is of no more use."""


class TooLarge(Exception):
    """A message of ours that the other side would not take. Nothing was sent; the connection is as good as before."""


async def read_message(reader: asyncio.StreamReader, max_bytes: int = MAX_FRAME_BYTES) -> dict[str, Any] | None:
    """The next message; None when the peer is gone."""
    try:
        head = await reader.readexactly(4)
        size = int.from_bytes(head, "big")
        if size > max_bytes:
            raise WireError(f"frame of {size} bytes, at most {max_bytes} allowed")
        message = from_json(await reader.readexactly(size))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    except CodecError as error:
        raise WireError(str(error)) from error
    if not isinstance(message, dict):
        raise WireError("a message is a JSON object")
    return message


def frame(message: dict[str, Any], max_bytes: int = MAX_FRAME_BYTES) -> bytes:
    """Raises ``TooLarge``."""
    body = to_json(message)
    if len(body) > max_bytes:
        raise TooLarge(f"message of {len(body)} bytes, at most {max_bytes} go through the local socket")
    return len(body).to_bytes(4, "big") + body
