"""What a transaction costs, second by second: a model that shares no code with ``agent.tariff``.

Charter: reads the tariff's JSON as it is, asks every second every condition, adds exact fractions. Slow and plain.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from math import floor
from typing import Any
from zoneinfo import ZoneInfo

DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
DIGITS = {"EUR": 2, "JPY": 0, "KWD": 3}


@dataclass(frozen=True)
class Second:
    """One second: what the car did in it, and what the meter said at its end."""

    activity: str  # charging, idle, paused
    power_w: int
    energy_mwh: int  # since the begin, at the end of this second
    sampled_mwh: int  # the energy at the latest sample before
    elapsed_s: int
    charging_s: int
    idle_s: int  # since it charged last
    utc_s: int


@dataclass
class Costs:
    """Per dimension and unit price: what was used (mWh, s, fees)."""

    used: dict[tuple[str, Fraction], Fraction] = field(default_factory=lambda: defaultdict(Fraction))

    def exact(self) -> Fraction:
        return sum((price * amount for (_, price), amount in self.used.items()), Fraction(0))


def simulate(tariff: dict[str, Any], zone: str, kind: str, seconds: Sequence[Second], start_utc_s: int) -> Costs:
    """Amounts are in the unit of the price: kWh, minutes, fees."""
    site, costs = ZoneInfo(zone), Costs()
    local = datetime.fromtimestamp(start_utc_s, site)
    fee = _first(tariff, "fixedFee", "priceFixed", lambda held: _fixed(held, local, kind))
    if fee is not None:
        costs.used["fixedFee", fee] += 1
    energy_mwh = 0
    for second in seconds:
        local = datetime.fromtimestamp(second.utc_s, site)
        while energy_mwh < second.energy_mwh:
            upto = _next_threshold(tariff, energy_mwh, second.energy_mwh)
            price = _energy_price(tariff, local, kind, second, energy_mwh)
            if price is not None:
                costs.used["energy", price] += Fraction(upto - energy_mwh, 1_000_000)
            energy_mwh = upto
        name = {"charging": "chargingTime", "idle": "idleTime"}.get(second.activity)
        if name is not None:
            price = _time_price(tariff, name, local, kind, second)
            if price is not None:
                costs.used[name, price] += Fraction(1, 60)
    return costs


def _energy_price(
    tariff: dict[str, Any], local: datetime, kind: str, second: Second, energy_mwh: int
) -> Fraction | None:
    return _first(tariff, "energy", "priceKwh", lambda held: _running(held, local, kind, second, energy_mwh))


def _time_price(tariff: dict[str, Any], name: str, local: datetime, kind: str, second: Second) -> Fraction | None:
    return _first(tariff, name, "priceMinute", lambda held: _running(held, local, kind, second, second.sampled_mwh))


Rates = tuple[tuple[str, float, int], ...]


def total(tariff: dict[str, Any], costs: Costs) -> tuple[int, int]:
    """Without and with tax, in minor units: each dimension and each tax rounded half up once, then a
    bound.

    The rule for each side of a bound, first that without tax: nothing but that side is looked at. Below ``minCost`` one
    more thing is sold, taxed at the bound's own rates, else at those of the first dimension with a price, and so dear
    that the side is met. Above ``maxCost`` everything is sold at the same discount, so that the side is met. Not
    modelled: two bounds, a maximum with rates of its own."""
    scale = 1
    for _ in range(DIGITS[tariff["currency"]]):
        scale *= 10
    dimensions: dict[str, Fraction] = defaultdict(Fraction)
    for (dimension, price), amount in costs.used.items():
        dimensions[dimension] += price * amount
    sold: dict[Rates, Fraction] = defaultdict(Fraction)
    for dimension, cost in dimensions.items():
        sold[_rates(tariff[dimension])] += Fraction(_half_up(cost * scale), scale)
    net = sum(_half_up(each * scale) for each in sold.values())
    tax = sum(_printed_tax(rates, _half_up(each * scale)) for rates, each in sold.items())
    found = [Fraction(net, scale), Fraction(net + tax, scale)]
    for name in ("minCost", "maxCost"):
        for with_tax, side in enumerate(("exclTax", "inclTax")):
            asked = Fraction(str(tariff.get(name, {}).get(side, found[with_tax])))
            if name == "minCost" and found[with_tax] < asked:
                rates = _rates(tariff[name]) or _first_rates(tariff)
                lacking = max(Fraction(0), asked - _sums(sold)[with_tax])  # the printed taxes may lack more
                sold[rates] += lacking / _sums({rates: Fraction(1)})[with_tax]
            elif name == "maxCost" and found[with_tax] > asked:
                share = min(Fraction(1), asked / _sums(sold)[with_tax])
                sold = defaultdict(Fraction, {rates: each * share for rates, each in sold.items()})
            else:
                continue
            found = [*_sums(sold)]
            found[with_tax] = asked
    excl, incl = (_half_up(each * scale) for each in found)
    return excl, incl


def _half_up(amount: Fraction) -> int:
    return floor(amount + Fraction(1, 2))


def _rates(part: dict[str, Any]) -> Rates:
    return tuple((rate["type"], rate["tax"], rate.get("stack", 0)) for rate in part.get("taxRates", []))


def _first_rates(tariff: dict[str, Any]) -> Rates:
    order = ("energy", "chargingTime", "idleTime", "fixedFee")
    return next((_rates(tariff[name]) for name in order if name in tariff), ())


def _printed_tax(rates: Rates, net: int) -> int:
    base = net
    for stack in range(10):
        base += sum([_half_up(base * Fraction(str(percent)) / 100) for _, percent, at in rates if at == stack])
    return base - net


def _sums(sold: dict[Rates, Fraction]) -> tuple[Fraction, Fraction]:
    """Without and with tax, exactly."""
    gross = Fraction(0)
    for rates, amount in sold.items():
        for stack in range(10):
            amount += amount * sum([Fraction(str(percent)) for _, percent, at in rates if at == stack]) / 100
        gross += amount
    return sum(sold.values(), Fraction(0)), gross


def _first(tariff: dict[str, Any], dimension: str, name: str, matches: Any) -> Fraction | None:
    for price in tariff.get(dimension, {}).get("prices", []):
        if matches(price.get("conditions", {})):
            return Fraction(str(price[name]))
    return None


def _next_threshold(tariff: dict[str, Any], low_mwh: int, high_mwh: int) -> int:
    held = [price.get("conditions", {}) for price in tariff["energy"]["prices"]] if "energy" in tariff else []
    bounds = [each[name] * 1000 for each in held for name in ("minEnergy", "maxEnergy") if name in each]
    return min([each for each in bounds if low_mwh < each < high_mwh], default=high_mwh)


def _fixed(held: dict[str, Any], local: datetime, kind: str) -> bool:
    now, day = local.strftime("%H:%M"), local.strftime("%Y-%m-%d")
    start, end = held.get("startTimeOfDay", "00:00"), held.get("endTimeOfDay", "00:00")
    end = "24:00" if end == "00:00" else end
    in_day = start <= now < end if start <= end else now >= start or now < end
    return (
        in_day
        and DAYS[local.weekday()] in held.get("dayOfWeek", DAYS)
        and held.get("validFromDate", "0000") <= day < held.get("validToDate", "9999")
        and held.get("evseKind", kind) == kind
    )


def _running(held: dict[str, Any], local: datetime, kind: str, second: Second, energy_mwh: int) -> bool:
    return (
        _fixed(held, local, kind)
        and held.get("minEnergy", 0) * 1000 <= energy_mwh < held.get("maxEnergy", 10**9) * 1000
        and held.get("minPower", 0) <= second.power_w < held.get("maxPower", 10**9)
        and held.get("minTime", 0) <= second.elapsed_s < held.get("maxTime", 10**9)
        and held.get("minChargingTime", 0) <= second.charging_s < held.get("maxChargingTime", 10**9)
        and held.get("minIdleTime", 0) <= second.idle_s < held.get("maxIdleTime", 10**9)
    )
