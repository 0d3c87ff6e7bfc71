"""What a network and whoever answers in it can do wrong: the faults of ``agent.sim.fault_proxy`` as values.

Charter: names, parameters and their limits, and the raw answers of peers that are no CSMS. No sockets here.

Units: milliseconds, bytes. "To the CSMS" and "to the station" are the two ways through the proxy.
Sources: RFC 6455 4.2.2 (accept key), RFC 8446 6 (alerts), RFC 9112 (status line); field faults 7, 8 and 14.
"""

from __future__ import annotations

import base64
import enum
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

PAUSE_MAX_MS: Final = 60_000
_WEBSOCKET_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

Replier = Callable[[bytes], bytes]
"""From the first bytes of a client (its request head, or its TLS hello) to what it gets; empty: nothing, for ever."""


class Way(enum.Enum):
    """The direction in which a fault bites."""

    TO_CSMS = enum.auto()
    TO_STATION = enum.auto()
    BOTH = enum.auto()

    def covers(self, way: Way) -> bool:
        return self is Way.BOTH or self is way


class Ending(enum.Enum):
    """How a connection is ended: FIN, or RST."""

    CLOSE = enum.auto()
    RESET = enum.auto()


@dataclass(frozen=True, slots=True)
class Latency:
    """Every piece waits ``delay_ms`` and up to ``jitter_ms`` more; what comes meanwhile waits with the next one."""

    delay_ms: int
    jitter_ms: int = 0
    way: Way = Way.BOTH

    def __post_init__(self) -> None:
        if not (0 <= self.delay_ms <= PAUSE_MAX_MS and 0 <= self.jitter_ms <= PAUSE_MAX_MS):
            raise ValueError(f"latency: delay_ms and jitter_ms must be 0 to {PAUSE_MAX_MS}")


@dataclass(frozen=True, slots=True)
class Stall:
    """Bytes are held; they go on when the fault is off."""

    way: Way = Way.BOTH


@dataclass(frozen=True, slots=True)
class HalfOpen:
    """Live connections are dead for good and nobody is told: bytes vanish both ways, so do FIN and RST. With
    ``swallow_new`` so are new ones, which are accepted and never heard of again."""

    swallow_new: bool = False


@dataclass(frozen=True, slots=True)
class Truncate:
    """A connection ends once ``after_bytes`` more went through in ``way``: 0 is before the next byte."""

    after_bytes: int
    ending: Ending = Ending.CLOSE
    way: Way = Way.TO_STATION

    def __post_init__(self) -> None:
        if self.after_bytes < 0 or self.way is Way.BOTH:
            raise ValueError("truncate: after_bytes must not be negative, and way must be one way")


@dataclass(frozen=True, slots=True)
class Corrupt:
    """One byte in ``one_in`` is inverted, by the proxy's dice; 1: all of them."""

    one_in: int = 1
    way: Way = Way.TO_STATION

    def __post_init__(self) -> None:
        if self.one_in < 1:
            raise ValueError("corrupt: one_in must be at least 1")


@dataclass(frozen=True, slots=True)
class Trickle:
    """Byte by byte, each in a segment of its own, ``pause_ms`` apart."""

    pause_ms: int = 0
    way: Way = Way.BOTH

    def __post_init__(self) -> None:
        if not 0 <= self.pause_ms <= PAUSE_MAX_MS:
            raise ValueError(f"trickle: pause_ms must be 0 to {PAUSE_MAX_MS}")


@dataclass(frozen=True, slots=True)
class Refuse:
    """Nobody listens. Live connections go on."""


@dataclass(frozen=True, slots=True)
class Impostor:
    """New connections get ``reply`` instead of the CSMS; with ``before_tls`` in place of the TLS handshake."""

    reply: Replier
    before_tls: bool = False


Fault = Latency | Stall | HalfOpen | Truncate | Corrupt | Trickle | Refuse | Impostor

FAULTS: Final[Mapping[str, type[Fault]]] = {
    "latency": Latency,
    "stall": Stall,
    "half-open": HalfOpen,
    "truncate": Truncate,
    "corrupt": Corrupt,
    "trickle": Trickle,
    "refuse": Refuse,
    "impostor": Impostor,
}


def fault_of(name: str, parameters: Mapping[str, Any]) -> Fault:
    """The fault of that name. Raises ``ValueError`` for an unknown name, unknown parameters or values out of range."""
    kind = FAULTS.get(name)
    if kind is None:
        raise ValueError(f"unknown fault {name!r}; there are: {', '.join(FAULTS)}")
    try:
        return kind(**parameters)
    except TypeError as error:
        raise ValueError(f"fault {name}: {error}") from error


# ------------------------------------------------------------------------------- who else may answer

TLS_ALERT: Final = bytes.fromhex("15 03 03 00 02 02 28")  # fatal, handshake_failure
NOT_HTTP: Final = b"220 mail.example ESMTP\r\n"


def silence(_request: bytes) -> bytes:
    """Accepted, and never answered."""
    return b""


def says(raw: bytes) -> Replier:
    """Always these bytes."""
    return lambda _request: raw


def http(status: int, **headers: str) -> Replier:
    """A complete HTTP answer; ``_`` in a header's name stands for ``-``."""
    lines = [f"HTTP/1.1 {status} Simulated", "Content-Length: 0", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return says("\r\n".join([*lines, "", ""]).encode("ascii"))


def upgrades_to(subprotocol: str) -> Replier:
    """A good WebSocket upgrade, but to this subprotocol, asked for or not."""

    def reply(request: bytes) -> bytes:
        accept = base64.b64encode(hashlib.sha1(_key_of(request) + _WEBSOCKET_GUID, usedforsecurity=False).digest())
        return (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n"
            b"Sec-WebSocket-Protocol: " + subprotocol.encode("ascii") + b"\r\n\r\n"
        )

    return reply


def _key_of(request: bytes) -> bytes:
    for line in request.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"sec-websocket-key":
            return value.strip()
    return b""
