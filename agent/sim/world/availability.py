"""Told Available: then the station takes whoever comes.

Charter: looks now and then at every EVSE that the CSMS was told is Available. Where a card or a remote start would be
turned away all the same, it looks again some minutes later: by then a status that was on its way has arrived, and a
session that was just ending has ended.

Sources: OCPP 1.6 4.9, 5.2; OCPP 2.0.1 B12, G01, G03.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from agent.sim.world.back_office import BackOffice

if TYPE_CHECKING:
    from agent.sim.world.life import Life

LOOK_EVERY_S: Final = 600.0
LOOK_AGAIN_S: Final = (240.0, 60.0)
"""Twice: what is so each time has lasted."""


class Availability:
    """See the module. ``life()`` is the run of the station; ``told_seq()`` the last row that the CSMS is to hear of;
    ``wrong`` takes what must not be. Make it within the loop."""

    def __init__(
        self,
        evses: tuple[int, ...],
        office: BackOffice,
        life: Callable[[], Life | None],
        told_seq: Callable[[], int],
        wrong: Callable[[int, str], None],
    ) -> None:
        self._evses = evses
        self._office = office
        self._life = life
        self._told_seq = told_seq
        self._wrong = wrong
        self._loop = asyncio.get_running_loop()
        self._loop.call_later(LOOK_EVERY_S, self._look)

    def _look(self) -> None:
        self._loop.call_later(LOOK_EVERY_S, self._look)
        life, link = self._life(), self._office.sound_link
        if life is None or link is None:
            return
        for evse in self._evses:
            if self._turns_away(evse, life):
                self._look_later(evse, life, link, LOOK_AGAIN_S)

    def _look_later(self, evse: int, life: Life, link: tuple[int, int], after_s: tuple[float, ...]) -> None:
        self._loop.call_later(after_s[0], self._look_again, evse, life, link, after_s[1:])

    def _look_again(self, evse: int, life: Life, link: tuple[int, int], after_s: tuple[float, ...]) -> None:
        """In the same run, on a link on which nothing was lost."""
        sound = self._life() is life and self._office.sound_link == link
        if not sound or life.station.service.delivered_seq < self._told_seq() or not self._turns_away(evse, life):
            return
        if after_s:
            self._look_later(evse, life, link, after_s)
        else:
            minutes = sum(LOOK_AGAIN_S) / 60
            self._wrong(evse, f"whoever comes is turned away for {minutes:.0f} min, and the CSMS was told Available")

    def _turns_away(self, evse: int, life: Life) -> bool:
        told = self._office.book.statuses.get(evse)
        return told == "Available" and not life.station.logic.core.accepts_start(evse)
