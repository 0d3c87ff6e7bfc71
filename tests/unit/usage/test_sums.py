"""Hours to local days and months, also where the clocks change."""

from __future__ import annotations

from datetime import date, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.usage.model import HOUR_MS, STATION, UsageHour
from agent.usage.sums import By, hours_of_days, summed

BERLIN, KOLKATA = ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Kolkata")
H = 530_000


@pytest.mark.parametrize(
    "day, zone, hours",
    [
        (date(2026, 3, 28), BERLIN, 24),
        (date(2026, 3, 29), BERLIN, 23),
        (date(2026, 10, 25), BERLIN, 25),
        (date(2026, 10, 25), KOLKATA, 24),
    ],
)
def test_a_day_is_as_long_as_it_is_there(day: date, zone: ZoneInfo, hours: int) -> None:
    first, found = hours_of_days(day, day, zone)
    assert found == hours
    (period,) = summed([], By.DAY, zone, first, found)
    assert (period.begin.date(), period.hours) == (day, hours)


def test_the_hour_that_comes_twice_is_two() -> None:
    first, hours = hours_of_days(date(2026, 10, 25), date(2026, 10, 25), BERLIN)
    periods = summed([UsageHour(first + 3, 1, energy_import_mwh=7)], By.HOUR, BERLIN, first, hours)
    assert [f"{each.begin:%H %z}" for each in periods[1:5]] == ["01 +0200", "02 +0200", "02 +0100", "03 +0100"]
    assert [each.energy_import_mwh for each in periods[1:5]] == [0, 0, 7, 0]


def test_months_are_whole_where_they_were_asked_for_whole() -> None:
    first, hours = hours_of_days(date(2026, 2, 1), date(2026, 4, 30), BERLIN)
    periods = summed([], By.MONTH, BERLIN, first, hours)
    assert [(each.begin.month, each.hours) for each in periods] == [(2, 672), (3, 743), (4, 720)]


ROWS = [
    UsageHour(H, STATION, HOUR_MS, peak_power_w=15_000, link_up_ms=HOUR_MS // 2),
    UsageHour(H, 1, HOUR_MS, 8_000_000, 2, HOUR_MS, HOUR_MS // 2, 11_000, 1, 60_000),
    UsageHour(H, 2, HOUR_MS, 4_000_000, 1, 0, 0, 11_000),
    UsageHour(H + 1, STATION, HOUR_MS, peak_power_w=7_000, link_up_ms=HOUR_MS),
    UsageHour(H + 1, 1, HOUR_MS, 1_000_000, 0, HOUR_MS // 2, 0, 7_000),
    UsageHour(H + 1, 2, HOUR_MS),
]


def test_all_evses_together() -> None:
    (whole,) = summed(ROWS, By.WHOLE, BERLIN, H, 4)
    assert (whole.hours, whole.energy_import_mwh, whole.sessions, whole.faults) == (4, 13_000_000, 3, 1)
    assert whole.peak_power_w == 15_000
    assert (whole.occupied, whole.charging, whole.link_up, whole.running) == (0.375, 0.125, 0.75, 0.5)


def test_one_evse_alone_has_its_own_peak_and_the_stations_link() -> None:
    (one,) = summed(ROWS, By.WHOLE, BERLIN, H, 2, 1)
    assert (one.energy_import_mwh, one.sessions, one.peak_power_w) == (9_000_000, 2, 11_000)
    assert (one.occupied, one.link_up, one.running) == (0.75, 0.75, 1.0)


def test_where_nothing_ran_no_share_is_claimed() -> None:
    (nothing,) = summed([], By.WHOLE, BERLIN, H, 1)
    assert (nothing.occupied, nothing.charging, nothing.faulted, nothing.link_up) == (None, None, None, None)
    assert nothing.running == 0


def test_rows_of_other_hours_are_left_out() -> None:
    (period,) = summed(ROWS, By.WHOLE, BERLIN, H + 1, 1)
    assert period.energy_import_mwh == 1_000_000


@given(
    st.dates(date(2000, 1, 1), date(2040, 12, 31)),
    st.integers(0, 40),
    st.sampled_from(("Europe/Berlin", "Asia/Kolkata", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo")),
    st.sampled_from((By.HOUR, By.DAY, By.MONTH)),
)
def test_every_hour_of_the_days_stands_in_one_period_of_those_days(day: date, more: int, name: str, by: By) -> None:
    zone, last = ZoneInfo(name), date.fromordinal(day.toordinal() + more)
    first, hours = hours_of_days(day, last, zone)
    periods = summed([], by, zone, first, hours)
    assert sum(each.hours for each in periods) == hours
    begins = [each.begin.timestamp() for each in periods]
    assert begins == sorted(set(begins))
    if by is By.DAY:
        assert [each.begin.date() for each in periods] == [
            date.fromordinal(number) for number in range(day.toordinal(), last.toordinal() + 1)
        ]
    assert datetime.fromtimestamp(first * 3_600, zone).date() == day
