"""The installer's local socket: frames, blocking.

Charter: bytes to messages and back, with limits. A frame is a length in four bytes, big-endian, then JSON; a frame
``{"data": n}`` is followed by n raw bytes. The client calls ``{"call": method, "args": {...}}``; the installer answers
``{"value": ...}`` or ``{"error": {...}}``. In between, during ``install``, it asks ``{"read": [offset, length]}``,
which is answered by data or by ``{"lost": {...}}``, after any number of ``{"coming": true}`` where that takes long,
and tells ``{"progress": {...}}``. Where ``install`` or ``activate`` takes long the installer says ``{"coming": true}``
too, every minute; a client passes over words that it does not know. Where it wants no more of a bundle it stops to
listen: then sending fails, and its answer is there to be read. One call at a time on a connection.
"""

from __future__ import annotations

import socket
from typing import Any, Final

from agent.ipc.codec import CodecError, from_json, to_json

MAX_FRAME_BYTES: Final = 256 * 1024
MAX_DATA_BYTES: Final = 8 * 1024 * 1024
COMING_S: Final = 60.0  # several times within the silence for which either side leaves the other
WORK_MAX_S: Final = 7_200.0  # as long as RAUC may install; what takes longer hangs, and nobody says that it comes


class PeerGone(Exception):
    """The other side is gone, or does not speak this protocol."""


def send(sock: socket.socket, message: dict[str, Any], data: bytes = b"") -> None:
    """One frame, and the raw bytes that follow it. Raises ``PeerGone``."""
    body = to_json(message)
    assert len(body) <= MAX_FRAME_BYTES, "our own messages are bounded by their makers"
    try:
        sock.sendall(len(body).to_bytes(4, "big") + body)
        if data:
            sock.sendall(data)
    except OSError as error:
        raise PeerGone(str(error)) from error


def receive(sock: socket.socket) -> dict[str, Any]:
    """The next message. Raises ``PeerGone``."""
    size = int.from_bytes(_exactly(sock, 4), "big")
    if size > MAX_FRAME_BYTES:
        raise PeerGone(f"frame of {size} bytes, at most {MAX_FRAME_BYTES} allowed")
    try:
        message = from_json(bytes(_exactly(sock, size)))
        to_json(message)  # JSON can hold halves of characters and depths that no answer could repeat
    except (CodecError, UnicodeEncodeError, RecursionError) as error:
        raise PeerGone(str(error)) from error
    if not isinstance(message, dict):
        raise PeerGone("a message is a JSON object")
    return message


def receive_data(sock: socket.socket, length: int) -> bytes:
    """The raw bytes behind a data frame. Raises ``PeerGone``."""
    if not 0 <= length <= MAX_DATA_BYTES:
        raise PeerGone(f"{length} bytes at once, at most {MAX_DATA_BYTES} allowed")
    return bytes(_exactly(sock, length))


def _exactly(sock: socket.socket, length: int) -> bytearray:
    data = bytearray(length)
    view, got = memoryview(data), 0
    try:
        while got < length:
            count = sock.recv_into(view[got:])
            if count == 0:
                raise PeerGone("closed")
            got += count
    except OSError as error:
        raise PeerGone(str(error)) from error
    return data
