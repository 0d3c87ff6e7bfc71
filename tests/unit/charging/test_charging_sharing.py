"""Load sharing by worked tables (16-SC-01, 16-SC-12, K04)."""

from __future__ import annotations

import pytest

from agent.charging.sharing import Demand, allocate

# (EVSE, started, wanted in A)
THREE = ((1, 100, 32), (2, 200, 32), (3, 300, 32))


def shares(limit_a: float, *demands: tuple[int, int, int]) -> dict[int, int]:
    return allocate(round(limit_a * 1000), [Demand(evse, started, wanted * 1000) for evse, started, wanted in demands])


@pytest.mark.parametrize(
    ("limit_a", "demands", "expected"),
    [
        (32, (), {}),
        (32, ((1, 0, 16),), {1: 16_000}),
        (10, ((1, 0, 16),), {1: 10_000}),
        (5.999, ((1, 0, 16),), {1: 0}),
        (6, ((1, 0, 16),), {1: 6_000}),
        (32, ((1, 0, 5),), {1: 0}),
        (0, THREE, {1: 0, 2: 0, 3: 0}),
        (-1, THREE, {1: 0, 2: 0, 3: 0}),
        (96, THREE, {1: 32_000, 2: 32_000, 3: 32_000}),
        (60, THREE, {1: 20_000, 2: 20_000, 3: 20_000}),
        (18, THREE, {1: 6_000, 2: 6_000, 3: 6_000}),
        (17.999, THREE, {1: 8_999, 2: 9_000, 3: 0}),  # the last to start waits
        (11, THREE, {1: 11_000, 2: 0, 3: 0}),
        (40, ((1, 100, 8), (2, 200, 32), (3, 300, 32)), {1: 8_000, 2: 16_000, 3: 16_000}),
        (40, ((1, 100, 32), (2, 200, 32), (3, 300, 8)), {1: 16_000, 2: 16_000, 3: 8_000}),
        (12, ((1, 300, 32), (2, 100, 32), (3, 200, 32)), {1: 0, 2: 6_000, 3: 6_000}),
        (6, ((2, 100, 32), (1, 100, 32)), {1: 6_000, 2: 0}),  # started together: the lower number
        (12, ((1, 100, 0), (2, 200, 32)), {1: 0, 2: 12_000}),  # who wants nothing holds nothing
    ],
)
def test_shares(limit_a: float, demands: tuple[tuple[int, int, int], ...], expected: dict[int, int]) -> None:
    assert shares(limit_a, *demands) == expected


def test_without_a_minimum_every_share_is_even() -> None:
    assert allocate(10_000, [Demand(1, 0, 32_000, 0), Demand(2, 1, 32_000, 0)]) == {1: 5_000, 2: 5_000}


def test_each_has_a_minimum_of_its_own() -> None:
    """A DC output can use what is too little for AC."""
    assert allocate(8_000, [Demand(1, 0, 32_000), Demand(2, 1, 4_000, 600)]) == {1: 6_700, 2: 1_300}
    assert allocate(5_000, [Demand(1, 0, 32_000), Demand(2, 1, 4_000, 600)]) == {1: 0, 2: 4_000}


def test_two_demands_of_one_evse_are_a_programming_error() -> None:
    with pytest.raises(ValueError, match="one EVSE"):
        shares(32, (1, 0, 16), (1, 1, 16))
