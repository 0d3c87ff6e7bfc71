"""One file from elsewhere, read in ranges: resumed when it breaks, skipped forward, limited, never mixed.

Charter: the policy above the three ways to a file. Reading goes along one stream as long as that pays: a gap of up to
256 KiB is read and thrown away, a wider one or a step back opens another stream. A server that cannot start in
the middle is read from the beginning, up to what is wanted. What breaks is taken up again after a pause, up to
``resumes_max`` times before 1 MiB has come anew; so neither a bad link nor a bad server can hold us for ever. Every
stream must be of the same version of the file.

Blocks; one thread at a time. Meets ``agent.firmware.ports.Source``. Units: bytes, seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from types import TracebackType
from typing import Final, Self

from agent.firmware.errors import SourceLost
from agent.transfer.location import Location, parse_location
from agent.transfer.rate import TokenBucket
from agent.transfer.settings import TransferLimits, TransferTls
from agent.transfer.stream import CHANGED, Identity, Opener, Stream, TryLater
from agent.transfer.wire import monotonic_ms

READ_MAX_BYTES: Final = 8 * 1024 * 1024
SKIP_MAX_BYTES: Final = 256 * 1024
PROVEN_BYTES: Final = 1024 * 1024
PAUSE_FIRST_S: Final = 1
PAUSE_MAX_S: Final = 30


class RemoteFile:
    """``size`` is known from the beginning. ``fetched_bytes`` counts what came, also what was thrown away."""

    def __init__(
        self,
        opener: Opener,
        location: Location,
        limits: TransferLimits,
        *,
        on_pause: Callable[[bool], None],
        cancelled: Callable[[], bool],
        clock_ms: Callable[[], int],
        sleep: Callable[[float], object],
    ) -> None:
        self._opener = opener
        self._location = location
        self._limits = limits
        self._on_pause = on_pause
        self._cancelled = cancelled
        self._sleep = sleep
        self._bucket = TokenBucket(limits.max_bytes_per_s, clock_ms, sleep)
        self._identity: Identity | None = None
        self._stream: Stream | None = None
        self._position = 0  # of the stream
        self._ranges = True  # the server starts where it is asked to, as far as we know
        self._tries = 0
        self._unproven_bytes = 0  # since tries were forgiven
        self._paused = False
        self.fetched_bytes = 0
        self.size = 0
        self._begin()

    def read(self, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes from ``offset``; at most 8 MiB. Raises ``SourceLost``, after which another try is
        allowed; ``ValueError`` for a range that makes no sense."""
        if offset < 0 or not 0 <= length <= READ_MAX_BYTES:
            raise ValueError(f"range of {length} bytes at {offset}, expected up to {READ_MAX_BYTES} bytes")
        if offset + length > self.size:
            why = f"bytes {offset} to {offset + length} were asked of a file of {self.size} bytes"
            raise SourceLost(f"{self._location}: {why}", retryable=False)
        data = bytearray()
        while len(data) < length:
            data += self._piece(offset + len(data), length - len(data))
        return bytes(data)

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -------------------------------------------------------------------------------- along one stream

    def _begin(self) -> None:
        """Opens the first stream, which tells the size."""
        while self._stream is None:
            self._check_cancelled()
            try:
                self._open(0)
            except SourceLost as broken:
                self._survive(broken)

    def _piece(self, offset: int, max_bytes: int) -> bytes:
        """At least one byte from ``offset``."""
        while True:
            self._check_cancelled()
            try:
                self._go_to(offset)
                piece = self._receive(max_bytes)
            except SourceLost as broken:
                self._survive(broken)
                continue
            self._unproven_bytes += len(piece)
            if self._unproven_bytes >= PROVEN_BYTES:
                self._tries = self._unproven_bytes = 0
            return piece

    def _go_to(self, offset: int) -> None:
        reach = SKIP_MAX_BYTES if self._ranges else self.size
        if self._stream is not None and not 0 <= offset - self._position <= reach:
            self.close()
        if self._stream is None:
            self._open(offset)
        while self._position < offset:
            self._receive(offset - self._position)

    def _open(self, offset: int) -> None:
        self._stream = self._opener.open(offset, self._identity)
        self._judge(self._stream.identity)
        self._position = self._stream.start
        if offset > 0:
            self._ranges = self._position == offset
        if self._paused:
            self._paused = False
            self._on_pause(False)

    def _judge(self, identity: Identity) -> None:
        if identity.size > self._limits.max_size_bytes:
            why = f"the file has {identity.size} bytes, at most {self._limits.max_size_bytes} are allowed"
            raise SourceLost(f"{self._location}: {why}", retryable=False)
        if self._identity is None:
            self._identity, self.size = identity, identity.size
        elif not self._identity.may_be(identity):
            raise SourceLost(f"{self._location}: {CHANGED}", retryable=False)

    def _receive(self, max_bytes: int) -> bytes:
        """The next bytes of the stream, at least one."""
        assert self._stream is not None
        self._check_cancelled()
        piece = self._stream.read(min(max_bytes, self._bucket.piece_bytes))
        if not piece:
            why = f"the connection ended after {self._position} of {self.size} bytes"
            raise SourceLost(f"{self._location}: {why}", retryable=True)
        self._position += len(piece)
        self.fetched_bytes += len(piece)
        self._bucket.pay(len(piece))
        return piece

    # ------------------------------------------------------------------------------------ when it breaks

    def _survive(self, broken: SourceLost) -> None:
        """Pauses before another try, or raises where there is none."""
        self.close()
        if not broken.retryable:
            raise broken
        if self._tries >= self._limits.resumes_max:
            raise SourceLost(f"{broken.why}; given up after {self._tries} resumes", retryable=True) from broken
        pause_s = min(PAUSE_FIRST_S << self._tries, PAUSE_MAX_S)
        if isinstance(broken, TryLater):
            pause_s = max(pause_s, broken.wait_s)
        self._tries += 1
        if not self._paused:
            self._paused = True
            self._on_pause(True)
        self._sleep(pause_s)

    def _check_cancelled(self) -> None:
        if self._cancelled():
            raise SourceLost(f"{self._location}: cancelled", retryable=False)


