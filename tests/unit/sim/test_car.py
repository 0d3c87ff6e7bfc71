"""The simulated car keeps the rules of IEC 61851-1 unless told to break one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.sim.car import NJ_PER_MWH, Car, Habit, Model
from hal.ports import DUTY_F, DUTY_X1, CpState
from hal.sim.vehicle_port import VehiclePort

STEP_MS = 50
VOLTS_MV = 230_000


def plugged(soc_percent: int = 40, **model: int) -> Car:
    car = Car(VehiclePort(), Model(**model), soc_percent)
    car.plug()
    return car


def run(car: Car, ms: int) -> None:
    for _ in range(ms // STEP_MS):
        car.step(STEP_MS, VOLTS_MV)


def shown(car: Car) -> CpState:
    return car.port.cp


def charging(duty: int = 2_666, **model: int) -> Car:
    car = plugged(**model)
    car.port.show(duty, relay_closed=False)
    run(car, 500)
    car.port.show(duty, relay_closed=True)
    run(car, 2_000)
    return car


def test_asks_for_power_only_when_offered() -> None:
    car = plugged()
    run(car, 5_000)
    assert shown(car) is CpState.B
    car.port.show(1_000, relay_closed=False)
    run(car, 500)
    assert shown(car) is CpState.C and car.current_ma == 0, "asks, but draws nothing before the contactor closes"


@pytest.mark.parametrize("duty, expected_ma", [(1_000, 6_000), (2_666, 15_996), (5_333, 16_000)])
def test_draws_what_is_offered_up_to_its_own_limit(duty: int, expected_ma: int) -> None:
    assert charging(duty).current_ma == expected_ma


def test_stops_within_a_second_when_pwm_goes() -> None:
    car = charging()
    car.port.show(DUTY_X1, relay_closed=True)
    run(car, 1_000)
    assert car.port.cp is CpState.B and car.current_ma == 0


def test_full_battery_stops_asking() -> None:
    car = charging(capacity_mwh=100_000)
    run(car, 60_000)
    assert car.soc_percent == 100 and car.port.cp is CpState.B


def test_appetite_falls_towards_full() -> None:
    appetites = [plugged(soc_percent=soc).appetite_ma for soc in (50, 80, 90, 99)]
    assert appetites == sorted(appetites, reverse=True) and appetites[-1] >= 6_000


@pytest.mark.parametrize(
    "habit, above_offer, keeps_drawing",
    [(Habit.OVERDRAW, True, False), (Habit.IGNORE_STOP, False, True)],
)
def test_misbehaves_by_name(habit: Habit, above_offer: bool, keeps_drawing: bool) -> None:
    car = charging(1_000)
    car.habits.add(habit)
    run(car, 1_000)
    assert (car.current_ma > 6_000) is above_offer
    car.port.show(DUTY_X1, relay_closed=True)
    run(car, 2_000)
    assert (car.current_ma > 0) is keeps_drawing


def test_chatter_toggles_the_pilot() -> None:
    car = charging()
    car.habits.add(Habit.CHATTER)
    seen = set()
    for _ in range(80):
        run(car, STEP_MS)
        seen.add(car.port.cp)
    assert seen == {CpState.B, CpState.C}


@given(st.lists(st.tuples(st.sampled_from([10_000, 500, 1_000, 2_666, 5_333]), st.booleans(), st.integers(1, 40))))
def test_energy_taken_is_what_went_into_the_battery(script: list[tuple[int, bool, int]]) -> None:
    car = plugged()
    before_nj = car.battery_nj
    for duty, relay, steps in script:
        car.port.show(duty, relay)
        for _ in range(steps):
            if not car.port.relay_closed:
                taken_nj = car.taken_nj
                car.step(STEP_MS, VOLTS_MV)
                assert car.taken_nj == taken_nj, "nothing flows through an open contactor"
            else:
                car.step(STEP_MS, VOLTS_MV)
    assert car.battery_nj - before_nj == car.taken_nj >= 0
    assert car.taken_mwh == car.taken_nj // NJ_PER_MWH


def test_a_late_car_follows_each_lower_offer_just_in_time() -> None:
    car = charging(5_333, max_current_ma=32_000)
    car.habits.add(Habit.LATE)
    drawn = []
    for second in range(10):
        car.port.show({0: 2_666, 4: 1_766}.get(second, car.port.duty_centipercent), relay_closed=True)
        run(car, 1_000)
        drawn.append(car.current_ma)
    assert drawn == [31_998] * 4 + [15_996] * 4 + [10_596] * 2


def test_a_dozing_car_sees_no_offer_until_state_f_wakes_it() -> None:
    car = charging()
    car.habits.add(Habit.DOZES)
    car.port.show(DUTY_X1, relay_closed=True)
    run(car, 61_000)
    car.port.show(2_666, relay_closed=False)
    run(car, 60_000)
    assert shown(car) is CpState.B
    car.port.show(DUTY_F, relay_closed=False)
    run(car, 4_000)
    car.port.show(DUTY_X1, relay_closed=False)
    run(car, 750)
    assert shown(car) is CpState.B
    car.port.show(2_666, relay_closed=False)
    run(car, 500)
    assert shown(car) is CpState.C


def test_state_f_stops_a_car_whatever_its_habits_of_sleep() -> None:
    car = charging()
    car.habits.add(Habit.DOZES)
    car.port.show(DUTY_F, relay_closed=True)
    run(car, 1_000)
    assert shown(car) is CpState.B and car.current_ma == 0
