"""The cars of the simulated world: honest ones keep the times of IEC 61851-1, the others do what their habit says."""

from __future__ import annotations

import asyncio
import random
from typing import cast

import pytest

from agent.core.events import LimitSet
from agent.core.facts import ChargingState, TransactionFact, TxKind
from agent.sim.virtual_time import run_virtual
from agent.sim.world.outlet import Outlet
from agent.sim.world.vehicle import Habit, Kind, Vehicle
from hal.ports import DUTY_F, DUTY_X1, AutonomousPilot, CpState, SubordinatePilot
from tests.unit.world.outlet_rig import KWH, Rig, car, evse_config, in_world

AC = ("mcu_ac", "openevse")


@pytest.mark.parametrize("board", AC)
@pytest.mark.parametrize("seed", range(5))
def test_an_honest_car_follows_the_offer_in_time(board: str, seed: int) -> None:
    async def story() -> None:
        outlet = Outlet(evse_config(board), random.Random(seed), on_change=lambda _: None)
        pilot = outlet.drivers().pilot
        pilot.start(lambda _: None)
        await asyncio.sleep(3)
        outlet.plug(car(seed=seed))
        await _offer(pilot, 16_000)
        await asyncio.sleep(15)
        assert outlet.current_ma > 15_900
        await _offer(pilot, 8_000)
        await asyncio.sleep(5.1)
        assert 7_900 < outlet.current_ma <= 8_000
        await _offer(pilot, 0)
        await asyncio.sleep(3.1)
        assert outlet.current_ma == 0
        assert outlet.cp is CpState.B

    in_world(story)


