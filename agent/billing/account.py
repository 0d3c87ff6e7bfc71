"""Usage and bill as they stand in a receipt, and back.

Charter: plain JSON values that lose nothing. Money is text with all digits of its currency, prices and rates are
exact decimal text, volumes are integers. No cost is computed here. Reading is strict only as far as types go:
``read`` compares the whole with what would have been written.

Units: mWh, ms; amounts in ``Bill`` are minor units.
"""

from __future__ import annotations

import re
from dataclasses import fields, replace
from fractions import Fraction
from typing import Any, Final

from agent.billing.errors import ReceiptError
from agent.tariff import usage as usages
from agent.tariff.cost import Adjustment, AdjustmentKind, Bill, Line, RoundedPer, TaxLine, Unit
from agent.tariff.currency import MINOR_DIGITS, Rounding, decimal_text, minor_text
from agent.tariff.model import Dimension, TaxRate
from agent.tariff.usage import Period, Usage

_DECIMAL: Final = re.compile(r"-?[0-9]{1,30}(?:\.[0-9]{1,60})?")
_DIGITS_MAX: Final = 60
_COLUMNS: Final = tuple(field.name for field in fields(Period))


# --------------------------------------------------------------------------------------------- usage


def usage_plain(usage: Usage) -> dict[str, Any]:
    """Periods stand as a table: their names once, not in every one of what may be a thousand rows."""
    rows = [[getattr(period, name) for name in _COLUMNS] for period in usage.periods]
    return usages.to_plain(replace(usage, periods=())) | {"periods": {"columns": list(_COLUMNS), "rows": rows}}


def usage_of(plain: Any) -> Usage:
    try:
        columns, rows = plain["periods"]["columns"], plain["periods"]["rows"]
        periods = [dict(zip(columns, row, strict=True)) for row in rows]
        return usages.from_plain(plain | {"periods": periods})
    except (ValueError, TypeError, KeyError) as error:
        raise ReceiptError("usage", f"{error}"[:300]) from error


def with_fewer_periods(usage: Usage) -> Usage:
    """The same usage to the bill and to every sum, with the periods of the same prices put together.

    The last period of each dimension stays as it is: a step size is applied to the price that was used last."""
    last = {
        max((at for at, period in enumerate(usage.periods) if period.tariff is not None and used(period)), default=-1)
        for used in (_uses_energy, _charges, _idles)
    }
    together: dict[tuple[int | None, ...], Period] = {}
    for at, period in enumerate(usage.periods):
        if at not in last:
            key = (period.tariff, period.energy, period.charging_time, period.idle_time)
            together[key] = _joined(together[key], period) if key in together else period
    kept = (period for at, period in enumerate(usage.periods) if at in last)
    return replace(usage, periods=(*together.values(), *kept))


def _uses_energy(period: Period) -> bool:
    return period.energy is not None and period.energy_mwh != 0


def _charges(period: Period) -> bool:
    return period.charging_time is not None and period.charging_ms != 0


def _idles(period: Period) -> bool:
    return period.idle_time is not None and period.idle_ms != 0


def _joined(one: Period, other: Period) -> Period:
    return replace(
        one,
        to_ms=other.to_ms,
        to_wall_ms=other.to_wall_ms,
        energy_mwh=one.energy_mwh + other.energy_mwh,
        charging_ms=one.charging_ms + other.charging_ms,
        idle_ms=one.idle_ms + other.idle_ms,
        unbilled_ms=one.unbilled_ms + other.unbilled_ms,
        estimated_split=one.estimated_split or other.estimated_split,
    )


# ---------------------------------------------------------------------------------------------- bill


def bill_plain(bill: Bill) -> dict[str, Any]:
    return {
        "currency": bill.currency,
        "rounding": str(bill.rounding),
        # Receipts of before there was another rule name none.
        **({} if bill.rounded_per is RoundedPer.LINE else {"rounded_per": str(bill.rounded_per)}),
        "final": bill.final,
        "lines": [_line_plain(line, bill.currency) for line in bill.lines],
        "taxes": [_tax_plain(tax, bill.currency) for tax in bill.taxes],
        "adjustments": [_adjustment_plain(each, bill.currency) for each in bill.adjustments],
        "total_excl": minor_text(bill.total_excl, bill.currency),
        "total_incl": minor_text(bill.total_incl, bill.currency),
    }


