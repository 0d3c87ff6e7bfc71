"""Field faults of ``shared/field-faults.md`` as scenarios, on every rig that can play them.

``EVSED_SCENARIOS=full`` plays each in both dialects, and field fault 5 for every message by itself.
"""

from __future__ import annotations

import pytest

from agent.sim.scenario import library
from tests.scenarios.conftest import Perform


def test_field_fault_01_offline_session_and_reset(perform: Perform) -> None:
    perform(library.FIELD_FAULT_01)


def test_field_fault_02_killed_in_mid_session(perform_in_one: Perform) -> None:
    perform_in_one(library.FIELD_FAULT_02_KILL)


def test_field_fault_02_car_leaves_a_dead_station(perform_at_leisure: Perform) -> None:
    perform_at_leisure(library.FIELD_FAULT_02_GONE)


def test_field_fault_02_power_loss(perform_in_one: Perform) -> None:
    perform_in_one(library.FIELD_FAULT_02_POWER)


def test_field_fault_04_second_session_before_the_first_is_told(perform: Perform) -> None:
    perform(library.FIELD_FAULT_04)


def test_field_fault_05_poison_by_errors(perform: Perform) -> None:
    perform(library.FIELD_FAULT_05_ALL["error"])


def test_field_fault_05_poison_by_garbage(perform_in_one: Perform) -> None:
    perform_in_one(library.FIELD_FAULT_05_ALL["garbage"])


def test_field_fault_05_poison_by_silence(perform_at_leisure: Perform) -> None:
    """A message waits 30 s for its answer."""
    perform_at_leisure(library.FIELD_FAULT_05_ALL["silence"])


@pytest.mark.parametrize("case", library.FIELD_FAULT_05_EACH)
def test_field_fault_05_poison_of_one_message(perform_at_leisure: Perform, case: str) -> None:
    perform_at_leisure(library.FIELD_FAULT_05_EACH[case])


def test_field_fault_06_clock_steps_on_and_back(perform_in_one: Perform) -> None:
    perform_in_one(library.FIELD_FAULT_06["years-on-and-back"])


@pytest.mark.xfail(reason="the end of a transaction is told by a clock that stepped back: before its start")
def test_field_fault_06_clock_steps_back(perform_in_one: Perform) -> None:
    perform_in_one(library.FIELD_FAULT_06["hour-back"])


def test_field_fault_06_clock_steps_an_hour_on(perform_at_leisure: Perform) -> None:
    perform_at_leisure(library.FIELD_FAULT_06["hour-on"])


def test_field_fault_06_clock_steps_to_another_century(perform_at_leisure: Perform) -> None:
    perform_at_leisure(library.FIELD_FAULT_06["years-back"])


def test_field_fault_06_dead_clock(perform_in_one: Perform) -> None:
    perform_in_one(library.FIELD_FAULT_06_DEAD_CLOCK)


def test_field_fault_07_half_open_link(perform_in_one: Perform) -> None:
    perform_in_one(library.FIELD_FAULT_07)


def test_field_fault_09_limit_outlives_the_link(perform_in_one: Perform) -> None:
    perform_in_one(library.FIELD_FAULT_09)


def test_field_fault_10_limit_in_every_state(perform: Perform) -> None:
    perform(library.FIELD_FAULT_10)


def test_field_fault_12_last_reading_after_the_current(perform_in_one: Perform) -> None:
    perform_in_one(library.FIELD_FAULT_12)
