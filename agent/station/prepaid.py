"""What a transaction may use up at most: how a limit is told, what is left of it, when it is reached.

Charter: pure functions on ``LimitFact``. Whose limit holds is ``billing``'s, how far ahead is looked
``agent.tariff.prepaid``'s. Money is a decimal text, tax included. Invariant P1 (metering reference 5).
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Final

from agent.billing.books import Books
from agent.config.money import Assignment
from agent.core.facts import Forerunner, LimitFact, StopReason, TransactionFact, Trigger
from agent.tariff.cost import Bill
from agent.tariff.currency import decimal_text, from_minor
from agent.tariff.prepaid import Ahead, Limit, TransactionLimits, exhausted
from agent.tariff.usage import Usage

LOOK_AHEAD_MS: Final = 2_000  # a reading a second, and one may be missing
ENDING_MS: Final = 10_000  # a vehicle has 6 s to stop drawing; the contactor opens, the register is read
FLOWS_ON_MS: Final = 3_000  # vehicles take so long to heed that they are offered nothing
MOST_MONEY: Final = 10**9
MONEY_DIGITS: Final = 12
TECHNICIAN: Final = "technician"
"""Source of a limit that never lifts what CSMS or site have set."""
REST: Final = "rest"
"""Source of what a transaction has left to the one that follows it, whoever had set it."""

_ENDS: Final = {
    Limit.COST: (Trigger.COST_LIMIT_REACHED, StopReason.LOCAL_OUT_OF_CREDIT),
    Limit.ENERGY: (Trigger.ENERGY_LIMIT_REACHED, StopReason.ENERGY_LIMIT_REACHED),
    Limit.TIME: (Trigger.TIME_LIMIT_REACHED, StopReason.TIME_LIMIT_REACHED),
}


def told_limit(
    tx_id: str, evse: int, max_cost: str | None, max_energy_mwh: int | None, max_time_ms: int | None, source: str
) -> LimitFact | None:
    """A limit that somebody told; None for what is none."""
    cost = Decimal(0) if max_cost is None else amount_of(max_cost)
    if cost is None or cost < 0 or (max_energy_mwh or 0) < 0 or (max_time_ms or 0) < 0:
        return None
    return LimitFact(tx_id, evse, None if max_cost is None else f"{cost:f}", max_energy_mwh, max_time_ms, source)


def site_limit(started: TransactionFact, limits: Assignment, rest: LimitFact | None) -> LimitFact:
    """What the site lets this transaction's token use up: of what it limits, no more than the transaction before has
    left."""
    whole = LimitFact(
        started.tx_id,
        started.evse,
        None if limits.max_cost is None else f"{limits.max_cost:f}",
        None if limits.max_energy_wh is None else limits.max_energy_wh * 1_000,
        None if limits.max_time_s is None else limits.max_time_s * 1_000,
        "site",
    )
    left = lesser(whole, rest)
    return replace(
        whole,
        max_cost=whole.max_cost and left.max_cost,
        max_energy_mwh=whole.max_energy_mwh and left.max_energy_mwh,
        max_time_ms=whole.max_time_ms and left.max_time_ms,
    )


def lesser(told: LimitFact, holds: LimitFact | None) -> LimitFact:
    """Of each limit the smaller: what the site sells is not lifted by anybody else, nor the CSMS's by a technician."""
    if holds is None:
        return told
    costs = [each for each in (told.max_cost, holds.max_cost) if each is not None]
    return replace(
        told,
        max_cost=min(costs, key=Fraction, default=None),
        max_energy_mwh=_least(told.max_energy_mwh, holds.max_energy_mwh),
        max_time_ms=_least(told.max_time_ms, holds.max_time_ms),
    )


def _least(*limits: int | None) -> int | None:
    return min((each for each in limits if each is not None), default=None)


def rest_of(limit: LimitFact, bill: Bill | None, usage: Usage) -> LimitFact:
    """What a transaction leaves of its limit to the one that follows it in the same session."""
    spent = Fraction(0) if bill is None else from_minor(bill.total_incl, bill.currency)
    cost, energy_mwh, time_ms = credit_of(limit), limit.max_energy_mwh, limit.max_time_ms
    return replace(
        limit,
        source=REST,
        max_cost=None if cost is None else decimal_text(max(Fraction(0), cost - spent)),
        max_energy_mwh=None if energy_mwh is None else max(0, energy_mwh - usage.energy_mwh),
        max_time_ms=None if time_ms is None else max(0, time_ms - usage.elapsed_ms),
    )


def forerunner(started: TransactionFact, bill: Bill | None) -> Forerunner:
    """What the transaction that follows this one must know of it; ``bill`` is this one's."""
    if bill is None:
        return Forerunner(started.tx_id)
    before = started.follows or Forerunner("")
    excl, incl = (
        decimal_text(Fraction(spent or 0) + from_minor(total, bill.currency))
        for spent, total in ((before.cost_excl, bill.total_excl), (before.cost_incl, bill.total_incl))
    )
    return Forerunner(started.tx_id, excl, incl)


def reached(limit: LimitFact, books: Books, usage: Usage, most_mw: int) -> tuple[Trigger, StopReason] | None:
    """Why the transaction must end now, at ``most_mw`` at most; None if it need not."""
    limits = TransactionLimits(credit_of(limit), limit.max_energy_mwh, limit.max_time_ms)
    ahead = Ahead(LOOK_AHEAD_MS, most_mw, ENDING_MS, FLOWS_ON_MS)
    found = exhausted(limits, books.priced_by, usage, ahead)
    return None if found is None else _ENDS[found]


def credit_of(limit: LimitFact | None) -> Fraction | None:
    return None if limit is None or limit.max_cost is None else Fraction(limit.max_cost)


def amount_of(text: str) -> Decimal | None:
    """An amount of money that somebody told; None for what is none. A number of a billion digits is none: to write
    it, or to make a fraction of it, would stop the station."""
    try:
        amount = Decimal(text)
    except InvalidOperation:
        return None
    fits = amount.is_finite() and -MOST_MONEY < amount < MOST_MONEY
    return amount if fits and -int(amount.as_tuple().exponent) <= MONEY_DIGITS else None
