"""Which limit of a transaction is used up before the next look at it.

Charter: a warning in time, so that a prepaid session stops within its credit. What lies above the credit all the same
is not billed (``cost.bill`` with ``credit_limit``).

How: what the transaction may use until the next look is added to what it has used, at full power, and priced as a bill
is. Where every price of a dimension is the same, its condition apart, that is exact: what a begun step already pays for
costs nothing more. Where prices differ nobody knows which comes next: then it is the dearest with the longest step, all
of it new. A step is paid as it begins, so the transaction has to be over before it: there the time that its end takes
counts, too. The vehicle may stop at any time, so charging and idling are both reckoned with.

Units: cost in the currency's main unit with tax, mWh, ms, mW. Sources: OCPP 2.1 TransactionLimitType; P1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction

from agent.tariff.cost import bill, cost_cap_incl, cost_of
from agent.tariff.currency import Rounding, from_minor
from agent.tariff.model import Dimension, Tariff, tax_factor
from agent.tariff.usage import Period, Usage, Volume

MS_PER_HOUR = 3_600_000


class Limit(StrEnum):
    COST = "Cost"
    ENERGY = "Energy"
    TIME = "Time"


@dataclass(frozen=True, slots=True)
class TransactionLimits:
    max_cost: Fraction | None = None  # with tax
    max_energy_mwh: int | None = None
    max_time_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Ahead:
    """What may be used at ``max_power_mw`` in the ``interval_ms`` until the next look, and while the transaction is
    being ended: its time goes on for ``ending_ms``, its energy for ``flows_on_ms``."""

    interval_ms: int
    max_power_mw: int
    ending_ms: int = 0
    flows_on_ms: int = 0

    def energy_mwh(self, *, ending: bool = False) -> int:
        """Rounded up: one mWh too late would be one too many."""
        lasts_ms = self.interval_ms + (self.flows_on_ms if ending else 0)
        return -(-self.max_power_mw * lasts_ms // MS_PER_HOUR)

    def time_ms(self, *, ending: bool = False) -> int:
        return self.interval_ms + (self.ending_ms if ending else 0)


def exhausted(
    limits: TransactionLimits,
    tariffs: Sequence[Tariff],
    usage: Usage,
    ahead: Ahead,
    *,
    rounding: Rounding = Rounding.HALF_UP,
) -> Limit | None:
    """The first limit that what lies ahead could exceed: the transaction should stop now. A limit of cost counts as
    exceeded where there is no tariff: nobody can say when it will be."""
    if limits.max_cost is not None and (not tariffs or _most(tariffs, usage, ahead, rounding) > limits.max_cost):
        return Limit.COST
    if limits.max_energy_mwh is not None and usage.energy_mwh + ahead.energy_mwh() > limits.max_energy_mwh:
        return Limit.ENERGY
    if limits.max_time_ms is not None and usage.elapsed_ms + ahead.time_ms() > limits.max_time_ms:
        return Limit.TIME
    return None


def _most(tariffs: Sequence[Tariff], usage: Usage, ahead: Ahead, rounding: Rounding) -> Fraction:
    """What the transaction costs at most when all that lies ahead has been used."""
    known: dict[Dimension, int] = {}
    unknown = Fraction(0)
    for dimension in (Dimension.ENERGY, Dimension.CHARGING_TIME, Dimension.IDLE_TIME):
        prices = tariffs[-1].prices(dimension)
        if not any(price.amount > 0 for price in prices):
            continue
        ending = any(price.step > 1 for price in prices)
        is_energy = dimension is Dimension.ENERGY
        amount = ahead.energy_mwh(ending=ending) if is_energy else ahead.time_ms(ending=ending)
        if len({(price.amount, price.step) for tariff in tariffs for price in tariff.prices(dimension)}) == 1:
            known[dimension] = amount
        else:
            unknown += _dearest(tariffs[-1], dimension, amount)
    running = bill(tariffs, _with(usage, len(tariffs) - 1, known), rounding=rounding, final=False)
    assert running is not None, "there are tariffs"
    most = from_minor(running.total_incl, running.currency) + unknown
    cap = cost_cap_incl(tariffs)
    return most if cap is None else min(most, cap)


def _with(usage: Usage, tariff: int, amounts: dict[Dimension, int]) -> Usage:
    """The usage with more of each dimension, at the first price of the tariff."""
    energy_mwh, charging_ms, idle_ms = (
        amounts.get(each, 0) for each in (Dimension.ENERGY, Dimension.CHARGING_TIME, Dimension.IDLE_TIME)
    )
    at_first_prices = (0, 0, 0, 0, tariff, 0, 0, 0)  # when it is does not matter to a bill
    period = Period(*at_first_prices, energy_mwh=energy_mwh, charging_ms=charging_ms, idle_ms=idle_ms)
    volumes = tuple(Volume(tariff, dimension, 0, amount) for dimension, amount in amounts.items())
    return replace(usage, periods=(*usage.periods, period), volumes=(*usage.volumes, *volumes))


def _dearest(tariff: Tariff, dimension: Dimension, amount: int) -> Fraction:
    """What so much more can cost, with tax, whichever price it has and wherever the step begins."""
    prices = tariff.prices(dimension)
    highest, step = max(price.amount for price in prices), max(price.step for price in prices)
    return cost_of(dimension, highest, amount + step - 1) * tax_factor(tariff.tax_rates(dimension))
