"""The plug of one outlet: pilot wire, cable and main contact, between a board and a vehicle.

Charter: the physical truth of what the two can see of each other, and what may be wrong with wire and
contact. The board shows its duty and commands the contact; the contact follows after its travel, unless
it is welded or its coil is dead. No decisions: those are the board's and the vehicle's.

Units: milliseconds; 0.01 % duty and milliampere as in ``hal.ports``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hal.ports import DUTY_DIGITAL, DUTY_F, DUTY_X1, CpState
from hal.sim.vehicle_port import VehiclePort, vehicle_current_ma

TRAVEL_MS = 20  # of a sound contactor
NOTICED_MS = 3_000  # until everybody has seen for sure what vehicle and board show


class Plug(VehiclePort):
    """``cp`` is what the board measures, ``vehicle_cp`` what the vehicle shows."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, on_contact: Callable[[], None], told: Callable[[str], None]
    ) -> None:
        """``on_contact``: the main contact has moved. ``told``: a plain sentence for the log."""
        super().__init__()
        self.vehicle_cp = CpState.A
        self.commanded = False  # what the board wants of the contact
        self.shorted = False  # pilot to protective earth
        self.loose = False  # the pilot contact is open just now
        self.welded = False
        self.coil_dead = False
        self.slow_ms = 0
        self._loop = loop
        self._on_contact = on_contact
        self._told = told
        self._travel: asyncio.TimerHandle | None = None
        self._idle_ms = self._since_ms = 0

    @property
    def idle_ms(self) -> int:
        """How long, in all, a vehicle was here that did not ask for the current it was offered. At most: it counts on
        for as long as a change may not have been noticed, so a vehicle that toggles leaves all of it. So does one in
        state E, which to an OpenEVSE looks like one that does not ask."""
        self._count_idle()
        return self._idle_ms

    def _count_idle(self) -> None:
        """Before pilot or offer change."""
        now_ms = round(self._loop.time() * 1_000)
        span_ms, self._since_ms = now_ms - self._since_ms, now_ms
        offered = self.offered_current_ma > 0 or self.duty_centipercent == DUTY_DIGITAL
        unused = self.cp is CpState.E or (offered and self.cp is not CpState.C)
        if self.cp is not CpState.A:
            self._idle_ms += span_ms if unused else min(span_ms, NOTICED_MS)

    # ---------------------------------------------------------------------------------- the vehicle's

    def set_cp(self, cp: CpState) -> None:
        self.vehicle_cp = cp
        self.measure()

    def measure(self) -> None:
        """Vehicle or wire have changed: what does the board see now?"""
        cp = CpState.E if self.shorted else CpState.A if self.loose else self.vehicle_cp
        if cp is not self.cp:
            self._count_idle()
            self.cp = cp
            self._vehicle_changed()

    # ---------------------------------------------------------------------------------- the board's

    def show(self, duty_centipercent: int, relay_closed: bool) -> None:
        """The board's outputs. ``relay_closed`` commands the contact; ``self.relay_closed`` is where it is."""
        if relay_closed is not self.commanded:
            self.commanded = relay_closed
            self.move()
        if duty_centipercent != self.duty_centipercent:
            self._count_idle()
            self.duty_centipercent = duty_centipercent
            self._told(_offer_in_words(duty_centipercent))
            if self.on_change is not None:
                self.on_change()

    def move(self) -> None:
        """Send the contact where command and faults want it."""
        if self._travel is not None:
            self._travel.cancel()
            self._travel = None
        closed = (self.commanded and not self.coil_dead) or (self.welded and self.relay_closed)
        if closed is not self.relay_closed:
            self._travel = self._loop.call_later((TRAVEL_MS + self.slow_ms) / 1_000, self._arrive, closed)

    def _arrive(self, closed: bool) -> None:
        self._travel = None
        self.relay_closed = closed
        self._told("contactor closes" if closed else "contactor opens")
        self._on_contact()


def _offer_in_words(duty_centipercent: int) -> str:
    if duty_centipercent == DUTY_DIGITAL:
        return "board signals digital communication"
    if duty_centipercent in (DUTY_X1, DUTY_F):
        return "board offers nothing" if duty_centipercent == DUTY_X1 else "board shows state F"
    return f"board offers {vehicle_current_ma(duty_centipercent) / 1_000:.1f} A"
