"""The local page as an application: which address shows what, and to whom.

Charter: routes, the driver's page, login, assets and streams; the technician's pages are ``agent.web.technician``'s.
Asks the station only through its own line and feed.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from agent.config.model import Config
from agent.config.web import WebConfig
from agent.ipc.port import StationLost
from agent.ipc.statistics import GatewayStatistics
from agent.web.answers import Html, address_of, form_of, see
from agent.web.feed import Feed, Snapshot
from agent.web.guard import BODY_MAX_BYTES, Guard
from agent.web.line_pages import LinePages
from agent.web.live import Fields, driver_fields
from agent.web.login import Login
from agent.web.machine_pages import MachinePages
from agent.web.pages.driver import driver_page, login_page, message_page
from agent.web.pages.layout import Frame
from agent.web.private import Private
from agent.web.station_line import StationLine
from agent.web.streams import Streams, field_events
from agent.web.technician import Technician
from agent.web.words import Clock

log = structlog.get_logger("web")

_ANSWER_S = 5.0
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_ASSETS = Path(__file__).parent / "assets"
_LOST = "The charger is starting, or its control process cannot be reached. This page will work again with it."


class Site:
    """All pages of one station."""

    def __init__(
        self,
        config: Config,
        line: StationLine,
        feed: Feed,
        login: Login,
        statistics: Callable[[], GatewayStatistics],
    ) -> None:
        self._config = config
        self._line = line
        self._statistics = statistics
        self._feed = feed
        self._login = login
        self._streams = Streams()
        self._clock = Clock(config.station.time_zone)
        self._evses = tuple(evse.id for evse in config.evse)
        self._contact = ", ".join(part for part in (config.operator.name, config.operator.contact) if part)
        private = Private(config, line, feed, login, self._streams, self._clock)
        self._private_pages = (Technician(private), LinePages(private), MachinePages(private))
        self._assets = _assets()

    def routes(self) -> list[Route]:
        return [
            Route("/", self.driver, methods=["GET"]),
            Route("/events", self.events, methods=["GET"]),
            Route("/login", self.login, methods=["GET", "POST"]),
            Route("/assets/{name}", self.asset, methods=["GET"]),
            *(route for pages in self._private_pages for route in pages.routes()),
        ]

    async def driver(self, _: Request) -> Response:
        fields = self._driver_fields(await self._feed.fresh())
        frame = Frame(self._config.station.identity, "/", login_offered=self._login.offered)
        return Html(driver_page(frame, fields, self._evses, self._contact))

    async def events(self, _: Request) -> Response:
        return self._streams.answer(field_events(self._feed, self._driver_fields, lambda: True, chart=False))

    def _driver_fields(self, snapshot: Snapshot) -> Fields:
        return driver_fields(snapshot, self._clock, free=self._config.auth.free, evses=self._evses)

    async def login(self, request: Request) -> Response:
        frame = Frame(self._config.station.identity, "/login")
        if request.method != "POST":
            return Html(login_page(frame))
        typed = (await form_of(request)).get("secret", "")
        result = await self._login.enter(typed, address_of(request))
        if result.session_id is None:
            headers = {"retry-after": str(result.wait_s)} if result.wait_s else {}
            status = 429 if result.wait_s else 403
            return Html(login_page(frame, result.why, result.wait_s), status, headers)
        answer = see("/tech")
        answer.set_cookie(
            self._login.cookie,
            result.session_id,
            max_age=self._login.cookie_max_age_s,
            path="/",
            secure=self._login.secure,
            httponly=True,
            samesite="strict",
        )
        return answer

    async def metrics(self, _: Request) -> Response:
        """For scrapers; also while the station is away, which is news, too."""
        from agent.web.metrics import metrics_text
        from agent.web.openmetrics import CONTENT_TYPE

        snapshot = await self._feed.fresh()
        counted = None
        if snapshot.status is not None:
            try:
                async with asyncio.timeout(_ANSWER_S):
                    counted = await self._line.port.statistics()
            except (StationLost, TimeoutError) as error:
                log.debug("station gives no statistics", reason=str(error))
        text = metrics_text(snapshot.status, counted, snapshot.health, self._statistics())
        return Response(text, headers={"content-type": CONTENT_TYPE})

    async def asset(self, request: Request) -> Response:
        found = self._assets.get(request.path_params["name"])
        if found is None:
            raise HTTPException(404)
        body, kind, tag = found
        headers = {"etag": tag, "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers, media_type=kind)

    def refused(self, _: Request, error: Exception) -> Response:
        """What has no page, or no page yet."""
        if isinstance(error, StationLost):
            return self._message(503, "Not now", _LOST)
        assert isinstance(error, HTTPException)
        if error.status_code == 404:
            return self._message(404, "Not here", "There is no such page on this charger.")
        return PlainTextResponse(f"{error.detail}\n", error.status_code, error.headers)

    def _message(self, status: int, title: str, text: str) -> Response:
        return Html(message_page(Frame(self._config.station.identity, ""), title, text), status)


def make_app(web: WebConfig, site: Site) -> ASGIApp:
    """The whole application, guarded."""
    routes = [*site.routes(), *([Route("/metrics", site.metrics, methods=["GET"])] if web.metrics else ())]
    app = Starlette(
        routes=routes,
        exception_handlers={HTTPException: site.refused, StationLost: site.refused},
        max_body_size=BODY_MAX_BYTES,
    )
    app.router.redirect_slashes = False
    return Guard(app, names=web.names, secure=web.certificate_file is not None)


def _assets() -> dict[str, tuple[bytes, str, str]]:
    """Bytes, type and tag of each file: read once, so that no path of a request ever reaches the file system."""
    found = {}
    for file in sorted(_ASSETS.iterdir()):
        if (kind := _TYPES.get(file.suffix)) is not None:
            body = file.read_bytes()
            found[file.name] = (body, kind, f'"{hashlib.sha256(body).hexdigest()[:24]}"')
    return found
