"""Rules of the simulated world that need weeks to bite: prices by themselves, and how long rows stay."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import pytest

from agent.sim.virtual_time import run_virtual
from agent.sim.world.keeping import DAY_MS, SLACK_DAYS, Keeping
from agent.sim.world.prices import ROUNDING_CENTS, Prices
from agent.sim.world.site import RETENTION_DAYS

TARIFF = {
    "energy": {
        "prices": [
            {"priceKwh": 0.55, "conditions": {"startTimeOfDay": "07:00", "endTimeOfDay": "21:00"}},
            {"priceKwh": 0.35},
        ],
        "taxRates": [{"type": "VAT", "tax": 20}],
    },
    "idleTime": {"prices": [{"priceMinute": 0.1}]},
    "fixedFee": {"prices": [{"priceFixed": 0.5}]},
}
DAY = Fraction(66)  # cents for a kWh, tax included
NIGHT = Fraction(42)


def at(hour: int, minute: int = 0) -> int:
    return round(datetime(2030, 1, 2, hour, minute, tzinfo=UTC).timestamp() * 1_000)


@pytest.mark.parametrize(
    ("span", "sound", "least", "most"),
    [
        ((at(11), at(12)), True, DAY, DAY),
        ((at(2), at(3)), True, NIGHT, NIGHT),
        ((at(6, 59), at(7, 30)), True, DAY, DAY),  # in Berlin it is an hour later
        ((at(5, 30), at(6, 30)), True, NIGHT, DAY),
        ((at(11), at(12)), False, NIGHT, DAY),
        ((at(2), at(20)), True, NIGHT, DAY),
    ],
)
def test_a_price_lies_within_what_the_hours_allow(
    tmp_path: Path, span: tuple[int, int], sound: bool, least: Fraction, most: Fraction
) -> None:
    file = tmp_path / "tariff.json"
    file.write_text(json.dumps(TARIFF))
    low, high = Prices(file, "Europe/Berlin").bounds(1_000_000, span, clock_sound=sound)
    idle = Fraction(span[1] - span[0], 60_000) * 10
    assert low == least - ROUNDING_CENTS
    assert most + idle + 50 <= high - ROUNDING_CENTS <= most + idle + 50 + 20


@pytest.mark.parametrize(
    ("days", "off_days", "oldest_day", "wrong"),
    [
        (30, 0, 30 - RETENTION_DAYS, ""),
        (30, 0, 30 - RETENTION_DAYS + 3, "is gone"),
        (30, 400, 30 - RETENTION_DAYS + 3, ""),
        (60, 0, 60 - RETENTION_DAYS - SLACK_DAYS + 2, ""),
        (60, 0, 60 - RETENTION_DAYS - SLACK_DAYS - 3, "is still there"),
        (60, 400, 0, ""),
    ],
)
def test_rows_stay_as_long_as_promised(days: int, off_days: int, oldest_day: int, wrong: str) -> None:
    """One row an hour."""
    said: list[str] = []

    async def live() -> None:
        keeping = Keeping(lambda _evse, text: said.append(text))
        for hour in range(days * 24):
            keeping.row(hour + 1, off_days * DAY_MS)
            await asyncio.sleep(3_600)
        keeping.look(oldest_day * 24 + 1)

    run_virtual(live())
    assert bool(said) == bool(wrong)
    assert all(wrong in text for text in said)
