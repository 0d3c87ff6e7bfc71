"""What all technician's pages stand on: the login before them, and where their values come from.

Charter: makes routes that need a session, and forms that need its token; holds configuration, line, feed and clock for
the pages. No page is made here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agent.config.model import Config
from agent.ipc.port import StationPort
from agent.web.answers import form_of, see
from agent.web.feed import Feed, Snapshot
from agent.web.live import Fields, driver_fields, technician_fields
from agent.web.login import Login
from agent.web.pages.layout import Frame
from agent.web.sessions import Session
from agent.web.station_line import StationLine
from agent.web.streams import Streams
from agent.web.words import Clock

Handler = Callable[[Request, Session], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Private:
    """Shared by the handlers of the technician's pages."""

    config: Config
    line: StationLine
    feed: Feed
    login: Login
    streams: Streams
    clock: Clock

    @property
    def evses(self) -> tuple[int, ...]:
        return tuple(evse.id for evse in self.config.evse)

    @property
    def port(self) -> StationPort:
        """Raises ``StationLost`` while the station is away: the visitor is told."""
        return self.line.port

    def page(self, path: str, handler: Handler) -> Route:
        """Seen by whoever is logged in; others are shown the login."""

        async def guarded(request: Request) -> Response:
            session = self._session(request)
            return see("/login") if session is None else await handler(request, session)

        return Route(path, guarded, methods=["GET"])

    def change(self, path: str, handler: Handler) -> Route:
        """A form of a page of ours, from the session that was shown it."""

        async def guarded(request: Request) -> Response:
            session = self._session(request)
            if session is None:
                return see("/login")
            if not session.owns((await form_of(request)).get("form_token", "")):
                raise HTTPException(403, "this form is not of your session: load its page again")
            return await handler(request, session)

        return Route(path, guarded, methods=["POST"])

    def _session(self, request: Request) -> Session | None:
        return self.login.session(request.cookies.get(self.login.cookie))

    def frame(self, path: str, session: Session) -> Frame:
        return Frame(self.config.station.identity, path, session.form_token)

    def fields(self, snapshot: Snapshot) -> Fields:
        driver = driver_fields(snapshot, self.clock, free=self.config.auth.free, evses=self.evses)
        return driver | technician_fields(snapshot, self.clock)
