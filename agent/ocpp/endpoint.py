"""Where and as whom to connect: URL, credentials, TLS.

Charter: everything one connection attempt needs, checked when it is built, and what is derived from it.
A new one may be used at each attempt, so that a new password, certificate or network slot takes effect
without a restart. No sockets here.

Sources: OCPP 1.6J 3.1, OCPP 2.0.1 part 4 section 3.1 and part 2 A (checklist WS-01, TLS-01 to TLS-06); RFC 7617.
"""

from __future__ import annotations

import base64
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit

import structlog

from agent.config.built import BUILD_TIME_MS
from agent.ocpp.root_turns import in_turn
from agent.ocpp.version import Version
from agent.security.peer_dates import verify_dates

log = structlog.get_logger("ocpp")

IDENTITY_MAX_CHARS = 48

# TLS 1.2 only; TLS 1.3 brings its own. The four of the standard, and ECDHE-RSA, which most endpoints speak (TLS-02).
CIPHER_SUITES = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
)


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """Trust and identity. ``ca_file`` holds the CSMS roots (PEM); None means the system's store, by choice only
    (``system_store``). ``roots`` (PEM) are trusted beside these: the CSMS has installed them (M05). ``turn``: of roots
    that share a name, see ``root_turns``.

    ``certificate_file`` and ``key_file`` (PEM) are the station's client certificate: security profile 3.
    """

    ca_file: Path | None
    certificate_file: Path | None = None
    key_file: Path | None = None
    roots: tuple[str, ...] = ()
    system_store: bool = True
    turn: int = 0

    def context(self) -> ssl.SSLContext:
        """A new context, to be used for one connection: trust anchors cannot be removed from an old one.

        Raises ``OSError`` (also ``ssl.SSLError``) when a file is missing or not usable.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks chain and host name
        verify_dates(context, BUILD_TIME_MS)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(":".join(CIPHER_SUITES))
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        chosen = self._in_turn()
        if self.ca_file is None and self.system_store:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        if self.ca_file is not None and chosen is None:
            context.load_verify_locations(cafile=self.ca_file)
        for root in self.roots if chosen is None else chosen:
            try:
                context.load_verify_locations(cadata=root)
            except ssl.SSLError as error:  # the others may well do: a station that cannot connect needs a visit
                log.error("an installed root cannot be used", reason=str(error))
        if self.certificate_file is not None:
            context.load_cert_chain(self.certificate_file, self.key_file)
        return context

    def _in_turn(self) -> list[str] | None:
        """What this attempt trusts in place of file and installed roots; None: all of them. Raises ``OSError``."""
        if self.turn == 0:  # as nearly always: the library that reads certificates is not loaded for it
            return None
        of_file = [] if self.ca_file is None else [self.ca_file.read_text(errors="replace")]
        try:
            return in_turn([*of_file, *self.roots], self.turn)
        except ValueError as error:
            log.error("roots that share a name cannot take turns", reason=str(error))
            return None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One CSMS as one station sees it.

    ``url`` is configured without the identity, which becomes its last path segment; prefix and query stay.
    ``versions`` are offered in this order. ``password`` is sent as HTTP basic authentication (1.6
    AuthorizationKey: the decoded bytes). ``message_timeout_s`` is this slot's OCPP message time-out.

    Raises ``ValueError`` naming the field.
    """

    url: str
    identity: str
    versions: tuple[Version, ...] = (Version.V201, Version.V16)
    password: bytes | None = field(default=None, repr=False)
    tls: TlsSettings | None = None
    open_timeout_s: float = 30.0
    message_timeout_s: float = 30.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("ws", "wss") or not parts.hostname:
            raise ValueError("url: must be ws://host... or wss://host...")
        if "@" in parts.netloc:
            raise ValueError("url: must not hold credentials, it is logged; use password")
        if parts.fragment:
            raise ValueError("url: must not have a fragment")
        if (parts.scheme == "wss") != (self.tls is not None):
            raise ValueError("tls: required with wss, senseless with ws")
        if not 1 <= len(self.identity) <= IDENTITY_MAX_CHARS or ":" in self.identity:
            raise ValueError(f"identity: 1 to {IDENTITY_MAX_CHARS} characters, no colon")
        if not self.versions:
            raise ValueError("versions: at least one OCPP version")

    @property
    def connection_url(self) -> str:
        """The URL to open, with the percent-encoded identity (WS-01)."""
        parts = urlsplit(self.url)
        separator = "" if parts.path.endswith("/") else "/"
        return parts._replace(path=f"{parts.path}{separator}{quote(self.identity, safe='')}").geturl()

    @property
    def headers(self) -> dict[str, str]:
        """HTTP headers beyond those of WebSocket. Holds the password: not to be logged."""
        if self.password is None:
            return {}
        credentials = base64.b64encode(self.identity.encode() + b":" + self.password).decode("ascii")
        return {"Authorization": f"Basic {credentials}"}
