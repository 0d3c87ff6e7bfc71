"""What every request must be, and what every answer carries, whatever the page.

Charter: one layer of ASGI around all pages. Refuses hosts that are not ours (DNS rebinding), methods and paths that no
page has use for, forms that another site sends, bodies that come too slowly. Slows everybody down where requests come
too fast, so that the process has time for the CSMS. Adds the headers that keep browsers strict.

Sources: OWASP's cheat sheets on CSRF and on HTTP headers; Fetch standard, "append a request Origin header" (with
``no-referrer`` a form's ``Origin`` is null, hence ``same-origin``).
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Awaitable, Callable

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent.ipc.port import StationLost

log = structlog.get_logger("web")

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
BODY_MAX_BYTES = 64 * 1024
HEAD_MAX_BYTES = 16 * 1024
_BODY_S = 10.0
_REQUESTS_PER_S = 20.0
_BURST = 60
_DELAY_MAX_S = 5.0
_PATH_MAX_CHARS = 300
_METHODS = ("GET", "HEAD", "POST")

_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "cache-control": "no-store",
}


class Pace:
    """A bucket of requests: ``_BURST`` at once, ``_REQUESTS_PER_S`` in the long run."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._paid_until_s = float("-inf")

    def delay_s(self) -> float | None:
        """How long the next request waits; None: too many wait already."""
        now_s = self._clock()
        paid_until_s = max(self._paid_until_s, now_s - _BURST / _REQUESTS_PER_S) + 1 / _REQUESTS_PER_S
        delay_s = max(0.0, paid_until_s - now_s)
        if delay_s > _DELAY_MAX_S:
            return None
        self._paid_until_s = paid_until_s
        return delay_s


class Guard:
    """``names`` are the host names of ours besides localhost and IP addresses: no site of somebody else can have
    those in its address. ``secure``: browsers reach us by TLS."""

    def __init__(self, app: ASGIApp, *, names: tuple[str, ...], secure: bool) -> None:
        self._app = app
        self._names = frozenset(names) | {"localhost"}
        self._scheme = "https" if secure else "http"
        self._pace = Pace()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        sent = _with_headers(send, self._scheme == "https")
        refusal = self._refusal(scope)
        if refusal is None and (delay_s := self._pace.delay_s()) is None:
            refusal = 503, "too many requests, try again in a moment"
        if refusal is not None:
            status, text = refusal
            headers = {"retry-after": "5"} if status == 503 else {}
            await PlainTextResponse(f"{text}\n", status, headers)(scope, receive, sent)
            return
        if delay_s:
            await asyncio.sleep(delay_s)
        try:
            await self._app(scope, _in_time(receive), sent)
        except ClientDisconnect:
            log.debug("client left in the middle of a form", path=scope["path"])
        except StationLost as error:
            log.info("page without station", path=scope["path"], reason=str(error))
        except Exception:
            log.exception("page failed", path=scope["path"])  # the answer is 500 already

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers, path, method = Headers(scope=scope), scope["path"], scope["method"]
        host = headers.get("host", "")
        if len(headers.getlist("host")) != 1 or not self._is_ours(host):
            return 421, "this host name is not one of [web] names in the charger's configuration"
        if sum(len(name) + len(value) for name, value in scope["headers"]) > HEAD_MAX_BYTES:
            return 431, "too many headers"  # they came in one piece: the parser counts only what is not whole
        if method not in _METHODS:
            return 405, "no such method"
        if not path.startswith("/") or len(path) > _PATH_MAX_CHARS or not path.isprintable() or ".." in path:
            return 400, "no such path"
        if method == "POST" and headers.get("origin") != f"{self._scheme}://{host}":
            return 403, "a form of another site"
        return None

    def _is_ours(self, host: str) -> bool:
        name, _, port = host.rpartition(":") if _has_port(host) else (host, "", "0")
        if not (port.isascii() and port.isdigit()):
            return False
        if name.lower() in self._names:
            return True
        try:
            ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
        except ValueError:
            return False
        return True


def _has_port(host: str) -> bool:
    return ":" in host and not host.endswith("]")


def _with_headers(send: Send, secure: bool) -> Send:
    """What a page has set itself stands."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            if message["status"] >= 400:  # whoever sent that may have more of it on the way
                headers["connection"] = "close"
            if secure:
                headers.setdefault("strict-transport-security", "max-age=31536000")
        await send(message)

    return sent


def _in_time(receive: Receive) -> Receive:
    """A body that comes slower than this is a disconnected client's; a stream waits for its end without limit."""
    whole = False

    async def received() -> Message:
        nonlocal whole
        waiting: Awaitable[Message] = receive()
        try:
            message = await (waiting if whole else asyncio.wait_for(waiting, _BODY_S))
        except TimeoutError:
            return {"type": "http.disconnect"}
        whole = whole or not message.get("more_body", False)
        return message

    return received
