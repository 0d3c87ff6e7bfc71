"""Volumes to a bill that a driver can add up.

Charter: exact fractions until a line is printed; each dimension is rounded once, and every total is the sum of
printed lines. The same function makes running and final cost; a running one leaves out the minimum cost.

Rounding: the lines of one dimension with the same tax rates are added up exactly; each shows by how much their rounded
sum has grown with it. So a price that changes each quarter of an hour rounds no more often than one that stays, and a
line lies less than one minor unit from quantity times price. Receipts of before ADR 32 rounded each line by itself.

Order: lines (one per tariff, dimension and unit price), taxes on the printed lines (one group of lines per set of
rates; stack 1 is on the lines and the printed taxes of stack 0, and so on), the cap and the minimum, the credit.

Decisions: the cost of a tariff that was replaced is capped by its own ``maxCost`` and then stays; ``minCost`` and
``maxCost`` of the tariff last in force bound the whole. Only a side that is given binds, and the other moves with it;
where both are given, that without tax comes first. A cap takes the same share off everything, tax included, and more
off the tax where the rates of ``maxCost`` itself make less. What lacks to a minimum is taxed with the rates of
``minCost``, else those of the tariff's first dimension. The credit limit is an amount with tax, rounded down.
``stepSize`` also counts in a running cost, which is what would be due if the session ended now.

Units: amounts are whole minor units of the currency; quantities mWh, ms or a number of fees.
Sources: OCPP 2.1 I12.FR.13, .30, .38-.41; OCPI ``step_size``.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from agent.tariff.currency import Rounding, from_minor, to_minor
from agent.tariff.model import (
    FIXED_DIMENSIONS,
    Dimension,
    Price,
    Tariff,
    TaxRate,
    stacked,
    tax_factor,
)
from agent.tariff.usage import Usage

MWH_PER_KWH = 1_000_000
MS_PER_MINUTE = 60_000


class Unit(StrEnum):
    ENERGY = "mWh"
    TIME = "ms"
    FEES = "fees"


class RoundedPer(StrEnum):
    """What is rounded once."""

    DIMENSION = "dimension"  # with the same tax rates
    LINE = "line"  # receipts that name neither


class AdjustmentKind(StrEnum):
    MIN_COST = "MinCost"
    MAX_COST = "MaxCost"
    CREDIT = "CreditLimit"  # prepaid: what lies above the credit is not billed


@dataclass(frozen=True, slots=True)
class Line:
    """``waived``: the energy lies below the minimum billable energy, so its amount is 0."""

    dimension: Dimension
    tariff: int
    tariff_id: str
    unit_price: Fraction
    quantity: int
    unit: Unit
    net: int
    description: str
    tax_rates: tuple[TaxRate, ...] = ()
    waived: bool = False


@dataclass(frozen=True, slots=True)
class TaxLine:
    type: str
    percent: Fraction
    stack: int
    base: int
    amount: int


@dataclass(frozen=True, slots=True)
class Adjustment:
    """Added to the totals: ``net`` without tax, ``tax`` the change of the tax."""

    kind: AdjustmentKind
    net: int
    tax: int
    description: str


@dataclass(frozen=True, slots=True)
class Bill:
    currency: str
    lines: tuple[Line, ...]
    taxes: tuple[TaxLine, ...]
    adjustments: tuple[Adjustment, ...]
    rounding: Rounding
    rounded_per: RoundedPer
    final: bool
    total_excl: int
    total_incl: int


def bill(
    tariffs: Sequence[Tariff],
    usage: Usage,
    *,
    rounding: Rounding = Rounding.HALF_UP,
    rounded_per: RoundedPer = RoundedPer.DIMENSION,
    credit_limit: Fraction | None = None,
    min_energy_mwh: int = 0,
    final: bool = True,
) -> Bill | None:
    """The bill of a usage; None without any tariff (no price is known, which is not a price of 0).

    ``ValueError`` when the usage (of a receipt, say) names a price that the tariffs do not have.
    """
    if not tariffs:
        return None
    _refuse_foreign(tariffs, usage)
    currency = tariffs[0].currency
    waived = usage.energy_mwh < min_energy_mwh
    items = _items(tariffs, usage)
    lines = _lines(tariffs, items, rounding, rounded_per, waived=waived)
    nets = _nets(lines)
    taxes = _taxes(nets, currency, rounding)
    totals = _Totals(nets, taxes, currency, rounding)
    totals.forget(_exact_excess(tariffs, items, waived=waived))
    totals.bound(tariffs[-1], final=final)
    if credit_limit is not None:
        totals.limit(credit_limit)
    return Bill(
        currency,
        tuple(lines),
        tuple(taxes),
        tuple(totals.adjustments),
        rounding,
        rounded_per,
        final,
        totals.excl,
        totals.excl + totals.tax,
    )


def _refuse_foreign(tariffs: Sequence[Tariff], usage: Usage) -> None:
    volumes = {(volume.tariff, volume.dimension, volume.price) for volume in usage.volumes}
    for position, dimension, index in volumes | set(_last_used(usage)):
        if not (0 <= position < len(tariffs) and 0 <= index < len(tariffs[position].prices(dimension))):
            raise ValueError(f"usage: tariff {position} has no price {index} for {dimension}")


# --------------------------------------------------------------------------------------------- lines


@dataclass(frozen=True, slots=True)
class _Item:
    tariff: int
    dimension: Dimension
    unit_price: Fraction
    amount: int

    @property
    def cost(self) -> Fraction:
        return cost_of(self.dimension, self.unit_price, self.amount)


def cost_of(dimension: Dimension, unit_price: Fraction, amount: int) -> Fraction:
    if dimension in FIXED_DIMENSIONS:
        return unit_price * amount
    return unit_price * amount / (MWH_PER_KWH if dimension is Dimension.ENERGY else MS_PER_MINUTE)


def _items(tariffs: Sequence[Tariff], usage: Usage) -> list[_Item]:
    """Volumes with the step of each dimension, put together where the unit price is the same: splitting one price
    into two with the same amount must not add a rounding."""
    amounts: Counter[tuple[int, Dimension, Fraction]] = Counter()
    for volume in usage.volumes:
        price = tariffs[volume.tariff].prices(volume.dimension)[volume.price]
        amounts[volume.tariff, volume.dimension, price.amount] += volume.amount
    for position, dimension, index in _last_used(usage):
        price = tariffs[position].prices(dimension)[index]
        total = sum(volume.amount for volume in usage.volumes if volume.dimension is dimension)
        amounts[position, dimension, price.amount] += -total % price.step
    return [_Item(*key, amount) for key, amount in amounts.items()]


def _last_used(usage: Usage) -> list[tuple[int, Dimension, int]]:
    """Per dimension with a volume, the price that was used last."""
    found: dict[Dimension, tuple[int, Dimension, int]] = {}
    for volume in usage.volumes:
        if volume.dimension is Dimension.RESERVATION_TIME:
            found[volume.dimension] = (volume.tariff, volume.dimension, volume.price)
    for period in usage.periods:
        for dimension, price, amount in (
            (Dimension.ENERGY, period.energy, period.energy_mwh),
            (Dimension.CHARGING_TIME, period.charging_time, period.charging_ms),
            (Dimension.IDLE_TIME, period.idle_time, period.idle_ms),
        ):
            if period.tariff is not None and price is not None and amount:
                found[dimension] = (period.tariff, dimension, price)
    return list(found.values())


def _lines(
    tariffs: Sequence[Tariff], items: Sequence[_Item], rounding: Rounding, rounded_per: RoundedPer, *, waived: bool
) -> list[Line]:
    lines = []
    sums: dict[tuple[Dimension, tuple[TaxRate, ...]], tuple[Fraction, int]] = {}  # exact, and as printed
    for item in items:
        tariff = tariffs[item.tariff]
        rates = tariff.tax_rates(item.dimension)
        free = waived and item.dimension is Dimension.ENERGY
        exact, printed = sums.get((item.dimension, rates), (Fraction(0), 0))
        exact += 0 if free else item.cost
        net = to_minor(exact, tariff.currency, rounding) - printed
        if rounded_per is RoundedPer.DIMENSION:
            sums[item.dimension, rates] = exact, printed + net
        lines.append(
            Line(
                dimension=item.dimension,
                tariff=item.tariff,
                tariff_id=tariff.tariff_id,
                unit_price=item.unit_price,
                quantity=item.amount,
                unit=_unit(item.dimension),
                net=net,
                description=_NAMES[item.dimension] + (" (below the least that is billed)" if free else ""),
                tax_rates=rates,
                waived=free,
            )
        )
    return lines


def _unit(dimension: Dimension) -> Unit:
    if dimension in FIXED_DIMENSIONS:
        return Unit.FEES
    return Unit.ENERGY if dimension is Dimension.ENERGY else Unit.TIME


_NAMES = {
    Dimension.ENERGY: "Energy",
    Dimension.CHARGING_TIME: "Charging time",
    Dimension.IDLE_TIME: "Idle time",
    Dimension.FIXED_FEE: "Start fee",
    Dimension.RESERVATION_TIME: "Reservation time",
    Dimension.RESERVATION_FIXED: "Reservation fee",
}


# --------------------------------------------------------------------------------------------- taxes


_Nets = dict[tuple[TaxRate, ...], int]
"""What the printed lines of each set of rates add up to."""


def _nets(lines: Sequence[Line]) -> _Nets:
    found: _Nets = {}
    for line in lines:
        found[line.tax_rates] = found.get(line.tax_rates, 0) + line.net
    return found


def _taxes(nets: _Nets, currency: str, rounding: Rounding) -> list[TaxLine]:
    found = []
    for rates, base in nets.items():
        for level in stacked(rates):
            taxes = [_tax(rate, base, currency, rounding) for rate in level]
            base += sum(tax.amount for tax in taxes)
            found += taxes
    return found


def _tax(rate: TaxRate, base: int, currency: str, rounding: Rounding) -> TaxLine:
    amount = to_minor(from_minor(base, currency) * rate.percent / 100, currency, rounding)
    return TaxLine(rate.type, rate.percent, rate.stack, base, amount)


# -------------------------------------------------------------------------------------------- bounds


def cost_cap_incl(tariffs: Sequence[Tariff]) -> Fraction | None:
    """What a running session can cost at most, with tax."""
    cap = tariffs[-1].max_cost
    if cap is None or cap.excl_tax is None:
        return None if cap is None else cap.incl_tax
    most = cap.excl_tax * max(tax_factor(each.tax_rates(dimension)) for each in tariffs for dimension in Dimension)
    return most if cap.incl_tax is None else min(most, cap.incl_tax)


def _capped(cap: Price | None, excl: Fraction, incl: Fraction, taxed: Fraction) -> tuple[Fraction, Fraction]:
    """``excl`` and ``incl`` under the cap; ``taxed`` is ``incl`` before the taxes were rounded."""
    if cap is None:
        return excl, incl
    ratio = taxed / excl if excl > 0 and taxed > 0 else Fraction(1)
    if cap.tax_rates:
        ratio = min(ratio, tax_factor(cap.tax_rates))
    if cap.excl_tax is not None and excl > cap.excl_tax:
        excl, incl = cap.excl_tax, cap.excl_tax * ratio
    if cap.incl_tax is not None and incl > cap.incl_tax:
        excl, incl = min(excl, cap.incl_tax / ratio), cap.incl_tax
    return excl, incl


def _raised(tariff: Tariff, excl: Fraction, incl: Fraction, taxed: Fraction) -> tuple[Fraction, Fraction]:
    """``excl`` and ``incl`` up to the minimum; ``taxed`` is ``incl`` before the taxes were rounded."""
    floor = tariff.min_cost
    if floor is None:
        return excl, incl
    factor = tax_factor(floor.tax_rates or _first_rates(tariff))
    if floor.excl_tax is not None and excl < floor.excl_tax:
        taxed += (floor.excl_tax - excl) * factor
        excl, incl = floor.excl_tax, taxed
    if floor.incl_tax is not None and incl < floor.incl_tax:
        excl, incl = excl + max(Fraction(0), floor.incl_tax - taxed) / factor, floor.incl_tax
    return excl, incl


def _first_rates(tariff: Tariff) -> tuple[TaxRate, ...]:
    return next((tariff.tax_rates(dimension) for dimension in Dimension if tariff.prices(dimension)), ())


def _exact_excess(tariffs: Sequence[Tariff], items: Sequence[_Item], *, waived: bool) -> tuple[Fraction, Fraction]:
    """What lay above the caps of the tariffs that were replaced, without and with tax."""
    excess_excl = excess_incl = excl = incl = Fraction(0)
    if all(tariff.max_cost is None for tariff in tariffs[:-1]):
        return excess_excl, excess_incl
    billed: defaultdict[int, list[_Item]] = defaultdict(list)
    for item in items:
        if not (waived and item.dimension is Dimension.ENERGY):
            billed[item.tariff].append(item)
    for position, tariff in enumerate(tariffs[:-1]):
        for item in billed[position]:
            excl += item.cost
            incl += item.cost * tax_factor(tariff.tax_rates(item.dimension))
        most_excl, most_incl = _capped(tariff.max_cost, excl, incl, incl)
        excess_excl, excess_incl = excess_excl + excl - most_excl, excess_incl + incl - most_incl
        excl, incl = most_excl, most_incl
    return excess_excl, excess_incl


class _Totals:
    """The totals while bounds are put on them, one adjustment each. ``taxed``: with tax, as if none had been rounded;
    what a bound makes of the side that it does not give must not depend on how the taxes were rounded."""

    def __init__(self, nets: _Nets, taxes: Sequence[TaxLine], currency: str, rounding: Rounding) -> None:
        self.currency, self.rounding = currency, rounding
        self.excl, self.tax = sum(nets.values()), sum(tax.amount for tax in taxes)
        taxed = (from_minor(net, currency) * tax_factor(rates) for rates, net in nets.items())
        self.taxed = sum(taxed, Fraction(0))
        self.adjustments: list[Adjustment] = []

    def forget(self, excess: tuple[Fraction, Fraction]) -> None:
        excl, incl = (to_minor(each, self.currency, self.rounding) for each in excess)
        self._become(AdjustmentKind.MAX_COST, self.excl - excl, self.excl + self.tax - incl, "above the maximum cost")
        self.taxed -= excess[1]

    def bound(self, tariff: Tariff, *, final: bool) -> None:
        if final:
            self._move(AdjustmentKind.MIN_COST, _raised(tariff, *self._amounts()), "up to the minimum cost")
        self._move(AdjustmentKind.MAX_COST, _capped(tariff.max_cost, *self._amounts()), "above the maximum cost")

    def limit(self, credit: Fraction) -> None:
        """The rest of the credit is split like the bill."""
        most, incl = to_minor(credit, self.currency, Rounding.DOWN), self.excl + self.tax
        if incl > most:
            excl = to_minor(from_minor(most, self.currency) * self.excl / incl, self.currency)
            self._become(AdjustmentKind.CREDIT, excl, most, "above the credit, not billed")

    def _amounts(self) -> tuple[Fraction, Fraction, Fraction]:
        excl, incl = (from_minor(each, self.currency) for each in (self.excl, self.excl + self.tax))
        return excl, incl, self.taxed

    def _move(self, kind: AdjustmentKind, to: tuple[Fraction, Fraction], description: str) -> None:
        if to != self._amounts()[:2]:
            excl, incl = (to_minor(each, self.currency, self.rounding) for each in to)
            self._become(kind, excl, incl, description)
            self.taxed = to[1]

    def _become(self, kind: AdjustmentKind, excl: int, incl: int, description: str) -> None:
        net, tax = excl - self.excl, incl - excl - self.tax
        if net or tax:
            self.adjustments.append(Adjustment(kind, net, tax, description))
        self.excl, self.tax = excl, incl - excl
