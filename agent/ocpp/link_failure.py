"""Why a connection attempt or an established link ended, as values.

Charter: turns the exceptions of ssl, sockets and the WebSocket library into a small set of kinds that the
state display, the log and the security events work with. Texts are for people and hold no secret.

Source: checklist WS-02, WS-08, TLS-01 to TLS-03, part 5.
"""

from __future__ import annotations

import enum
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, NegotiationError

RETRY_AFTER_MAX_S: Final = 3600


class FailureKind(enum.StrEnum):
    """Why there is no link (any more)."""

    UNREACHABLE = "unreachable"  # name, route or port
    TIMED_OUT = "timed_out"  # no complete handshake in time
    UNAUTHORIZED = "unauthorized"  # 401, 403
    UNKNOWN_IDENTITY = "unknown_identity"  # 404
    REDIRECTED = "redirected"  # 3xx, refused
    HTTP_STATUS = "http_status"  # any other status
    NOT_WEBSOCKET = "not_websocket"
    NO_SUBPROTOCOL = "no_subprotocol"  # the CSMS chose none of our versions
    TLS_CERTIFICATE = "tls_certificate"  # the server's chain, validity or name
    TLS_VERSION = "tls_version"
    TLS_CIPHER = "tls_cipher"
    TLS = "tls"
    TLS_FILES = "tls_files"  # our own certificate files cannot be used
    NO_ENDPOINT = "no_endpoint"  # nothing can be connected to by what is configured
    CLOSED = "closed"  # an established link ended
    SILENT = "silent"  # no pong, or nothing else
    DROPPED = "dropped"  # by our own wish


# The 2.x security event that a failure calls for; the 1.6 dialect renames them (checklist part 5).
SECURITY_EVENTS: Final = {
    FailureKind.UNAUTHORIZED: "FailedToAuthenticateAtCsms",
    FailureKind.TLS_CERTIFICATE: "InvalidCsmsCertificate",
    FailureKind.TLS_VERSION: "InvalidTLSVersion",
    FailureKind.TLS_CIPHER: "InvalidTLSCipherSuite",
}


@dataclass(frozen=True, slots=True)
class LinkFailure:
    """Why an attempt or a link ended. ``detail`` is for people and holds no secret."""

    kind: FailureKind
    detail: str
    retry_after_s: int = 0


class NotConnected(Exception):
    """An attempt to connect failed; ``failure`` says why."""

    def __init__(self, failure: LinkFailure) -> None:
        super().__init__(failure.detail)
        self.failure = failure


def code_of_peer(closed: ConnectionClosed) -> int | None:
    """The code with which the CSMS closed an established link; None: it did not, or only echoed ours."""
    return None if closed.rcvd is None or closed.rcvd_then_sent is False else closed.rcvd.code


def why_closed(closed: ConnectionClosed) -> str:
    """The end of an established link in words."""
    if closed.rcvd is not None and code_of_peer(closed) is not None:
        return f"closed by the CSMS: {closed.rcvd.code} {closed.rcvd.reason}".rstrip()
    if closed.sent is not None:
        return f"closed by the station: {closed.sent.code} {closed.sent.reason}".rstrip()
    return "connection lost"


_TLS_VERSION_REASONS = ("PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL", "WRONG_VERSION_NUMBER")
_TLS_CIPHER_REASONS = ("HANDSHAKE_FAILURE", "NO_SHARED_CIPHER", "NO_CIPHERS_AVAILABLE")


def classify(error: Exception) -> LinkFailure:
    """What a failed attempt means."""
    tls_error = next((cause for cause in _causes(error) if isinstance(cause, ssl.SSLError)), None)
    if tls_error is not None:
        return _classify_tls(tls_error)
    match error:
        case InvalidStatus():
            return _classify_status(error)
        case NegotiationError():
            return LinkFailure(FailureKind.NO_SUBPROTOCOL, str(error))
        case InvalidHandshake():
            return LinkFailure(FailureKind.NOT_WEBSOCKET, str(error))
        case TimeoutError():
            return LinkFailure(FailureKind.TIMED_OUT, "no WebSocket handshake in time")
        case _:
            return LinkFailure(FailureKind.UNREACHABLE, str(error) or type(error).__name__)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _classify_tls(error: ssl.SSLError) -> LinkFailure:
    reason = error.reason or ""
    if isinstance(error, ssl.SSLCertVerificationError):
        return LinkFailure(FailureKind.TLS_CERTIFICATE, error.verify_message)
    if any(part in reason for part in _TLS_VERSION_REASONS):
        return LinkFailure(FailureKind.TLS_VERSION, reason)
    if any(part in reason for part in _TLS_CIPHER_REASONS):
        return LinkFailure(FailureKind.TLS_CIPHER, reason)
    return LinkFailure(FailureKind.TLS, reason or str(error))


def _classify_status(error: InvalidStatus) -> LinkFailure:
    status = error.response.status_code
    detail = f"HTTP status {status}"
    if status in (401, 403):
        return LinkFailure(FailureKind.UNAUTHORIZED, detail)
    if status == 404:
        return LinkFailure(FailureKind.UNKNOWN_IDENTITY, detail)
    if 300 <= status < 400:
        return LinkFailure(FailureKind.REDIRECTED, detail)
    waits_s = map(_seconds, error.response.headers.get_all("Retry-After"))  # a proxy may add its own
    return LinkFailure(FailureKind.HTTP_STATUS, detail, min(max(waits_s, default=0), RETRY_AFTER_MAX_S))


def _seconds(retry_after: str) -> int:
    """0 for a date, and for what is neither."""
    return int(retry_after) if retry_after.isascii() and retry_after.isdigit() and len(retry_after) < 10 else 0
