"""A file of ours to where somebody outside wants it: one try, by HTTP(S) or FTP(S).

Charter: what every way has in common: what a location means, limits, the end from another thread, what failed. Blocks;
used from a thread. Whoever calls decides about another try.

What a location means. Its path ends with ``/`` or there is none: it is a folder, and the file's name is added (OCPP
1.6 GetDiagnostics names a folder; curl does the same). Else, for HTTP, it is the address itself, whatever its last
part looks like: many CSMS hand out an address that is good for one file. For FTP the server is asked whether it is a
folder. HTTP servers are given the file by PUT, and by POST where they answer that they have no PUT there (405, 501);
by POST at once where the configuration says so. The body is the file itself, no form. Redirects are refused: the file
is not for whoever a server names. User and password of a location are used and never told.

Sources: RFC 9110 (PUT 9.3.4, POST 9.3.3, 405 15.5.6), RFC 7617 (Basic), RFC 6266 (file names), RFC 959 (STOR);
OCPP 1.6 section 6.25; OCPP 2.0.1 part 2 N01. Units: bytes, seconds.
"""

from __future__ import annotations

import contextlib
import enum
import socket
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final
from urllib.parse import quote, urlsplit

from agent.firmware.errors import SourceLost
from agent.transfer.location import Location, parse_location
from agent.transfer.rate import TokenBucket
from agent.transfer.settings import TransferTls
from agent.transfer.wire import monotonic_ms

if TYPE_CHECKING:
    import ssl

SCHEMES: Final = ("https", "http", "ftps", "ftp")


class FailureKind(enum.Enum):
    """Who could do something about it."""

    BROKEN = enum.auto()  # link or server; also whatever is none of the others
    MALFORMED = enum.auto()  # the location, or the server does not understand us
    DENIED = enum.auto()  # the server does not let us
    UNSUPPORTED = enum.auto()  # the server takes no files there


class UploadFailed(Exception):
    """The file did not arrive. ``retryable``: another try may succeed."""

    def __init__(self, why: str, kind: FailureKind = FailureKind.BROKEN, *, retryable: bool = False) -> None:
        super().__init__(why)
        self.why, self.kind, self.retryable = why, kind, retryable


@dataclass(frozen=True, slots=True)
class UploadSettings:
    """``ca_file`` (PEM) is trusted beside the system's roots. ``io_timeout_s``: for each 64 KiB, and for an answer;
    ``total_timeout_s``: for the whole try. ``max_bytes_per_s`` 0: as fast as it goes."""

    post: bool = False
    ca_file: Path | None = None
    max_bytes_per_s: int = 0
    connect_timeout_s: float = 30.0
    io_timeout_s: float = 60.0
    total_timeout_s: float = 1_800.0

    def tls(self) -> ssl.SSLContext:
        """Raises ``SourceLost`` when the file is not usable."""
        context = TransferTls().context()
        if self.ca_file is not None:
            try:
                context.load_verify_locations(cafile=self.ca_file)
            except OSError as error:  # also ssl.SSLError
                raise SourceLost(f"CA file {self.ca_file}: {error.strerror or error}", retryable=False) from error
        return context


@dataclass(frozen=True, slots=True)
class Parcel:
    """What is sent: ``size`` bytes of ``file`` from its beginning."""

    file: BinaryIO = field(repr=False)
    size: int
    name: str
    content_type: str


def destination(text: str, file_name: str, schemes: Collection[str]) -> Location:
    """Where a file of this name goes. Raises ``UploadFailed``, not retryable."""
    try:
        return parse_location(_with_name(text, file_name), set(schemes) & set(SCHEMES))
    except SourceLost as lost:
        raise UploadFailed(lost.why, FailureKind.MALFORMED) from None


def _with_name(text: str, file_name: str) -> str:
    try:
        parts = urlsplit(text)
    except ValueError:  # ``parse_location`` says what is wrong with it
        return text
    if not parts.netloc or (parts.path and not parts.path.endswith("/")):
        return text
    return parts._replace(path=f"{parts.path or '/'}{quote(file_name)}").geturl()


class Upload:
    """One try. ``sent_bytes`` counts along."""

    def __init__(
        self,
        where: Location,
        settings: UploadSettings,
        *,
        clock_ms: Callable[[], int] = monotonic_ms,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.where = where
        self.settings = settings
        self.clock_ms = clock_ms
        self.sent_bytes = 0
        self._bucket = TokenBucket(settings.max_bytes_per_s, clock_ms, sleep)
        self._ended = threading.Event()
        self._socket: socket.socket | None = None

    def send(self, parcel: Parcel) -> None:
        """Returns when the server has said that it has the file. Raises ``UploadFailed``; ``OSError`` of the file."""
        self._until_ms = self.clock_ms() + round(self.settings.total_timeout_s * 1_000)
        try:
            if self.where.scheme in ("http", "https"):
                from agent.transfer.upload_http import send_http

                send_http(self, parcel)
            else:
                from agent.transfer.upload_ftp import send_ftp

                send_ftp(self, parcel)
        except SourceLost as lost:
            raise UploadFailed(lost.why, retryable=lost.retryable) from None

    def end(self) -> None:
        """Stop, whatever is waited for; from another thread."""
        self._ended.set()
        if (connected := self._socket) is not None:
            with contextlib.suppress(OSError):
                # Not the method of an SSLSocket: it takes the encryption off before it shuts down.
                socket.socket.shutdown(connected, socket.SHUT_RDWR)

    # ------------------------------------------------------------------------------- for the two ways

    def uses(self, connected: socket.socket) -> None:
        """What waits for the server from now on. Raises ``UploadFailed`` where the end was wanted meanwhile."""
        self._socket = connected
        self._check()

    def pour(self, parcel: Parcel, take: Callable[[bytes], object]) -> None:
        """The whole file to ``take``, in pieces, at the pace that is allowed."""
        parcel.file.seek(0)
        self.sent_bytes = 0
        while self.sent_bytes < parcel.size:
            self._check()
            piece = parcel.file.read(min(self._bucket.piece_bytes, parcel.size - self.sent_bytes))
            if not piece:
                raise UploadFailed(f"the file ended after {self.sent_bytes} of {parcel.size} bytes")
            take(piece)
            self.sent_bytes += len(piece)
            self._bucket.pay(len(piece))

    def _check(self) -> None:
        if self._ended.is_set():
            raise UploadFailed(f"{self.where}: given up")
        if self.clock_ms() > self._until_ms:
            why = f"{self.where}: not done within {self.settings.total_timeout_s:g} s"
            raise UploadFailed(why, retryable=True)
