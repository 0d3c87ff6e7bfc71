"""A file to an HTTP server: one request with the file as its body.

Charter: asks, pours, judges the answer's status; its body is not read. A server that answers before it has the whole
file (no login, too large) is heard all the same, as far as its answer still comes through. What is sent where, and
why, is told in ``agent.transfer.upload``.
"""

from __future__ import annotations

import base64
import http.client
import re
from typing import Any, Final, cast

from agent.transfer.location import Location
from agent.transfer.upload import FailureKind, Parcel, Upload, UploadFailed
from agent.transfer.wire import Wire, connect, lost

_NO_SUCH_METHOD: Final = frozenset({405, 501})
_MAY_PASS: Final = frozenset({408, 425, 429})  # beside 5xx
_KINDS: Final = {
    400: FailureKind.MALFORMED,
    401: FailureKind.DENIED,
    403: FailureKind.DENIED,
    405: FailureKind.UNSUPPORTED,
    407: FailureKind.DENIED,
    415: FailureKind.UNSUPPORTED,
    422: FailureKind.MALFORMED,
    501: FailureKind.UNSUPPORTED,
}


def send_http(upload: Upload, parcel: Parcel) -> None:
    """Raises ``UploadFailed``, ``SourceLost``."""
    methods = ("POST",) if upload.settings.post else ("PUT", "POST")
    for method in methods:
        status = _ask(upload, parcel, method)
        if status not in _NO_SUCH_METHOD:
            break
    if not 200 <= status < 300:
        raise _failed(upload.where, method, status)


def _ask(upload: Upload, parcel: Parcel, method: str) -> int:
    """The status of the answer."""
    where, settings = upload.where, upload.settings
    wire = None
    try:
        context = settings.tls() if where.scheme == "https" else None
        connected = connect(where.host, where.port, settings.connect_timeout_s, context)
        wire = Wire(connected, settings.io_timeout_s, upload.clock_ms)
        upload.uses(connected)
        return _exchange(upload, parcel, method, wire)
    except (OSError, http.client.HTTPException) as error:
        raise lost(where, error) from None  # a server's text could hold what we sent
    finally:
        if wire is not None:
            wire.close()


def _exchange(upload: Upload, parcel: Parcel, method: str, wire: Wire) -> int:
    where = upload.where
    connection = http.client.HTTPConnection(where.host, where.port)
    connection.sock = cast(Any, wire)  # connected already; only what http.client uses of a socket
    connection.putrequest(
        method, where.path + (f"?{where.query}" if where.query else ""), skip_host=True, skip_accept_encoding=True
    )
    for name, value in _headers(where, parcel).items():
        connection.putheader(name, value)
    broken: OSError | None = None
    try:
        connection.endheaders()
        upload.pour(parcel, wire.sendall)
    except ConnectionError as error:  # it may have said why before it closed
        broken = error
    wire.start()
    response = http.client.HTTPResponse(cast(Any, wire), method=method)
    try:
        response.begin()
    except (OSError, http.client.HTTPException) as error:
        raise broken or error from None
    finally:
        response.close()
    return response.status


def _headers(where: Location, parcel: Parcel) -> dict[str, str]:
    headers = {
        "Host": where.authority,
        "User-Agent": "evsed",
        "Connection": "close",
        "Content-Type": parcel.content_type,
        "Content-Length": str(parcel.size),
        "Content-Disposition": f'attachment; filename="{re.sub(r"[^A-Za-z0-9._-]", "_", parcel.name)}"',
    }
    if where.user is not None:
        pair = base64.b64encode(f"{where.user}:{where.password}".encode()).decode("ascii")
        headers["Authorization"] = f"Basic {pair}"
    return headers


def _failed(where: Location, method: str, status: int) -> UploadFailed:
    if 300 <= status < 400:
        why = f"{where}: HTTP status {status}: the server redirects; the location must be the final one"
        return UploadFailed(why, FailureKind.UNSUPPORTED)
    phrase = http.client.responses.get(status, "unknown")
    retryable = (status >= 500 and status not in _NO_SUCH_METHOD) or status in _MAY_PASS
    kind = _KINDS.get(status, FailureKind.BROKEN)
    return UploadFailed(f"{where}: HTTP status {status} ({phrase}) to {method}", kind, retryable=retryable)
