"""The page's own connection to the station.

Charter: connects, connects again, and hands out the station as a port that says ``StationLost`` while it is away. It
is not the connection of the CSMS link: a page that asks too much or reads too slowly loses this one, and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from agent.ipc.client import StationConnection
from agent.ipc.port import News, StationLost, StationPort, Welcome

_RETRY_S = 0.5

log = structlog.get_logger("web")


class StationLine:
    """``find`` raises ``StationLost`` while nobody answers; ``on_news`` hears what the station tells everybody, and
    None when it is gone."""

    def __init__(
        self, find: Callable[[], Awaitable[StationConnection]], on_news: Callable[[News | None], None]
    ) -> None:
        self._find = find
        self._on_news = on_news
        self._line: StationConnection | None = None

    @property
    def port(self) -> StationPort:
        """Raises ``StationLost`` while the station is away."""
        return self._present()

    @property
    def welcome(self) -> Welcome:
        return self._present().welcome

    def _present(self) -> StationConnection:
        if self._line is None:
            raise StationLost("the station does not answer")
        return self._line

    async def run(self) -> None:
        """For ever."""
        while True:
            try:
                self._line = await self._find()
            except StationLost as error:
                log.debug("station not there", reason=str(error))
                await asyncio.sleep(_RETRY_S)
                continue
            try:
                while (news := await self._line.news.get()) is not None:
                    self._on_news(news)
            finally:
                line, self._line = self._line, None
                self._on_news(None)
                await line.close()
