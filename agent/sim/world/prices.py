"""An independent bound on what a transaction may cost.

Charter: reads the site's tariff for itself and says within which amounts the bill of a receipt must lie: the energy at
the lowest and the highest price that may hold, and what time and fees can add at most. Where the clock was right and
the transaction lies on one side of the hours at which the price changes, lowest and highest are the same. No code of
the product's tariffs.

Units: cents, mWh, ms. Exact fractions, so that only the rounding of the bill itself is tolerated.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, time
from fractions import Fraction
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

MWH_PER_KWH: Final = 1_000_000
MINUTE_MS: Final = 60_000
ROUNDING_CENTS: Final = 2
CLOCK_MS: Final = 120_000
"""Nearer to a change of price than this, either may hold: rows and their clock are some seconds apart."""


class Prices:
    """See the module. ``tariff`` as ``site`` writes it, in force in this time zone."""

    def __init__(self, tariff: Path, zone: str) -> None:
        plain: dict[str, Any] = json.loads(tariff.read_text(), parse_float=Fraction)
        self._zone = ZoneInfo(zone)
        self._tax = 1 + sum((Fraction(each["tax"]) for each in plain["energy"]["taxRates"]), Fraction(0)) / 100
        self._energy = [(each.get("conditions", {}), _cents(each["priceKwh"])) for each in plain["energy"]["prices"]]
        self._minute = max((_cents(each["priceMinute"]) for each in _prices(plain, "idleTime")), default=Fraction(0))
        self._fee = sum((_cents(each["priceFixed"]) for each in _prices(plain, "fixedFee")), Fraction(0))

    def bounds(self, energy_mwh: int, span: tuple[int, int], *, clock_sound: bool) -> tuple[Fraction, Fraction]:
        """The least and the most in cents, tax included. ``span``: its true wall times, in ms UTC."""
        kwh = Fraction(energy_mwh, MWH_PER_KWH) * self._tax
        prices = {price for _, price in self._energy}
        if clock_sound:
            ends = {self._price_at(at_ms + late_ms) for at_ms in span for late_ms in (-CLOCK_MS, CLOCK_MS)}
            if span[1] - span[0] < 8 * 60 * MINUTE_MS:  # shorter than either part of a day
                prices = ends
        minutes = Fraction(max(0, span[1] - span[0]) + CLOCK_MS, MINUTE_MS)
        least, most = kwh * min(prices), kwh * max(prices) + self._fee + minutes * self._minute
        return least - ROUNDING_CENTS, most + ROUNDING_CENTS

    def _price_at(self, wall_ms: int) -> Fraction:
        """The first whose hours are those of this moment."""
        clock = datetime.fromtimestamp(wall_ms / 1_000, UTC).astimezone(self._zone).time()
        for conditions, price in self._energy:
            begin = time.fromisoformat(conditions.get("startTimeOfDay", "00:00"))
            end = time.fromisoformat(conditions.get("endTimeOfDay", "23:59"))
            if not conditions or begin <= clock < end:
                return price
        raise ValueError("the tariff has no price for this hour")


def _prices(plain: dict[str, Any], what: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = plain.get(what, {}).get("prices", [])
    return found


def _cents(price: Fraction) -> Fraction:
    return 100 * Fraction(price)
