"""Which CSMS the next attempt is for (B10, WS-10)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.ocpp.network_slots import NetworkSlots

ATTEMPTS = 3


def fail(slots: NetworkSlots, times: int) -> list[int]:
    """The slots of so many attempts of which none works."""
    tried = []
    for _ in range(times):
        tried.append(slots.choose(ATTEMPTS))
        slots.ended()
    return tried


@pytest.mark.parametrize(
    ("order", "worked_last", "tried"),
    [
        ((1,), 1, [1] * 9),
        ((2,), 1, [2, 2, 2, 1, 1, 1, 2, 2, 2]),
        ((2, 1), 1, [2, 2, 2, 1, 1, 1, 2, 2, 2]),
        ((2, 3), 1, [2, 2, 2, 3, 3, 3, 1, 1, 1]),
        ((3, 1), 1, [3, 3, 3, 1, 1, 1, 3, 3, 3]),
    ],
)
def test_each_slot_has_its_attempts_and_the_way_back_comes_last(
    order: tuple[int, ...], worked_last: int, tried: list[int]
) -> None:
    slots = NetworkSlots(order, worked_last, {})
    assert fail(slots, 9) == tried
    assert slots.alone == (len(set(tried)) == 1)


def test_a_slot_that_works_is_kept_and_counts_from_the_beginning() -> None:
    slots = NetworkSlots((2, 3), 2, {})
    assert fail(slots, 4) == [2, 2, 2, 3]
    assert slots.choose(ATTEMPTS) == 3
    assert slots.works()
    assert not slots.works(), "once for each connection"
    slots.ended()
    assert fail(slots, 4) == [3, 3, 3, 2]


def test_the_way_back_is_closed_by_the_first_of_the_order_that_works_and_not_by_itself() -> None:
    slots = NetworkSlots((2,), 1, {})
    fail(slots, 3)
    assert slots.choose(ATTEMPTS) == 1
    slots.works()
    slots.ended()
    assert fail(slots, 4) == [1, 1, 1, 2]
    slots.choose(ATTEMPTS)
    slots.works()
    assert slots.alone
    assert fail(slots, 20) == [2] * 20


def test_who_is_rejected_goes_on_at_once() -> None:
    slots = NetworkSlots((2, 3), 2, {})
    assert slots.choose(ATTEMPTS) == 2
    slots.go_on()
    assert fail(slots, 4) == [3, 3, 3, 2]


def test_a05_once_one_works_none_of_a_lower_security_profile_is_tried() -> None:
    slots = NetworkSlots((1, 2, 3), 1, {1: 1, 2: 2, 3: 2})
    assert slots.choose(ATTEMPTS) == 1
    slots.works()
    slots.ended()
    assert fail(slots, 4) == [1, 1, 1, 2]
    assert slots.choose(ATTEMPTS) == 2
    slots.works()
    slots.ended()
    assert fail(slots, 9) == [2, 2, 2, 3, 3, 3, 2, 2, 2]


@given(
    order=st.lists(st.integers(1, 3), min_size=1, max_size=3, unique=True).map(tuple),
    worked_last=st.integers(1, 3),
    attempts=st.integers(1, 5),
    steps=st.lists(st.sampled_from(["fail", "work", "rejected"]), max_size=60),
)
def test_whatever_happens_every_slot_of_the_order_comes_again(
    order: tuple[int, ...], worked_last: int, attempts: int, steps: list[str]
) -> None:
    slots = NetworkSlots(order, worked_last, {})
    for step in steps:
        slots.choose(attempts)
        if step == "work":
            slots.works()
        if step == "rejected" and not slots.alone:
            slots.go_on()
        else:
            slots.ended()
    tried = []
    for _ in range(attempts * (len(order) + 1)):
        tried.append(slots.choose(attempts))
        slots.ended()
    assert set(order) <= set(tried) <= {*order, worked_last}
