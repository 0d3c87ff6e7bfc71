"""Field faults of ``shared/field-faults.md`` as scenarios, on every rig that can play them.

``EVSED_SCENARIOS=full`` plays each in both dialects, and field fault 5 for every message by itself.
"""

from __future__ import annotations

import pytest

from agent.sim.scenario import field_faults_books as books
from agent.sim.scenario import field_faults_surroundings as surroundings
from agent.sim.scenario import library
from tests.scenarios.conftest import Perform


def test_field_fault_01_offline_session_and_reset(perform: Perform) -> None:
    perform(books.FIELD_FAULT_01)


def test_field_fault_02_killed_in_mid_session(perform_in_one: Perform) -> None:
    perform_in_one(books.FIELD_FAULT_02_KILL)


def test_field_fault_02_car_leaves_a_dead_station(perform_at_leisure: Perform) -> None:
    perform_at_leisure(books.FIELD_FAULT_02_GONE)


def test_field_fault_02_power_loss(perform_in_one: Perform) -> None:
    perform_in_one(books.FIELD_FAULT_02_POWER)


def test_field_fault_02_power_loss_of_a_moment(perform_in_one: Perform) -> None:
    perform_in_one(books.FIELD_FAULT_02_RESUMED)


def test_field_fault_02_power_loss_beyond_the_resume_window(perform_in_one: Perform) -> None:
    perform_in_one(books.FIELD_FAULT_02_LONG)


def test_field_fault_02_power_fails_again_and_again(perform_in_one: Perform) -> None:
    perform_in_one(books.FIELD_FAULT_02_OFTEN)


def test_field_fault_04_second_session_before_the_first_is_told(perform: Perform) -> None:
    perform(books.FIELD_FAULT_04)


def test_field_fault_05_poison_by_errors(perform: Perform) -> None:
    perform(books.FIELD_FAULT_05_ALL["error"])


@pytest.mark.parametrize("mood", ["malformed"])
def test_field_fault_05_poison_by_answers_of_no_schema(perform_in_one: Perform, mood: str) -> None:
    perform_in_one(books.FIELD_FAULT_05_ALL[mood])


@pytest.mark.parametrize("mood", ["silence", "garbage"])
def test_field_fault_05_poison_by_silence(perform_at_leisure: Perform, mood: str) -> None:
    """A message waits 30 s for its answer, and garbage is none."""
    perform_at_leisure(books.FIELD_FAULT_05_ALL[mood])


@pytest.mark.parametrize("message", books.FIELD_FAULT_05_CLOSE)
def test_field_fault_05_connection_closed_at_a_message(perform_at_leisure: Perform, message: str) -> None:
    perform_at_leisure(books.FIELD_FAULT_05_CLOSE[message])


@pytest.mark.parametrize("mood", books.FIELD_FAULT_05_SECURITY)
def test_field_fault_05_poison_of_security_events(perform_at_leisure: Perform, mood: str) -> None:
    perform_at_leisure(books.FIELD_FAULT_05_SECURITY[mood])


@pytest.mark.parametrize("case", books.FIELD_FAULT_05_EACH)
def test_field_fault_05_poison_of_one_message(perform_at_leisure: Perform, case: str) -> None:
    perform_at_leisure(books.FIELD_FAULT_05_EACH[case])


def test_field_fault_06_clock_steps_on_and_back(perform_in_one: Perform) -> None:
    perform_in_one(surroundings.FIELD_FAULT_06["years-on-and-back"])


def test_field_fault_06_clock_steps_back(perform_in_one: Perform) -> None:
    perform_in_one(surroundings.FIELD_FAULT_06["hour-back"])


def test_field_fault_06_clock_steps_an_hour_on(perform_at_leisure: Perform) -> None:
    perform_at_leisure(surroundings.FIELD_FAULT_06["hour-on"])


def test_field_fault_06_clock_steps_to_another_century(perform_at_leisure: Perform) -> None:
    perform_at_leisure(surroundings.FIELD_FAULT_06["years-back"])


def test_field_fault_06_dead_clock(perform_in_one: Perform) -> None:
    perform_in_one(surroundings.FIELD_FAULT_06_DEAD_CLOCK)


def test_field_fault_06_no_row_is_old_by_a_wrong_clock(perform_in_one: Perform) -> None:
    perform_in_one(surroundings.FIELD_FAULT_06_RETENTION)


@pytest.mark.parametrize("case", surroundings.FIELD_FAULT_06_MACHINE)
def test_field_fault_06_machine_clock_steps(perform_in_one: Perform, case: str) -> None:
    perform_in_one(surroundings.FIELD_FAULT_06_MACHINE[case])


def test_field_fault_07_half_open_link(perform_in_one: Perform) -> None:
    perform_in_one(surroundings.FIELD_FAULT_07)


def test_field_fault_09_limit_outlives_the_link(perform_in_one: Perform) -> None:
    perform_in_one(surroundings.FIELD_FAULT_09)


def test_field_fault_09_limit_outlives_the_power(perform_in_one: Perform) -> None:
    perform_in_one(surroundings.FIELD_FAULT_09_POWER)


def test_field_fault_10_limit_in_every_state(perform: Perform) -> None:
    perform(surroundings.FIELD_FAULT_10)


@pytest.mark.parametrize("case", surroundings.FIELD_FAULT_11)
def test_field_fault_11_strange_reading(perform_in_virtual_time: Perform, case: str) -> None:
    perform_in_virtual_time(surroundings.FIELD_FAULT_11[case])


def test_field_fault_11_register_wraps(perform_in_virtual_time: Perform) -> None:
    perform_in_virtual_time(surroundings.FIELD_FAULT_11_WRAPPED)


def test_field_fault_12_last_reading_after_the_current(perform_in_one: Perform) -> None:
    perform_in_one(surroundings.FIELD_FAULT_12)


def test_next_in_line_duplicate_stop_at_boot(perform_in_one: Perform) -> None:
    perform_in_one(library.NEXT_DUPLICATE_STOP)


def test_next_in_line_phantom_transaction(perform_in_virtual_time: Perform) -> None:
    perform_in_virtual_time(library.NEXT_PHANTOM)


def test_next_in_line_boot_in_preparing(perform_in_one: Perform) -> None:
    perform_in_one(library.NEXT_PREPARING)


def test_next_in_line_two_faults_at_once(perform_in_virtual_time: Perform) -> None:
    perform_in_virtual_time(library.NEXT_TWO_FAULTS)
