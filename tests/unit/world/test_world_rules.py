"""Rules of the simulated world that need weeks to bite: how long rows stay."""

from __future__ import annotations

import asyncio

import pytest

from agent.sim.virtual_time import run_virtual
from agent.sim.world.keeping import DAY_MS, SLACK_DAYS, Keeping
from agent.sim.world.site import RETENTION_DAYS


@pytest.mark.parametrize(
    ("days", "off_days", "oldest_day", "wrong"),
    [
        (30, 0, 30 - RETENTION_DAYS, ""),
        (30, 0, 30 - RETENTION_DAYS + 3, "is gone"),
        (30, 400, 30 - RETENTION_DAYS + 3, ""),
        (60, 0, 60 - RETENTION_DAYS - SLACK_DAYS + 2, ""),
        (60, 0, 60 - RETENTION_DAYS - SLACK_DAYS - 3, "is still there"),
        (60, 400, 0, ""),
        (90, 400, 90 - 2 * RETENTION_DAYS - SLACK_DAYS - 3, "is still there"),
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
