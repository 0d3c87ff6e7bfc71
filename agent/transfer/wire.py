"""A connection whose other end is not trusted with our time and memory.

Charter: connects (TCP, TLS), reads with an allowance, and puts failures into words. A socket's own timeout starts anew
with every byte, so a server that sends one byte now and then could hold a transfer for ever. Here the time that was
spent waiting counts until something of use has come, and so do the bytes that were no use (header lines,
interim answers, trailers). Time between two reads is ours and does not count.

Units: milliseconds inside, seconds for timeouts. Looking up a name has the system's own time limit.
"""

from __future__ import annotations

import io
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from agent.firmware.errors import SourceLost

if TYPE_CHECKING:
    import ssl

    from _typeshed import WriteableBuffer

OVERHEAD_MAX_BYTES: Final = 128 * 1024
"""What may come before, between and after pieces of the file; larger than any piece."""

ON_THE_WAY_BYTES: Final = 128 * 1024
"""Bytes that are under way when a stream is left for another place come for nothing: few shall be."""

SLOWEST_BYTES: Final = 4096
"""So much of the file must come within one read timeout."""


def monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def connect(host: str, port: int, timeout_s: float, context: ssl.SSLContext | None) -> socket.socket:
    """A connected socket, inside TLS where there is a ``context``. Raises ``OSError`` (also ``ssl.SSLError``)."""
    plain = socket.create_connection((host, port), timeout_s)
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ON_THE_WAY_BYTES)
    return plain if context is None else secure(plain, host, context)


def secure(
    plain: socket.socket, host: str, context: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> ssl.SSLSocket:
    """``plain`` inside TLS from here on; it is closed where that fails. ``session``: an earlier one to continue."""
    try:
        return context.wrap_socket(plain, server_hostname=host, session=session)
    except BaseException:
        plain.close()
        raise


class Wire(io.RawIOBase):
    """The reading side of a connected socket, which it owns. Quacks like a socket as far as ``http.client`` needs."""

    def __init__(self, connected: socket.socket, timeout_s: float, clock_ms: Callable[[], int]) -> None:
        self._socket = connected
        self._timeout_s = timeout_s
        self._clock_ms = clock_ms
        self._useful = 0
        self.start()

    def start(self) -> None:
        """A whole allowance, for the next answer; also the time that sending may take."""
        self._left_ms = round(self._timeout_s * 1000)
        self._left_bytes = OVERHEAD_MAX_BYTES
        self._socket.settimeout(self._timeout_s)

    def was_useful(self, count: int) -> None:
        """So many bytes of the file have come."""
        self._left_bytes = OVERHEAD_MAX_BYTES
        self._useful += count
        if self._useful >= SLOWEST_BYTES:
            self._useful = 0
            self._left_ms = round(self._timeout_s * 1000)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        if self._left_ms <= 0:
            raise TimeoutError
        if self._left_bytes <= 0:
            raise OSError(f"{OVERHEAD_MAX_BYTES} bytes came that are not the file's")
        self._socket.settimeout(self._left_ms / 1000)
        began_ms = self._clock_ms()
        try:
            count = self._socket.recv_into(memoryview(buffer)[: self._left_bytes])
        finally:
            self._left_ms -= self._clock_ms() - began_ms
        self._left_bytes -= count
        return count

    def sendall(self, data: bytes) -> None:
        self._socket.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def close(self) -> None:
        self._socket.close()
        super().close()


def lost(shown: object, error: Exception) -> SourceLost:
    """What broke, in words, for an error of a socket, of TLS or of a protocol's library. ``shown``: what was wanted.

    Texts of servers are not repeated: they could hold what we sent, a password too.
    """
    if problem := getattr(error, "verify_message", None):  # of ssl.SSLCertVerificationError, without importing ssl
        return SourceLost(f"{shown}: the server's certificate is refused: {problem}", retryable=False)
    if isinstance(error, TimeoutError):
        why = "the server is too slow or silent"
    elif isinstance(error, socket.gaierror):
        why = f"the name of the server is not found ({error.strerror})"
    elif isinstance(error, EOFError):
        why = "the server closed the connection"
    elif isinstance(error, ConnectionError):
        why = f"no connection ({error.strerror or 'closed by the server'})"
    elif reason := getattr(error, "reason", None):  # of ssl.SSLError
        why = f"TLS failed ({reason})"
    elif isinstance(error, OSError):
        why = error.strerror or str(error)
    else:
        why = f"the answer cannot be understood ({type(error).__name__})"
    return SourceLost(f"{shown}: {why}", retryable=True)
