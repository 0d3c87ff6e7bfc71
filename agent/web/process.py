"""The local page within the gateway process: made, bound, run.

Charter: joins line, feed, login, pages and server, and runs them until cancelled. Whatever becomes of the page, the
CSMS link goes on: an address that cannot be bound is told and tried again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from agent.config.model import Config
from agent.config.web import WebConfig
from agent.ipc.client import StationConnection
from agent.ipc.port import StationLost
from agent.ipc.statistics import GatewayStatistics
from agent.web.app import Site, make_app
from agent.web.feed import Feed
from agent.web.login import Login
from agent.web.server import Server
from agent.web.station_line import StationLine

_AGAIN_S = 10.0

log = structlog.get_logger("web")


async def run_web(
    config: Config,
    web: WebConfig,
    find_station: Callable[[], Awaitable[StationConnection]],
    statistics: Callable[[], GatewayStatistics],
) -> None:
    """For ever. ``statistics``: what the gateway counts, for the metrics. An error of ours in a page ends the page for
    a moment, not the link to the CSMS."""
    while True:
        try:
            await _run_once(config, web, find_station, statistics)
        except Exception:
            log.exception("page ended by an error of its own, it begins again", wait_s=_AGAIN_S)
            await asyncio.sleep(_AGAIN_S)


async def _run_once(
    config: Config,
    web: WebConfig,
    find_station: Callable[[], Awaitable[StationConnection]],
    statistics: Callable[[], GatewayStatistics],
) -> None:
    line = StationLine(find_station, lambda news: feed.hear(news))
    feed = Feed(line)

    async def tell(event: str, text: str) -> None:
        try:
            await line.port.security_event(event, text)
        except StationLost as error:
            log.warning("security event not noted", type=event, reason=str(error))

    login = Login(web.technician_secret_file, tell, secure=web.certificate_file is not None)
    server = Server(make_app(web, Site(config, line, feed, login, statistics)), web)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(line.run())
        tasks.create_task(feed.run())
        tasks.create_task(_serve(server, web))


async def _serve(server: Server, web: WebConfig) -> None:
    while True:
        try:
            tls = server.tls()
            listener = server.bind()
        except OSError as error:
            log.error("page cannot be offered", address=web.address, port=web.port, reason=str(error))
            await asyncio.sleep(_AGAIN_S)
            continue
        log.info("page is offered", address=web.address, port=web.port, tls=tls is not None)
        await server.run(listener, tls)
