"""The devices of the simulated world: what flows, what the drivers say, and what survives whom."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.sim.virtual_time import now_ms, run_virtual
from agent.sim.world.device_faults import Fault
from agent.sim.world.meter import NJ_PER_MWH, Line, Meter
from agent.sim.world.outlet import Outlet
from agent.sim.world.vehicle import Kind, Vehicle
from hal.ports import (
    DUTY_DIGITAL,
    DUTY_X1,
    Back,
    CpState,
    LockPosition,
    LossKind,
    Lost,
    MeterReading,
    PowerOutput,
    SubordinatePilot,
)
from tests.unit.world.outlet_rig import BOARDS, KWH, Rig, car, charging, evse_config, in_world

AC = ("mcu_ac", "openevse")
STEP_MWH = 10_000  # of the meters' registers


# ------------------------------------------------------------------------------------------------- energy


@given(st.lists(st.tuples(st.integers(0, 400_000), st.integers(0, 80_000), st.integers(1, 3), st.integers(0, 10**8))))
def test_line_keeps_every_nanojoule(flows: list[tuple[int, int, int, int]]) -> None:
    line, at_ms, true_nj = Line(0, 3), 0, 0
    for number, (voltage_mv, current_ma, phases, ms) in enumerate(flows):
        line.change(at_ms, voltage_mv, current_ma, phases)
        if number % 2:
            line.total_mwh(at_ms + ms // 3)  # a question in between changes nothing
        at_ms += ms
        true_nj += voltage_mv * current_ma * phases * ms
    assert line.total_nj(at_ms) == true_nj
    assert line.total_mwh(at_ms) == true_nj // NJ_PER_MWH


def test_a_meter_counts_its_turns_and_what_it_owes() -> None:
    async def story() -> None:
        line = Line(0, 1)
        meter = Meter(asyncio.get_running_loop(), line, "M1", 990_000, STEP_MWH, 1_000_000)
        line.change(0, 230_000, 10_000, 1)  # 10 Wh in 15,652 ms
        assert (meter.turns(15_000), meter.turns(15_653)) == (0, 1)
        assert meter.register_mwh(15_653) == 0
        meter.set_register(500_000, 15_653)
        assert (meter.turns(15_653), meter.register_mwh(15_653)) == (1, 500_000), "no turn is forgotten"
        assert meter.owed_mwh(60_000) == 0
        meter.frozen_mwh = 500_000
        assert meter.owed_mwh(60_000) == meter.register_mwh(60_000) - 500_000 > 0

    run_virtual(story())


@pytest.mark.parametrize("board", BOARDS)
def test_a_charge_from_plug_to_end(board: str) -> None:
    """Ledger, meter, outlet and car agree on every mWh that a register can show."""

    async def story() -> None:
        rig = await charging(board)
        outlet, before_mwh = rig.outlet, rig.readings()[0].energy_import_mwh
        vehicle = outlet.vehicle
        assert vehicle is not None
        await asyncio.sleep(3_600)
        rig.stop()
        await asyncio.sleep(30)
        assert not outlet.contactor_closed
        assert outlet.unplug()
        await asyncio.sleep(5)
        (begin_mwh, end_mwh) = rig.transactions()[0]
        assert begin_mwh == before_mwh
        assert end_mwh == outlet.register_mwh
        assert 0 <= outlet.drawn_mwh - (end_mwh - begin_mwh) < STEP_MWH
        assert 50 * KWH - vehicle.wants_mwh == outlet.drawn_mwh
        assert outlet.drawn_mwh > 10 * KWH
        assert rig.faults == ()

    in_world(story)


@pytest.mark.parametrize("board", BOARDS)
def test_a_full_car_stops_by_itself_and_takes_exactly_what_it_wanted(board: str) -> None:
    async def story() -> None:
        rig = Rig(board)
        rig.live()
        await asyncio.sleep(5)
        kind = Kind(dc_current_ma=30_000)
        assert rig.outlet.plug(Vehicle(kind, 3 * KWH, random.Random(1), taper_mwh=KWH))
        await asyncio.sleep(1)
        rig.authorize()
        await asyncio.sleep(7_200)
        flows = [text for text in rig.sentences() if text.endswith("A flow")]
        assert len(flows) > 3, "its current falls in steps towards the end"
        assert "car is full" in rig.sentences()
        assert rig.outlet.current_ma == 0
        # It looks once per millisecond at most, so it takes what flows in one of them too much.
        assert 0 <= rig.outlet.drawn_mwh - 3 * KWH < 10

    in_world(story)


def test_nothing_but_polls_happens_at_an_idle_outlet() -> None:
    async def story() -> None:
        rig = Rig("mcu_ac")
        rig.live()
        await asyncio.sleep(10)
        rig.told.clear()
        rig.events.clear()
        loop = asyncio.get_running_loop()
        timers, call_at = 0, loop.call_at

        def counting(*args: object, **options: object) -> asyncio.TimerHandle:
            nonlocal timers
            timers += 1
            return call_at(*args, **options)  # type: ignore[arg-type]

        loop.call_at = counting  # type: ignore[method-assign]
        await asyncio.sleep(100)
        assert timers == 101  # our own sleep is one
        assert rig.told == []
        assert [type(event) for event in rig.events] == [MeterReading] * 100

    in_world(story)


# ------------------------------------------------------------------------------------ a hand-made station


async def _subordinate(outlet: Outlet) -> SubordinatePilot:
    pilot = cast(SubordinatePilot, outlet.drivers().pilot)
    pilot.start(lambda _: None)
    await asyncio.sleep(3)
    return pilot


def test_contactor_wants_grant_pwm_and_a_ready_car() -> None:
    async def story() -> None:
        outlet = Outlet(evse_config("mcu_ac"), random.Random(1), on_change=lambda _: None)
        pilot = await _subordinate(outlet)
        pilot.set_duty(2_666)
        await asyncio.sleep(0.05)
        assert outlet.duty_centipercent == 2_666
        outlet.plug(car())
        await asyncio.sleep(10)
        assert outlet.cp is CpState.C
        assert not outlet.contactor_closed
        pilot.allow_power(True)
        await asyncio.sleep(0.05)
        assert outlet.contactor_closed
        await asyncio.sleep(5)
        assert outlet.current_ma == 15_996
        assert outlet.offered_ma == 15_996
        pilot.allow_power(False)
        assert outlet.contactor_closed, "a command takes its way over the wire"
        await asyncio.sleep(0.05)
        assert not outlet.contactor_closed
        assert outlet.current_ma == 0

    in_world(story)


def test_a_plug_is_held_by_the_bolt_until_it_is_drawn_or_forced() -> None:
    async def story() -> None:
        outlet = Outlet(evse_config("mcu_ac"), random.Random(1), on_change=lambda _: None)
        pilot = await _subordinate(outlet)
        outlet.plug(car())
        pilot.set_lock(True)
        await asyncio.sleep(0.1)
        assert outlet.lock is LockPosition.UNKNOWN
        await asyncio.sleep(1)
        assert outlet.locked
        assert not outlet.unplug()
        outlet.detach()
        outlet.power(False)
        await asyncio.sleep(60)
        assert not outlet.unplug(), "the bolt keeps its place without power"
        assert outlet.unplug(forced=True)
        assert outlet.cp is CpState.A

    in_world(story)


@pytest.mark.parametrize("board", BOARDS)
def test_nobody_is_called_back_from_inside_his_own_command(board: str) -> None:
    async def story() -> None:
        rig = await charging(board)
        inside: list[str] = []
        caught: list[str] = []
        rig.watch = lambda: caught.extend(inside)
        for name in ("set_duty", "allow_power", "set_lock", "offer", "stop", "disable", "reset"):
            command = getattr(rig.pilot, name, None)
            if command is not None:
                setattr(rig.pilot, name, _watched(name, command, inside))
        rig.stop()
        await asyncio.sleep(30)
        rig.outlet.fault(Fault.PILOT_SHORT)
        await asyncio.sleep(30)
        assert not rig.outlet.contactor_closed
        assert caught == []

    in_world(story)


def _watched(name: str, command: Callable[..., None], inside: list[str]) -> Callable[..., None]:
    def called(*args: object) -> None:
        inside.append(name)
        command(*args)
        inside.remove(name)

    return called


@pytest.mark.parametrize("missing", ["grant", "pwm", "health"])
def test_a_subordinate_board_opens_by_itself_when_one_thing_is_missing(missing: str) -> None:
    async def story() -> None:
        outlet = Outlet(evse_config("mcu_ac"), random.Random(1), on_change=lambda _: None)
        pilot = await _subordinate(outlet)
        outlet.plug(car())
        pilot.set_duty(2_666)
        pilot.allow_power(True)
        await asyncio.sleep(15)
        assert outlet.contactor_closed
        if missing == "grant":
            pilot.allow_power(False)
        elif missing == "pwm":
            pilot.set_duty(DUTY_X1)
        else:
            outlet.fault(Fault.RESIDUAL_CURRENT)
        await asyncio.sleep(0.1)
        assert not outlet.contactor_closed

    in_world(story)


# ----------------------------------------------------------------------------------- death and power cuts


@pytest.mark.parametrize("board", ["mcu_ac", "mcu_dc"])
def test_subordinate_board_opens_by_itself_after_our_death(board: str) -> None:
    async def story() -> None:
        rig = await charging(board)
        rig.die()
        died_ms = now_ms()
        events = len(rig.events)
        await asyncio.sleep(60)
        opened_ms = next(at_ms for at_ms, text in rig.told if text == "contactor opens")
        assert 4_000 <= opened_ms - died_ms <= 5_100
        assert rig.outlet.duty_centipercent == DUTY_X1
        assert len(rig.events) == events, "a dead process hears nothing"
        assert not rig.outlet.supervised

    in_world(story)


def test_modules_switch_off_by_themselves_after_our_death() -> None:
    async def story() -> None:
        rig = await charging("mcu_dc")
        assert rig.outlet.module is not None
        rig.die()
        await asyncio.sleep(9.9)
        assert rig.outlet.module.on
        await asyncio.sleep(0.2)
        assert not rig.outlet.module.on

    in_world(story)


def test_openevse_goes_on_with_its_fallback_after_our_death_and_stops_when_we_return() -> None:
    async def story() -> None:
        rig = await charging("openevse")
        rig.die()
        await asyncio.sleep(20)
        assert rig.outlet.contactor_closed
        assert rig.outlet.current_ma == 6_000
        rig.live()
        await asyncio.sleep(20)
        assert not rig.outlet.contactor_closed, "nobody authorized this"
        assert rig.outlet.supervised

    in_world(story)


@pytest.mark.parametrize("board", BOARDS)
def test_a_command_that_has_left_arrives_although_its_process_dies(board: str) -> None:
    async def story() -> None:
        rig = await charging(board)
        if board == "openevse":
            rig.pilot.disable()
        else:
            rig.pilot.allow_power(False)
        rig.die()
        await asyncio.sleep(0.1)
        assert not rig.outlet.contactor_closed

    in_world(story)


@pytest.mark.parametrize("board", BOARDS)
def test_the_drivers_of_a_dead_process_reach_nothing(board: str) -> None:
    async def story() -> None:
        rig = Rig(board)
        rig.live()
        await asyncio.sleep(5)
        ghost = rig.pilot
        rig.die()
        rig.live()
        await asyncio.sleep(5)
        rig.outlet.plug(car())
        if board == "openevse":
            ghost.offer(16_000)
        else:
            ghost.set_duty(2_666)
            ghost.allow_power(True)
        await asyncio.sleep(30)
        assert rig.outlet.duty_centipercent == DUTY_X1
        assert not rig.outlet.contactor_closed
        assert len(rig.said(Back)) == (3 if board == "mcu_dc" else 2)

    in_world(story)


@pytest.mark.parametrize("board", BOARDS)
def test_power_cut_in_mid_charge(board: str) -> None:
    async def story() -> None:
        rig = await charging(board)
        outlet = rig.outlet
        await asyncio.sleep(600)
        outlet.power(False)
        rig.die()
        assert outlet.current_ma == 0
        drawn_mwh, register_mwh = outlet.drawn_mwh, outlet.register_mwh
        await asyncio.sleep(3_600)
        assert not outlet.contactor_closed
        assert (outlet.drawn_mwh, outlet.register_mwh) == (drawn_mwh, register_mwh)
        outlet.power(True)
        await asyncio.sleep(5)
        rig.live()
        await asyncio.sleep(20)
        assert rig.losses() == []
        assert rig.readings()[-1].energy_import_mwh >= register_mwh
        assert rig.cps()[-1] is CpState.B, "the car is still there"
        if board != "openevse":  # which comes up enabled and charges until we stop it
            assert outlet.drawn_mwh == drawn_mwh

    in_world(story)


@pytest.mark.parametrize("board", BOARDS)
def test_a_station_on_dead_devices_is_told_their_loss_once_and_their_return_once(board: str) -> None:
    async def story() -> None:
        rig = Rig(board)
        rig.outlet.power(False)
        rig.live()
        await asyncio.sleep(300)
        assert rig.losses() == [LossKind.SILENT] * (3 if board == "mcu_dc" else 2)
        rig.outlet.power(True)
        await asyncio.sleep(30)
        assert len(rig.said(Back)) == len(rig.said(Lost))
        assert rig.faults == ()

    in_world(story)


def test_one_life_at_a_time() -> None:
    async def story() -> None:
        rig = Rig("mcu_ac")
        rig.live()
        with pytest.raises(RuntimeError, match="detach"):
            rig.outlet.drivers()
        rig.die()
        rig.die()  # harmless
        rig.live()
        await asyncio.sleep(3)
        assert rig.said(Back)

    in_world(story)


@pytest.mark.parametrize("board", BOARDS)
def test_an_orderly_end_leaves_the_outlet_safe(board: str) -> None:
    async def story() -> None:
        rig = await charging(board)
        if rig.module is not None:
            rig.module.switch(False)
        await rig.pilot.close()
        if rig.module is not None:
            await rig.module.close()
        await rig.meter.close()
        await asyncio.sleep(0.1)
        assert not rig.outlet.contactor_closed
        events = len(rig.events)
        await asyncio.sleep(60)
        assert len(rig.events) == events
        rig.outlet.drivers()  # the next life may begin

    in_world(story)


# ---------------------------------------------------------------------------------------------- DC, meter


def test_dc_delivers_what_the_modules_are_told_and_tells_it_each_second() -> None:
    async def story() -> None:
        rig = await charging("mcu_dc")
        assert rig.outlet.duty_centipercent == DUTY_DIGITAL
        assert rig.outlet.current_ma == rig.outlet.offered_ma == 30_000
        told = len(rig.said(PowerOutput))
        await asyncio.sleep(10)
        outputs = rig.said(PowerOutput)[told:]
        assert len(outputs) == 10
        assert {(each.voltage_mv, each.current_ma, each.on) for each in outputs} == {(400_000, 30_000, True)}
        assert rig.readings()[-1].power_mw == 12_000_000

    in_world(story)


def test_read_soon_gives_a_fresh_reading_soon() -> None:
    async def story() -> None:
        rig = Rig("mcu_ac")
        rig.live()
        await asyncio.sleep(10.3)
        asked_ms, count = now_ms(), len(rig.readings())
        rig.meter.read_soon()
        rig.meter.read_soon()
        await asyncio.sleep(0.1)
        assert len(rig.readings()) == count + 1
        assert asked_ms <= rig.readings()[-1].at_ms <= asked_ms + 100
        await asyncio.sleep(1)
        assert len(rig.readings()) == count + 2, "the next poll comes its time after that one"

    in_world(story)


def test_the_same_seed_tells_the_same_story() -> None:
    async def story(seed: int) -> list[tuple[int, str]]:
        rig = await charging("mcu_ac", seed=seed)
        rig.stop()
        await asyncio.sleep(60)
        return rig.told + [(reading.at_ms, str(reading)) for reading in rig.readings()]

    assert run_virtual(story(3)) == run_virtual(story(3))
    assert run_virtual(story(3)) != run_virtual(story(4))
