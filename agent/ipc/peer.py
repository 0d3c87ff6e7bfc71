"""Who is at the other end of a local socket, and the users of the processes.

Source of a peer's identity: SO_PEERCRED (kernel, cannot be forged).
"""

from __future__ import annotations

import pwd
import socket
import struct
from typing import Final

STATION_USER: Final = "evsed"
GATEWAY_USER: Final = "evsed-gateway"


def peer_uid(sock: socket.socket) -> int:
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return int(uid)


def uid_of(user: str) -> int | None:
    """None where there is no such user: development, or a small install with a single one."""
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return None
