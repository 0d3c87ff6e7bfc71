"""Which limit of a transaction is used up before the next look at it.

Charter: a warning in time, so that a prepaid session stops within its credit. What the next sampling interval can
cost at most is reckoned with the highest prices of the tariff in force, whatever their conditions, and full power.
What lies above the credit all the same is not billed (``cost.bill`` with ``credit_limit``).

Units: cost in the currency's main unit with tax, mWh, ms, mW. Sources: OCPP 2.1 TransactionLimitType; P1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from agent.tariff.cost import bill, cost_cap_incl, cost_of
from agent.tariff.currency import Rounding, from_minor
from agent.tariff.model import Dimension, Tariff, tax_factor
from agent.tariff.usage import Usage

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


def exhausted(
    limits: TransactionLimits,
    tariffs: Sequence[Tariff],
    usage: Usage,
    *,
    interval_ms: int,
    max_power_mw: int,
    rounding: Rounding = Rounding.HALF_UP,
) -> Limit | None:
    """The first limit that one more interval at ``max_power_mw`` could exceed: the transaction should stop now."""
    # Rounded up: one mWh too late would be one too many.
    energy_mwh = -(-max_power_mw * interval_ms // MS_PER_HOUR)
    if limits.max_cost is not None and _cost_exceeds(
        limits.max_cost, tariffs, usage, energy_mwh, interval_ms, rounding
    ):
        return Limit.COST
    if limits.max_energy_mwh is not None and usage.energy_mwh + energy_mwh > limits.max_energy_mwh:
        return Limit.ENERGY
    if limits.max_time_ms is not None and usage.elapsed_ms + interval_ms > limits.max_time_ms:
        return Limit.TIME
    return None


def interval_cost(tariff: Tariff, *, energy_mwh: int, interval_ms: int) -> Fraction:
    """What one interval can cost at most, with tax and steps."""
    time = max(_dearest(tariff, each, interval_ms) for each in (Dimension.CHARGING_TIME, Dimension.IDLE_TIME))
    return _dearest(tariff, Dimension.ENERGY, energy_mwh) + time


def _dearest(tariff: Tariff, dimension: Dimension, amount: int) -> Fraction:
    prices = tariff.prices(dimension)
    step = max((price.step for price in prices), default=1)
    highest = max((price.amount for price in prices), default=Fraction(0))
    return max(Fraction(0), cost_of(dimension, highest, -(-amount // step) * step)) * tax_factor(
        tariff.tax_rates(dimension)
    )


def _cost_exceeds(
    limit: Fraction, tariffs: Sequence[Tariff], usage: Usage, energy_mwh: int, interval_ms: int, rounding: Rounding
) -> bool:
    running = bill(tariffs, usage, rounding=rounding, final=False)
    if running is None:
        return False
    now = from_minor(running.total_incl, running.currency)
    most = now + interval_cost(tariffs[-1], energy_mwh=energy_mwh, interval_ms=interval_ms)
    cap = cost_cap_incl(tariffs)
    return (most if cap is None else min(most, cap)) > limit
