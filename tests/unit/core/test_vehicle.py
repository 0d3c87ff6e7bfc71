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
        ([(B, LONG_MS), (F, SHORT_MS), (C, LONG_MS)], 0),
        ([(B, LONG_MS), (F, LONG_MS), (C, LONG_MS)], 1),
        ([(A, LONG_MS), (F, LONG_MS), (C, LONG_MS)], 0),
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


@pytest.mark.parametrize(
    ("steps", "has_come"),
    [
        ([(B, LONG_MS)], False),
        ([(None, LONG_MS), (B, LONG_MS)], False),
        ([(A, LONG_MS)], False),
        ([(A, LONG_MS), (B, LONG_MS)], True),
        ([(A, LONG_MS), (B, LONG_MS), (C, LONG_MS)], True),
        ([(A, LONG_MS), (B, LONG_MS), (None, SHORT_MS), (C, LONG_MS)], True),
        ([(A, LONG_MS), (B, LONG_MS), (None, SWAP_MS), (C, LONG_MS)], False),
        ([(A, LONG_MS), (B, LONG_MS), (E, SWAP_MS), (C, LONG_MS)], False),
        ([(A, LONG_MS), (B, LONG_MS), (None, SWAP_MS), (A, LONG_MS), (B, LONG_MS)], True),
        ([(A, LONG_MS), (None, LONG_MS), (B, LONG_MS)], True),
        ([(A, LONG_MS), (B, LONG_MS), (A, LONG_MS)], False),
        ([(A, LONG_MS), (B, LONG_MS), (A, LONG_MS), (B, LONG_MS)], True),
        ([(B, LONG_MS), (A, DEBOUNCE_MS - 1), (B, LONG_MS)], False),
    ],
)
def test_whether_it_was_seen_to_come(steps: list[tuple[CpState | None, int]], has_come: bool) -> None:
    assert seen(*steps).has_come is has_come


def test_an_f_that_is_ours_hides_nobody() -> None:
    vehicle = seen((B, LONG_MS))
    vehicle.observe(F, LONG_MS)
    for at_ms in (LONG_MS, LONG_MS + SWAP_MS):
        vehicle.settle(at_ms, devices_heard=True, sends_f=True)
    assert vehicle.departures == 0 and vehicle.unseen_since_ms is None
    vehicle.settle(LONG_MS + SWAP_MS + 1, devices_heard=True)
    assert vehicle.unseen_since_ms == LONG_MS + SWAP_MS + 1, "the board's own now"


@pytest.mark.parametrize(("away_ms", "departures"), [(SHORT_MS, 0), (SWAP_MS, 1)])
def test_a_board_that_is_back_before_anyone_looked_was_away_all_the_same(away_ms: int, departures: int) -> None:
    """The process stood still meanwhile."""
    vehicle = seen((B, LONG_MS), (None, 0))
    vehicle.observe(B, LONG_MS + away_ms)
    vehicle.settle(LONG_MS + away_ms, devices_heard=True)
    assert vehicle.departures == departures