async def _offer(pilot: SubordinatePilot | AutonomousPilot, current_ma: int) -> None:
    if pilot.capabilities.autonomous:
        cast(AutonomousPilot, pilot).offer(current_ma)
        return
    obeying = cast(SubordinatePilot, pilot)
    obeying.set_duty(current_ma // 6 if current_ma else DUTY_X1)
    if current_ma:
        obeying.allow_power(True)


def test_a_lower_offer_never_waits_for_a_slower_reaction_under_way() -> None:
    """A raise that it is about to follow must not put off the stop that comes after it."""

    async def story(seed: int) -> None:
        outlet = Outlet(evse_config("mcu_ac"), random.Random(seed), on_change=lambda _: None)
        pilot = outlet.drivers().pilot
        pilot.start(lambda _: None)
        await asyncio.sleep(3)
        outlet.plug(car(seed=seed))
        await _offer(pilot, 8_000)
        await asyncio.sleep(15)
        await _offer(pilot, 16_000)
        await asyncio.sleep(0.1)
        await _offer(pilot, 0)
        await asyncio.sleep(3.1)
        assert outlet.current_ma == 0

    for seed in range(10):
        run_virtual(story(seed))


def test_news_upon_news_do_not_put_off_a_stop() -> None:
    async def story(seed: int) -> None:
        outlet = Outlet(evse_config("mcu_ac"), random.Random(seed), on_change=lambda _: None)
        pilot = cast(SubordinatePilot, outlet.drivers().pilot)
        pilot.start(lambda _: None)
        await asyncio.sleep(3)
        outlet.plug(car(seed=seed))
        await _offer(pilot, 16_000)
        await asyncio.sleep(15)
        assert outlet.current_ma > 0
        for _ in range(31):
            pilot.set_duty(DUTY_F)
            await asyncio.sleep(0.05)
            pilot.set_duty(DUTY_X1)
            await asyncio.sleep(0.05)
        assert outlet.cp is CpState.B

    for seed in range(5):
        run_virtual(story(seed))


HABITS = {
    Habit.OVERDRAW: "over_current",
    Habit.NO_DIODE: "diode",
    Habit.VENTILATION: "no_ventilation",
    Habit.ERROR: "pilot_short",
}


@pytest.mark.parametrize("habit", HABITS)
def test_a_bad_habit_is_seen_by_the_station(habit: Habit) -> None:
    async def story() -> None:
        rig = Rig("mcu_ac")
        seen: set[str] = set()
        rig.watch = lambda: seen.update(code.value for code in rig.faults)
        rig.live()
        await asyncio.sleep(5)
        rig.outlet.plug(car(50 * KWH, habit))
        await asyncio.sleep(1)
        rig.authorize()
        await asyncio.sleep(60)
        assert HABITS[habit] in seen
        assert rig.outlet.current_ma == 0

    in_world(story)


def test_a_car_that_ignores_the_stop_draws_until_the_contactor_opens() -> None:
    """The sleeping OpenEVSE waits three seconds for the car."""

    async def story() -> None:
        rig = Rig("openevse")
        rig.live()
        await asyncio.sleep(5)
        rig.outlet.plug(car(50 * KWH, Habit.IGNORE_STOP))
        await asyncio.sleep(1)
        rig.authorize()
        await asyncio.sleep(30)
        rig.stop()
        await asyncio.sleep(2.9)
        assert rig.outlet.duty_centipercent == DUTY_X1
        assert rig.outlet.current_ma > 0
        await asyncio.sleep(0.3)
        assert rig.outlet.current_ma == 0
        assert rig.outlet.cp is CpState.C

    in_world(story)


def test_a_chattering_car_makes_the_contactor_follow_until_it_rests() -> None:
    async def story() -> None:
        rig = Rig("mcu_ac")
        rig.live()
        await asyncio.sleep(5)
        rig.outlet.plug(car(50 * KWH, Habit.CHATTER))
        await asyncio.sleep(1)
        rig.authorize()
        await asyncio.sleep(60)
        assert rig.cps().count(CpState.C) > 10
        assert 3 < rig.contacts().count(True) < 12

    in_world(story)


def test_a_car_waits_for_its_own_timer_and_wakes_up_again() -> None:
    async def story() -> None:
        rig = Rig("mcu_ac")
        rig.live()
        await asyncio.sleep(5)
        rig.outlet.plug(car(KWH, waits_ms=600_000, wakes=(900_000, KWH // 10)))
        await asyncio.sleep(1)
        rig.authorize()
        await asyncio.sleep(590)
        assert rig.outlet.drawn_mwh == 0
        await asyncio.sleep(1_500)
        assert 0 <= rig.outlet.drawn_mwh - (KWH + KWH // 10) < 20

    in_world(story)


def test_a_car_draws_on_as_many_phases_as_both_have() -> None:
    async def story() -> None:
        rig = Rig("mcu_ac")
        rig.live()
        await asyncio.sleep(5)
        rig.outlet.plug(Vehicle(Kind(max_current_ma=16_000, phases=1), KWH, random.Random(1)))
        await asyncio.sleep(1)
        rig.authorize()
        await asyncio.sleep(30)
        reading = rig.readings()[-1]
        assert reading.current_ma == (15_996, 0, 0)
        assert reading.voltage_mv == (230_000, 230_000, 230_000)
        assert reading.power_mw == 15_996 * 230

    in_world(story)


@pytest.mark.parametrize("seed", range(5))
def test_a_car_follows_each_lower_offer_for_itself_and_is_never_late(seed: int) -> None:
    """Two in a row: it may still draw of the first while the second is long told, and the station must bear it."""

    async def story() -> None:
        rig = Rig("mcu_ac", max_ma=32_000)
        seen: set[str] = set()
        rig.watch = lambda: seen.update(code.value for code in rig.faults)
        rig.live()
        await asyncio.sleep(5)
        rig.outlet.plug(Vehicle(Kind(max_current_ma=32_000), 50 * KWH, random.Random(seed)))
        await asyncio.sleep(1)
        rig.authorize()
        await asyncio.sleep(30)
        assert rig.outlet.current_ma > 31_900
        drawn = []
        for limit_ma, for_s in ((16_000, 4), (10_000, 10)):
            rig.give(LimitSet(1, limit_ma))
            for _ in range(for_s * 10):
                await asyncio.sleep(0.1)
                drawn.append(rig.outlet.current_ma // 1_000)
        first, second = drawn.index(15) / 10, drawn.index(9) / 10
        assert first <= 5 and abs(second - first - 4) <= 0.2
        await asyncio.sleep(30)
        assert not seen and rig.outlet.current_ma > 9_000

    in_world(story)


def test_a_car_that_falls_asleep_in_a_pause_is_woken() -> None:
    async def story() -> None:
        rig = Rig("mcu_ac")
        rig.live()
        await asyncio.sleep(5)
        rig.outlet.plug(car(50 * KWH, dozes_ms=60_000))
        await asyncio.sleep(1)
        rig.authorize()
        await asyncio.sleep(30)
        assert rig.outlet.current_ma > 0
        rig.give(LimitSet(1, 0))
        await asyncio.sleep(600)
        rig.give(LimitSet(1, None))
        await asyncio.sleep(29)
        assert rig.outlet.current_ma == 0
        await asyncio.sleep(20)
        assert rig.outlet.current_ma > 0
        assert CpState.F in rig.cps() and not rig.faults
        states = [fact.charging_state for fact in rig.facts if isinstance(fact, TransactionFact)]
        assert ChargingState.SUSPENDED_EV not in states
        assert not any(fact.kind is TxKind.ENDED for fact in rig.facts if isinstance(fact, TransactionFact))

    in_world(story)


def test_a_car_that_was_asleep_sees_the_next_outlet_with_open_eyes() -> None:
    async def story() -> None:
        rig = Rig("mcu_ac")
        rig.live()
        await asyncio.sleep(5)
        sleeper = car(50 * KWH, dozes_ms=10_000)
        rig.outlet.plug(sleeper)
        await asyncio.sleep(60)
        assert rig.outlet.unplug()
        rig.authorize()
        rig.outlet.plug(sleeper)
        await asyncio.sleep(9)
        assert rig.outlet.current_ma > 0

    in_world(story)
