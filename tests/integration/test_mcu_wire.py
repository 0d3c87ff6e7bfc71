"""The MCU pilot driver against its board's simulator, byte for byte over a pty.

Times are shortened by the driver's and simulator's own settings; every wait is for a condition.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hal.pilots.mcu import McuConfig, McuPilot
from hal.pilots.openevse import OpenEvseConfig, OpenEvsePilot
from hal.ports import (
    DUTY_X1,
    AutonomousPilot,
    Back,
    BoardFault,
    BoardFaults,
    Cable,
    Contactor,
    CpState,
    Lock,
    LockPosition,
    LossKind,
    Lost,
    PilotCapabilities,
    PilotEvent,
    PilotState,
    SubordinatePilot,
)
from hal.sim.faults import Fault
from hal.sim.mcu_board import McuError, SimMcu
from tests.integration.pilot_rig import Told, until

pytestmark = pytest.mark.wire


def test_the_drivers_are_what_the_ports_ask_for(tmp_path: Path) -> None:
    subordinate: SubordinatePilot = McuPilot(McuConfig(str(tmp_path / "none")))
    autonomous: AutonomousPilot = OpenEvsePilot(OpenEvseConfig(str(tmp_path / "none")))
    assert not subordinate.capabilities.autonomous
    assert autonomous.capabilities.autonomous
    asyncio.run(subordinate.close())  # closing what was never started is harmless
    asyncio.run(autonomous.close())


# ============================================================================== subordinate MCU

MCU_TIMES: dict[str, Any] = {"keep_alive_ms": 20, "silence_ms": 300, "link_timeout_ms": 300, "reset_wait_ms": 60}


def mcu_run(
    test: Callable[[SimMcu, McuPilot, Told], Coroutine[Any, Any, None]],
    tmp_path: Path,
    *,
    wait_back: bool = True,
    **times: int,
) -> None:
    async def main() -> None:
        sim = SimMcu(tmp_path / "mcu", supervision_ms=200, keep_alive_ms=20, boot_ms=5, lock_ms=10)
        sim.start(asyncio.get_running_loop())
        told = Told()
        pilot = McuPilot(McuConfig(sim.path, **{**MCU_TIMES, **times}))
        try:
            if wait_back:
                pilot.start(told)
                await told.until_back()
            await test(sim, pilot, told)
        finally:
            await pilot.close()
            sim.close()

    asyncio.run(main())


async def charge(sim: SimMcu, pilot: McuPilot, told: Told) -> None:
    sim.vehicle.set_cp(CpState.B)
    pilot.set_duty(2667)
    pilot.allow_power(True)
    sim.vehicle.set_cp(CpState.C)
    await told.until_latest(Contactor(True))


def test_mcu_start_tells_everything(tmp_path: Path) -> None:
    async def test(sim: SimMcu, pilot: McuPilot, told: Told) -> None:
        assert sim.resets == 1
        numbers = [number for number, _ in sim.heard]
        assert numbers[:3] == [104, 103, 105]  # power denied, X1, reset: before anything else
        assert sim.heard[:2] == [(104, 0), (103, DUTY_X1)]
        await until(lambda: sim.keep_alives_heard >= 3, "three keep-alives")
        assert isinstance(told.events[0], Back)
        assert "sim-1.0" in told.events[0].detail
        assert told.events[1] == pilot.capabilities
        kinds = {type(event) for event in told.events}
        assert kinds == {Back, PilotCapabilities, BoardFaults, PilotState, Contactor, Cable, Lock}
        capabilities = pilot.capabilities
        assert not capabilities.autonomous
        assert capabilities.can_signal_digital
        assert capabilities.max_current_ma == 32_000

    mcu_run(test, tmp_path)


def test_mcu_tells_when_the_board_can_do_less(tmp_path: Path) -> None:
    async def test(sim: SimMcu, pilot: McuPilot, told: Told) -> None:
        sim._max_current_a = 13
        await told.until_latest(replace(pilot.capabilities, max_current_ma=13_000))

    mcu_run(test, tmp_path)


def test_mcu_charges_and_stops(tmp_path: Path) -> None:
    async def test(sim: SimMcu, pilot: McuPilot, told: Told) -> None:
        sim.vehicle.set_cable_rating(20_000)
        await told.until(Cable(20_000))
        await charge(sim, pilot, told)
        assert sim.vehicle.offered_current_ma == 16_002
        pilot.allow_power(False)
        await told.until_latest(Contactor(False))
        sim.vehicle.set_cp(CpState.A)
        await told.until_latest(PilotState(CpState.A))

    mcu_run(test, tmp_path)


def test_mcu_power_needs_grant_pwm_and_vehicle(tmp_path: Path) -> None:
    async def test(sim: SimMcu, pilot: McuPilot, told: Told) -> None:
        sim.vehicle.set_cp(CpState.C)
        pilot.set_duty(2667)
        await until(lambda: sim.vehicle.duty_centipercent == 2667, "PWM")
        assert told.latest(Contactor) == Contactor(False)  # no grant
        pilot.allow_power(True)
        await told.until_latest(Contactor(True))
        sim.vehicle.set_cp(CpState.B)  # the board opens by itself
        await told.until_latest(Contactor(False))
        sim.vehicle.set_cp(CpState.C)
        await told.until_latest(Contactor(True))
        pilot.set_duty(DUTY_X1)
        await told.until_latest(Contactor(False))

    mcu_run(test, tmp_path)


def test_mcu_answer_to_an_event_leaves_in_the_same_callback(tmp_path: Path) -> None:
    """The event is told while the reader callback runs: no other callback of the loop comes between."""

    async def test(sim: SimMcu, pilot: McuPilot, told: Told) -> None:
        await charge(sim, pilot, told)
        stacks: list[bool] = []
        heard = len(sim.heard)

        def react(event: PilotEvent) -> None:
            if event == PilotState(CpState.B):
                stacks.append(any(frame.function == "_readable" for frame in inspect.stack()))
                pilot.allow_power(False)
                stacks.append(not pilot._line._backlog)  # handed to the kernel already

        told.react = react
        sim.vehicle.set_cp(CpState.B)
        await until(lambda: (104, 0) in sim.heard[heard:], "the withdrawal")
        assert stacks == [True, True]

    mcu_run(test, tmp_path)


def test_mcu_withdrawal_leaves_no_older_grant_behind_it(tmp_path: Path) -> None:
    async def test(sim: SimMcu, pilot: McuPilot, told: Told) -> None:
        sim.vehicle.set_cp(CpState.C)
        await told.until_latest(PilotState(CpState.C))
        heard = len(sim.heard)
        with pytest.raises(BlockingIOError):
            while True:
                os.write(pilot._line._fd, b"\x00")  # jam the port with empty frames
        pilot.set_duty(5000)
        pilot.set_lock(True)
        pilot.allow_power(True)
        pilot.allow_power(False)
        await until(lambda: (102, 1) in sim.heard[heard:], "the lock, repeated")
        commands = [message for message in sim.heard[heard:] if message[0] in (102, 103, 104)]
        assert commands[0] == (104, 0)
        assert (104, 1) not in commands
        assert {(104, 0), (103, 5000), (102, 1)} == set(commands)

    mcu_run(test, tmp_path)


def test_mcu_withdrawal_that_noise_has_swallowed_is_repeated(tmp_path: Path) -> None:
    """The MCU hears keep-alives, so it would never open by itself; and it must not offer more than is allowed."""

    async def test(sim: SimMcu, pilot: McuPilot, told: Told) -> None:
        await charge(sim, pilot, told)
        pilot.set_duty(1_000)
        pilot.allow_power(False)
        await told.until_latest(Contactor(False))
        sim.power_allowed, sim.vehicle.duty_centipercent = True, 2_667  # as if it had not heard
        await until(lambda: not sim.power_allowed, "power is taken away again")
        await until(lambda: sim.vehicle.duty_centipercent == 1_000, "the lower limit holds")

    mcu_run(test, tmp_path)


def test_mcu_lock_and_jam(tmp_path: Path) -> None:
    async def test(sim: SimMcu, pilot: McuPilot, told: Told) -> None:
        pilot.set_lock(True)
        await told.until_latest(Lock(LockPosition.LOCKED))
        sim.jam_lock(True)
        pilot.set_lock(False)
        await told.until_latest(BoardFaults(frozenset({BoardFault.LOCK})))
        assert told.latest(Lock) == Lock(LockPosition.UNKNOWN)

    mcu_run(test, tmp_path)


def test_mcu_faults_open_the_relay_and_clear(tmp_path: Path) -> None:
    async def test(sim: SimMcu, pilot: McuPilot, told: Told) -> None:
        await charge(sim, pilot, told)
        sim.set_error(McuError.RCD_TRIGGERED, True)
        await told.until_latest(BoardFaults(frozenset({BoardFault.RESIDUAL_CURRENT})))
        await told.until_latest(Contactor(False))
        sim.set_error(McuError.RCD_TRIGGERED, False)
        await told.until_latest(BoardFaults(frozenset()))
        sim.vehicle.set_diode_fault(True)
        await told.until_latest(BoardFaults(frozenset({BoardFault.DIODE})))
        sim.vehicle.set_cable_rating(99)
        await told.until_latest(BoardFaults(frozenset({BoardFault.DIODE, BoardFault.PROXIMITY})))

    mcu_run(test, tmp_path)


def test_mcu_weld_is_visible(tmp_path: Path) -> None:
    async def test(sim: SimMcu, pilot: McuPilot, told: Told) -> None:
        await charge(sim, pilot, told)
        sim.weld(True)
        pilot.allow_power(False)
        sim.vehicle.set_cp(CpState.B)
        await told.until_latest(PilotState(CpState.B))
        assert told.latest(Contactor) == Contactor(True)
        sim.weld(False)
        await told.until_latest(Contactor(False))

    mcu_run(test, tmp_path)


def test_mcu_opens_by_itself_when_we_die(tmp_path: Path) -> None:
    async def test(sim: SimMcu, pilot: McuPilot, told: Told) -> None:
        await charge(sim, pilot, told)
        pilot._stop_timers()  # the process hangs: no keep-alive, no answer, the port stays open
        heard = len(sim.heard)
        await until(lambda: not sim.vehicle.relay_closed, "the MCU's own supervision")
        assert sim.heard[heard:] == []
        assert sim.vehicle.duty_centipercent == DUTY_X1

    mcu_run(test, tmp_path)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault.SILENT, LossKind.SILENT),
        (Fault.DROP, LossKind.SILENT),
        (Fault.CORRUPT, LossKind.GARBAGE),
        (Fault.SHORT, LossKind.GARBAGE),
        (Fault.GARBAGE, LossKind.GARBAGE),
        (Fault.UNPLUG, LossKind.GONE),
    ],
)
def test_mcu_every_fault_is_a_typed_loss_and_comes_back_safe(tmp_path: Path, fault: Fault, kind: LossKind) -> None:
    async def test(sim: SimMcu, pilot: McuPilot, told: Told) -> None:
        await charge(sim, pilot, told)
        sim.faults.set(fault)
        await told.until_lost(kind)
        pilot.allow_power(True)  # while lost nothing is granted
        sim.faults.clear()
        mark = len(told.events)
        await told.until_back(2)
        assert told.count(Lost) == 1
        back = told.events.index(told.events[mark:][0])
        assert isinstance(told.events[back], Back)
        await told.until(PilotState(CpState.C), since=back)
        await told.until(Contactor(False), since=back)
        await asyncio.sleep(0.03)
        assert not sim.vehicle.relay_closed  # the station has not spoken yet
        assert sim.vehicle.duty_centipercent == DUTY_X1
        pilot.set_duty(2667)
        pilot.allow_power(True)
        await told.until_latest(Contactor(True))

    mcu_run(test, tmp_path)


def test_mcu_frames_that_come_twice_are_no_loss(tmp_path: Path) -> None:
    async def test(sim: SimMcu, pilot: McuPilot, told: Told) -> None:
        sim.faults.set(Fault.DUPLICATE, count=2)
        sim.vehicle.set_cp(CpState.B)
        await told.until_latest(PilotState(CpState.B))
        await until(lambda: not sim.faults.is_on(Fault.DUPLICATE), "both")
        assert told.count(Lost) == 0

    mcu_run(test, tmp_path)


CP_STATE, RELAIS_STATE, ERROR_FLAGS, KEEP_ALIVE = 102, 103, 104, 3


@pytest.mark.parametrize("field", [CP_STATE, RELAIS_STATE, ERROR_FLAGS, KEEP_ALIVE])
def test_mcu_one_damaged_frame_takes_power_and_has_all_states_told_anew(tmp_path: Path, field: int) -> None:
    """The MCU says each once. Whatever the damaged frame said, the truth is known in the end."""

    async def test(sim: SimMcu, pilot: McuPilot, told: Told) -> None:
        await charge(sim, pilot, told)
        sim.faults.set(Fault.CORRUPT, count=1, param=field)
        sim.set_error(McuError.CP_SIGNAL, True)  # errors, then the contactor's opening
        sim.vehicle.set_cp(CpState.A)
        await told.until_lost(LossKind.GARBAGE)
        assert pilot.counters.failures[LossKind.GARBAGE] == 1
        mark = len(told.events)
        await told.until_back(2)
        assert sim.resets == 2
        assert not sim.power_allowed
        for state in (PilotState(CpState.A), Contactor(False), BoardFaults(frozenset({BoardFault.PILOT}))):
            await told.until(state, since=mark)
        sim.set_error(McuError.CP_SIGNAL, False)
        await told.until_latest(BoardFaults(frozenset()))
        assert told.count(Lost) == 1

    mcu_run(test, tmp_path)


def test_mcu_frame_whose_end_is_lost_does_not_wait_for_the_next(tmp_path: Path) -> None:
    async def test(sim: SimMcu, pilot: McuPilot, told: Told) -> None:
        sim._cancel("beat")  # no keep-alive comes to end it
        sim._link.write(b"\x03half")
        await told.until_lost(LossKind.GARBAGE)
        assert "without end" in str(told.latest(Lost))
        await told.until_back(2)

    mcu_run(test, tmp_path, silence_ms=60_000)


def test_mcu_state_damaged_before_back_begins_the_start_again(tmp_path: Path) -> None:
    async def test(sim: SimMcu, pilot: McuPilot, told: Told) -> None:
        sim.vehicle.set_cp(CpState.B)
        sim.faults.set(Fault.CORRUPT, count=1, param=CP_STATE)
        pilot.start(told)
        await told.until_latest(PilotState(CpState.B))
        assert sim.resets == 2
        assert told.count(Lost) == 0

    mcu_run(test, tmp_path, wait_back=False)


def test_mcu_state_damaged_at_each_start_is_not_reset_without_pause(tmp_path: Path) -> None:
    async def test(sim: SimMcu, pilot: McuPilot, told: Told) -> None:
        sim.faults.set(Fault.CORRUPT, param=CP_STATE)
        pilot.start(told)
        await told.until_lost(LossKind.REFUSED)
        assert sim.resets <= 4  # of 5 ms each, in 300 ms
        sim.faults.clear()
        await told.until_back()

    mcu_run(test, tmp_path, wait_back=False, reset_wait_ms=100)


PP_STATE, LOCK_STATE = 106, 107


@pytest.mark.parametrize(
    ("field", "worst"),
    [
        (CP_STATE, PilotState(CpState.E)),
        (PP_STATE, BoardFaults(frozenset({BoardFault.PROXIMITY}))),
        (LOCK_STATE, Lock(LockPosition.UNKNOWN)),
    ],
)
def test_mcu_with_a_value_of_newer_firmware_is_driven_all_the_same(
    tmp_path: Path, field: int, worst: PilotEvent
) -> None:
    """At a start and while it runs; what was told before does not go on as if nothing had been said."""

    async def test(sim: SimMcu, pilot: McuPilot, told: Told) -> None:
        tell = sim._tell
        sim._tell = lambda number, value: tell(number, 9 if number == field else value)  # type: ignore[method-assign]
        pilot.start(told)
        await told.until_back()
        sim.vehicle.set_cp(CpState.B)
        sim.vehicle.set_cable_rating(20_000)
        await told.until_latest(worst)
        await until(lambda: sim.keep_alives_heard >= 6, "it runs")
        assert sim.resets == 1 and told.count(Lost) == 0

        sim._tell = tell  # type: ignore[method-assign]
        sim._told.clear()
        sim._update()
        known: dict[int, PilotEvent] = {
            CP_STATE: PilotState(CpState.B),
            PP_STATE: BoardFaults(frozenset()),
            LOCK_STATE: Lock(LockPosition.UNLOCKED),
        }
        await told.until_latest(known[field])
        tell(field, 9)
        await told.until_latest(worst)
        assert sim.resets == 1 and told.count(Lost) == 0

    mcu_run(test, tmp_path, wait_back=False)


def test_mcu_spurious_reset_is_a_fault_until_it_runs_safely_again(tmp_path: Path) -> None:
    async def test(sim: SimMcu, pilot: McuPilot, told: Told) -> None:
        await charge(sim, pilot, told)
        mark = len(told.events)
        heard = len(sim.heard)
        sim.faults.set(Fault.RESET)
        await told.until(BoardFaults(frozenset({BoardFault.SPURIOUS_RESET})), since=mark)
        await told.until_latest(BoardFaults(frozenset()))
        await until(lambda: (104, 0) in sim.heard[heard:], "power denied again")
        await told.until_latest(Contactor(False))  # a fresh MCU does not tell an open contactor
        assert told.count(Lost) == 0
        assert not sim.vehicle.relay_closed
        assert sim.resets == 2  # not reset again by us

    mcu_run(test, tmp_path)


def test_mcu_asked_reset_is_not_spurious_and_holds_commands(tmp_path: Path) -> None:
    async def test(sim: SimMcu, pilot: McuPilot, told: Told) -> None:
        sim.set_error(McuError.RCD_SELF_TEST, True)
        await told.until_latest(BoardFaults(frozenset({BoardFault.RESIDUAL_SELF_TEST})))
        mark = len(told.events)
        pilot.reset()
        pilot.set_duty(5000)
        sim._errors.clear()
        await told.until_latest(BoardFaults(frozenset()))
        await until(lambda: sim.vehicle.duty_centipercent == 5000, "the held duty")
        assert sim.resets == 2
        spurious = BoardFaults(frozenset({BoardFault.SPURIOUS_RESET}))
        assert spurious not in told.events[mark:]
        assert told.count(Back) == 1
        assert told.count(Lost) == 0

    mcu_run(test, tmp_path)


def test_mcu_that_never_confirms_its_reset_is_refused(tmp_path: Path) -> None:
    async def test(sim: SimMcu, pilot: McuPilot, told: Told) -> None:
        sim.faults.set(Fault.REFUSE)
        pilot.start(told)
        await told.until_lost(LossKind.REFUSED)
        sim.faults.clear()
        await told.until_back()

    mcu_run(test, tmp_path, wait_back=False)


def test_mcu_port_that_does_not_exist_yet(tmp_path: Path) -> None:
    async def test(sim: SimMcu, pilot: McuPilot, told: Told) -> None:
        sim.faults.set(Fault.UNPLUG)
        pilot.start(told)
        await told.until_lost(LossKind.GONE)
        sim.faults.clear()
        await told.until_back()
        assert told.count(Lost) == 1

    mcu_run(test, tmp_path, wait_back=False)


def test_mcu_close_leaves_the_outlet_dead(tmp_path: Path) -> None:
    async def test(sim: SimMcu, pilot: McuPilot, told: Told) -> None:
        await charge(sim, pilot, told)
        await pilot.close()
        await until(lambda: sim.vehicle.duty_centipercent == DUTY_X1, "X1")
        assert not sim.vehicle.relay_closed

    mcu_run(test, tmp_path)
