"""Back-off in simulated time: WS-04 and WS-05."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config.catalogue import CONTROLLERS, key
from agent.ocpp.backoff import DOUBLED_MAX_S, Backoff, BackoffSettings


def in_range(name: str) -> st.SearchStrategy[int]:
    """The values of a variable that a CSMS may set."""
    spec = CONTROLLERS[key(f"OCPPCommCtrlr.{name}")]
    return st.integers(spec.minimum, spec.maximum)


def waits(settings: BackoffSettings, seed: int, count: int = 10) -> list[float]:
    backoff = Backoff(settings, random.Random(seed))
    return [backoff.next_wait_s() for _ in range(count)]


@pytest.mark.parametrize("seed", range(20))
def test_ws_04_ten_attempts_double_with_jitter_then_stay(seed: int) -> None:
    sequence = waits(BackoffSettings(10, 10, 5), seed)
    assert 10 <= sequence[0] <= 20
    for previous, following in pairwise(sequence[:6]):
        assert 2 * previous <= following <= 2 * previous + 10
    assert sequence[6:] == [sequence[5]] * 4, "after RetryBackOffRepeatTimes doublings the wait stays"


def test_ws_04_every_doubling_draws_a_new_random_part() -> None:
    for step in range(1, 6):
        fleet = [waits(BackoffSettings(), seed) for seed in range(20)]
        parts = {round(sequence[step] - 2 * sequence[step - 1], 6) for sequence in fleet}
        assert len(parts) == 20 and max(parts) > 5


def test_ws_04_without_jitter_the_waits_are_exact() -> None:
    assert waits(BackoffSettings(10, 0, 3), 1, 6) == [10, 20, 40, 80, 80, 80]


def test_ws_04_no_doubling_when_repeat_times_is_zero() -> None:
    assert waits(BackoffSettings(10, 0, 0), 1, 3) == [10, 10, 10]


def test_ws_04_stations_of_a_fleet_do_not_come_back_together() -> None:
    first = {round(waits(BackoffSettings(), seed, 1)[0], 3) for seed in range(50)}
    assert len(first) > 45 and max(first) - min(first) > 7


def test_ws_05_reset_starts_again_at_the_minimum() -> None:
    backoff = Backoff(BackoffSettings(10, 0, 5), random.Random(1))
    before = [backoff.next_wait_s() for _ in range(3)]
    backoff.reset()
    assert before == [10, 20, 40]
    assert backoff.next_wait_s() == 10


def test_ws_04_a_raised_minimum_holds_even_when_the_wait_stays() -> None:
    backoff = Backoff(BackoffSettings(10, 0, 0), random.Random(1))
    assert backoff.next_wait_s() == 10
    backoff.settings = BackoffSettings(60, 0, 0)
    assert backoff.next_wait_s() == 60


@pytest.mark.parametrize("values", [(0, 10, 5), (-1, 10, 5), (10, -1, 5), (10, 10, -1)])
def test_settings_that_would_hammer_the_server_are_refused(values: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="RetryBackOff"):
        BackoffSettings(*values)


@given(
    minimum_s=in_range("RetryBackOffWaitMinimum"),
    range_s=in_range("RetryBackOffRandomRange"),
    times=in_range("RetryBackOffRepeatTimes"),
    seed=st.integers(0, 9),
)
def test_no_settings_that_are_taken_keep_a_station_away_for_long(
    minimum_s: int, range_s: int, times: int, seed: int
) -> None:
    sequence = waits(BackoffSettings(minimum_s, range_s, times), seed, 15)
    assert minimum_s <= min(sequence)
    assert max(sequence) <= DOUBLED_MAX_S + range_s


def test_a_fleet_does_not_come_back_together_where_doubling_ends() -> None:
    last = {round(waits(BackoffSettings(120, 120, 10), seed, 15)[-1]) for seed in range(20)}
    assert len(last) > 10 and max(last) - min(last) > 60
