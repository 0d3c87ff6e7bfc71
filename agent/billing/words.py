"""Numbers, times and foreign texts as a person reads them.

Charter: exact and short; nothing is rounded but where the name says so, and nothing depends on locale, time zone
database or clock, because what is shown must come out the same wherever it is checked.

Units: as the names say.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Final

from agent.billing.facts import Moment
from agent.tariff.cost import Line, Unit
from agent.tariff.currency import decimal_text

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_CLOCK: Final = {
    "U": "clock not set",
    "I": "informative clock",
    "S": "synchronised clock",
    "R": "relative clock",
}
_UNKNOWN: Final = "\N{REPLACEMENT CHARACTER}"


def shown(text: str) -> str:
    """Text of others on one line: what does not print, or changes the order in which other letters print, is
    replaced, so that it cannot make a number look like another."""
    return "".join(char if char.isprintable() else _UNKNOWN for char in text)


def kwh(energy_mwh: int) -> str:
    return f"{decimal_text(Fraction(energy_mwh, 1_000_000), 3, 6)} kWh"


def register(energy_mwh: int | None) -> str:
    """A meter register with its full resolution."""
    return "not read" if energy_mwh is None else f"{decimal_text(Fraction(energy_mwh, 1_000_000), 6, 6)} kWh"


def duration(length_ms: int) -> str:
    """``h:mm:ss``, with milliseconds where there are any."""
    seconds, rest_ms = divmod(abs(length_ms), 1_000)
    sign = "-" if length_ms < 0 else ""
    text = f"{sign}{seconds // 3_600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return f"{text}.{rest_ms:03d}" if rest_ms else text


def quantity(line: Line) -> str:
    if line.unit is Unit.ENERGY:
        return kwh(line.quantity)
    return duration(line.quantity) if line.unit is Unit.TIME else f"{line.quantity} x"


def unit_price(price: Fraction, currency: str, unit: Unit) -> str:
    per = {Unit.ENERGY: "/kWh", Unit.TIME: "/min", Unit.FEES: ""}[unit]
    return f"{decimal_text(price, 2, 60)} {currency}{per}"


def percent(rate: Fraction) -> str:
    return f"{decimal_text(rate, 0, 60)} %"


def utc(wall_ms: int) -> str:
    return f"{_at(wall_ms, 0):%Y-%m-%d %H:%M:%S}.{wall_ms % 1_000:03d} UTC"


def local(wall_ms: int, offset_minutes: int) -> str:
    """To the second; the rest stands in UTC."""
    return f"{_at(wall_ms, offset_minutes):%Y-%m-%d %H:%M:%S}"


def zone(offset_minutes: int) -> str:
    hours, minutes = divmod(abs(offset_minutes), 60)
    return f"UTC{'-' if offset_minutes < 0 else '+'}{hours:02d}:{minutes:02d}"


def moment(at: Moment) -> str:
    return f"{local(at.wall_ms, at.offset_minutes)} {zone(at.offset_minutes)}"


def clock(status: str) -> str:
    return _CLOCK.get(status, shown(status))


def grouped(text: str, size: int = 64) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def _at(wall_ms: int, offset_minutes: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=wall_ms, minutes=offset_minutes)
