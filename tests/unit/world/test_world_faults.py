"""Every fault of the simulated devices is seen by a real core as promised, and is over when it is over."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import cast

import pytest

from agent.sim.virtual_time import now_ms, run_virtual
from agent.sim.world.device_faults import FAULTS, Ends, Fault, NotHere
from hal.ports import (
    DUTY_X1,
    BoardFault,
    BoardFaults,
    CpState,
    Lock,
    LockPosition,
    LossKind,
    MeterReading,
    ModuleFault,
    ModuleFaults,
    PilotEvent,
    SubordinatePilot,
)
from tests.unit.world.outlet_rig import BOARDS, Rig, car, charging, in_world


@dataclass(frozen=True)
class Seen:
    """What a charging station must have been told 20 s into the fault. ``boards``: on which."""

    core: str = ""  # a fault of the core
    loss: LossKind | None = None
    board: BoardFault | None = None
    flows: bool = False  # current still flows
    boards: tuple[str, ...] = BOARDS


MCU = ("mcu_ac", "mcu_dc")
OPENEVSE = ("openevse",)
CASES: list[tuple[Fault, Seen]] = [
    (Fault.CONTACTOR_WELDED, Seen(flows=True)),  # until it shall open
    (Fault.CONTACTOR_STUCK_OPEN, Seen(core="contactor_open")),
    (Fault.CONTACTOR_SLOW, Seen(flows=True)),
    (Fault.LOCK_JAMMED, Seen(flows=True, boards=MCU)),
    (Fault.PILOT_SILENT, Seen(core="pilot_lost", loss=LossKind.SILENT, boards=MCU)),
    (Fault.PILOT_SILENT, Seen(core="pilot_lost", loss=LossKind.SILENT, flows=True, boards=OPENEVSE)),
    (Fault.PILOT_GARBAGE, Seen(core="pilot_lost", loss=LossKind.GARBAGE, boards=MCU)),
    (Fault.PILOT_GARBAGE, Seen(core="pilot_lost", loss=LossKind.GARBAGE, flows=True, boards=OPENEVSE)),
    (Fault.PILOT_CHATTER, Seen()),
    (Fault.PILOT_SHORT, Seen(core="pilot_short", boards=MCU)),
    (Fault.PILOT_SHORT, Seen(boards=OPENEVSE)),  # the board does not name it, but opens
    (Fault.BOARD_RESET, Seen(core="board_reset", board=BoardFault.SPURIOUS_RESET, flows=True)),  # it goes on later
    (Fault.RESIDUAL_CURRENT, Seen(core="residual_current", board=BoardFault.RESIDUAL_CURRENT)),
    (Fault.RESIDUAL_SELF_TEST, Seen(core="residual_self_test", board=BoardFault.RESIDUAL_SELF_TEST)),
    (Fault.NO_GROUND, Seen(core="no_ground", board=BoardFault.NO_GROUND, boards=OPENEVSE)),
    (Fault.OVER_TEMPERATURE, Seen(core="over_temperature", board=BoardFault.OVER_TEMPERATURE, boards=OPENEVSE)),
    (Fault.OVER_CURRENT, Seen(core="over_current", board=BoardFault.OVER_CURRENT)),
    (Fault.METER_SILENT, Seen(core="meter_lost", loss=LossKind.SILENT)),
    (Fault.METER_GARBAGE, Seen(core="meter_implausible", loss=LossKind.GARBAGE)),
    (Fault.METER_STUCK, Seen(flows=True)),
    (Fault.METER_RESET, Seen(core="meter_implausible", loss=LossKind.GARBAGE)),
    (Fault.METER_JUMP, Seen(flows=True)),
    (Fault.METER_ZERO, Seen(flows=True)),
    (Fault.METER_LATE, Seen(flows=True)),
    (Fault.METER_EXCHANGED, Seen(core="meter_implausible", loss=LossKind.GARBAGE)),
    (Fault.BUS_GARBAGE, Seen(core="pilot_lost", loss=LossKind.GARBAGE, boards=MCU)),
    (Fault.BUS_GARBAGE, Seen(core="pilot_lost", loss=LossKind.GARBAGE, flows=True, boards=OPENEVSE)),
    (Fault.MODULE_LOST, Seen(core="power_module_lost", loss=LossKind.SILENT, boards=("mcu_dc",))),
    (Fault.MODULE_HOT, Seen(core="power_module", boards=("mcu_dc",))),
    (Fault.GRID_SAG, Seen(flows=True, boards=("mcu_ac", "openevse"))),
]


# What a lost board brings with it: a lock that reaches nothing, a contactor of which nobody hears that it opened.
ALSO = {
    Fault.PILOT_SILENT: {"lock"},
    Fault.PILOT_GARBAGE: {"lock"},
    Fault.BUS_GARBAGE: {"lock", "meter_implausible", "contactor_welded"},
}
STEP_MWH = 10_000  # of the meter's register


@pytest.mark.parametrize(
    ("board", "fault", "seen"),
    [pytest.param(board, fault, seen, id=f"{fault}-{board}") for fault, seen in CASES for board in seen.boards],
)
def test_fault_shows_as_promised(board: str, fault: Fault, seen: Seen) -> None:
    async def story() -> None:
        rig = await charging(board)
        outlet = rig.outlet
        codes: set[str] = set()
        rig.watch = lambda: codes.update(code.value for code in rig.faults)
        outlet.fault(fault)
        assert FAULTS[fault].text in rig.sentences()
        # Chatter and noise end before; what follows is told while they last.
        await asyncio.sleep(9 if fault is Fault.BUS_GARBAGE else 20)
        assert codes - ALSO.get(fault, set()) == {seen.core} - {""}
        assert seen.loss is None or seen.loss in rig.losses()
        assert seen.loss is not None or rig.losses() == []
        assert seen.board is None or seen.board in rig.board_faults()
        assert (outlet.current_ma > 0) is seen.flows
        outlet.clear()
        assert outlet.faults == {}

    in_world(story)


def test_the_cases_are_complete() -> None:
    told = {(fault, board) for fault, seen in CASES for board in seen.boards}
    told |= {(Fault.METER_ROLLOVER, board) for board in BOARDS}  # below

    async def story() -> None:
        for board in BOARDS:
            rig = Rig(board, rollover_kwh=1_000_000)
            for fault in Fault:
                assert rig.outlet.applies(fault) is ((fault, board) in told), f"{fault} on {board}"

    in_world(story)


def test_a_fault_that_cannot_strike_here_is_refused_by_name() -> None:
    async def story() -> None:
        rig = Rig("mcu_ac")
        with pytest.raises(NotHere, match=r"mcu_ac.*module_hot"):
            rig.outlet.fault(Fault.MODULE_HOT)

    in_world(story)


@pytest.mark.parametrize("fault", Fault)
def test_every_spec_is_whole(fault: Fault) -> None:
    spec = FAULTS[fault]
    assert spec.text[0].islower()
    assert not spec.text.endswith(".")
    assert (spec.undo is None) is (spec.ends is Ends.ONCE)
    assert spec.ends is not Ends.TIME or (spec.value > 0 and spec.unit == "ms")


# --------------------------------------------------------------------------------------- and over again

GOES_ON = [
    (fault, board)
    for fault in (
        Fault.PILOT_SILENT,
        Fault.PILOT_GARBAGE,
        Fault.PILOT_SHORT,
        Fault.METER_SILENT,
        Fault.METER_GARBAGE,
        Fault.METER_STUCK,
        Fault.MODULE_LOST,
        Fault.MODULE_HOT,
        Fault.NO_GROUND,
    )
    for seen_fault, seen in CASES
    if seen_fault is fault
    for board in seen.boards
]


@pytest.mark.parametrize(("fault", "board"), GOES_ON)
def test_the_charge_goes_on_after(fault: Fault, board: str) -> None:
    async def story() -> None:
        rig = await charging(board)
        rig.outlet.fault(fault)
        await asyncio.sleep(20)
        rig.outlet.clear(fault)
        await asyncio.sleep(320 if fault is Fault.NO_GROUND else 60)  # the board tries again every five minutes only
        assert rig.faults == ()
        assert rig.outlet.current_ma > 0
        assert 0 <= rig.outlet.register_mwh - rig.readings()[-1].energy_import_mwh <= STEP_MWH

    in_world(story)


def test_a_board_without_earth_tries_by_its_own_rules_only() -> None:
    """Disabled and enabled it would forget what it found, and close again at once, for ever."""

    async def story() -> None:
        rig = await charging("openevse")
        rig.outlet.fault(Fault.NO_GROUND)
        closed = rig.contacts().count(True)
        await asyncio.sleep(1_000)
        assert [code.value for code in rig.faults] == ["no_ground"]
        assert rig.contacts().count(True) - closed <= 3
        rig.outlet.unplug()
        await asyncio.sleep(30)
        assert rig.faults == ()
        assert not rig.outlet.contactor_closed

    in_world(story)


def test_a_welded_contactor_is_found_when_it_shall_open() -> None:
    async def story() -> None:
        rig = await charging("mcu_ac")
        rig.outlet.fault(Fault.CONTACTOR_WELDED)
        rig.stop()
        await asyncio.sleep(10)
        assert [code.value for code in rig.faults] == ["contactor_welded"]
        assert rig.outlet.contactor_closed
        assert not rig.outlet.power_allowed
        rig.outlet.power(False)
        rig.die()
        await asyncio.sleep(1)
        assert rig.outlet.contactor_closed, "no coil opens a weld"
        assert rig.outlet.current_ma == 0
        rig.outlet.clear()
        await asyncio.sleep(1)
        assert not rig.outlet.contactor_closed

    in_world(story)


def test_a_slow_contactor_needs_its_time() -> None:
    async def story() -> None:
        rig = await charging("mcu_ac")
        rig.outlet.fault(Fault.CONTACTOR_SLOW, 400)
        rig.pilot.allow_power(False)
        asked_ms = now_ms()
        await asyncio.sleep(2)
        opened_ms = next(at_ms for at_ms, text in rig.told if text == "contactor opens")
        assert 400 < opened_ms - asked_ms < 450

    in_world(story)


def test_a_jammed_lock_reaches_no_position_until_it_is_mended() -> None:
    async def story() -> None:
        outlet = Rig("mcu_ac").outlet
        heard: list[PilotEvent] = []
        pilot = cast(SubordinatePilot, outlet.drivers().pilot)
        pilot.start(heard.append)
        await asyncio.sleep(3)
        outlet.fault(Fault.LOCK_JAMMED)
        pilot.set_lock(True)
        await asyncio.sleep(1)
        assert heard[-2:] == [Lock(LockPosition.UNKNOWN), BoardFaults(frozenset({BoardFault.LOCK}))]
        assert not outlet.locked
        outlet.clear()
        pilot.set_lock(True)
        await asyncio.sleep(1)
        assert heard[-2:] == [BoardFaults(frozenset()), Lock(LockPosition.LOCKED)]
        assert outlet.locked

    in_world(story)


def test_chatter_is_heard_and_ends_by_itself() -> None:
    async def story() -> None:
        rig = await charging("mcu_ac")
        heard = len(rig.cps())
        rig.outlet.fault(Fault.PILOT_CHATTER, 3_000)
        await asyncio.sleep(3.1)
        assert len(rig.cps()) - heard > 4
        assert Fault.PILOT_CHATTER not in rig.outlet.faults
        assert rig.outlet.cp is not CpState.A
        heard = len(rig.cps())
        await asyncio.sleep(1)
        assert len(rig.cps()) - heard <= 1  # the car may still react

    in_world(story)


def test_one_noise_does_not_end_another() -> None:
    async def story() -> None:
        rig = Rig("mcu_ac")
        rig.live()
        await asyncio.sleep(5)
        rig.outlet.fault(Fault.PILOT_SILENT)
        rig.outlet.fault(Fault.BUS_GARBAGE, 1_000)
        await asyncio.sleep(10)
        assert not rig.outlet.board.reachable
        assert [code.value for code in rig.faults] == ["pilot_lost"]
        rig.outlet.clear(Fault.PILOT_SILENT)
        await asyncio.sleep(10)
        assert rig.faults == ()

    in_world(story)


def test_a_reset_board_forgets_what_it_was_told() -> None:
    async def story(board: str) -> None:
        rig = await charging(board)
        rig.outlet.fault(Fault.BOARD_RESET)
        assert rig.outlet.duty_centipercent == DUTY_X1
        assert not rig.outlet.power_allowed
        await asyncio.sleep(0.1)
        assert not rig.outlet.contactor_closed

    for board in BOARDS:
        run_virtual(story(board))


# -------------------------------------------------------------------------------------------------- meter


def energies(readings: list[MeterReading]) -> list[int]:
    return [reading.energy_import_mwh for reading in readings]


@pytest.mark.parametrize("fault", [Fault.METER_JUMP, Fault.METER_ZERO, Fault.METER_LATE])
def test_one_bad_value_is_never_told(fault: Fault) -> None:
    """The real plausibility check stands between the register and the reading."""

    async def story() -> None:
        rig = await charging("mcu_ac")
        before = len(rig.readings())
        await asyncio.sleep(10)
        rig.outlet.fault(fault)
        await asyncio.sleep(150)
        told = energies(rig.readings())
        assert told == sorted(told)
        assert told[-1] == rig.outlet.register_mwh
        assert 160 - len(told) + before in (1, 2)  # the late one may still be true, or be one more that is refused
        assert rig.losses() == []

    in_world(story)


def test_a_register_that_begins_anew_is_refused_until_the_restart() -> None:
    async def story() -> None:
        rig = await charging("mcu_ac")
        drawn_mwh = rig.outlet.drawn_mwh
        rig.outlet.fault(Fault.METER_RESET)
        await asyncio.sleep(600)
        assert rig.losses() == [LossKind.GARBAGE]
        rig.die()
        rig.live()
        await asyncio.sleep(10)
        assert rig.readings()[-1].energy_import_mwh == rig.outlet.register_mwh < 1_000_000
        assert rig.outlet.drawn_mwh >= drawn_mwh, "what flowed has flowed"

    in_world(story)


def test_an_exchanged_meter_has_another_number_after_the_restart() -> None:
    async def story() -> None:
        rig = await charging("mcu_ac")
        before = rig.outlet.meter_serial
        assert rig.readings()[-1].serial == before
        rig.outlet.fault(Fault.METER_EXCHANGED, 5_000_000)
        await asyncio.sleep(60)
        rig.die()
        rig.live()
        await asyncio.sleep(10)
        assert rig.readings()[-1].serial == rig.outlet.meter_serial != before
        assert 5_000_000 <= rig.readings()[-1].energy_import_mwh < 6_000_000

    in_world(story)


def test_a_register_rolls_over_and_the_session_goes_on() -> None:
    async def story() -> None:
        rig = Rig("mcu_ac", rollover_kwh=1_000_000)
        rig.outlet.fault(Fault.METER_ROLLOVER, 1_000_000)
        rig.live()
        await asyncio.sleep(5)
        assert rig.readings()[-1].energy_import_mwh == 999_999_000_000
        await _charge_for(rig, 1_800)
        assert rig.readings()[-1].energy_import_mwh == rig.outlet.register_mwh < 10_000_000
        assert rig.losses() == []
        assert len(rig.transactions()) == 1, "the one before the rollover"

    in_world(story)


async def _charge_for(rig: Rig, seconds: int) -> None:
    rig.outlet.plug(car())
    await asyncio.sleep(1)
    rig.authorize()
    await asyncio.sleep(seconds)
    assert rig.outlet.current_ma > 0


def test_a_stuck_register_has_gone_on_behind_its_display() -> None:
    async def story() -> None:
        rig = await charging("mcu_ac")
        rig.outlet.fault(Fault.METER_STUCK)
        shown_mwh = rig.outlet.register_mwh
        await asyncio.sleep(30)
        assert set(energies(rig.readings()[-25:])) == {shown_mwh}
        assert rig.outlet.current_ma > 0
        await asyncio.sleep(30)
        assert [code.value for code in rig.faults] == ["meter_implausible"] and rig.outlet.current_ma == 0
        rig.outlet.clear()
        await asyncio.sleep(30)
        assert list(rig.faults) == []
        assert rig.readings()[-1].energy_import_mwh == rig.outlet.register_mwh > shown_mwh

    in_world(story)


# --------------------------------------------------------------------------------------- grid and module


def test_less_voltage_is_less_energy() -> None:
    async def story() -> None:
        rig = await charging("mcu_ac")
        rig.outlet.fault(Fault.GRID_SAG, 115_000)
        before_mwh = rig.outlet.drawn_mwh
        await asyncio.sleep(3_600)
        drawn_mwh = rig.outlet.drawn_mwh - before_mwh
        assert abs(drawn_mwh - 3 * 115 * 15_996) <= 1
        assert rig.readings()[-1].voltage_mv == (115_000,) * 3
        rig.outlet.clear()
        await asyncio.sleep(2)
        assert rig.readings()[-1].voltage_mv == (230_000,) * 3

    in_world(story)


def test_hot_modules_say_so_and_deliver_nothing() -> None:
    async def story() -> None:
        rig = await charging("mcu_dc")
        rig.outlet.fault(Fault.MODULE_HOT)
        assert rig.outlet.current_ma == 0
        assert rig.said(ModuleFaults)[-1].faults == {ModuleFault.OVER_TEMPERATURE}
        rig.outlet.clear()
        assert rig.said(ModuleFaults)[-1].faults == frozenset()

    in_world(story)
