"""What the plug itself shows: the current it offers and gives, and the bolt that holds it.

Charter: ``watch`` judges what the station commands; here is judged what comes of it at the wire, since a command that
is right may be lost, rounded or kept for later by whoever carries it out. Looks after every event of the station at the
plugs whose contact is closed; what must not last is looked at again in its time.

Units: mA, ms of virtual time. Sources: IEC 61851-1 annex A and 6.3 (cable rating), IEC 62196-1 (interlock).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from agent.config.model import CableKind
from agent.sim.world.outlet import Outlet

ROUNDING_MA: Final = 120
"""A duty cycle is told in steps of 0.01 %, a board's offer in whole amperes: never more than this above a limit."""

FOLLOWS_MS: Final = 15_000
OVER_DRAWN_MS: Final = 1_260_000
OVER_DRAWN_PERCENT: Final = 125
"""The soft over-current protection has ended it by then, at any pace of readings, and if one of them is lost."""


@dataclass(slots=True)
class Place:
    """One outlet. ``hard_ma``: the most that it may ever offer; None: DC, where the modules' own limits hold.
    ``lasting``: what must not last, the limit of then, and when it is looked at again."""

    outlet: Outlet
    hard_ma: int | None
    socket: bool
    lasting: dict[str, tuple[int, asyncio.TimerHandle]] = field(default_factory=dict)


class Plugs:
    """See the module. ``hard_ma`` by EVSE, without those of DC; ``limit_ma(evse)`` is the limit in force, None while
    nothing is commanded; ``wrong`` takes what must not be."""

    def __init__(
        self,
        outlets: dict[int, Outlet],
        hard_ma: dict[int, int],
        limit_ma: Callable[[int], int | None],
        wrong: Callable[[int, str], None],
    ) -> None:
        self._places = {
            number: Place(outlet, hard_ma.get(number), outlet.evse.cable is CableKind.SOCKET)
            for number, outlet in outlets.items()
        }
        self._limit_ma = limit_ma
        self._wrong = wrong
        self._loop = asyncio.get_running_loop()

    def look(self, number: int) -> None:
        """Something has happened at the station."""
        place = self._places[number]
        outlet = place.outlet
        if not outlet.contactor_closed and not place.lasting:
            return
        if place.socket and self._gives(place) and not outlet.locked and not outlet.plug_point.welded:
            self._wrong(number, "the contact is closed, and the plug is not locked")
        if place.hard_ma is not None:
            limit_ma = self._most_ma(number, place)
            self._mind(number, place, "offers", limit_ma, FOLLOWS_MS)
            self._mind(number, place, "draws", outlet.offered_ma, OVER_DRAWN_MS)

    @staticmethod
    def _gives(place: Place) -> bool:
        """A board that the station has in hand gives power to a vehicle."""
        outlet = place.outlet
        return outlet.contactor_closed and outlet.supervised and outlet.mains and outlet.vehicle is not None

    def _most_ma(self, number: int, place: Place) -> int:
        """The least of all who have a say."""
        limits = (
            place.hard_ma,
            self._limit_ma(number),
            place.outlet.plug_point.cable_rating_ma if place.socket else None,
        )
        return min(each for each in limits if each is not None)

    def _mind(self, number: int, place: Place, what: str, limit_ma: int, within_ms: int) -> None:
        """It is over the limit now: it must not be so for long."""
        waiting = place.lasting.get(what)
        if not self._is_over(place, what, limit_ma):
            if waiting is not None:
                waiting[1].cancel()
                del place.lasting[what]
        elif waiting is None:
            timer = self._loop.call_later(within_ms / 1_000, self._look_again, number, what, within_ms)
            place.lasting[what] = limit_ma, timer

    def _is_over(self, place: Place, what: str, limit_ma: int) -> bool:
        outlet = place.outlet
        if not self._gives(place):
            return False
        if what == "offers":
            return outlet.offered_ma > limit_ma + ROUNDING_MA
        return limit_ma > 0 and outlet.current_ma * 100 > limit_ma * OVER_DRAWN_PERCENT

    def _look_again(self, number: int, what: str, within_ms: int) -> None:
        place = self._places[number]
        then_ma, _timer = place.lasting.pop(what)
        outlet = place.outlet
        limit_ma = self._most_ma(number, place) if what == "offers" else outlet.offered_ma
        if not self._is_over(place, what, limit_ma):
            return
        now_ms = round(self._loop.time() * 1_000)
        uneven = what == "draws" and (outlet.faults or now_ms - outlet.even_since_ms < within_ms)
        if limit_ma < then_ma or uneven:  # another limit since, or a meter that cannot tell: it has its own time
            self._mind(number, place, what, limit_ma, within_ms)
        elif what == "offers":
            self._wrong(number, f"the plug offers {outlet.offered_ma} mA, {limit_ma} mA is the most")
        else:
            self._wrong(number, f"the car draws {outlet.current_ma} mA of {outlet.offered_ma} mA, and nobody ends it")