def open_remote(
    location: str,
    limits: TransferLimits,
    tls: TransferTls | None = None,
    *,
    schemes: Collection[str],
    on_pause: Callable[[bool], None] = lambda _paused: None,
    cancelled: Callable[[], bool] = lambda: False,
    clock_ms: Callable[[], int] = monotonic_ms,
    sleep: Callable[[float], object] = time.sleep,
) -> RemoteFile:
    """The file at ``location``, whose scheme must be one of ``schemes``; its size is known when this returns.

    ``on_pause`` hears True when a transfer begins to wait for another try, and False when the server answers again.
    ``cancelled`` is asked between pieces and pauses; when it says so, ``SourceLost`` (not retryable) follows. Give a
    ``sleep`` that wakes up then (``Event.wait``), or pauses are slept to their end. Raises ``SourceLost``.
    """
    where = parse_location(location, schemes)
    opener = _opener(where, schemes, limits, tls or TransferTls(), clock_ms)
    return RemoteFile(opener, where, limits, on_pause=on_pause, cancelled=cancelled, clock_ms=clock_ms, sleep=sleep)


def _opener(
    location: Location,
    schemes: Collection[str],
    limits: TransferLimits,
    tls: TransferTls,
    clock_ms: Callable[[], int],
) -> Opener:
    """Each way is imported when it is wanted: most chargers use one, now and then."""
    if location.scheme == "file":
        from agent.transfer.from_disk import DiskOpener

        return DiskOpener(location)
    if location.scheme in ("ftp", "ftps"):
        from agent.transfer.over_ftp import FtpOpener

        return FtpOpener(location, limits, tls, clock_ms)
    from agent.transfer.over_http import HttpOpener

    return HttpOpener(location, schemes, limits, tls, clock_ms)
