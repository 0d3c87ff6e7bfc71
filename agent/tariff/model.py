"""The values of a tariff: prices, the conditions under which they hold, and taxes.

Charter: a superset of the OCPP 2.1 TariffType as frozen values. Nothing is decided here; ``parse`` makes these
values from JSON and refuses bad ones. Our one extension is ``stepSize`` (as in OCPI).

Units: prices are exact fractions of the currency's main unit, excluding tax, per kWh, per minute or per session.
Energy mWh, current mA (sum over the phases), power mW, duration seconds, time of day in minutes, instants UTC
milliseconds. Sources: OCPP 2.1 TariffType and its conditions; OCPI 2.2.1 ``step_size``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum
from fractions import Fraction
from functools import lru_cache

DAY_MINUTES = 1440


class Dimension(StrEnum):
    """What a price is for; the values are the names in the JSON. The order is that of a bill."""

    ENERGY = "energy"
    CHARGING_TIME = "chargingTime"
    IDLE_TIME = "idleTime"
    FIXED_FEE = "fixedFee"
    RESERVATION_TIME = "reservationTime"
    RESERVATION_FIXED = "reservationFixed"


TIME_DIMENSIONS = frozenset({Dimension.CHARGING_TIME, Dimension.IDLE_TIME, Dimension.RESERVATION_TIME})
FIXED_DIMENSIONS = frozenset({Dimension.FIXED_FEE, Dimension.RESERVATION_FIXED})


class EvseKind(StrEnum):
    AC = "AC"
    DC = "DC"


@dataclass(frozen=True, slots=True)
class Payment:
    """How an ad-hoc customer pays, from the additional information of the token."""

    brand: str | None = None
    recognition: str | None = None


@dataclass(frozen=True, slots=True)
class TaxRate:
    """Stack 0 is on the net price, stack 1 on net plus stack 0, and so on; rates of one stack are added."""

    type: str
    percent: Fraction
    stack: int = 0


@dataclass(frozen=True, slots=True)
class Price:
    """A bound of the whole cost. At least one side is given, and only what is given binds; ``cost`` says
    what ``tax_rates`` do."""

    excl_tax: Fraction | None = None
    incl_tax: Fraction | None = None
    tax_rates: tuple[TaxRate, ...] = ()

    def after(self, excl_tax: Fraction, incl_tax: Fraction) -> Price:
        """What is left of it when so much is spent."""
        sides = ((self.excl_tax, excl_tax), (self.incl_tax, incl_tax))
        excl, incl = (None if side is None else max(Fraction(0), side - spent) for side, spent in sides)
        return replace(self, excl_tax=excl, incl_tax=incl)


@dataclass(frozen=True, slots=True)
class Conditions:
    """All that are given must hold. Minimum inclusive, maximum exclusive, also for times and dates.

    ``end_minute`` may be 1440 (end of the day; written ``00:00``); an end before the start wraps around midnight.
    """

    start_minute: int | None = None
    end_minute: int | None = None
    days: frozenset[int] | None = None  # 0 is Monday
    from_date: date | None = None
    to_date: date | None = None
    evse_kind: EvseKind | None = None
    payment_brand: str | None = None
    payment_recognition: str | None = None
    min_energy_mwh: int | None = None
    max_energy_mwh: int | None = None
    min_current_ma: int | None = None
    max_current_ma: int | None = None
    min_power_mw: int | None = None
    max_power_mw: int | None = None
    min_time_s: int | None = None
    max_time_s: int | None = None
    min_charging_s: int | None = None
    max_charging_s: int | None = None
    min_idle_s: int | None = None
    max_idle_s: int | None = None

    @property
    def is_local(self) -> bool:
        """Depends on the local calendar or time of day."""
        return not (
            self.start_minute is None
            and self.end_minute is None
            and self.days is None
            and self.from_date is None
            and self.to_date is None
        )


ALWAYS = Conditions()


@dataclass(frozen=True, slots=True)
class UnitPrice:
    """``amount`` per kWh, per minute or per session; ``step`` in mWh or ms, 1 when nothing is rounded up."""

    amount: Fraction
    conditions: Conditions = ALWAYS
    step: int = 1


@dataclass(frozen=True, slots=True)
class Component:
    """One dimension of a tariff: the first price whose conditions hold counts."""

    prices: tuple[UnitPrice, ...]
    tax_rates: tuple[TaxRate, ...] = ()


@dataclass(frozen=True, slots=True)
class Description:
    language: str | None
    text: str


@dataclass(frozen=True, slots=True)
class Tariff:
    tariff_id: str
    currency: str
    descriptions: tuple[Description, ...] = ()
    valid_from_ms: int | None = None
    energy: Component | None = None
    charging_time: Component | None = None
    idle_time: Component | None = None
    fixed_fee: Component | None = None
    reservation_time: Component | None = None
    reservation_fixed: Component | None = None
    min_cost: Price | None = None
    max_cost: Price | None = None

    def component(self, dimension: Dimension) -> Component | None:
        match dimension:
            case Dimension.ENERGY:
                return self.energy
            case Dimension.CHARGING_TIME:
                return self.charging_time
            case Dimension.IDLE_TIME:
                return self.idle_time
            case Dimension.FIXED_FEE:
                return self.fixed_fee
            case Dimension.RESERVATION_TIME:
                return self.reservation_time
            case Dimension.RESERVATION_FIXED:
                return self.reservation_fixed

    def prices(self, dimension: Dimension) -> tuple[UnitPrice, ...]:
        component = self.component(dimension)
        return () if component is None else component.prices

    def tax_rates(self, dimension: Dimension) -> tuple[TaxRate, ...]:
        component = self.component(dimension)
        return () if component is None else component.tax_rates

    def after(self, excl_tax: Fraction, incl_tax: Fraction) -> Tariff:
        """As it holds for the rest of a session that has cost so much: its bounds are of the whole session."""
        low, high = (each and each.after(excl_tax, incl_tax) for each in (self.min_cost, self.max_cost))
        return replace(self, min_cost=low, max_cost=high)


def same_currency(one: Tariff | None, other: Tariff | None) -> bool:
    """May the one be replaced by the other? Also when one side has no tariff."""
    return one is None or other is None or one.currency == other.currency


def stacked(rates: tuple[TaxRate, ...]) -> list[list[TaxRate]]:
    """The rates by stack, lowest first."""
    return [[rate for rate in rates if rate.stack == stack] for stack in sorted({rate.stack for rate in rates})]


@lru_cache(maxsize=64)  # a bill asks for the same few rates once per line
def tax_factor(rates: tuple[TaxRate, ...]) -> Fraction:
    """What an amount without tax is multiplied by to get the amount with tax."""
    factor = Fraction(1)
    for level in stacked(rates):
        factor *= 1 + sum((rate.percent for rate in level), Fraction(0)) / 100
    return factor
