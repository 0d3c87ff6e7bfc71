"""Does a bill add up, by its printed numbers alone?

Charter: what a driver with a pocket calculator can do: each line from quantity and price (together with the lines of
its kind above it, as their sum is what is rounded), each tax from the lines, the total from all of them. No tariff is
needed. Deliberately not the code that made the bill.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator
from fractions import Fraction

from agent.tariff.cost import Bill, RoundedPer, TaxLine, cost_of
from agent.tariff.currency import from_minor, to_minor
from agent.tariff.model import TaxRate


def mistakes(bill: Bill) -> Iterator[str]:
    """Every sum that does not come out, in words."""
    exact: defaultdict[Hashable, Fraction] = defaultdict(Fraction)
    printed: defaultdict[Hashable, int] = defaultdict(int)
    for number, line in enumerate(bill.lines):
        kind = number if bill.rounded_per is RoundedPer.LINE else (line.dimension, line.tax_rates)
        exact[kind] += 0 if line.waived else cost_of(line.dimension, line.unit_price, line.quantity)
        printed[kind] += line.net
        if printed[kind] != to_minor(exact[kind], bill.currency, bill.rounding):
            yield f"{line.description!r:.60} is not quantity times price"
    if list(bill.taxes) != list(_taxes(bill)):
        yield "the taxes do not follow from the lines"
    net = sum(line.net for line in bill.lines) + sum(each.net for each in bill.adjustments)
    tax = sum(line.amount for line in bill.taxes) + sum(each.tax for each in bill.adjustments)
    if bill.total_excl != net:
        yield "the lines do not add up to the net total"
    if bill.total_incl != net + tax:
        yield "lines and taxes do not add up to the total"


def _taxes(bill: Bill) -> Iterator[TaxLine]:
    groups: dict[tuple[TaxRate, ...], int] = {}
    for line in bill.lines:
        groups[line.tax_rates] = groups.get(line.tax_rates, 0) + line.net
    for rates, base in groups.items():
        for stack in sorted({rate.stack for rate in rates}):
            level = [_tax(bill, rate, base) for rate in rates if rate.stack == stack]
            yield from level
            base += sum(tax.amount for tax in level)


def _tax(bill: Bill, rate: TaxRate, base: int) -> TaxLine:
    amount = to_minor(from_minor(base, bill.currency) * rate.percent / 100, bill.currency, bill.rounding)
    return TaxLine(rate.type, rate.percent, rate.stack, base, amount)
