"""What an OpenEVSE board finds wrong by itself, and its resets: the driver against the board's simulator over a pty.

Times are shortened by the driver's and simulator's own settings; every wait is for a condition.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hal.pilots.openevse import OpenEvsePilot
from hal.ports import (
    Back,
    BoardFault,
    BoardFaults,
    Contactor,
    CpState,
    Lost,
    PilotState,
)
from hal.sim.faults import Fault
from hal.sim.openevse_firmware import State
from hal.sim.rapi_board import SimOpenEvse
from tests.integration.openevse_rig import FAST, evse_charge, evse_run
from tests.integration.pilot_rig import Told, until

pytestmark = pytest.mark.wire


@pytest.fixture
def board(tmp_path: Path) -> Iterator[SimOpenEvse]:
    sim = SimOpenEvse(tmp_path / "evse", timing=FAST, heartbeat=(5, 6))
    yield sim
    sim.close()


def test_evse_a_hard_fault_stays_told_and_ends_with_the_vehicle(board: SimOpenEvse) -> None:
    """The board is put to sleep under the fault, where it neither tells nor forgets it by itself."""

    async def test(pilot: OpenEvsePilot, told: Told) -> None:
        for _ in range(2):  # one vehicle after the other, without waiting
            await evse_charge(board, pilot, told)
            board.firmware.found = State.OVER_TEMPERATURE
            hot = BoardFaults(frozenset({BoardFault.OVER_TEMPERATURE}))
            await told.until_latest(hot)
            pilot.stop()
            board.firmware.sleep()  # a command that was on its way when the fault came
            board.firmware.found = None
            board.vehicle.set_cp(CpState.B)
            await told.until_latest(PilotState(CpState.B))
            assert told.latest(BoardFaults) == hot
            board.vehicle.set_cp(CpState.A)
            await told.until_latest(BoardFaults(frozenset()))
            assert not told.count(Lost)

    evse_run(board, test)


MEANS = {
    State.DIODE: BoardFault.DIODE,
    State.GFCI: BoardFault.RESIDUAL_CURRENT,
    State.NO_GROUND: BoardFault.NO_GROUND,
    State.RELAY_CLOSURE: BoardFault.CONTACTOR_OPEN,
    State.OVER_TEMPERATURE: BoardFault.OVER_TEMPERATURE,
    State.OVER_CURRENT: BoardFault.OVER_CURRENT,
}


@pytest.mark.parametrize("off", [State.SLEEPING, State.DISABLED])
@pytest.mark.parametrize("fault", MEANS)
def test_evse_board_faults_stand_through_stop_and_disable_and_clear(
    board: SimOpenEvse, fault: State, off: State
) -> None:
    meaning = MEANS[fault]

    async def test(pilot: OpenEvsePilot, told: Told) -> None:
        await evse_charge(board, pilot, told)
        board.firmware.found = fault
        await told.until_latest(BoardFaults(frozenset({meaning})))
        assert told.latest(Contactor) == Contactor(False)
        pilot.disable()  # the board has stopped already; asleep or disabled it would forget what it has found
        if off is State.SLEEPING:
            pilot.stop()
        heard = len(board.heard)
        await until(lambda: board.heard[heard:].count("GS") >= 2, "two rounds")
        assert board.firmware.state is fault
        assert told.latest(BoardFaults) == BoardFaults(frozenset({meaning}))
        board.firmware.found = None
        board.vehicle.set_cp(CpState.A)
        await told.until_latest(BoardFaults(frozenset()))
        await until(lambda: board.firmware.state is off, "what was wanted, now")

    evse_run(board, test)


@pytest.mark.parametrize("fault", [State.GFCI, State.NO_GROUND])
def test_evse_is_left_off_where_a_fault_could_clear_with_nobody_there(board: SimOpenEvse, fault: State) -> None:
    async def test(pilot: OpenEvsePilot, told: Told) -> None:
        await evse_charge(board, pilot, told)
        board.firmware.found = fault
        await told.until_latest(BoardFaults(frozenset({MEANS[fault]})))
        await pilot.close()
        await until(lambda: board.firmware.state is State.DISABLED, "disabled")

    evse_run(board, test)


def test_evse_recovering_board_gives_no_power_that_nobody_wants(tmp_path: Path) -> None:
    board = SimOpenEvse(tmp_path / "evse", timing=replace(FAST, ground_retry_ms=150), heartbeat=(5, 6))

    async def test(pilot: OpenEvsePilot, told: Told) -> None:
        await evse_charge(board, pilot, told)
        board.firmware.found = State.NO_GROUND
        await told.until_latest(BoardFaults(frozenset({BoardFault.NO_GROUND})))
        pilot.stop()
        closed: list[bool] = []
        board.vehicle.on_change = lambda: closed.append(board.vehicle.relay_closed)
        board.firmware.found = None  # with the vehicle still in C
        await until(lambda: board.firmware.state is State.SLEEPING, "sleep")
        assert True not in closed

    try:
        evse_run(board, test)
    finally:
        board.close()


def test_evse_welded_relay(board: SimOpenEvse) -> None:
    async def test(pilot: OpenEvsePilot, told: Told) -> None:
        await evse_charge(board, pilot, told)
        board.firmware.weld(True)
        board.vehicle.set_cp(CpState.B)
        await told.until_latest(BoardFaults(frozenset({BoardFault.CONTACTOR_WELDED})))
        assert told.latest(Contactor) == Contactor(True)

    evse_run(board, test)


def test_evse_diode_and_ventilation(board: SimOpenEvse) -> None:
    async def test(pilot: OpenEvsePilot, told: Told) -> None:
        await evse_charge(board, pilot, told)
        board.vehicle.set_diode_fault(True)
        await told.until_latest(BoardFaults(frozenset({BoardFault.DIODE})))
        assert not board.vehicle.relay_closed
        board.vehicle.set_diode_fault(False)
        board.vehicle.set_cp(CpState.A)
        await told.until_latest(BoardFaults(frozenset()))
        board.vehicle.set_cp(CpState.D)
        await told.until_latest(PilotState(CpState.D))
        assert not board.vehicle.relay_closed

    evse_run(board, test)


def test_evse_spurious_reset_is_told_once_and_the_wanted_state_restored(tmp_path: Path) -> None:
    board = SimOpenEvse(tmp_path / "evse", timing=replace(FAST, debounce_ms=150), heartbeat=(5, 6))

    async def test(pilot: OpenEvsePilot, told: Told) -> None:
        await evse_charge(board, pilot, told)
        pilot.stop()
        await told.until_latest(Contactor(False))
        mark, heard = len(told.events), len(board.heard)
        state_at_stop: list[State] = []
        sleep = board.firmware.sleep

        def noted_sleep() -> None:
            state_at_stop.append(board.firmware.state)
            sleep()

        board.firmware.sleep = noted_sleep  # type: ignore[method-assign]
        board.faults.set(Fault.RESET)  # it comes up enabled, with a vehicle in C
        spurious = BoardFaults(frozenset({BoardFault.SPURIOUS_RESET}))
        await told.until(spurious, since=mark)
        closed: list[bool] = []
        board.vehicle.on_change = lambda: closed.append(board.vehicle.relay_closed)
        await told.until_latest(BoardFaults(frozenset()))
        assert board.heard[heard] == "FS"  # before anything is asked ...
        assert state_at_stop[0] is State.UNKNOWN  # ... and before the board itself has found the vehicle
        assert board.firmware.state is State.SLEEPING
        assert True not in closed
        assert told.events[mark:].count(spurious) == 1
        assert told.count(Lost) == 0

    try:
        evse_run(board, test)
    finally:
        board.close()


def test_evse_spurious_reset_while_offering_limits_the_current_again(board: SimOpenEvse) -> None:
    async def test(pilot: OpenEvsePilot, told: Told) -> None:
        await evse_charge(board, pilot, told)
        board.faults.set(Fault.RESET)
        assert board.firmware.amps == 32
        await told.until(BoardFaults(frozenset({BoardFault.SPURIOUS_RESET})))
        await told.until_latest(BoardFaults(frozenset()))
        assert board.firmware.amps == 16

    evse_run(board, test)


def test_evse_asked_reset_is_neither_spurious_nor_a_loss(board: SimOpenEvse) -> None:
    async def test(pilot: OpenEvsePilot, told: Told) -> None:
        board.vehicle.set_cp(CpState.B)
        pilot.offer(10_000)
        await until(lambda: board.firmware.state is State.B, "enabled")
        mark = len(told.events)
        pilot.reset()
        await until(lambda: "FR" in board.heard, "the reset")
        await until(lambda: board.firmware.amps == 10 and board.firmware.state is State.B, "10 A again")
        assert told.count(Lost) == 0
        assert told.count(Back) == 1
        assert BoardFaults(frozenset({BoardFault.SPURIOUS_RESET})) not in told.events[mark:]

    evse_run(board, test)
