"""The OpenEVSE pilot driver against its board's simulator, byte for byte over a pty.

Times are shortened by the driver's and simulator's own settings; every wait is for a condition.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hal.pilots.openevse import OpenEvseConfig, OpenEvsePilot
from hal.ports import (
    Back,
    Contactor,
    CpState,
    LossKind,
    Lost,
    PilotState,
)
from hal.sim.faults import Fault
from hal.sim.openevse_firmware import State
from hal.sim.rapi_board import SimOpenEvse
from tests.integration.openevse_rig import EVSE_TIMES, FAST, evse_charge, evse_run
from tests.integration.pilot_rig import Told, until

pytestmark = pytest.mark.wire


@pytest.fixture
def board(tmp_path: Path) -> Iterator[SimOpenEvse]:
    sim = SimOpenEvse(tmp_path / "evse", timing=FAST, heartbeat=(5, 6))
    yield sim
    sim.close()


def test_evse_start_stops_a_board_that_charges_on_its_own(board: SimOpenEvse) -> None:
    async def test(pilot: OpenEvsePilot, told: Told) -> None:
        board.vehicle.set_cp(CpState.C)
        await until(lambda: board.vehicle.relay_closed, "the board left alone charges")
        pilot.start(told)
        await told.until_back()
        await told.until_latest(Contactor(False))
        assert board.firmware.state is State.SLEEPING
        assert told.latest(PilotState) == PilotState(CpState.B)
        assert "8.2.3" in str(told.latest(Back))
        capabilities = pilot.capabilities
        assert capabilities.autonomous
        assert capabilities.has_contactor_feedback
        assert not capabilities.can_signal_digital
        assert capabilities.max_current_ma == 32_000

    evse_run(board, test, wait_back=False)


def test_evse_charges_follows_the_limit_and_stops(board: SimOpenEvse) -> None:
    async def test(pilot: OpenEvsePilot, told: Told) -> None:
        await evse_charge(board, pilot, told)
        assert board.firmware.amps == 16
        pilot.offer(10_900)
        await until(lambda: board.firmware.amps == 10, "10 A, rounded down")
        pilot.offer(63_000)
        await until(lambda: board.firmware.amps == 32, "clamped to the board's maximum")
        pilot.stop()
        await until(lambda: board.firmware.state is State.SLEEPING, "sleep")
        assert board.vehicle.relay_closed  # waits for the vehicle to let go
        board.vehicle.set_cp(CpState.B)
        await told.until_latest(Contactor(False))
        assert told.latest(PilotState) == PilotState(CpState.B)
        board.vehicle.set_cp(CpState.A)
        await told.until_latest(PilotState(CpState.A))

    evse_run(board, test)


def test_evse_disable_opens_under_load(board: SimOpenEvse) -> None:
    async def test(pilot: OpenEvsePilot, told: Told) -> None:
        await evse_charge(board, pilot, told)
        pilot.disable()
        await told.until_latest(Contactor(False))
        await told.until_latest(PilotState(CpState.F))
        assert board.vehicle.cp is CpState.C
        pilot.stop()
        await told.until_latest(PilotState(CpState.B))

    evse_run(board, test)


def test_evse_an_offer_below_the_minimum_is_a_stop(board: SimOpenEvse) -> None:
    async def test(pilot: OpenEvsePilot, told: Told) -> None:
        await evse_charge(board, pilot, told)
        pilot.offer(5_999)
        await until(lambda: board.firmware.state is State.SLEEPING, "sleep")

    evse_run(board, test)


def test_evse_stop_overtakes_the_command_in_flight(tmp_path: Path) -> None:
    # A long heartbeat, so that nothing but the stop itself can bring the FS.
    board = SimOpenEvse(tmp_path / "evse", timing=replace(FAST, second_ms=1_000), heartbeat=(5, 6))

    async def test(pilot: OpenEvsePilot, told: Told) -> None:
        await evse_charge(board, pilot, told)
        board.faults.set(Fault.DROP)  # a command hangs
        heard = len(board.heard)
        await until(lambda: len(board.heard) > heard, "a command that gets no reply")
        in_flight, heard = pilot._exchange._answer, len(board.heard)
        assert in_flight is not None
        pilot.stop()
        await until(lambda: "FS" in board.heard[heard:], "the stop")
        assert pilot._exchange._answer is in_flight
        board.faults.clear()

    try:
        evse_run(board, test, reply_timeout_ms=300)
    finally:
        board.close()


def test_evse_a_lost_stop_is_repeated_until_confirmed(board: SimOpenEvse) -> None:
    async def test(pilot: OpenEvsePilot, told: Told) -> None:
        await evse_charge(board, pilot, told)
        sleep, deaf = board.firmware.sleep, [2]

        def hard_of_hearing() -> None:
            if deaf[0]:
                deaf[0] -= 1
            else:
                sleep()

        board.firmware.sleep = hard_of_hearing  # type: ignore[method-assign]
        pilot.stop()
        await until(lambda: board.firmware.state is State.SLEEPING, "sleep at the third FS")

    evse_run(board, test)


def test_evse_a_retry_never_undoes_a_newer_stop(board: SimOpenEvse) -> None:
    async def test(pilot: OpenEvsePilot, told: Told) -> None:
        board.vehicle.set_cp(CpState.C)
        await told.until_latest(PilotState(CpState.B))
        enable = board.firmware.enable

        def enable_and_fall_silent() -> None:
            enable()
            board.faults.set(Fault.DROP)

        board.firmware.enable = enable_and_fall_silent  # type: ignore[method-assign]
        pilot.offer(16_000)
        await until(lambda: "FE" in board.heard, "the enable, whose reply gets lost")
        pilot.stop()
        heard = len(board.heard)
        await until(lambda: "FS" in board.heard[heard:], "the stop")
        board.faults.clear()
        await until(lambda: board.heard[heard:].count("GS") >= 3, "three rounds")
        assert "FE" not in board.heard[heard:]
        assert board.firmware.state is State.SLEEPING
        assert not board.vehicle.relay_closed

    evse_run(board, test)


def test_evse_writes_the_eeprom_once_in_its_life(tmp_path: Path) -> None:
    sim = SimOpenEvse(tmp_path / "evse", timing=FAST, heartbeat=(0, 0))

    async def use(pilot: OpenEvsePilot, told: Told) -> None:
        for amps in (10, 16, 8):
            pilot.offer(amps * 1000)
            await until(lambda amps=amps: sim.firmware.amps == amps, f"{amps} A")  # type: ignore[misc]
        pilot.stop()
        await until(lambda: sim.firmware.state is State.SLEEPING, "sleep")

    async def test(pilot: OpenEvsePilot, told: Told) -> None:
        await use(pilot, told)
        for _ in range(2):  # the agent starts again, and again
            await pilot.close()
            told, pilot = Told(), OpenEvsePilot(OpenEvseConfig(sim.path, **EVSE_TIMES))
            pilot.start(told)
            await told.until_back()
            await use(pilot, told)
        await pilot.close()
        assert sim.firmware.heartbeat == (5, 6)
        assert sim.firmware.eeprom_writes == 1

    try:
        evse_run(sim, test)
    finally:
        sim.close()


class HardOfHearing(SimOpenEvse):
    """Does not hear that its heartbeat is set, ``lose`` times."""

    lose = 1

    def _process(self, frame: bytes) -> None:
        if frame.startswith(b"$SY 5 6") and self.lose:
            self.lose -= 1
            return
        super()._process(frame)


def test_evse_a_heartbeat_that_was_not_set_is_found_at_the_next_beat(tmp_path: Path) -> None:
    sim = HardOfHearing(tmp_path / "evse", timing=FAST, heartbeat=(0, 0))

    async def test(pilot: OpenEvsePilot, told: Told) -> None:
        await evse_charge(sim, pilot, told)
        await until(lambda: sim.firmware.heartbeat == (5, 6), "heartbeat supervision")
        heard = len(sim.heard)
        await until(lambda: sim.heard[heard:].count("SY") >= 3, "three rounds")
        assert sim.firmware.eeprom_writes == 1
        sim.faults.set(Fault.SILENT)
        await until(lambda: sim.firmware.amps == 6, "the fallback current")
        assert told.count(Back) == 1

    try:
        evse_run(sim, test)
    finally:
        sim.close()


def test_evse_a_heartbeat_that_others_set_is_set_again_each_time(board: SimOpenEvse) -> None:
    async def test(pilot: OpenEvsePilot, told: Told) -> None:
        for times in range(1, 13):
            board.firmware.heartbeat = (0, 0)
            await until(lambda: board.firmware.heartbeat == (5, 6), f"ours, {times} times")
            board.heard = []
            await until(lambda: "SY" in board.heard, "the beat that confirms it")
        assert told.count(Lost) == 0 and board.firmware.eeprom_writes == 12

    evse_run(board, test)


def test_evse_a_board_whose_beats_are_answered_otherwise_is_asked_and_not_written(board: SimOpenEvse) -> None:
    async def test(pilot: OpenEvsePilot, told: Told) -> None:
        obey = board._obey
        board._obey = lambda command, arguments: (  # type: ignore[method-assign]
            (True, "05 06 0") if command == "SY" and not arguments else obey(command, arguments)
        )
        await evse_charge(board, pilot, told)
        heard = len(board.heard)
        await until(lambda: board.heard[heard:].count("SY") >= 3, "three rounds")
        assert board.firmware.eeprom_writes == 0
        assert told.count(Lost) == 0 and board.vehicle.relay_closed

    evse_run(board, test)


def test_evse_a_board_that_keeps_no_heartbeat_is_refused_and_its_eeprom_spared(tmp_path: Path) -> None:
    sim = HardOfHearing(tmp_path / "evse", timing=FAST, heartbeat=(0, 0))
    sim.lose = 1_000

    async def test(pilot: OpenEvsePilot, told: Told) -> None:
        await told.until_lost(LossKind.REFUSED)
        assert "heartbeat" in str(told.latest(Lost))
        tried, heard = 1_000 - sim.lose, len(sim.heard)
        assert tried == 10
        await until(lambda: sim.heard[heard:].count("GY") >= 3, "three more tries to begin")
        assert 1_000 - sim.lose == tried

    try:
        evse_run(sim, test)
    finally:
        sim.close()


def test_evse_missed_heartbeat_is_acknowledged_and_the_current_applied_again(board: SimOpenEvse) -> None:
    async def test(pilot: OpenEvsePilot, told: Told) -> None:
        await evse_charge(board, pilot, told)
        sent = pilot._line.write
        pilot._line.write = lambda frame: None  # type: ignore[method-assign]  # our process hangs
        await until(lambda: board.firmware.amps == 6, "the fallback current")
        assert board.vehicle.relay_closed  # the heartbeat limits, it does not stop
        heard = len(board.heard)
        pilot._line.write = sent  # type: ignore[method-assign]
        await until(lambda: board.firmware.heartbeat_trigger == 1, "the acknowledgement")
        await until(lambda: board.firmware.amps == 16, "16 A again")
        after = board.heard[heard:]
        assert "SC 16 V" in after[after.index("SY 165") :]
        assert board.firmware.eeprom_writes == 0

    evse_run(board, test, reply_timeout_ms=150)


def test_evse_without_heartbeat_supervision_is_refused(board: SimOpenEvse) -> None:
    async def test(pilot: OpenEvsePilot, told: Told) -> None:
        get = board._get
        board._get = lambda command: None if command == "GY" else get(command)  # type: ignore[method-assign]
        pilot.start(told)
        await told.until_lost(LossKind.REFUSED)

    evse_run(board, test, wait_back=False)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault.SILENT, LossKind.SILENT),
        (Fault.DROP, LossKind.SILENT),
        (Fault.DELAY, LossKind.SILENT),
        (Fault.WRONG_UNIT, LossKind.SILENT),  # the answer to another question is no answer
        (Fault.CORRUPT, LossKind.GARBAGE),
        (Fault.GARBAGE, LossKind.GARBAGE),
        (Fault.SHORT, LossKind.GARBAGE),
        (Fault.REFUSE, LossKind.REFUSED),
        (Fault.UNPLUG, LossKind.GONE),
    ],
)
def test_evse_every_fault_is_a_typed_loss_and_the_wanted_state_comes_back(
    board: SimOpenEvse, fault: Fault, kind: LossKind
) -> None:
    async def test(pilot: OpenEvsePilot, told: Told) -> None:
        await evse_charge(board, pilot, told)
        board.faults.set(fault)
        await told.until_lost(kind)
        board.faults.clear()
        mark = len(told.events)
        await told.until_back(2)
        assert told.count(Lost) == 1
        await told.until(Contactor(True), since=mark)
        await told.until(PilotState(CpState.C), since=mark)
        await until(lambda: board.firmware.amps == 16, "the current wanted before")

    evse_run(board, test)


def test_evse_a_stop_given_while_lost_is_done_on_return(board: SimOpenEvse) -> None:
    async def test(pilot: OpenEvsePilot, told: Told) -> None:
        await evse_charge(board, pilot, told)
        board.faults.set(Fault.UNPLUG)
        await told.until_lost(LossKind.GONE)
        pilot.stop()
        board.faults.clear()
        await told.until_back(2)
        await until(lambda: board.firmware.state is State.SLEEPING, "sleep")

    evse_run(board, test)


@pytest.mark.parametrize("fault", [Fault.DROP, Fault.CORRUPT, Fault.DELAY, Fault.DUPLICATE, Fault.SHORT])
def test_evse_a_single_hiccup_is_no_loss(board: SimOpenEvse, fault: Fault) -> None:
    async def test(pilot: OpenEvsePilot, told: Told) -> None:
        board.faults.set(fault, count=1)
        heard = len(board.heard)
        await until(lambda: board.heard[heard:].count("GS") >= 3, "three rounds")
        assert told.count(Lost) == 0
        assert told.count(Back) == 1

    evse_run(board, test)


def test_evse_tells_when_the_board_can_do_less(board: SimOpenEvse) -> None:
    async def test(pilot: OpenEvsePilot, told: Told) -> None:
        board.firmware.max_a = 13
        await told.until_latest(replace(pilot.capabilities, max_current_ma=13_000))

    evse_run(board, test)


def test_evse_switched_off_checks_are_named_and_the_relay_not_vouched_for(tmp_path: Path) -> None:
    sim = SimOpenEvse(tmp_path / "evse", timing=FAST, heartbeat=(5, 6), settings_flags=0x0018)

    async def test(pilot: OpenEvsePilot, told: Told) -> None:
        assert "ground, stuck relay" in str(told.latest(Back))
        assert told.events[1] == pilot.capabilities
        assert not pilot.capabilities.has_contactor_feedback
        assert told.latest(Contactor) == Contactor(False)  # as commanded: without it the station would never grant
        await evse_charge(sim, pilot, told)

    try:
        evse_run(sim, test)
    finally:
        sim.close()


def test_evse_close_stops_the_board(board: SimOpenEvse) -> None:
    async def test(pilot: OpenEvsePilot, told: Told) -> None:
        await evse_charge(board, pilot, told)
        await pilot.close()
        await until(lambda: not board.vehicle.relay_closed, "open relay")
        assert board.firmware.state in (State.SLEEPING, State.DISABLED)

    evse_run(board, test)


# ================================================================================= the line itself


def test_board_buffer_drops_what_is_too_long(board: SimOpenEvse) -> None:
    """The simulator's own strictness, against which the codec's limit is worth something."""

    async def main() -> None:
        board.start(asyncio.get_running_loop())
        board._received(b"$FP 0 0 a text longer than the buffer\r$GS^30\r$GS^31\r$GV*C1\r")
        assert board.heard == ["GS", "GV"]

    asyncio.run(main())
