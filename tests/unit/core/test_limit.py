"""The limit of one EVSE and the offer that follows it: who has a say, when a say ends, how fast it may rise."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.core.limit import Limit
from agent.core.settings import Behaviour, EvseHardware, Timing

AC = EvseHardware(evse=1, hard_limit_ma=32_000)
SOCKET = replace(AC, socket=True)
OFFLINE = Behaviour(offline_limit_ma=8_000)
WAIT_MS = Timing().raise_limit_every_ms


def limit(hardware: EvseHardware = AC) -> Limit:
    return Limit(hardware, Timing())


@pytest.mark.parametrize(
    "outside_ma, share_ma, allowed_ma",
    [
        (None, None, 32_000),
        (16_000, None, 16_000),
        (None, 20_000, 20_000),
        (16_000, 20_000, 16_000),
        (20_000, 16_000, 16_000),
        (40_000, 40_000, 32_000),
        (6_000, None, 6_000),
        (5_999, None, 0),
        (None, 0, 0),
        (0, None, 0),
    ],
)
def test_the_least_of_all_who_have_a_say(outside_ma: int | None, share_ma: int | None, allowed_ma: int) -> None:
    made = limit()
    made.set_outside(outside_ma, share_ma)
    assert made.allowed_ma(Behaviour(), True) == allowed_ma


@pytest.mark.parametrize("cable_ma, allowed_ma", [(None, 0), (13_000, 13_000), (63_000, 32_000)])
def test_a_socket_knows_its_cable(cable_ma: int | None, allowed_ma: int) -> None:
    made = limit(SOCKET)
    made.cable_ma = cable_ma
    assert made.allowed_ma(Behaviour(), True) == allowed_ma


@pytest.mark.parametrize("board_ma, allowed_ma", [(None, 32_000), (16_000, 16_000), (80_000, 32_000), (5_000, 0)])
def test_the_board_may_say_that_it_can_do_less(board_ma: int | None, allowed_ma: int) -> None:
    made = limit()
    made.board_ma = board_ma
    assert made.allowed_ma(Behaviour(), True) == allowed_ma


def test_a_fixed_cable_asks_no_rating() -> None:
    made = limit()
    made.cable_ma = 13_000
    assert made.allowed_ma(Behaviour(), True) == 32_000


def test_a_limit_in_force_holds_while_the_csms_is_away() -> None:
    made = limit()
    made.set_outside(16_000, None)
    assert made.allowed_ma(OFFLINE, False) == 16_000


def test_the_offline_limit_is_for_a_csms_that_never_gave_one_and_is_away() -> None:
    made = limit()
    assert made.allowed_ma(OFFLINE, True) == 32_000
    assert made.allowed_ma(OFFLINE, False) == 8_000
    assert made.allowed_ma(replace(OFFLINE, offline_limit_ma=40_000), False) == 32_000


def test_the_first_offer_and_one_after_nothing_do_not_wait() -> None:
    made = limit()
    assert made.offer(10_000, 100) == 10_000
    assert made.offer(0, 200) == 0
    assert made.offer(32_000, 201) == 32_000
    assert made.deadline_ms is None


def test_raising_waits_since_the_last_change_and_says_until_when() -> None:
    made = limit()
    made.offer(10_000, 100)
    assert made.offer(32_000, 100 + WAIT_MS - 1) == 10_000
    assert made.deadline_ms == 100 + WAIT_MS
    assert made.offer(32_000, 100 + WAIT_MS) == 32_000
    assert made.deadline_ms is None


def test_lowering_never_waits_and_ends_the_wait_for_more() -> None:
    made = limit()
    made.offer(10_000, 100)
    made.offer(32_000, 200)
    assert made.offer(8_000, 201) == 8_000
    assert made.deadline_ms is None
    assert made.offer(9_000, 100 + WAIT_MS) == 8_000, "the wait counts from the lowering"
    assert made.deadline_ms == 201 + WAIT_MS


def test_the_same_offer_again_is_no_change() -> None:
    made = limit()
    made.offer(10_000, 100)
    made.offer(10_000, 4_000)
    assert made.deadline_ms is None
    assert made.offer(12_000, 100 + WAIT_MS) == 12_000


def test_a_socket_without_a_cable_allows_nothing_however_little_is_the_least() -> None:
    assert limit(replace(SOCKET, min_current_ma=1)).allowed_ma(Behaviour(), True) == 0


def test_a_vehicle_has_its_time_to_follow_each_lowering() -> None:
    made = limit()
    made.offer(32_000, 0)
    made.offer(16_000, 10_000)
    made.offer(10_000, 14_000)
    assert made.may_draw_ma(10_000 + WAIT_MS) == 32_000
    assert made.may_draw_ma(10_001 + WAIT_MS) == 16_000
    assert made.may_draw_ma(14_000 + WAIT_MS) == 16_000
    assert made.may_draw_ma(14_001 + WAIT_MS) == 10_000


def test_a_pause_in_between_takes_no_time_from_a_vehicle() -> None:
    made = limit()
    made.offer(32_000, 0)
    made.offer(0, 10_000)
    made.offer(10_000, 11_000)
    assert made.may_draw_ma(10_000 + WAIT_MS) == 32_000
    assert made.may_draw_ma(10_001 + WAIT_MS) == 10_000


def test_what_was_offered_before_a_raise_allows_nothing_more() -> None:
    made = limit()
    made.offer(10_000, 0)
    made.offer(16_000, 10_000)
    assert made.may_draw_ma(10_000) == 16_000


def test_however_often_it_is_lowered_little_is_remembered_and_never_less_than_is_offered() -> None:
    made = limit()
    for at_ms in range(10_000):
        offered_ma = made.offer(32_000 - at_ms, at_ms)
    assert len(made._drawn_ma._lowered) == 16
    assert offered_ma < made.may_draw_ma(10_000)
    assert made.may_draw_ma(10_000 + WAIT_MS) == offered_ma
