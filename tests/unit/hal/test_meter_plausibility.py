"""What of a meter's import register is believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal.meters.plausibility import FALLS_UNTIL_RESET, ImportRegister
from hal.ports import BadReply

STEP_MWH = 10_000
MAX_POWER_W = 36_000  # 10 Wh each second
KWH = 1_000_000


def started(energy_mwh: int) -> ImportRegister:
    """A register whose base is ``energy_mwh`` at time 0."""
    register = ImportRegister("m", max_power_w=MAX_POWER_W, step_mwh=STEP_MWH, jump_readings=4)
    assert not register.believes(energy_mwh, -1_000)
    assert register.believes(energy_mwh, 0)
    return register


def test_the_first_value_needs_a_second_that_follows_from_it() -> None:
    register = ImportRegister("m", max_power_w=MAX_POWER_W, step_mwh=STEP_MWH, jump_readings=4)
    assert not register.believes(0, 0)  # a glitch
    with pytest.raises(BadReply, match="contradicts itself"):
        register.believes(1_000 * KWH, 1_000)
    assert register.believes(1_000 * KWH + 2_000, 2_000)


def test_it_may_rise_as_fast_as_the_installation_can_draw_and_no_faster() -> None:
    allowed = 36_000 * 60_000 // 3_600 + 2 * STEP_MWH + (1_000 * KWH >> 22)
    assert started(1_000 * KWH).believes(1_000 * KWH + allowed, 60_000)
    with pytest.raises(BadReply, match=r"jumped from 1000000000 to \d+ mWh"):
        started(1_000 * KWH).believes(1_000 * KWH + allowed + 1, 60_000)


def test_a_single_jump_is_discarded() -> None:
    register = started(1_000 * KWH)
    with pytest.raises(BadReply, match="jumped"):
        register.believes(5_000 * KWH, 1_000)
    assert register.believes(1_000 * KWH + 10_000, 2_000)


def test_jumps_to_different_places_never_become_a_fact() -> None:
    register = started(1_000 * KWH)
    for second in range(1, 20):
        with pytest.raises(BadReply, match="jumped"):
            register.believes((2_000 + 500 * (second % 2)) * KWH, second * 1_000)


def test_a_jump_that_goes_on_is_a_fact() -> None:
    register = started(1_000 * KWH)
    for second in (1, 2, 3):
        with pytest.raises(BadReply, match="jumped"):
            register.believes(1_100 * KWH + second, second * 1_000)
    assert register.believes(1_100 * KWH + 4, 4_000)
    assert register.believes(1_100 * KWH + 5, 5_000)


def test_a_long_silence_explains_a_large_rise() -> None:
    assert started(1_000 * KWH).believes(1_036 * KWH, 3_600_000)


def test_a_fall_is_refused_and_may_pass() -> None:
    register = started(1_000 * KWH)
    for second in range(1, FALLS_UNTIL_RESET):
        with pytest.raises(BadReply, match="fell from 1000000000 to 0 mWh"):
            register.believes(0, second * 1_000)
    assert register.believes(1_000 * KWH, FALLS_UNTIL_RESET * 1_000)


def test_falls_that_are_not_in_a_row_do_not_add_up() -> None:
    register = started(1_000 * KWH)
    for second in range(0, 4 * FALLS_UNTIL_RESET, 2):
        with pytest.raises(BadReply, match="fell"):
            register.believes(0, second * 1_000 + 1_000)
        assert register.believes(1_000 * KWH, second * 1_000 + 2_000)


def test_a_fall_that_stays_is_a_reset_for_good() -> None:
    register = started(1_000 * KWH)
    for second in range(1, FALLS_UNTIL_RESET + 1):
        with pytest.raises(BadReply, match="fell"):
            register.believes(second, second * 1_000)
    for energy in (20, 1_000 * KWH, 1_001 * KWH):
        with pytest.raises(BadReply, match="was reset or the meter exchanged; restart"):
            register.believes(energy, 100_000)


@given(steps=st.lists(st.tuples(st.integers(0, 10**10), st.integers(1, 100_000)), max_size=60))
def test_whatever_comes_what_is_believed_never_falls(steps: list[tuple[int, int]]) -> None:
    register = ImportRegister("m", max_power_w=MAX_POWER_W, step_mwh=STEP_MWH, jump_readings=4)
    at_ms, last = 0, 0
    for energy, passed in steps:
        at_ms += passed
        try:
            believed = register.believes(energy, at_ms)
        except BadReply:
            continue
        if believed:
            assert energy >= last
            last = energy


@given(
    start=st.integers(0, 10**12),
    steps=st.lists(st.tuples(st.integers(0, MAX_POWER_W), st.integers(1, 100_000)), min_size=1, max_size=60),
)
def test_a_true_meter_is_always_believed(start: int, steps: list[tuple[int, int]]) -> None:
    register = ImportRegister("m", max_power_w=MAX_POWER_W, step_mwh=STEP_MWH, jump_readings=4)
    at_ms, joule = 0, 0
    register.believes(start, 0)
    for power_w, passed in steps:
        at_ms += passed
        joule += power_w * passed
        told = (start + joule // 3_600) // STEP_MWH * STEP_MWH
        assert register.believes(max(told, start), at_ms)


def test_a_register_that_begins_anew_at_its_last_digit_has_not_fallen() -> None:
    modulus_mwh = 1_000_000_000_000  # six digits of kWh
    register = ImportRegister(
        "m", max_power_w=MAX_POWER_W, step_mwh=STEP_MWH, jump_readings=4, rollover_mwh=modulus_mwh
    )
    last_mwh = modulus_mwh - 2 * STEP_MWH
    assert not register.believes(last_mwh, 0)
    assert register.believes(last_mwh, 1_000)
    assert register.believes(0, 2_000)
    assert register.believes(STEP_MWH, 3_000)
    with pytest.raises(BadReply, match="fell"):
        register.believes(0, 4_000)  # far from the last digit it is a fall like any other


def test_without_a_known_last_digit_the_same_is_a_fall() -> None:
    register = ImportRegister("m", max_power_w=MAX_POWER_W, step_mwh=STEP_MWH, jump_readings=4)
    last_mwh = 1_000_000_000_000 - 2 * STEP_MWH
    assert not register.believes(last_mwh, 0)
    assert register.believes(last_mwh, 1_000)
    with pytest.raises(BadReply, match="fell"):
        register.believes(0, 2_000)
