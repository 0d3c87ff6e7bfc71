"""A file over HTTP: one request, perhaps redirected, becomes a stream.

Charter: asks, follows redirects, judges the answer's head. One connection per request: a stream that is given up in the
middle cannot be used again anyway. No proxies, no cookies, no content encodings.

A redirect may go from http to http or https, from https only to https; credentials go only where the location
itself pointed. Later requests start at the location again, since what redirects led to may have expired.
The range is asked with If-Range, so that another version of the file comes whole and is recognised.

``http.client`` parses the answer; it stops at 100 header lines of 64 KiB, and ``Wire`` before that and where it does
not stop (interim answers, trailers).
Sources: RFC 9110 (ranges 14, If-Range 13.1.5, Retry-After 10.2.3, redirects 15.4), RFC 7617 (Basic).
"""

from __future__ import annotations

import base64
import http.client
import re
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urljoin

from agent.firmware.errors import SourceLost
from agent.transfer.location import Location, parse_location
from agent.transfer.settings import TransferLimits, TransferTls
from agent.transfer.stream import CHANGED, Identity, TryLater
from agent.transfer.wire import Wire, connect, lost

if TYPE_CHECKING:
    import ssl

REDIRECT_MAX_CHARS: Final = 8000
"""RFC 9110 4.1 wants as much to be understood; signed addresses of file stores are longer than OCPP allows."""
RETRY_AFTER_MAX_S: Final = 300

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAY_PASS = frozenset({408, 425, 429})  # beside 5xx
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})")
_NUMBER = re.compile(r"[0-9]{1,18}")
_STRONG_TAG = re.compile(r'"[!#-~]{0,200}"')
_DATE = re.compile(r"[A-Za-z0-9,: ]{1,40}")


class HttpOpener:
    """See ``Opener``. ``schemes``: what redirects may lead to as well."""

    def __init__(
        self,
        location: Location,
        schemes: Collection[str],
        limits: TransferLimits,
        tls: TransferTls,
        clock_ms: Callable[[], int],
    ) -> None:
        self._location = location
        self._schemes = schemes
        self._limits = limits
        self._tls = tls
        self._clock_ms = clock_ms
        self._context: ssl.SSLContext | None = None

    def open(self, offset: int, known: Identity | None) -> HttpStream:
        stream = self._request(offset, known, ranged=offset > 0)
        if stream is None and offset == 0:  # it does not say how long the file is; with a range it may
            stream = self._request(0, known, ranged=True)
        if stream is None:
            raise SourceLost(
                f"{self._location}: the server does not say how long the file is (no Content-Length); "
                "serve it as a plain file",
                retryable=False,
            )
        return stream

    def _request(self, offset: int, known: Identity | None, *, ranged: bool) -> HttpStream | None:
        """None: the answer does not tell the size."""
        headers = {"Accept-Encoding": "identity", "User-Agent": "evsed", "Connection": "close"}
        if ranged:
            headers["Range"] = f"bytes={offset}-"
            if known is not None and (validator := known.tag or known.modified):
                headers["If-Range"] = validator
        answer = self._follow(headers)
        try:
            place = answer.place(offset if ranged else None)
            if place is None:
                answer.close()
                return None
            return HttpStream(answer, *place)
        except BaseException:
            answer.close()
            raise

    def _follow(self, headers: dict[str, str]) -> _Answer:
        """The first answer that is no redirect."""
        location, visited = self._location, {self._location}
        while (answer := self._ask(location, headers)).status in _REDIRECTS:
            answer.close()
            location = self._next(location, answer.header("Location"))
            if location in visited:
                raise SourceLost(f"{self._location}: redirects lead in a circle, to {location}", retryable=False)
            if len(visited) > self._limits.redirects_max:
                why = f"more than {self._limits.redirects_max} redirects"
                raise SourceLost(f"{self._location}: {why}", retryable=False)
            visited.add(location)
        return answer

    def _next(self, location: Location, target: str) -> Location:
        base = f"{location.scheme}://{location.authority}{location.path}"
        secure = {"https"} if location.scheme == "https" else {"http", "https"}
        try:
            target = urljoin(base, target) if target else ""
            found = parse_location(target, secure & set(self._schemes), max_chars=REDIRECT_MAX_CHARS)
        except ValueError:
            raise SourceLost(f"{location}: redirected, but not to a location", retryable=False) from None
        except SourceLost as wrong:
            raise SourceLost(f"{location}: redirected, but {wrong.why}", retryable=False) from None
        return found

    def _ask(self, location: Location, headers: dict[str, str]) -> _Answer:
        wire = None
        try:
            wire = self._connect(location)
            return self._exchange(location, wire, headers)
        except (OSError, http.client.HTTPException) as error:
            if wire is not None:
                wire.close()
            raise lost(location, error) from error
        except BaseException:
            if wire is not None:
                wire.close()
            raise

    def _connect(self, location: Location) -> Wire:
        context = None
        if location.scheme == "https":
            context = self._context = self._context or self._tls.context()
        connected = connect(location.host, location.port, self._limits.connect_timeout_s, context)
        return Wire(connected, self._limits.read_timeout_s, self._clock_ms)

    def _exchange(self, location: Location, wire: Wire, headers: dict[str, str]) -> _Answer:
        connection = http.client.HTTPConnection(location.host, location.port)
        connection.sock = cast(Any, wire)  # connected already; only what http.client uses of a socket
        target = location.path + (f"?{location.query}" if location.query else "")
        connection.request("GET", target, headers={"Host": location.authority, **self._login(location), **headers})
        response = http.client.HTTPResponse(cast(Any, wire), method="GET")
        try:
            response.begin()
        except BaseException:
            response.close()
            raise
        return _Answer(response, wire, location)

    def _login(self, location: Location) -> dict[str, str]:
        first = self._location
        same = (location.scheme, location.host, location.port) == (first.scheme, first.host, first.port)
        if not same or first.user is None:
            return {}
        pair = base64.b64encode(f"{first.user}:{first.password}".encode()).decode("ascii")
        return {"Authorization": f"Basic {pair}"}


