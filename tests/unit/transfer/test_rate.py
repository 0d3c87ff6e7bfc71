"""The token bucket, in virtual time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.transfer.rate import PIECE_MAX_BYTES, TokenBucket
from tests.unit.transfer.rig import Time


def test_without_a_limit_nobody_sleeps() -> None:
    time = Time()
    bucket = TokenBucket(0, time.clock_ms, time.sleep)
    assert bucket.piece_bytes == PIECE_MAX_BYTES
    for _ in range(100):
        bucket.pay(1 << 30)
    assert time.sleeps == []


def test_one_second_is_free_then_time_is_paid_for() -> None:
    time = Time()
    bucket = TokenBucket(1000, time.clock_ms, time.sleep)
    bucket.pay(1000)
    assert time.sleeps == []
    bucket.pay(500)
    assert time.sleeps == [0.5]


def test_an_idle_hour_is_not_saved_up() -> None:
    time = Time()
    bucket = TokenBucket(1000, time.clock_ms, time.sleep)
    time.now_ms = 3_600_000
    bucket.pay(3000)
    assert time.sleeps == [2.0]


def test_pieces_are_small_where_the_rate_is() -> None:
    time = Time()
    sizes = [TokenBucket(rate, time.clock_ms, time.sleep).piece_bytes for rate in (1, 8_000, 100_000_000)]
    assert sizes == [256, 2_000, PIECE_MAX_BYTES]


@given(
    rate=st.integers(1, 5_000_000),
    steps=st.lists(st.tuples(st.integers(1, 100_000), st.integers(0, 5_000)), min_size=1, max_size=60),
)
def test_the_rate_is_kept_and_nobody_waits_longer_than_needed(rate: int, steps: list[tuple[int, int]]) -> None:
    """``steps``: bytes, and milliseconds that pass by themselves before."""
    time = Time()
    bucket = TokenBucket(rate, time.clock_ms, time.sleep)
    total = idle_ms = 0
    for count, before_ms in steps:
        time.now_ms += before_ms
        idle_ms += before_ms
        bucket.pay(count)
        total += count
        assert total <= rate + rate * (time.now_ms + 1) / 1000  # never ahead of rate and burst
    slept_s = sum(time.sleeps)
    assert slept_s <= total / rate + len(steps) / 1000  # each reading of the clock may lose a millisecond