def bill_of(plain: Any) -> Bill:
    try:
        currency = plain["currency"]
        if currency not in MINOR_DIGITS:
            raise ReceiptError("bill", f"currency {currency!r:.40} is not known")
        return Bill(
            currency,
            tuple(_line_of(each, currency) for each in plain["lines"]),
            tuple(_tax_of(each, currency) for each in plain["taxes"]),
            tuple(_adjustment_of(each, currency) for each in plain["adjustments"]),
            Rounding(plain["rounding"]),
            RoundedPer(plain.get("rounded_per", RoundedPer.LINE)),
            _flag(plain["final"]),
            minor_of(plain["total_excl"], currency),
            minor_of(plain["total_incl"], currency),
        )
    except (ValueError, TypeError, KeyError) as error:
        if isinstance(error, ReceiptError):
            raise
        raise ReceiptError("bill", f"{type(error).__name__} {error}"[:300]) from error


def _line_plain(line: Line, currency: str) -> dict[str, Any]:
    return {
        "dimension": str(line.dimension),
        "tariff": line.tariff,
        "tariff_id": line.tariff_id,
        "unit_price": exact_text(line.unit_price),
        "quantity": line.quantity,
        "unit": str(line.unit),
        "net": minor_text(line.net, currency),
        "description": line.description,
        "tax_rates": [[rate.type, exact_text(rate.percent), rate.stack] for rate in line.tax_rates],
        "waived": line.waived,
    }


def _line_of(plain: dict[str, Any], currency: str) -> Line:
    return Line(
        Dimension(plain["dimension"]),
        _whole(plain["tariff"]),
        _text(plain["tariff_id"]),
        decimal_of(plain["unit_price"]),
        _whole(plain["quantity"]),
        Unit(plain["unit"]),
        minor_of(plain["net"], currency),
        _text(plain["description"]),
        tuple(TaxRate(_text(kind), decimal_of(percent), _whole(stack)) for kind, percent, stack in plain["tax_rates"]),
        _flag(plain["waived"]),
    )


def _tax_plain(tax: TaxLine, currency: str) -> dict[str, Any]:
    return {
        "type": tax.type,
        "percent": exact_text(tax.percent),
        "stack": tax.stack,
        "base": minor_text(tax.base, currency),
        "amount": minor_text(tax.amount, currency),
    }


def _tax_of(plain: dict[str, Any], currency: str) -> TaxLine:
    return TaxLine(
        _text(plain["type"]),
        decimal_of(plain["percent"]),
        _whole(plain["stack"]),
        minor_of(plain["base"], currency),
        minor_of(plain["amount"], currency),
    )


def _adjustment_plain(each: Adjustment, currency: str) -> dict[str, Any]:
    return {
        "kind": str(each.kind),
        "net": minor_text(each.net, currency),
        "tax": minor_text(each.tax, currency),
        "description": each.description,
    }


def _adjustment_of(plain: dict[str, Any], currency: str) -> Adjustment:
    return Adjustment(
        AdjustmentKind(plain["kind"]),
        minor_of(plain["net"], currency),
        minor_of(plain["tax"], currency),
        _text(plain["description"]),
    )


# ------------------------------------------------------------------------------------------- numbers


def exact_text(amount: Fraction) -> str:
    """All digits of a decimal fraction; prices and rates are nothing else."""
    digits = next((each for each in range(_DIGITS_MAX) if (amount * 10**each).denominator == 1), None)
    if digits is None:
        raise ValueError(f"{amount} is no decimal number of {_DIGITS_MAX} digits")
    return decimal_text(amount, 0, digits)


def decimal_of(text: object) -> Fraction:
    if not isinstance(text, str) or not _DECIMAL.fullmatch(text):
        raise ValueError(f"expected a decimal number as text, found {text!r:.40}")
    return Fraction(text)


def minor_of(text: object, currency: str) -> int:
    """Whole minor units of an amount as it stands in a receipt."""
    amount = decimal_of(text) * 10 ** MINOR_DIGITS[currency]
    if amount.denominator != 1:
        raise ValueError(f"{text!r:.40} has more digits than {currency}")
    return int(amount)


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"expected an integer, found {value!r:.40}")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected a text, found {value!r:.40}")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, found {value!r:.40}")
    return value
