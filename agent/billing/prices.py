"""The tariffs inside a receipt as values, and the bill computed from them anew.

Charter: reads the texts that the receipt carries; the computing is ``agent.tariff``'s. What cannot be read is
None, never guessed.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

from agent.billing.account import decimal_of
from agent.billing.books import within_session
from agent.billing.read import Receipt
from agent.tariff.cost import Bill, RoundedPer, bill
from agent.tariff.currency import Rounding
from agent.tariff.model import Tariff
from agent.tariff.parse import parse_tariff
from agent.tariff.problem import TariffError


def tariffs_of(receipt: Receipt) -> tuple[Tariff | None, ...]:
    """In the order of use; None where the text is not in the receipt or is no tariff."""
    return tuple(_tariff(each.text) for each in receipt.facts.tariffs)


def bill_again(receipt: Receipt) -> Bill | None:
    """The bill of the receipt's usage by the receipt's tariffs; ``ValueError`` when it cannot be computed."""
    if receipt.usage is None:
        raise ValueError("the receipt holds no usage")
    tariffs = [tariff for tariff in tariffs_of(receipt) if tariff is not None]
    if len(tariffs) != len(receipt.facts.tariffs):
        raise ValueError("not every tariff of the receipt can be read")
    bounds = receipt.facts.bounds
    credit: Fraction | None = None if bounds.credit_limit is None else decimal_of(bounds.credit_limit)
    rounding = Rounding.HALF_UP if receipt.bill is None else receipt.bill.rounding
    rounded_per = RoundedPer.DIMENSION if receipt.bill is None else receipt.bill.rounded_per
    try:
        return bill(
            within_session(tariffs, bounds.follows),
            receipt.usage,
            rounding=rounding,
            rounded_per=rounded_per,
            credit_limit=credit,
            min_energy_mwh=bounds.min_energy_mwh,
            final=receipt.bill is None or receipt.bill.final,
        )
    except (IndexError, KeyError) as error:
        raise ValueError("the usage names a price that its tariff does not have") from error


@lru_cache(maxsize=32)  # a ledger's receipts share few tariffs
def _tariff(text: str | None) -> Tariff | None:
    if text is None:
        return None
    try:
        # Whether negative prices are allowed is the station's policy; the bill is what it is.
        return parse_tariff(text, allow_negative=True)
    except TariffError:
        return None
