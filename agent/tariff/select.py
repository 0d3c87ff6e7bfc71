"""Which price counts: for each dimension the first one whose conditions all hold.

Charter: one situation in, price indices out. A condition that cannot be evaluated (no power reading, a clock that
nobody has set) is not met.
Minimum is inclusive, maximum exclusive. Negative bounds are for discharging and mirror: the minimum is the one
closest to zero.

Sources: OCPP 2.1 I12.FR.33, .34; TariffConditionsType.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.tariff.calendar import LocalTime, holds_locally
from agent.tariff.model import Conditions, Dimension, EvseKind, Payment, Tariff, UnitPrice


@dataclass(frozen=True, slots=True)
class Situation:
    """All that a condition can ask about. Times are milliseconds of the transaction so far, ``idle_ms``
    of the idle period: since the car charged last."""

    at: LocalTime | None  # None: nobody knows
    evse_kind: EvseKind
    payment: Payment | None = None
    energy_mwh: int = 0
    power_mw: int | None = None
    current_ma: int | None = None
    elapsed_ms: int = 0
    charging_ms: int = 0
    idle_ms: int = 0


def selected(tariff: Tariff, dimension: Dimension, now: Situation) -> int | None:
    """The index of the price that counts, or None: the dimension costs nothing."""
    for index, price in enumerate(tariff.prices(dimension)):
        if holds(price.conditions, now) and energy_within(price.conditions, now.energy_mwh):
            return index
    return None


def energy_candidates(tariff: Tariff, now: Situation) -> tuple[int, ...]:
    """The energy prices that hold at some energy: which one counts is decided by the energy alone."""
    found = []
    for index, price in enumerate(tariff.prices(Dimension.ENERGY)):
        if holds(price.conditions, now):
            found.append(index)
            if is_for_any_energy(price.conditions):
                break
    return tuple(found)


def sometime_candidates(tariff: Tariff, now: Situation) -> tuple[int, ...]:
    """As ``energy_candidates``, at whatever time of whatever day."""
    found = []
    for index, price in enumerate(tariff.prices(Dimension.ENERGY)):
        if _holds_sometime(price.conditions, now):
            found.append(index)
            if not price.conditions.is_local and is_for_any_energy(price.conditions):
                break
    return tuple(found)


def first_for_energy(prices: tuple[UnitPrice, ...], candidates: tuple[int, ...], energy_mwh: int) -> int | None:
    for index in candidates:
        if energy_within(prices[index].conditions, energy_mwh):
            return index
    return None


def is_for_any_energy(conditions: Conditions) -> bool:
    return conditions.min_energy_mwh is None and conditions.max_energy_mwh is None


def energy_within(conditions: Conditions, energy_mwh: int) -> bool:
    return _within(energy_mwh, conditions.min_energy_mwh, conditions.max_energy_mwh)


def holds(conditions: Conditions, now: Situation) -> bool:
    """All but the energy conditions."""
    locally = not conditions.is_local if now.at is None else holds_locally(conditions, now.at)
    return locally and _holds_sometime(conditions, now)


def _holds_sometime(conditions: Conditions, now: Situation) -> bool:
    """All but the energy conditions and those on local time."""
    return (
        (conditions.evse_kind is None or conditions.evse_kind is now.evse_kind)
        and _paid_so(conditions, now.payment)
        and _within(now.power_mw, conditions.min_power_mw, conditions.max_power_mw)
        and _within(now.current_ma, conditions.min_current_ma, conditions.max_current_ma)
        and _lasted(now.elapsed_ms, conditions.min_time_s, conditions.max_time_s)
        and _lasted(now.charging_ms, conditions.min_charging_s, conditions.max_charging_s)
        and _lasted(now.idle_ms, conditions.min_idle_s, conditions.max_idle_s)
    )


def _paid_so(conditions: Conditions, payment: Payment | None) -> bool:
    brand, recognition = (None, None) if payment is None else (payment.brand, payment.recognition)
    return conditions.payment_brand in (None, brand) and conditions.payment_recognition in (None, recognition)


def _within(value: int | None, least: int | None, below: int | None) -> bool:
    if least is None and below is None:
        return True
    if value is None:
        return False
    if below is not None and below < 0 < value:
        return False  # a price for discharging
    return (least is None or _reached(value, least)) and (below is None or not _reached(value, below))


def _reached(value: int, bound: int) -> bool:
    return value >= bound if bound >= 0 else value <= bound


def _lasted(value_ms: int, least_s: int | None, below_s: int | None) -> bool:
    return (least_s is None or value_ms >= least_s * 1000) and (below_s is None or value_ms < below_s * 1000)
