"""To which price does the energy between two meter readings go.

Charter: the stretches of time since the last reading, the energy prices each of them leaves open, and the cheapest
of these. The price with tax counts as what the driver pays; no price costs nothing and is the cheapest of all.

Units: mWh, ms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from agent.tariff.model import Dimension, Tariff, tax_factor
from agent.tariff.select import first_for_energy


@dataclass(frozen=True, slots=True)
class Choice:
    """What holds in a stretch but for the energy: the first of the candidates whose energy bounds fit counts."""

    period: int
    tariff: int | None
    candidates: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Time since the last reading with one choice; several in a gap, where any of them may be true."""

    from_ms: int
    to_ms: int
    choices: tuple[Choice, ...]
    is_gap: bool = False

    def overlaps(self, after_ms: int, to_ms: int) -> bool:
        """Has a part in (after, to]. A gap may take no time at all on a clock that began anew."""
        if self.is_gap and self.from_ms == self.to_ms:
            return after_ms <= self.to_ms <= to_ms
        return self.from_ms < to_ms and self.to_ms > after_ms

    def joins(self, other: Stretch) -> bool:
        return self.choices == other.choices and self.is_gap == other.is_gap

    def joined(self, other: Stretch) -> Stretch:
        choices = tuple(dict.fromkeys(self.choices + other.choices))
        return Stretch(self.from_ms, other.to_ms, choices, self.is_gap or other.is_gap)


def pieces(tariffs: Sequence[Tariff], choices: Sequence[Choice], from_mwh: int, to_mwh: int) -> list[tuple[int, int]]:
    """The energy of the transaction from one amount to another, cut where an energy condition changes."""
    cuts = {from_mwh, to_mwh}
    for choice in choices:
        if choice.tariff is None:
            continue
        for index in choice.candidates:
            held = tariffs[choice.tariff].prices(Dimension.ENERGY)[index].conditions
            bounds = (held.min_energy_mwh, held.max_energy_mwh)
            cuts.update(each for each in bounds if each is not None and from_mwh < each < to_mwh)
    return list(pairwise(sorted(cuts)))


def cheapest(tariffs: Sequence[Tariff], choices: Sequence[Choice], at_mwh: int) -> tuple[Choice, int | None, bool]:
    """The choice and price with the least price at this energy, the first of equals; do the choices differ?"""
    best: tuple[Choice, int | None] | None = None
    best_price = Fraction(0)
    differ = False
    for choice in choices:
        index, price = _price_at(tariffs, choice, at_mwh)
        if best is None:
            best, best_price = (choice, index), price
            continue
        differ = differ or price != best_price
        if price < best_price:
            best, best_price = (choice, index), price
    assert best is not None
    return *best, differ


def _price_at(tariffs: Sequence[Tariff], choice: Choice, at_mwh: int) -> tuple[int | None, Fraction]:
    if choice.tariff is None:
        return None, Fraction(0)
    tariff = tariffs[choice.tariff]
    prices = tariff.prices(Dimension.ENERGY)
    index = first_for_energy(prices, choice.candidates, at_mwh)
    if index is None:
        return None, Fraction(0)
    return index, prices[index].amount * tax_factor(tariff.tax_rates(Dimension.ENERGY))
