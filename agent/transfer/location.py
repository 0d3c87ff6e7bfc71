"""Where a file is, as somebody from outside wrote it: parsed and judged before anything is opened.

Charter: text to ``Location``, or ``SourceLost`` that names what is wrong and what is allowed. Pure: resolves no name
and looks at no file. Strict, since what is let through goes into requests, commands and system calls: only the
characters of a URI, whole percent-encodings, no control character in any disguise.

``http`` and ``https`` paths stay as they are written (the server knows what they mean); those of ``ftp``, ``ftps`` and
``file`` are decoded. A text that begins with ``/`` is the path of a local file, not encoded.

Sources: RFC 3986 (URI), RFC 1738 3.2.2 (paths of FTP), RFC 8089 (file), RFC 7617 (no colon in a user's name);
OCPP 2.1 (a location has at most 2000 characters). Port 990 is IANA's for FTP inside TLS.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, unquote_to_bytes, urlsplit

from agent.firmware.errors import SourceLost

LOCATION_MAX_CHARS: Final = 2000
DEFAULT_PORTS: Final = {"https": 443, "http": 80, "ftps": 990, "ftp": 21, "file": 0}
"""Every scheme there is support for."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_NOT_URI = re.compile(r"[^A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]")
_BAD_ENCODING = re.compile(r"%(?![0-9A-Fa-f]{2})")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30}):")
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*")


@dataclass(frozen=True, slots=True)
class Location:
    """A judged location. As text it is fit for logs: without user, password and query.

    ``path`` begins with ``/``, but for FTP, where it is relative to where the login leads. ``user`` None: nobody
    in particular. ``host`` and ``port`` are empty and 0 for files.
    """

    scheme: str
    host: str
    port: int
    path: str
    query: str = field(default="", repr=False)
    user: str | None = field(default=None, repr=False)
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        if self.scheme == "file":
            return self.path
        return f"{self.scheme}://{self.authority}/{self.path.removeprefix('/')}" + ("?..." if self.query else "")

    @property
    def authority(self) -> str:
        """Host and port as the header Host has them: the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def parse_location(text: str, schemes: Collection[str], *, max_chars: int = LOCATION_MAX_CHARS) -> Location:
    """The location in ``text``, whose scheme must be one of ``schemes`` (``file`` covers plain paths).

    Raises ``SourceLost``, not retryable.
    """
    if not text:
        raise _refused("it is empty")
    if len(text) > max_chars:
        raise _refused(f"{len(text)} characters, at most {max_chars} are allowed")
    if found := _CONTROL.search(text):
        raise _refused(f"control character U+{ord(found[0]):04X} at {found.start()}")
    if text.startswith("/"):
        _check_scheme("file", schemes)
        return _file(text)
    if (found := _SCHEME.match(text)) is None:
        raise _refused(f"it begins neither with a scheme nor with /; {_allowed(schemes)}")
    scheme = found[1].lower()
    _check_scheme(scheme, schemes)
    if found := _NOT_URI.search(text):
        raise _refused(f"character {found[0]!r} at {found.start()} must be percent-encoded")
    if found := _BAD_ENCODING.search(text):
        raise _refused(f"% at {found.start()} is not followed by two hex digits")
    try:
        parts = urlsplit(text)
        return _file_url(parts) if scheme == "file" else _network(scheme, parts)
    except ValueError as error:  # brackets or port; its text may hold the password
        raise _refused("host or port cannot be read") from error


def _refused(why: str) -> SourceLost:
    return SourceLost(f"location: {why}", retryable=False)


def _allowed(schemes: Collection[str]) -> str:
    return "allowed: " + (", ".join(each for each in DEFAULT_PORTS if each in schemes) or "nothing")


def _check_scheme(scheme: str, schemes: Collection[str]) -> None:
    if scheme not in DEFAULT_PORTS:
        raise _refused(f"{scheme} is not supported; {_allowed(schemes)}")
    if scheme not in schemes:
        raise _refused(f"{scheme} is not allowed here; {_allowed(schemes)}")


def _network(scheme: str, parts: SplitResult) -> Location:
    host = parts.hostname
    if not host:
        raise _refused(f"no host; expected {scheme}://host/path")
    if "[" in parts.netloc:
        import ipaddress

        ipaddress.IPv6Address(host)  # ValueError
    elif not _HOST.fullmatch(host):
        raise _refused("the host is no host name and no address")
    port = parts.port if parts.port is not None else DEFAULT_PORTS[scheme]
    if port == 0:
        raise _refused("port 0, expected 1 to 65535")
    user, password = _credentials(parts.netloc)
    path = _decoded("path", parts.path)
    if scheme in ("http", "https"):
        return Location(scheme, host, port, parts.path or "/", parts.query, user, password)
    if parts.query:
        raise _refused(f"a query means nothing to {scheme}; ? in a path must be percent-encoded")
    path = path.removeprefix("/")
    if not path or path.endswith("/"):
        raise _refused(f"no file; expected {scheme}://host/path")
    return Location(scheme, host, port, path, user=user, password=password)


def _credentials(netloc: str) -> tuple[str | None, str]:
    before, at, _ = netloc.rpartition("@")
    if not at:
        return None, ""
    user, _, password = before.partition(":")
    user, password = _decoded("user", user), _decoded("password", password)
    if not user or ":" in user or "@" in before:
        raise _refused("the user before @ cannot be read")
    return user, password


def _decoded(what: str, encoded: str) -> str:
    try:
        text = unquote_to_bytes(encoded).decode()
    except UnicodeDecodeError:
        raise _refused(f"the {what} is not UTF-8 once decoded") from None
    if _CONTROL.search(text):
        raise _refused(f"the {what} holds an encoded control character")
    return text


def _file_url(parts: SplitResult) -> Location:
    if parts.netloc not in ("", "localhost"):
        raise _refused("a file is on this device; expected file:///path")
    if parts.query or parts.fragment:
        raise _refused("? and # in a path must be percent-encoded")
    return _file(_decoded("path", parts.path))


def _file(path: str) -> Location:
    if not path.startswith("/"):
        raise _refused("the path of a file must be absolute")
    if ".." in path.split("/"):
        raise _refused("the path of a file must not hold ..")
    return Location("file", "", 0, path)
