"""States, numbers and times in the words of people at the charger.

Charter: pure; what a driver reads of an EVSE, and numbers with their units. No fault's text is made here: those are
the health catalogue's.

Units: as the names say.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from agent.core.status import ConnectorState, EvseView
from agent.health.catalogue import CATALOGUE, DRIVERS

_NO_VEHICLE = "A"  # of the control pilot


@dataclass(frozen=True, slots=True)
class Said:
    """What a driver is told. ``tone`` picks colour and picture: ready, busy, wait, fault or off."""

    title: str
    hint: str
    tone: str


_SAID = {
    ConnectorState.CHARGING: Said(
        "Charging", "To end, present your card again, or stop charging in your vehicle.", "busy"
    ),
    ConnectorState.SUSPENDED_EV: Said(
        "Vehicle is not charging", "Your vehicle is full, or has paused. It may go on by itself.", "wait"
    ),
    ConnectorState.SUSPENDED_EVSE: Said(
        "Waiting for power", "The charger has paused. Charging goes on by itself.", "wait"
    ),
    ConnectorState.FINISHING: Said("Finished", "Unplug your vehicle.", "ready"),
    ConnectorState.RESERVED: Said("Reserved", "Somebody has reserved this charging point.", "off"),
    ConnectorState.UNAVAILABLE: Said("Out of service", "Please use another charging point.", "off"),
}
_FAULTED = "Out of order"


def said(view: EvseView, *, free: bool) -> Said:
    """What the driver at this EVSE is to know and do. ``free``: nobody needs a card."""
    if view.state is ConnectorState.AVAILABLE:
        return Said(
            "Ready", "Plug in your vehicle." if free else "Plug in your vehicle and present your card.", "ready"
        )
    if view.state is ConnectorState.PREPARING:
        return _preparing(view, free)
    if view.state is ConnectorState.FAULTED:
        empty = view.cp in (None, _NO_VEHICLE)
        hint = "Please use another charging point." if empty else "Unplug your vehicle and use another charging point."
        return Said(_FAULTED, hint, "fault")
    return _SAID[view.state]


def danger(code: str) -> Said:
    """What a driver is told of a trouble in which touching matters, whatever else the EVSE is doing."""
    return Said(_FAULTED, f"{sentence(CATALOGUE[code].text)}. {DRIVERS[code]}", "fault")


def _preparing(view: EvseView, free: bool) -> Said:
    if view.tx_id is not None or (free and view.cp not in (None, _NO_VEHICLE)):
        return Said("Starting", "Your vehicle begins to charge in a moment.", "wait")
    if view.cp in (None, _NO_VEHICLE):
        return Said("Card accepted", "Plug in your vehicle.", "wait")
    return Said("Connected", "Present your card to begin.", "wait")


AWAY = Said("No answer", "The charger is starting, or cannot be reached at present.", "off")


def sentence(text: str) -> str:
    """With a capital letter, and without the full stop that is set elsewhere."""
    return (text[:1].upper() + text[1:]).rstrip(".")


def kilowatt(power_mw: int | None) -> str:
    return "–" if power_mw is None else f"{power_mw / 1e6:.1f}"


def kilowatt_hours(energy_mwh: int | None) -> str:
    return "–" if energy_mwh is None else f"{energy_mwh / 1e6:.2f}"


def ampere(current_ma: int | None) -> str:
    return "–" if current_ma is None else f"{current_ma / 1_000:.1f} A"


def volt(voltage_mv: int | None) -> str:
    return "–" if voltage_mv is None else f"{voltage_mv / 1_000:.0f} V"


def number(count: int) -> str:
    """Groups of three, with thin spaces."""
    return f"{count:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def size(count_bytes: int) -> str:
    if count_bytes < 1_024:
        return f"{count_bytes} bytes"
    units = ("KiB", "MiB", "GiB")
    value, unit = count_bytes / 1_024, 0
    while value >= 1_024 and unit < len(units) - 1:
        value, unit = value / 1_024, unit + 1
    return f"{value:.1f} {units[unit]}"


def duration(length_s: int) -> str:
    """Two largest units: ``3 d 4 h``, ``2 h 05 min``, ``4 min 07 s``."""
    length_s = max(0, length_s)
    if length_s >= 86_400:
        return f"{length_s // 86_400} d {length_s % 86_400 // 3_600} h"
    if length_s >= 3_600:
        return f"{length_s // 3_600} h {length_s % 3_600 // 60:02d} min"
    return f"{length_s // 60} min {length_s % 60:02d} s" if length_s >= 60 else f"{length_s} s"


class Clock:
    """Wall times as the site's clocks show them."""

    def __init__(self, zone: str) -> None:
        self._zone = UTC if zone == "UTC" else ZoneInfo(zone)

    def moment(self, wall_ms: int) -> str:
        return f"{self._at(wall_ms):%Y-%m-%d %H:%M:%S}"

    def minute(self, wall_ms: int, now_wall_ms: int) -> str:
        """``14:05`` today, with the date before on other days."""
        at, now = self._at(wall_ms), self._at(now_wall_ms)
        return f"{at:%H:%M}" if at.date() == now.date() else f"{at:%Y-%m-%d %H:%M}"

    def _at(self, wall_ms: int) -> datetime:
        return datetime.fromtimestamp(wall_ms / 1_000, UTC).astimezone(self._zone)
