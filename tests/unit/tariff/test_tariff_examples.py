"""The fixed examples: nights of the clock changes, New Year, ends at boundaries, rounding, long and tiny sessions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from agent.tariff.cost import Bill, bill
from agent.tariff.fold import Session
from agent.tariff.model import Dimension, Payment
from agent.tariff.parse import parse_tariff
from agent.tariff.usage import Activity, Point, Register, Usage
from tests.support.tariff_json import HOUR_MS, MINUTE_MS, kwh, minute, tariff, window


class Drive:
    """A session at constant power, with readings at its boundaries, from a UTC time on."""

    def __init__(self, plain: dict[str, Any], start: str, power_w: int = 0, **how: Any) -> None:
        self.session = Session(parse_tariff(plain), zone="Europe/Berlin", evse_kind="AC", **how)
        self.wall_ms = int(datetime.fromisoformat(start).replace(tzinfo=UTC).timestamp() * 1000)
        self.power_w, self.at_ms, self.milliwatt_ms = power_w, 0, 0
        self.add()

    def add(self, activity: Activity = Activity.CHARGING, **how: Any) -> None:
        register = Register(self.at_ms, self.milliwatt_ms // 3_600_000, self.power_w * 1000)
        self.session.add(Point(self.at_ms, self.wall_ms + self.at_ms, activity, register, **how))

    def go(self, spent_ms: int, activity: Activity = Activity.CHARGING) -> Drive:
        """To the end of the stretch; ``activity`` is that of it."""
        end_ms = self.at_ms + spent_ms
        self.add(activity)
        while self.at_ms < end_ms:
            boundary_ms = self.session.next_boundary_ms() or end_ms
            spent_ms = min(boundary_ms, end_ms) - self.at_ms
            self.milliwatt_ms += self.power_w * 1000 * spent_ms
            self.at_ms += spent_ms
            self.add(activity)
        return self

    @property
    def usage(self) -> Usage:
        return self.session.usage()

    def bill(self, **how: Any) -> Bill:
        found = bill(self.session.tariffs, self.usage, **how)
        assert found is not None
        return found

    def amounts(self, dimension: Dimension) -> dict[int, int]:
        return {each.price: each.amount for each in self.usage.volumes if each.dimension is dimension}


TWO_TO_THREE = tariff(chargingTime=minute((1, window("02:00", "03:00")), 0.5), energy=kwh(0.3))


def test_night_of_29_march_has_no_hour_from_two_to_three() -> None:
    drive = Drive(TWO_TO_THREE, "2026-03-29T00:00").go(3 * HOUR_MS)  # 01:00 CET to 05:00 CEST
    assert drive.amounts(Dimension.CHARGING_TIME) == {1: 3 * HOUR_MS}
    assert drive.usage.charging_ms == 3 * HOUR_MS


def test_night_of_25_october_has_it_twice() -> None:
    drive = Drive(TWO_TO_THREE, "2026-10-24T23:00").go(5 * HOUR_MS)  # 01:00 CEST to 05:00 CET
    assert drive.amounts(Dimension.CHARGING_TIME) == {0: 2 * HOUR_MS, 1: 3 * HOUR_MS}


@pytest.mark.parametrize(
    ("start", "found"),
    [
        # 02:30 does not exist: the price begins with the jump to 03:00.
        ("2026-03-29T00:00", [(1, 60), (0, 30), (1, 150)]),
        # At 03:00 the clock shows 02:00 again: the price begins twice.
        ("2026-10-24T23:00", [(1, 90), (0, 30), (1, 30), (0, 60), (1, 30)]),
    ],
)
def test_boundary_in_the_hour_of_the_change(start: str, found: list[tuple[int, int]]) -> None:
    drive = Drive(tariff(chargingTime=minute((1, window("02:30", "03:30")), 0.5)), start).go(4 * HOUR_MS)
    periods = drive.usage.periods
    assert [(each.charging_time, (each.to_ms - each.from_ms) // MINUTE_MS) for each in periods] == found


def test_new_year_changes_date_and_weekday_at_local_midnight() -> None:
    plain = tariff(
        energy=kwh((0.1, {"validToDate": "2027-01-01"}), 0.2), idleTime=minute((1, {"dayOfWeek": ["Friday"]}), 2)
    )
    drive = Drive(plain, "2026-12-31T22:30", 6_000)  # 23:30 in Berlin, a Thursday
    drive.go(HOUR_MS)
    drive.power_w = 0
    drive.go(24 * HOUR_MS, Activity.IDLE)
    assert drive.amounts(Dimension.ENERGY) == {0: 3_000_000, 1: 3_000_000}
    assert drive.amounts(Dimension.IDLE_TIME) == {0: 23 * HOUR_MS + 30 * MINUTE_MS, 1: 30 * MINUTE_MS}


def test_end_at_midnight_means_the_end_of_the_day() -> None:
    drive = Drive(tariff(energy=kwh((0.1, window("22:00", "00:00")), 0.2)), "2026-06-10T21:00", 6_000)  # 23:00
    assert drive.go(2 * HOUR_MS).amounts(Dimension.ENERGY) == {0: 6_000_000, 1: 6_000_000}


def test_price_change_at_the_end_does_not_count() -> None:
    plain = tariff(energy=kwh((0.1, window("22:00", "00:00")), 0.2), chargingTime=minute((1, window("00:00", "06:00"))))
    drive = Drive(plain, "2026-06-10T21:00", 6_000).go(HOUR_MS)
    assert drive.amounts(Dimension.ENERGY) == {0: 6_000_000}
    assert len(drive.usage.periods) == 1
    drive.go(1)
    assert drive.amounts(Dimension.CHARGING_TIME) == {0: 1}
    assert len(drive.usage.periods) == 2


def test_session_without_energy_costs_its_fee() -> None:
    drive = Drive(tariff(energy=kwh(0.3), fixedFee={"prices": [{"priceFixed": 0.5}]}), "2026-06-10T21:00").go(HOUR_MS)
    assert [line.net for line in drive.bill().lines] == [50]
    assert drive.usage.energy_mwh == 0


def test_one_milliwatt_hour_is_kept_exactly() -> None:
    session = Session(parse_tariff(tariff(currency="KWD", energy=kwh(499.999))), zone="UTC", evse_kind="DC")
    session.add(Point(0, 0, Activity.CHARGING, Register(0, 5, 0)))
    session.add(Point(1, 1, Activity.CHARGING, Register(1, 6, 0)))
    found = bill(session.tariffs, session.usage())
    assert found is not None
    assert (found.lines[0].quantity, found.total_excl) == (1, 0)


def test_two_days_idle_with_grace() -> None:
    plain = tariff(idleTime=minute((0.1, {"minIdleTime": 14_400} | window("08:00", "22:00"))))
    drive = Drive(plain, "2026-06-10T06:00").go(48 * HOUR_MS, Activity.IDLE)  # from 08:00, for two days
    assert drive.amounts(Dimension.IDLE_TIME) == {0: 24 * HOUR_MS}
    assert drive.bill().total_excl == 14_400


@pytest.mark.parametrize(
    ("currency", "price", "net"),
    [
        ("EUR", 0.005, 1),
        ("EUR", 0.0049999, 0),
        ("EUR", 0.015, 2),
        ("EUR", 0.025, 3),
        ("JPY", 0.5, 1),
        ("JPY", 0.49, 0),
        ("KWD", 0.0005, 1),
        ("KWD", 0.0004, 0),
    ],
)
def test_ties_are_rounded_up_at_the_minor_unit(currency: str, price: float, net: int) -> None:
    plain = tariff(currency=currency, fixedFee={"prices": [{"priceFixed": price}]})
    assert Drive(plain, "2026-06-10T06:00").bill().total_excl == net


def test_fee_is_chosen_at_the_start_by_how_the_customer_pays() -> None:
    plain = tariff(
        fixedFee={
            "prices": [
                {"priceFixed": 1, "conditions": {"paymentBrand": "V", "paymentRecognition": "CC"}},
                {"priceFixed": 2, "conditions": {"paymentBrand": "V"}},
                {"priceFixed": 3},
            ]
        }
    )
    for payment, price in ((None, 2), (Payment("V"), 1), (Payment("V", "CC"), 0), (Payment("M", "CC"), 2)):
        drive = Drive(plain, "2026-06-10T06:00", payment=payment).go(HOUR_MS)
        assert drive.amounts(Dimension.FIXED_FEE) == {price: 1}


def test_reservation_is_billed_once_and_only_if_there_was_one() -> None:
    plain = tariff(reservationTime=minute(0.1), reservationFixed={"prices": [{"priceFixed": 2}]})
    assert Drive(plain, "2026-06-10T06:00").bill().total_excl == 0
    assert Drive(plain, "2026-06-10T06:00", reservation_ms=10 * MINUTE_MS).go(HOUR_MS).bill().total_excl == 300
