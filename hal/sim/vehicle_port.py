"""The plug between a simulated pilot board and a simulated vehicle.

Charter: what the two see of each other through the cable, and nothing more: the board shows its pilot
duty and whether mains is on the outlet; the vehicle shows its pilot state, its diode and the cable's
coding. The battery, the driver and the story belong to the vehicle model on top.

For a vehicle model: set ``on_change`` and read ``duty_centipercent``, ``offered_current_ma`` and
``relay_closed`` in it; answer with ``set_cp`` and the other setters, also from inside the callback.
For a board: set ``on_vehicle_change``, read ``cp``, ``diode_fault`` and ``cable_rating_ma``; call ``show``.

Units: 0.01 % duty (10000 is steady +12 V, 0 is steady -12 V), milliampere.
Source: IEC 61851-1 Annex A (what a vehicle may draw at a duty).
"""

from __future__ import annotations

from collections.abc import Callable

from hal.ports import DUTY_X1, CpState


def vehicle_current_ma(duty_centipercent: int) -> int:
    """The most a vehicle may draw at this duty; 0 where it may not charge by the duty alone.

    Written from the vehicle's side of the table, so that it can check the station's conversion.
    """
    if 800 <= duty_centipercent < 1000:
        return 6_000
    if 1000 <= duty_centipercent <= 8500:
        return duty_centipercent * 6
    if 8500 < duty_centipercent <= 9600:
        return (duty_centipercent - 6400) * 25
    if 9600 < duty_centipercent <= 9700:
        return 80_000
    return 0  # below 3 %, 3..7 % (digital communication), 7..8 %, above 97 %


class VehiclePort:
    """One outlet. A fresh port has no vehicle: state A, no cable."""

    def __init__(self) -> None:
        self.cp = CpState.A
        self.diode_fault = False
        self.cable_rating_ma: int | None = None
        self.duty_centipercent = DUTY_X1
        self.relay_closed = False
        self.on_change: Callable[[], None] | None = None
        self.on_vehicle_change: Callable[[], None] | None = None

    @property
    def offered_current_ma(self) -> int:
        return vehicle_current_ma(self.duty_centipercent)

    def set_cp(self, cp: CpState) -> None:
        """A: unplugged. B: plugged in. C, D: asks for power. E: pilot shorted. Raises for F, the board's own."""
        if cp is CpState.F:
            raise ValueError("state F is made by the board, not by the vehicle")
        self.cp = cp
        self._vehicle_changed()

    def set_diode_fault(self, present: bool) -> None:
        self.diode_fault = present
        self._vehicle_changed()

    def set_cable_rating(self, rating_ma: int | None) -> None:
        self.cable_rating_ma = rating_ma
        self._vehicle_changed()

    def show(self, duty_centipercent: int, relay_closed: bool) -> None:
        """What the board now does; the vehicle hears of it if it is something new."""
        if (duty_centipercent, relay_closed) == (self.duty_centipercent, self.relay_closed):
            return
        self.duty_centipercent = duty_centipercent
        self.relay_closed = relay_closed
        if self.on_change is not None:
            self.on_change()

    def _vehicle_changed(self) -> None:
        if self.on_vehicle_change is not None:
            self.on_vehicle_change()
