"""The faults of one EVSE: how each kind clears, that causes do not clear one another, and what ends a transaction."""

from __future__ import annotations

import pytest

from agent.core.facts import StopReason
from agent.core.faults import SPECS, Clears, Faults
from agent.core.status import FaultCode

F = FaultCode
CLEAR_MS = 1_000
SELF, UNPLUG, ACTION = F.DIODE, F.RESIDUAL_CURRENT, F.CONTACTOR_WELDED


def faults(code: FaultCode) -> Faults:
    """One fault since instant 0, whose cause went at 5 s."""
    made = Faults(CLEAR_MS)
    made.set(code, "board", True, 0)
    assert made.active == (code,) and made.has(code)
    made.tick(10**9, vehicle_gone=True)
    assert made.has(code), "its cause lives"
    made.set(code, "board", False, 5_000)
    return made


def test_the_three_kinds_are_what_this_table_says() -> None:
    assert [SPECS[code].clears for code in (SELF, UNPLUG, ACTION)] == [Clears.SELF, Clears.UNPLUG, Clears.ACTION]


def test_a_self_clearing_fault_goes_when_its_cause_has_been_gone_long_enough() -> None:
    made = faults(SELF)
    assert made.deadline_ms == 5_000 + CLEAR_MS
    made.tick(5_000 + CLEAR_MS - 1, vehicle_gone=True)
    assert made.has(SELF)
    made.tick(5_000 + CLEAR_MS, vehicle_gone=False)
    assert made.active == () and made.deadline_ms is None and not made.has(SELF)


def test_a_cause_that_comes_back_starts_the_wait_anew() -> None:
    made = faults(SELF)
    made.set(SELF, "board", True, 5_500)
    assert made.deadline_ms is None
    made.tick(10_000, vehicle_gone=True)
    assert made.has(SELF)
    made.set(SELF, "board", False, 11_000)
    made.set(SELF, "board", False, 11_900)
    assert made.deadline_ms == 11_000 + CLEAR_MS, "gone is gone: saying it again prolongs nothing"


def test_a_fault_that_unplugging_clears_waits_for_it() -> None:
    made = faults(UNPLUG)
    made.tick(60_000, vehicle_gone=False)
    assert made.has(UNPLUG)
    made.tick(60_000, vehicle_gone=True)
    assert made.active == ()


def test_a_latched_fault_waits_for_a_person_and_no_clock() -> None:
    made = faults(ACTION)
    assert made.deadline_ms is None
    made.tick(10**9, vehicle_gone=True)
    assert made.has(ACTION)
    assert made.acknowledge()
    assert made.active == () and not made.has(ACTION)


def test_a_person_cannot_clear_what_still_is() -> None:
    made = faults(ACTION)
    made.set(F.LOCK, "lock", True, 6_000)
    assert not made.acknowledge()
    assert made.active == (F.LOCK,)


def test_a_latched_fault_does_not_keep_the_ones_after_it() -> None:
    made = faults(ACTION)
    made.set(SELF, "board", True, 5_000)
    made.set(SELF, "board", False, 6_000)
    assert made.deadline_ms == 6_000 + CLEAR_MS
    made.tick(7_000, vehicle_gone=False)
    assert made.active == (ACTION,)


def test_the_first_of_several_deadlines_is_told() -> None:
    made = faults(SELF)
    made.set(F.PILOT, "board", True, 0)
    made.set(F.PILOT, "board", False, 5_300)
    assert made.deadline_ms == 5_000 + CLEAR_MS


def test_two_causes_of_one_fault_must_both_go() -> None:
    made = Faults(CLEAR_MS)
    made.set(F.OVER_CURRENT, "board", True, 0)
    made.set(F.OVER_CURRENT, "meter", True, 0)
    made.set(F.OVER_CURRENT, "meter", False, 1_000)
    assert made.deadline_ms is None
    made.tick(10_000, vehicle_gone=True)
    assert made.has(F.OVER_CURRENT)
    made.set(F.OVER_CURRENT, "board", False, 20_000)
    made.tick(20_000 + CLEAR_MS, vehicle_gone=True)
    assert made.active == ()


def test_a_cause_that_never_was_withdraws_nothing() -> None:
    made = Faults(CLEAR_MS)
    made.set(SELF, "board", True, 0)
    made.set(SELF, "meter", False, 1_000)
    assert made.deadline_ms is None
    made.set(F.PILOT, "board", False, 1_000)
    assert made.active == (SELF,)


def test_faults_are_told_in_the_order_they_came() -> None:
    made = Faults(CLEAR_MS)
    for code in (F.PILOT, F.DIODE, F.LOCK):
        made.set(code, "x", True, 0)
    made.set(F.PILOT, "y", True, 0)
    assert made.active == (F.PILOT, F.DIODE, F.LOCK)


@pytest.mark.parametrize(
    "codes, reason",
    [
        ((), None),
        ((F.DIODE, F.PILOT), None),
        ((F.DIODE, F.RESIDUAL_CURRENT), StopReason.GROUND_FAULT),
        ((F.OVER_CURRENT, F.RESIDUAL_CURRENT), StopReason.OVERCURRENT_FAULT),
    ],
)
def test_the_first_fault_that_ends_a_transaction_gives_the_reason(
    codes: tuple[FaultCode, ...], reason: StopReason | None
) -> None:
    made = Faults(CLEAR_MS)
    for code in codes:
        made.set(code, "board", True, 0)
    assert made.ends is reason
