"""Which time a run of the station begins with, and when the machine's own clock is believed after all."""

from __future__ import annotations

import pytest

from agent.config.built import BUILD_TIME_MS
from agent.core.context import Context
from agent.core.events import ClockSet
from agent.core.settings import Behaviour
from agent.ledger.rows import Head, NewRow, Row, chain
from agent.station.clock import LOOK_EVERY_MS, MachineClock

MACHINE_MS = BUILD_TIME_MS + 3_600_000
TOLD_MS = MACHINE_MS + 8 * 3_600_000


def clock(*, proven: bool, shows_ms: int = MACHINE_MS) -> MachineClock:
    return MachineClock(lambda: shows_ms, lambda ms: proven and ms == shows_ms)


def row(status: str) -> Row:
    """Ten minutes after the boot somebody told the time."""
    return chain(Head(1, bytes(32)), NewRow("clock", b"{}", "boot-1", 600_000, TOLD_MS, status))


@pytest.mark.parametrize("proven", [True, False])
@pytest.mark.parametrize("status", ["S", "I", "U", None])
def test_a_run_begins_with_the_best_clock_that_somebody_vouches_for(status: str | None, proven: bool) -> None:
    kept = None if status is None else row(status)
    later_ms = TOLD_MS + 60_000
    if status == "S":
        expected = ClockSet(later_ms, "ledger", trusted=True)
    elif proven:
        expected = ClockSet(MACHINE_MS, "rtc", trusted=False)
    elif status == "I":
        expected = ClockSet(later_ms, "rtc", trusted=False)
    else:
        expected = ClockSet(MACHINE_MS, "none", trusted=False)
    assert clock(proven=proven).first(kept, 660_000) == expected


@pytest.mark.parametrize(
    ("proven", "shows_ms", "status", "witness_ms"),
    [
        (True, MACHINE_MS, "I", MACHINE_MS),
        (False, MACHINE_MS, "U", MACHINE_MS),  # it may be right, and then no row is older than it says
        (True, BUILD_TIME_MS - 1, "U", None),  # a hardware clock that says so, too
    ],
)
def test_what_nobody_vouches_for_is_known_to_nobody(
    proven: bool, shows_ms: int, status: str, witness_ms: int | None
) -> None:
    made = clock(proven=proven, shows_ms=shows_ms)
    assert (made.time_status, made.witness_ms) == (status, witness_ms)
    assert made.first(None, 0).source == ("rtc" if status == "I" else "none")


def test_proof_may_come_later_and_is_looked_for_from_time_to_time_until_somebody_knows_the_time() -> None:
    asked: list[int] = []
    proven = False

    def is_proven(wall_ms: int) -> bool:
        asked.append(wall_ms)
        return proven

    made, ctx = MachineClock(lambda: MACHINE_MS, is_proven), Context(Behaviour(), lambda: "", lambda *_: None)
    asked.clear()
    for ctx.at_ms in range(0, 3 * LOOK_EVERY_MS, 1_000):
        assert made.look(ctx) is None
    assert len(asked) == 2
    proven, ctx.at_ms = True, 3 * LOOK_EVERY_MS
    assert made.look(ctx) == ClockSet(MACHINE_MS, "rtc", trusted=False)
    for ctx.time_status in ("I", "S"):
        ctx.at_ms += LOOK_EVERY_MS
        assert made.look(ctx) is None
