"""What an OpenEVSE board does and finds by itself, and its boots: the driver against the board's simulator over a pty.

Times are shortened by the driver's and simulator's own settings; every wait is for a condition.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hal.pilots import openevse
from hal.pilots.openevse import OpenEvsePilot
from hal.ports import (
    Back,
    BoardFault,
    BoardFaults,
    Contactor,
    CpState,
    LossKind,
    Lost,
    PilotState,
)
from hal.sim.faults import Fault
from hal.sim.openevse_firmware import CONNECTED, TIMER, OpenEvseFirmware, State
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


def test_evse_a_board_whose_tests_at_boot_fail_keeps_its_fault(board: SimOpenEvse) -> None:
    async def test(pilot: OpenEvsePilot, told: Told) -> None:
        board.vehicle.set_cp(CpState.C)
        await told.until_latest(PilotState(CpState.B))
        mark, heard = len(told.events), len(board.heard)
        board.firmware.found = State.GFI_TEST_FAILED
        board.faults.set(Fault.RESET)
        await told.until(BoardFaults(frozenset({BoardFault.RESIDUAL_SELF_TEST})), since=mark)
        assert "FS" not in board.heard[heard:]  # asleep it would forget what it has found
        assert board.firmware.state is State.GFI_TEST_FAILED

    evse_run(board, test)


# ======================================================================= what it finds while it is lost


def test_evse_a_fault_heard_while_lost_is_told_on_return(board: SimOpenEvse) -> None:
    """Too hot, the board serves nobody for 5 s: it is lost, and the stop that waits in its buffer puts it to sleep."""

    async def test(pilot: OpenEvsePilot, told: Told) -> None:
        await evse_charge(board, pilot, told)
        board.faults.set(Fault.SILENT)
        await told.until_lost(LossKind.SILENT)
        pilot.stop()
        board.faults.clear()
        board.firmware.found = State.OVER_TEMPERATURE
        board.firmware.update()
        board._tell_state()
        board.firmware.sleep()
        board._tell_state()
        await told.until_back(2)
        await told.until_latest(BoardFaults(frozenset({BoardFault.OVER_TEMPERATURE})))

    evse_run(board, test)


def test_evse_a_fault_told_before_a_loss_keeps_its_name(board: SimOpenEvse) -> None:
    async def test(pilot: OpenEvsePilot, told: Told) -> None:
        await evse_charge(board, pilot, told)
        board.firmware.found = State.OVER_CURRENT
        fault = BoardFaults(frozenset({BoardFault.OVER_CURRENT}))
        await told.until_latest(fault)
        board.faults.set(Fault.DROP)
        await told.until_lost(LossKind.SILENT)
        pilot.stop()
        await until(lambda: board.firmware.state is State.SLEEPING, "sleep, in which it only tells that there was one")
        mark = len(told.events)
        board.faults.clear()
        await told.until_back(2)
        assert [each for each in told.events[mark:] if isinstance(each, BoardFaults)] == [fault]

    evse_run(board, test)


def test_evse_that_boots_while_lost_is_stopped_before_it_closes(tmp_path: Path) -> None:
    """Its boot takes longer than three tries, and the next poll is far: nothing but its own message brings the stop."""
    board = SimOpenEvse(tmp_path / "evse", timing=replace(FAST, boot_ms=600), heartbeat=(5, 6))

    async def test(pilot: OpenEvsePilot, told: Told) -> None:
        board.vehicle.set_cp(CpState.C)
        await told.until_latest(PilotState(CpState.B))
        closed: list[bool] = []
        board.vehicle.on_change = lambda: closed.append(board.vehicle.relay_closed)
        board.faults.set(Fault.RESET)
        pilot.stop()  # a round, now
        await told.until_lost(LossKind.SILENT)
        assert board._booting
        await told.until_back(2)
        await until(lambda: board.firmware.state is State.SLEEPING, "sleep")
        assert True not in closed
        assert BoardFaults(frozenset({BoardFault.SPURIOUS_RESET})) not in told.events

    try:
        evse_run(board, test, poll_ms=60_000)
    finally:
        board.close()


def test_evse_that_wakes_while_lost_is_stopped_before_it_closes(board: SimOpenEvse) -> None:
    async def test(pilot: OpenEvsePilot, told: Told) -> None:
        board.vehicle.set_cp(CpState.C)
        await told.until_latest(PilotState(CpState.B))
        board.faults.set(Fault.DROP)
        pilot.stop()  # a round, now
        await told.until_lost(LossKind.SILENT)
        shown: list[tuple[bool, bool]] = []
        vehicle = board.vehicle
        vehicle.on_change = lambda: shown.append((vehicle.offered_current_ma > 0, vehicle.relay_closed))
        board.firmware.enable()  # its button
        await until(lambda: (True, False) in shown and board.firmware.state is State.SLEEPING, "awake, then asleep")
        assert shown == [(True, False), (False, False)]

    evse_run(board, test, poll_ms=60_000)


# ======================================================================================= boot lock


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[SimOpenEvse]:
    sim = SimOpenEvse(tmp_path / "evse", timing=FAST, heartbeat=(5, 6), boot_lock=True)
    yield sim
    sim.close()


def test_evse_a_board_locked_since_its_boot_is_unlocked_asleep_and_charges(locked: SimOpenEvse) -> None:
    async def test(pilot: OpenEvsePilot, told: Told) -> None:
        closed: list[bool] = []
        locked.vehicle.on_change = lambda: closed.append(locked.vehicle.relay_closed)
        locked.vehicle.set_cp(CpState.C)
        pilot.start(told)
        await told.until_latest(PilotState(CpState.B))
        assert PilotState(CpState.A) not in told.events  # a locked board does not see the vehicle
        assert True not in closed
        assert locked.firmware.state is State.SLEEPING
        assert [each for each in locked.heard if each in ("FS", "SB", "FE")] == ["FS", "SB"]
        await evse_charge(locked, pilot, told)

    evse_run(locked, test, wait_back=False)


@pytest.mark.parametrize("asked", [False, True])
def test_evse_a_board_that_a_reset_has_locked_goes_on_charging(locked: SimOpenEvse, asked: bool) -> None:
    async def test(pilot: OpenEvsePilot, told: Told) -> None:
        await evse_charge(locked, pilot, told)
        mark, heard = len(told.events), len(locked.heard)
        if asked:
            pilot.reset()
        else:
            locked.faults.set(Fault.RESET)
        await told.until(Contactor(False), since=mark)
        await told.until_latest(Contactor(True))
        assert [each for each in locked.heard[heard:] if each in ("FS", "SB", "FE")] == ["FS", "SB", "FE"]
        assert PilotState(CpState.A) not in told.events[mark:]
        assert locked.firmware.amps == 16
        assert told.count(Lost) == 0

    evse_run(locked, test)


@pytest.mark.parametrize("vehicle", [CpState.A, CpState.C])
def test_evse_a_locked_board_in_a_fault_is_reset_until_its_tests_find_nothing(
    locked: SimOpenEvse, vehicle: CpState
) -> None:
    """Locked it does not look again by itself. Its flag says a vehicle is there, or not; it does not know."""

    async def test(pilot: OpenEvsePilot, told: Told) -> None:
        locked.vehicle.set_cp(vehicle)
        locked.firmware.state = locked.firmware.found = State.GFI_TEST_FAILED
        power_up = locked.firmware.power_up

        def test_at_boot() -> None:
            power_up()
            locked.firmware.state = locked.firmware.found or State.UNKNOWN
            locked.firmware.vflags |= CONNECTED

        locked.firmware.power_up = test_at_boot  # type: ignore[method-assign]
        locked.firmware.vflags |= CONNECTED
        assert locked._obey("SB", []) == (True, "1")
        pilot.start(told)
        await told.until_latest(BoardFaults(frozenset({BoardFault.RESIDUAL_SELF_TEST})))
        pilot.offer(16_000)
        await until(lambda: "FR" in locked.heard, "a reset")
        await until(lambda: locked.heard[locked.heard.index("FR") :].count("GS") >= 4, "some rounds")
        assert told.latest(BoardFaults) == BoardFaults(frozenset({BoardFault.RESIDUAL_SELF_TEST}))
        assert locked.heard.count("FR") == 1, "the next one is a minute away"
        assert not {"FS", "SB", "FE"} & set(locked.heard)
        locked.firmware.found = None
        pilot._next_reset_s = 0.0  # a minute has passed
        await told.until_latest(BoardFaults(frozenset()))
        await told.until_latest(PilotState(vehicle))
        assert locked.heard.count("FR") == 2
        assert told.count(Lost) == 0

    evse_run(locked, test, wait_back=False)


# ===================================================================================== delay timer


@pytest.mark.parametrize("awake", [True, False])
def test_evse_a_delay_timer_is_switched_off(tmp_path: Path, awake: bool) -> None:
    board = SimOpenEvse(tmp_path / "evse", timing=FAST, heartbeat=(5, 6), delay_timer=awake)

    async def test(pilot: OpenEvsePilot, told: Told) -> None:
        assert board.firmware.delay_timer is None
        await evse_charge(board, pilot, told)
        board.firmware.delay_timer = awake  # somebody at its menu
        board.firmware.vflags |= TIMER
        await until(lambda: board.firmware.delay_timer is None, "no timer again")
        await told.until_latest(Contactor(True))
        assert board.firmware.eeprom_writes == 2
        assert told.count(Lost) == 0

    try:
        evse_run(board, test)
    finally:
        board.close()


def test_evse_a_board_that_keeps_its_delay_timer_is_refused_and_its_eeprom_spared(tmp_path: Path) -> None:
    board = SimOpenEvse(tmp_path / "evse", timing=FAST, heartbeat=(5, 6), delay_timer=True)

    async def test(pilot: OpenEvsePilot, told: Told) -> None:
        board.firmware.end_timer = lambda: None  # type: ignore[method-assign]
        pilot.start(told)
        await told.until_lost(LossKind.REFUSED)
        lost = told.latest(Lost)
        assert isinstance(lost, Lost)
        assert "delay timer" in lost.detail and "switch it off in the board's menu" in lost.detail
        heard = len(board.heard)
        await until(lambda: board.heard[heard:].count("GS") >= 3, "three more tries to begin")
        assert board.heard.count("ST 0 0 0 0") == 3
        assert told.count(Back) == 0 and told.count(Lost) == 1
        OpenEvseFirmware.end_timer(board.firmware)  # the technician, at its menu
        await told.until_back()

    try:
        evse_run(board, test, wait_back=False)
    finally:
        board.close()


def test_evse_a_delay_timer_that_is_switched_on_now_and_then_is_no_reason_to_refuse_the_board(
    board: SimOpenEvse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody at its menu, some days of a year."""
    monkeypatch.setattr(openevse, "_DAY_S", 0.0)

    async def test(pilot: OpenEvsePilot, told: Told) -> None:
        for _ in range(5):
            board.firmware.delay_timer = True
            board.firmware.vflags |= TIMER
            await until(lambda: board.firmware.delay_timer is None, "no timer")
        heard = len(board.heard)
        await until(lambda: board.heard[heard:].count("GS") >= 2, "two rounds")
        assert told.count(Lost) == 0

    evse_run(board, test)


def test_evse_a_timer_command_that_the_line_swallowed_does_not_count(board: SimOpenEvse) -> None:
    async def test(pilot: OpenEvsePilot, told: Told) -> None:
        obey, swallowed = board._obey, iter([True, True, False] * 2)

        def hard_of_hearing(command: str, arguments: list[str]) -> tuple[bool, str]:
            if command == "ST" and next(swallowed):
                board.faults.set(Fault.DROP, count=1)
                return True, ""
            return obey(command, arguments)

        board._obey = hard_of_hearing  # type: ignore[method-assign]
        for _ in range(2):
            board.firmware.delay_timer = True
            board.firmware.vflags |= TIMER
            await until(lambda: board.firmware.delay_timer is None, "no timer")
        assert board.heard.count("ST 0 0 0 0") == 6
        assert told.count(Lost) == 0

    evse_run(board, test)
