"""When a vehicle counts as one that has left: seen to leave, or out of sight for long enough to be another."""

from __future__ import annotations

import pytest

from agent.core.vehicle import SWAP_MS, Vehicle
from hal.ports import CpState

DEBOUNCE_MS = 200
SHORT_MS = SWAP_MS - 1


def seen(*steps: tuple[CpState | None, int]) -> Vehicle:
    """A vehicle that shows each of these states (None: the board is lost) for so many ms, looked at when due."""
    vehicle, at_ms = Vehicle(DEBOUNCE_MS), 0
    for cp, lasts_ms in steps:
        if cp is None:
            vehicle.lose()
        else:
            vehicle.observe(cp, at_ms)
        vehicle.settle(at_ms, devices_heard=True)
        end_ms = at_ms + lasts_ms
        while (due_ms := vehicle.deadline_ms) is not None and due_ms <= end_ms:
            vehicle.settle(due_ms, devices_heard=True)
            assert vehicle.deadline_ms is None or vehicle.deadline_ms > due_ms
        at_ms = end_ms
    return vehicle


A, B, C, E, F = CpState.A, CpState.B, CpState.C, CpState.E, CpState.F
LONG_MS = 60_000


@pytest.mark.parametrize(
    ("steps", "departures"),
    [
        ([(None, LONG_MS), (B, LONG_MS)], 0),
        ([(A, LONG_MS), (B, LONG_MS)], 0),
        ([(B, LONG_MS), (A, LONG_MS), (B, LONG_MS)], 1),
        ([(B, LONG_MS), (A, DEBOUNCE_MS - 1), (B, LONG_MS)], 0),
        ([(B, LONG_MS), (F, LONG_MS), (C, LONG_MS)], 0),
        ([(B, LONG_MS), (None, 50), (B, LONG_MS)], 0),
        ([(B, LONG_MS), (None, SHORT_MS), (C, 500), (None, SHORT_MS), (B, LONG_MS)], 0),
        ([(B, LONG_MS), (None, 50), (A, LONG_MS)], 1),
        ([(B, LONG_MS), (None, SWAP_MS)], 1),
        ([(B, LONG_MS), (None, LONG_MS), (B, LONG_MS)], 1),
        ([(B, LONG_MS), (None, LONG_MS), (A, LONG_MS), (None, LONG_MS), (A, LONG_MS)], 1),
        ([(B, LONG_MS), (None, LONG_MS), (B, LONG_MS), (None, LONG_MS), (B, LONG_MS)], 2),
        ([(A, LONG_MS), (None, LONG_MS), (A, LONG_MS)], 0),
        ([(A, LONG_MS), (None, LONG_MS), (B, LONG_MS)], 0),
        ([(B, LONG_MS), (E, 500), (B, LONG_MS)], 0),
        ([(B, LONG_MS), (E, LONG_MS), (B, LONG_MS)], 1),
    ],
    ids=lambda steps: (
        " ".join("lost" if cp is None else f"{cp.name}" for cp, _ in steps) if isinstance(steps, list) else None
    ),
)
def test_departures(steps: list[tuple[CpState | None, int]], departures: int) -> None:
    assert seen(*steps).departures == departures


@pytest.mark.parametrize(("away_ms", "departures"), [(SHORT_MS, 0), (SWAP_MS, 1)])
def test_a_board_that_is_back_before_anyone_looked_was_away_all_the_same(away_ms: int, departures: int) -> None:
    """The process stood still meanwhile."""
    vehicle = seen((B, LONG_MS), (None, 0))
    vehicle.observe(B, LONG_MS + away_ms)
    vehicle.settle(LONG_MS + away_ms, devices_heard=True)
    assert vehicle.departures == departures
