"""How often somebody may try to log in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.web.attempts import Attempts


def failing(attempts: Attempts, address: str, times: int, at_s: float = 0.0) -> float:
    """Fails as often, each time as soon as it may; the time of the last failure."""
    for _ in range(times):
        at_s += attempts.wait_s(address, at_s)
        attempts.failed(address, at_s)
    return at_s


def test_first_failures_cost_nothing_then_waits_double() -> None:
    attempts = Attempts()
    waits = []
    for _ in range(11):
        waits.append(attempts.wait_s("192.0.2.1", 0.0))
        attempts.failed("192.0.2.1", 0.0)
    assert waits == [0, 0, 0, 2, 4, 8, 16, 32, 64, 128, 256]


def test_wait_ends_with_time_and_never_exceeds_five_minutes() -> None:
    attempts = Attempts()
    for _ in range(15):
        attempts.failed("192.0.2.1", 0.0)
    assert attempts.wait_s("192.0.2.1", 0.0) == 300
    assert attempts.wait_s("192.0.2.1", 300.0) == 0


def test_another_address_does_not_wait_for_the_first() -> None:
    attempts = Attempts()
    failing(attempts, "192.0.2.1", 5)
    assert attempts.wait_s("192.0.2.2", 0.0) == 0


def test_addresses_of_one_customer_count_together() -> None:
    attempts = Attempts()
    for host in range(5):
        attempts.failed(f"2001:db8::{host}", 0.0)
        attempts.failed(f"::ffff:192.0.2.{7}", 0.0)
    assert attempts.wait_s("2001:db8::ffff", 0.0) == 8
    assert attempts.wait_s("192.0.2.7", 0.0) == 8
    assert attempts.wait_s("2001:db8:1::1", 0.0) == 0


def test_good_login_makes_an_address_new() -> None:
    attempts = Attempts()
    failing(attempts, "192.0.2.1", 3)
    attempts.succeeded("192.0.2.1")
    assert attempts.wait_s("192.0.2.1", 0.0) == 0


def test_half_an_hour_of_quiet_makes_an_address_new() -> None:
    attempts = Attempts()
    end_s = failing(attempts, "192.0.2.1", 6)
    attempts.failed("192.0.2.1", end_s + 1_800)
    assert attempts.wait_s("192.0.2.1", end_s + 1_800) == 0


def test_all_addresses_together_wait_after_twenty_failures_in_a_minute() -> None:
    attempts = Attempts()
    for number in range(20):
        assert attempts.wait_s("198.51.100.1", float(number)) == 0
        attempts.failed(f"192.0.2.{number}", float(number))
    assert attempts.wait_s("198.51.100.1", 20.0) == 40
    assert attempts.wait_s("198.51.100.1", 60.0) == 0


@given(st.lists(st.ip_addresses().map(str), max_size=600))
def test_memory_is_bounded_whoever_comes(addresses: list[str]) -> None:
    attempts = Attempts()
    for address in addresses:
        attempts.failed(address, 0.0)
    assert len(attempts._of) <= 256
    assert len(attempts._all) <= 20