class _Answer:
    """The head of an answer, and its body to come."""

    def __init__(self, response: http.client.HTTPResponse, wire: Wire, location: Location) -> None:
        self.response = response
        self.wire = wire
        self.location = location
        self.status = response.status

    def header(self, name: str) -> str:
        return (self.response.getheader(name) or "").strip()

    def close(self) -> None:
        self.response.close()

    def place(self, asked: int | None) -> tuple[int, Identity] | None:
        """Where the body's first byte lies, and in what. ``asked``: the start of the range that was asked for.
        None where the answer does not tell the size. Raises ``SourceLost``."""
        if self.status not in (200, 206):
            raise self._failed()
        encoding = self.header("Content-Encoding")
        if encoding.lower() not in ("", "identity"):
            raise self._refused(f"content encoding {encoding[:40]!r}, expected none")
        transfer = self.header("Transfer-Encoding").lower()
        if transfer not in ("", "chunked"):
            raise self._refused(f"transfer encoding {transfer[:40]!r}, expected none or chunked")
        length = None if transfer else self._length()
        if self.status == 206:
            return self._range(asked, length)
        return None if length is None else (0, self._identity(length))

    def _length(self) -> int | None:
        text = self.header("Content-Length")
        if text and not _NUMBER.fullmatch(text):
            raise self._refused(f"Content-Length {text[:40]!r}")
        return int(text) if text else None

    def _range(self, asked: int | None, length: int | None) -> tuple[int, Identity]:
        text = self.header("Content-Range")
        found = _CONTENT_RANGE.fullmatch(text)
        if found is None:
            raise self._refused(f"status 206 with Content-Range {text[:60]!r}")
        first, last, size = (int(each) for each in found.groups())
        if first != asked or not first <= last < size or length not in (None, last - first + 1):
            raise self._refused(f"other bytes than asked for (Content-Range {text[:60]!r})")
        return first, self._identity(size)

    def _identity(self, size: int) -> Identity:
        tag, modified = self.header("ETag"), self.header("Last-Modified")
        return Identity(size, tag if _STRONG_TAG.fullmatch(tag) else "", modified if _DATE.fullmatch(modified) else "")

    def _refused(self, why: str) -> SourceLost:
        return SourceLost(f"{self.location}: {why}", retryable=False)

    def _failed(self) -> SourceLost:
        phrase = http.client.responses.get(self.status, "unknown")
        why = f"{self.location}: HTTP status {self.status} ({phrase})"
        if self.status == 416:  # only a range within the size that we know is asked for
            why = f"{self.location}: {CHANGED}"
        if self.status < 500 and self.status not in _MAY_PASS:
            return SourceLost(why, retryable=False)
        wait = self.header("Retry-After")  # may be a date instead, which needs a clock that is right
        if _NUMBER.fullmatch(wait):
            return TryLater(why, min(int(wait), RETRY_AFTER_MAX_S))
        return SourceLost(why, retryable=True)


class HttpStream:
    """See ``Stream``."""

    def __init__(self, answer: _Answer, start: int, identity: Identity) -> None:
        self.start, self.identity = start, identity
        self._answer = answer

    def read(self, max_bytes: int) -> bytes:
        try:
            piece = self._answer.response.read1(max_bytes)
        except http.client.IncompleteRead:  # ended within a chunk
            return b""
        except (OSError, http.client.HTTPException, OverflowError) as error:  # overflow: a chunk of 2**63 bytes
            raise lost(self._answer.location, error) from error
        if len(piece) > max_bytes:  # what http.client makes of a negative chunk size
            raise SourceLost(f"{self._answer.location}: the body's chunks make no sense", retryable=True)
        self._answer.wire.was_useful(len(piece))
        return piece

    def close(self) -> None:
        self._answer.close()
