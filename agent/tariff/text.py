"""Tariffs and bills in words.

Charter: the price as a driver reads it, in the order that AFIR Art. 5 asks for (per kWh, per minute, per session,
other), the short text that goes under a meter's signature, and the bill line by line. English; a translation is for
whoever shows it. Nothing is reckoned here but prices with tax.

Machine form (Bonn tariff texts), prices with tax as the driver pays them, in cents:
``001;EUR;start;per kWh;per minute;after minutes``: the minutes count from the start of the session, charging or not.
``002;EUR;start;per kWh;per minute``: the minutes after charging ends. ``003;EUR;start;per minute``: of the session.
Everything else is ``tariff id;first 16 digits of the content hash``.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from agent.tariff.check import DAY_NAMES, clock
from agent.tariff.cost import Bill, Line, Unit
from agent.tariff.currency import MINOR_DIGITS, decimal_text, minor_text
from agent.tariff.model import ALWAYS, Conditions, Dimension, Price, Tariff, UnitPrice, tax_factor

MAX_MACHINE = 250
HASH_DIGITS = 16
_MOST_DIGITS = 6

# ------------------------------------------------------------------------------------------- prices

_AFIR_ORDER = (
    (Dimension.ENERGY, "Energy", "kWh"),
    (Dimension.CHARGING_TIME, "Charging", "minute"),
    (Dimension.IDLE_TIME, "Idle", "minute"),
    (Dimension.FIXED_FEE, "Start", "session"),
    (Dimension.RESERVATION_TIME, "Reservation", "minute"),
    (Dimension.RESERVATION_FIXED, "Reservation", "session"),
)


def price_lines(tariff: Tariff) -> tuple[str, ...]:
    """One line per dimension, first what counts first."""
    lines = []
    for dimension, name, unit in _AFIR_ORDER:
        prices = tariff.prices(dimension)
        if prices:
            factor = tax_factor(tariff.tax_rates(dimension))
            texts = [_unit_price(each, tariff.currency, unit, factor) for each in prices]
            lines.append(f"{name}: " + "; else ".join(texts))
    for name, bound in (("At least", tariff.min_cost), ("At most", tariff.max_cost)):
        if bound is not None:
            lines.append(f"{name}: {_bound(bound, tariff.currency)} for the whole session")
    return tuple(lines) or ("Free of charge",)


def _unit_price(price: UnitPrice, currency: str, unit: str, factor: Fraction) -> str:
    text = f"{amount_text(price.amount, currency)} per {unit}"
    if factor != 1:
        text += f" ({amount_text(price.amount * factor, currency)} with tax)"
    if price.step > 1:
        text += f", billed in steps of {price.step // 1000} {'Wh' if unit == 'kWh' else 's'}"
    when = conditions_text(price.conditions)
    return f"{text} {when}" if when else text


def amount_text(amount: Fraction, currency: str) -> str:
    return f"{decimal_text(amount, MINOR_DIGITS[currency], _MOST_DIGITS)} {currency}"


def _bound(bound: Price, currency: str) -> str:
    sides = ((bound.excl_tax, "without tax"), (bound.incl_tax, "with tax"))
    return ", ".join(f"{amount_text(amount, currency)} {name}" for amount, name in sides if amount is not None)


def conditions_text(conditions: Conditions) -> str:
    return " and ".join(_conditions(conditions))


def _conditions(held: Conditions) -> Iterator[str]:
    if held.start_minute is not None or held.end_minute is not None:
        yield f"from {clock(held.start_minute or 0)} to {clock(1440 if held.end_minute is None else held.end_minute)}"
    if held.days is not None:
        yield "on " + ", ".join(DAY_NAMES[day] for day in sorted(held.days))
    if held.from_date is not None:
        yield f"from {held.from_date}"
    if held.to_date is not None:
        yield f"before {held.to_date}"
    if held.evse_kind is not None:
        yield f"at {held.evse_kind} points"
    if held.payment_brand is not None:
        yield f"when paid with {held.payment_brand}"
    if held.payment_recognition is not None:
        yield f"when paid by {held.payment_recognition}"
    yield from _range(held.min_energy_mwh, held.max_energy_mwh, 1_000_000, "kWh")
    yield from _range(held.min_current_ma, held.max_current_ma, 1_000, "A")
    yield from _range(held.min_power_mw, held.max_power_mw, 1_000_000, "kW")
    yield from _range(held.min_time_s, held.max_time_s, 60, "min of the session")
    yield from _range(held.min_charging_s, held.max_charging_s, 60, "min of charging")
    yield from _range(held.min_idle_s, held.max_idle_s, 60, "min of idling")


def _range(least: int | None, below: int | None, scale: int, unit: str) -> Iterator[str]:
    if least is not None:
        yield f"from {decimal_text(Fraction(least, scale), most_digits=3)} {unit} on"
    if below is not None:
        yield f"below {decimal_text(Fraction(below, scale), most_digits=3)} {unit}"


# ------------------------------------------------------------------------------------------ machine


def machine(tariff: Tariff, content_hash: str) -> str:
    """At most 250 ASCII characters without a vertical bar, for the tariff text of a signed record."""
    simple = _simple(tariff)
    if simple is not None and len(simple) <= MAX_MACHINE:
        return simple
    name = "".join(each if " " <= each <= "~" and each not in "|;" else "?" for each in tariff.tariff_id)
    return f"{name};{content_hash[:HASH_DIGITS]}"


def _simple(tariff: Tariff) -> str | None:
    dimensions = {each for each in Dimension if tariff.prices(each)}
    plain = dimensions <= {Dimension.ENERGY, Dimension.CHARGING_TIME, Dimension.IDLE_TIME, Dimension.FIXED_FEE}
    bounded = tariff.min_cost is not None or tariff.max_cost is not None
    singles = all(len(tariff.prices(each)) == 1 and tariff.prices(each)[0].step == 1 for each in dimensions)
    if tariff.currency != "EUR" or not dimensions or not plain or bounded or not singles:
        return None
    start, energy = _cents(tariff, Dimension.FIXED_FEE), _cents(tariff, Dimension.ENERGY)
    charging, idle = _cents(tariff, Dimension.CHARGING_TIME), _cents(tariff, Dimension.IDLE_TIME)
    when = _only_conditions(tariff, Dimension.CHARGING_TIME), _only_conditions(tariff, Dimension.IDLE_TIME)
    if None in (start, energy, charging, idle):
        return None
    if _only_conditions(tariff, Dimension.ENERGY) != ALWAYS or _only_conditions(tariff, Dimension.FIXED_FEE) != ALWAYS:
        return None
    if Dimension.ENERGY not in dimensions:
        both = charging == idle and when == (ALWAYS, ALWAYS) and Dimension.CHARGING_TIME in dimensions
        return f"003;EUR;{start};{charging}" if both else None
    if not dimensions & {Dimension.CHARGING_TIME, Dimension.IDLE_TIME}:
        return f"001;EUR;{start};{energy};0;0"
    if Dimension.CHARGING_TIME not in dimensions and when[1] == ALWAYS:
        return f"002;EUR;{start};{energy};{idle}"
    after_s = when[0].min_time_s or 0
    if charging == idle and when == (Conditions(min_time_s=when[0].min_time_s),) * 2 and after_s % 60 == 0:
        return f"001;EUR;{start};{energy};{charging};{after_s // 60}"
    return None


def _only_conditions(tariff: Tariff, dimension: Dimension) -> Conditions:
    prices = tariff.prices(dimension)
    return prices[0].conditions if prices else ALWAYS


def _cents(tariff: Tariff, dimension: Dimension) -> str | None:
    """The only price with tax in cents; None where that has too many digits."""
    prices = tariff.prices(dimension)
    if not prices:
        return "0"
    cents = prices[0].amount * tax_factor(tariff.tax_rates(dimension)) * 100
    return decimal_text(cents, most_digits=4) if (cents * 10_000).denominator == 1 else None


# ------------------------------------------------------------------------------------------ the bill


def bill_lines(bill: Bill) -> tuple[str, ...]:
    """How the cost came about, line by line; the amounts add up."""
    currency = bill.currency
    lines = [_line(line, currency) for line in bill.lines]
    lines += [
        f"{tax.type} {decimal_text(tax.percent)} % of {minor_text(tax.base, currency)} {currency}"
        f" = {minor_text(tax.amount, currency)} {currency}"
        for tax in bill.taxes
    ]
    for each in bill.adjustments:
        tax = f", tax {minor_text(each.tax, currency)} {currency}" if each.tax else ""
        lines.append(f"{each.description}: {minor_text(each.net, currency)} {currency}{tax}")
    total = f"Total {minor_text(bill.total_excl, currency)} {currency} without tax"
    return (*lines, f"{total}, {minor_text(bill.total_incl, currency)} {currency} with tax")


def _line(line: Line, currency: str) -> str:
    price = amount_text(line.unit_price, currency)
    net = f"{minor_text(line.net, currency)} {currency}"
    return f"{line.description}: {quantity_text(line)} at {price}{_PER[line.unit]} = {net}"


_PER = {Unit.ENERGY: "/kWh", Unit.TIME: "/min", Unit.FEES: ""}


def quantity_text(line: Line) -> str:
    """The exact quantity."""
    if line.unit is Unit.ENERGY:
        return f"{decimal_text(Fraction(line.quantity, 1_000_000), 3)} kWh"
    if line.unit is Unit.FEES:
        return str(line.quantity)
    minutes, rest_ms = divmod(line.quantity, 60_000)
    return f"{minutes} min" + (f" {decimal_text(Fraction(rest_ms, 1000))} s" if rest_ms else "")
