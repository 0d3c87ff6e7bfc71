"""A tariff from the JSON of OCPP 2.1 (``TariffType``), all problems at once.

Charter: names, types, limits and ranges of the JSON, each problem with its path. Unknown names are refused: a
condition we do not know would make a price hold when it should not. ``customData`` may hold anything and is not
looked at. Our extension is ``stepSize`` (Wh or s) beside ``priceKwh`` and ``priceMinute``.

Units: the JSON has Wh, A, W, s, ``hh:mm``; the values of ``model`` have mWh, mA, mW, s, minutes.
Sources: OCPP 2.1 schema of SetDefaultTariffRequest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Any, TypeVar

from agent.tariff.canonical import content_hash, read
from agent.tariff.currency import MINOR_DIGITS
from agent.tariff.model import (
    DAY_MINUTES,
    FIXED_DIMENSIONS,
    Component,
    Conditions,
    Description,
    Dimension,
    EvseKind,
    Price,
    Tariff,
    TaxRate,
    UnitPrice,
)
from agent.tariff.number import Written, exact
from agent.tariff.problem import Problem, TariffError, inner_path

MAX_PRICES = 500
MAX_STEP = 1_000_000
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
FORMATS = ("ASCII", "HTML", "URI", "UTF8", "QRCODE")

__all__ = ["content_hash", "parse_tariff"]

T = TypeVar("T")


def parse_tariff(data: bytes | str | dict[str, Any], *, allow_negative: bool = False) -> Tariff:
    """The tariff; ``TariffError`` with every problem."""
    loaded, problems = read(data)
    known = {each.path for each in problems}
    further: list[Problem] = []
    tariff = _tariff(_At(loaded, "$", further, allow_negative))
    problems += [each for each in further if each.path not in known]
    if problems:
        raise TariffError(problems)
    return tariff


class _At:
    """A value of the JSON and where it stands. Readers note a problem and go on with a harmless value."""

    def __init__(self, value: Any, path: str, problems: list[Problem], allow_negative: bool) -> None:
        self.value, self.path, self.problems, self.allow_negative = value, path, problems, allow_negative

    def inner(self, value: Any, step: str) -> _At:
        return _At(value, self.path + step, self.problems, self.allow_negative)

    def bad(self, expected: str) -> None:
        found = self.value
        text = str(found) if isinstance(found, Written) else _short(found)
        self.problems.append(Problem(self.path, expected, text[:80]))

    def fields(self, required: str, optional: str = "") -> dict[str, _At]:
        if not isinstance(self.value, dict):
            self.bad("an object")
            return {}
        known = [*required.split(), *optional.split(), "customData"]
        for name in self.value:
            if name not in known:
                expected = f"one of {', '.join(known)}"
                self.problems.append(Problem(inner_path(self.path, name), expected, "an unknown name"))
        for name in required.split():
            if name not in self.value:
                self.problems.append(Problem(f"{self.path}.{name}", "a value", "nothing"))
        return {name: self.inner(self.value[name], f".{name}") for name in known if name in self.value}

    def items(self, most: int) -> list[_At]:
        if not isinstance(self.value, list) or not 1 <= len(self.value) <= most:
            self.bad(f"a list of 1 to {most}")
            return []
        return [self.inner(each, f"[{index}]") for index, each in enumerate(self.value)]

    def text(self, most: int) -> str:
        value = self.value
        if isinstance(value, Written) or not isinstance(value, str) or not 1 <= len(value) <= most:
            self.bad(f"a text of 1 to {most} characters")
            return ""
        if any(ord(each) < 32 and each not in "\n\t" for each in value):
            self.bad("a text without control characters")
        if any("\ud800" <= each <= "\udfff" for each in value):  # JSON can write one as an escape, UTF-8 cannot
            self.bad("a text without half characters")
        return value

    def one_of(self, names: tuple[str, ...]) -> str:
        if isinstance(self.value, Written) or self.value not in names:
            self.bad(f"one of {', '.join(names)}")
            return names[0]
        return str(self.value)

    def number(self) -> Fraction:
        value = exact(self.value) if isinstance(self.value, Written) else None
        if value is None:
            self.bad("a number of at most 1e12, with exponent up to 12 and 30 digits")
            return Fraction(0)
        return value

    def amount(self) -> Fraction:
        """A price or a bound of the cost."""
        value = self.number()
        if value < 0 and not self.allow_negative:
            self.bad("0 or more (negative prices are not allowed here)")
        return value

    def milli(self) -> int:
        """A number in thousandths."""
        value = self.number() * 1000
        if value.denominator != 1:
            self.bad("at most three decimals")
        return int(value)

    def whole(self, least: int, most: int) -> int:
        value = self.number()
        if value.denominator != 1 or not least <= value <= most:
            self.bad(f"a whole number from {least} to {most}")
            return least
        return int(value)

    def matching(self, pattern: str, expected: str) -> str | None:
        value = self.value
        if isinstance(value, Written) or not isinstance(value, str) or not re.fullmatch(pattern, value, re.ASCII):
            self.bad(expected)
            return None
        return value


def _short(value: Any) -> str:
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    return json.dumps(value)


# --------------------------------------------------------------------------------------- the tariff


def _tariff(at: _At) -> Tariff:
    got = at.fields("tariffId currency", f"description validFrom minCost maxCost {' '.join(Dimension)}")
    component = {each: _maybe(got, each, _component(each)) for each in Dimension}
    return Tariff(
        tariff_id=got["tariffId"].text(60) if "tariffId" in got else "",
        currency=_currency(got["currency"]) if "currency" in got else "EUR",
        descriptions=tuple(map(_description, got["description"].items(10))) if "description" in got else (),
        valid_from_ms=_maybe(got, "validFrom", _instant),
        energy=component[Dimension.ENERGY],
        charging_time=component[Dimension.CHARGING_TIME],
        idle_time=component[Dimension.IDLE_TIME],
        fixed_fee=component[Dimension.FIXED_FEE],
        reservation_time=component[Dimension.RESERVATION_TIME],
        reservation_fixed=component[Dimension.RESERVATION_FIXED],
        min_cost=_maybe(got, "minCost", _price),
        max_cost=_maybe(got, "maxCost", _price),
    )


def _maybe(got: dict[str, _At], name: str, read: Callable[[_At], T]) -> T | None:
    return read(got[name]) if name in got else None


def _currency(at: _At) -> str:
    if isinstance(at.value, Written) or at.value not in tuple(MINOR_DIGITS):
        at.bad("a currency code of ISO 4217 such as EUR")
        return "EUR"
    return str(at.value)


def _description(at: _At) -> Description:
    got = at.fields("format content", "language")
    if "format" in got:
        got["format"].one_of(FORMATS)
    language = got["language"].text(8) if "language" in got else None
    return Description(language, got["content"].text(1024) if "content" in got else "")


def _price(at: _At) -> Price:
    got = at.fields("", "exclTax inclTax taxRates")
    if isinstance(at.value, dict) and not {"exclTax", "inclTax"} & set(got):
        at.bad("exclTax or inclTax")
    return Price(_maybe(got, "exclTax", _At.amount), _maybe(got, "inclTax", _At.amount), _tax_rates(got))


def _tax_rates(got: dict[str, _At]) -> tuple[TaxRate, ...]:
    return tuple(map(_tax_rate, got["taxRates"].items(5))) if "taxRates" in got else ()


def _tax_rate(at: _At) -> TaxRate:
    got = at.fields("type tax", "stack")
    percent = got["tax"].number() if "tax" in got else Fraction(0)
    if not 0 <= percent <= 1000:
        got["tax"].bad("a percentage from 0 to 1000")
    stack = got["stack"].whole(0, 9) if "stack" in got else 0
    return TaxRate(got["type"].text(20) if "type" in got else "", percent, stack)


def _component(dimension: Dimension) -> Callable[[_At], Component]:
    def read(at: _At) -> Component:
        got = at.fields("prices", "taxRates")
        prices = got["prices"].items(MAX_PRICES) if "prices" in got else []
        return Component(tuple(_unit_price(each, dimension) for each in prices), _tax_rates(got))

    return read


def _unit_price(at: _At, dimension: Dimension) -> UnitPrice:
    fixed = dimension in FIXED_DIMENSIONS
    name = "priceFixed" if fixed else "priceKwh" if dimension is Dimension.ENERGY else "priceMinute"
    got = at.fields(name, "conditions" if fixed else "conditions stepSize")
    step = got["stepSize"].whole(1, MAX_STEP) * 1000 if "stepSize" in got else 1
    conditions = _conditions(got["conditions"], _FIXED if fixed else _RUNNING) if "conditions" in got else Conditions()
    return UnitPrice(got[name].amount() if name in got else Fraction(0), conditions, step)


# ---------------------------------------------------------------------------------------- conditions


def _minute(at: _At) -> int:
    text = at.matching("([01][0-9]|2[0-3]):[0-5][0-9]", "a time of day hh:mm")
    return 0 if text is None else int(text[:2]) * 60 + int(text[3:])


def _end_minute(at: _At) -> int:
    return _minute(at) or DAY_MINUTES


def _date(at: _At) -> date:
    text = at.matching("[0-9]{4}-[0-9]{2}-[0-9]{2}", "a date yyyy-mm-dd")
    try:
        return date.fromisoformat(text or "2000-01-01")
    except ValueError:
        at.bad("a date that exists")
        return date(2000, 1, 1)


def _instant(at: _At) -> int:
    expected = "an instant with zone such as 2026-01-01T00:00:00Z"
    text = at.matching(
        r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})", expected
    )
    try:
        instant = datetime.fromisoformat(text or "2000-01-01T00:00:00Z")
        return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    except (ValueError, OverflowError):
        at.bad(expected)
        return 0


def _days(at: _At) -> frozenset[int]:
    return frozenset(DAYS.index(each.one_of(DAYS)) for each in at.items(7))


def _kind(at: _At) -> EvseKind:
    return EvseKind(at.one_of(tuple(EvseKind)))


def _seconds(at: _At) -> int:
    return at.whole(0, 10**9)


def _label(at: _At) -> str:
    return at.text(20)


_Reader = tuple[str, Callable[[_At], object]]  # the field of Conditions, and how it is read
_COMMON: dict[str, _Reader] = {
    "startTimeOfDay": ("start_minute", _minute),
    "endTimeOfDay": ("end_minute", _end_minute),
    "dayOfWeek": ("days", _days),
    "validFromDate": ("from_date", _date),
    "validToDate": ("to_date", _date),
    "evseKind": ("evse_kind", _kind),
}
_FIXED: dict[str, _Reader] = _COMMON | {
    "paymentBrand": ("payment_brand", _label),
    "paymentRecognition": ("payment_recognition", _label),
}
_RUNNING: dict[str, _Reader] = _COMMON | {
    "minEnergy": ("min_energy_mwh", _At.milli),
    "maxEnergy": ("max_energy_mwh", _At.milli),
    "minCurrent": ("min_current_ma", _At.milli),
    "maxCurrent": ("max_current_ma", _At.milli),
    "minPower": ("min_power_mw", _At.milli),
    "maxPower": ("max_power_mw", _At.milli),
    "minTime": ("min_time_s", _seconds),
    "maxTime": ("max_time_s", _seconds),
    "minChargingTime": ("min_charging_s", _seconds),
    "maxChargingTime": ("max_charging_s", _seconds),
    "minIdleTime": ("min_idle_s", _seconds),
    "maxIdleTime": ("max_idle_s", _seconds),
}


def _conditions(at: _At, known: dict[str, _Reader]) -> Conditions:
    got = at.fields("", " ".join(known))
    values = {known[name][0]: known[name][1](each) for name, each in got.items() if name in known}
    return Conditions(**values)  # type: ignore[arg-type]
