"""An independent bound on what a transaction may cost.

Charter: reads tariffs for itself and says within which amounts a bill must lie: the energy at the lowest and the
highest price that may hold, what time and fees can add at most, and the tariff's own least and greatest cost. Where the
clock was right and the transaction lies on one side of the hours at which the price changes, lowest and highest are the
same. No code of the product's tariffs. It knows what this world's site and CSMS put into a tariff, and no more.

Units: cents, tax included, mWh, ms. Exact fractions, so that only the rounding of the bill itself is tolerated.
Sources: OCPP 2.1 TariffType, I12.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time
from fractions import Fraction
from typing import Any, Final
from zoneinfo import ZoneInfo

MWH_PER_KWH: Final = 1_000_000
MINUTE_MS: Final = 60_000
ROUNDING_CENTS: Final = 4
"""Half a cent for each dimension and tax, however many tariffs there were."""

CLOCK_MS: Final = 120_000
"""Nearer to a change of price than this, either may hold: rows and their clock are some seconds apart."""

PART_OF_DAY_MS: Final = 8 * 60 * MINUTE_MS
"""No price of a day holds for a shorter time."""

Range = tuple[Fraction, Fraction]
"""Least and most."""


@dataclass(frozen=True, slots=True)
class Charged:
    """What is known of a transaction. ``span``: its true wall times, in ms UTC. ``whole``: it is its session, from the
    first to the last. ``sold``: False where there was no energy, and the station or the CSMS was why: then there is
    neither fee nor least cost. ``before_mwh``: how much of the energy, at least and at most, had flowed when the last
    of its tariffs took over; None: nobody knows."""

    energy_mwh: int
    span: tuple[int, int]
    clock_sound: bool
    whole: bool = True
    sold: bool = True
    before_mwh: tuple[int, int] | None = None


class Prices:
    """One tariff, as the JSON of OCPP 2.1 TariffType, in force in this time zone."""

    def __init__(self, tariff: str, zone: str) -> None:
        plain: dict[str, Any] = json.loads(tariff, parse_float=Fraction)
        self.name: str = plain["tariffId"]
        self._zone = ZoneInfo(zone)
        energy_tax = _tax(plain["energy"])
        self._energy = [
            (each.get("conditions", {}), _cents(each["priceKwh"]) * energy_tax) for each in plain["energy"]["prices"]
        ]
        self.minute = max(
            (price for what in ("chargingTime", "idleTime") for price in _prices(plain, what, "priceMinute")),
            default=Fraction(0),
        )
        self.fee = sum(_prices(plain, "fixedFee", "priceFixed"), Fraction(0))
        dearest = max(_tax(plain.get(what, {})) for what in ("energy", "chargingTime", "idleTime", "fixedFee"))
        self.least = _cost(plain.get("minCost"), dearest)
        self.most = _cost(plain.get("maxCost"), dearest)

    def kwh(self, charged: Charged) -> Range:
        """The lowest and the highest price of a kWh that may have held."""
        prices = {price for _, price in self._energy}
        begun_ms, ended_ms = charged.span
        if charged.clock_sound and ended_ms - begun_ms < PART_OF_DAY_MS:
            prices = {self._price_at(at_ms + late_ms) for at_ms in charged.span for late_ms in (-CLOCK_MS, CLOCK_MS)}
        return min(prices), max(prices)

    def _price_at(self, wall_ms: int) -> Fraction:
        """The first whose hours are those of this moment."""
        clock = datetime.fromtimestamp(wall_ms / 1_000, UTC).astimezone(self._zone).time()
        for conditions, price in self._energy:
            begin = time.fromisoformat(conditions.get("startTimeOfDay", "00:00"))
            end = time.fromisoformat(conditions.get("endTimeOfDay", "23:59"))
            over_midnight = begin > end and (clock >= begin or clock < end)
            if not conditions or over_midnight or begin <= clock < end:
                return price
        raise ValueError("the tariff has no price for this hour")


def bounds(tariffs: Sequence[Prices], charged: Charged) -> Range:
    """What a transaction costs at least and at most that these have priced, or some of them, in this order."""
    least, most = _energy(tariffs, charged)
    begun_ms, ended_ms = charged.span
    minutes = Fraction(max(0, ended_ms - begun_ms) + CLOCK_MS, MINUTE_MS)
    most += minutes * max(each.minute for each in tariffs)
    if charged.sold:
        most += max(each.fee for each in tariffs)
        most = max(most, *(each.least[1] for each in tariffs if each.least), Fraction(0))
    if charged.whole and charged.energy_mwh:  # else there may be neither fee nor least cost
        least += min(each.fee for each in tariffs)
        least = max(least, min(each.least[0] if each.least else Fraction(0) for each in tariffs))
    caps = [each.most for each in tariffs if each.most]
    if caps:  # what follows another transaction has what that has left
        least = min(least, *(cap[0] for cap in caps)) if charged.whole else Fraction(0)
    if len(caps) == len(tariffs):
        most = min(most, sum((cap[1] for cap in caps), Fraction(0)))
    return least - ROUNDING_CENTS, most + ROUNDING_CENTS


def _energy(tariffs: Sequence[Prices], charged: Charged) -> Range:
    lowest, highest = zip(*(each.kwh(charged) for each in tariffs), strict=True)
    kwh = Fraction(charged.energy_mwh, MWH_PER_KWH)
    if charged.before_mwh is None or len(tariffs) < 2:
        return kwh * min(lowest), kwh * max(highest)
    parts = [min(kwh, max(Fraction(0), Fraction(before, MWH_PER_KWH))) for before in charged.before_mwh]
    return (
        min(part * min(lowest[:-1]) + (kwh - part) * lowest[-1] for part in parts),
        max(part * max(highest[:-1]) + (kwh - part) * highest[-1] for part in parts),
    )


def _prices(plain: dict[str, Any], what: str, unit: str) -> list[Fraction]:
    part: dict[str, Any] = plain.get(what, {})
    return [_cents(each[unit]) * _tax(part) for each in part.get("prices", [])]


def _tax(part: dict[str, Any]) -> Fraction:
    return 1 + sum((Fraction(each["tax"]) for each in part.get("taxRates", [])), Fraction(0)) / 100


def _cost(bound: dict[str, Fraction] | None, dearest: Fraction) -> Range | None:
    """A least or greatest cost: with tax, it is that. Without, its tax depends on what the bill is made of."""
    if bound is None:
        return None
    if "inclTax" in bound:
        return _cents(bound["inclTax"]), _cents(bound["inclTax"])
    return _cents(bound["exclTax"]), _cents(bound["exclTax"]) * dearest


def _cents(price: Fraction) -> Fraction:
    return 100 * Fraction(price)
