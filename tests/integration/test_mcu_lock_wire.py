"""A microcontroller that no longer knows where its lock is: it is driven there again, whatever reset it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hal.pilots.mcu import McuPilot
from hal.ports import BoardFault, BoardFaults, Lock, LockPosition
from hal.sim.faults import Fault
from hal.sim.mcu_board import SimMcu
from tests.integration.pilot_rig import Told, until
from tests.integration.test_mcu_wire import mcu_run

pytestmark = pytest.mark.wire


def test_mcu_that_no_longer_knows_its_lock_drives_it_again(tmp_path: Path) -> None:
    async def test(sim: SimMcu, pilot: McuPilot, told: Told) -> None:
        pilot.set_lock(True)
        await told.until_latest(Lock(LockPosition.LOCKED))
        locked = len(told.events)
        sim.lock = LockPosition.UNKNOWN
        sim.faults.set(Fault.RESET)
        await told.until(BoardFaults(frozenset({BoardFault.SPURIOUS_RESET})))
        await told.until(Lock(LockPosition.UNKNOWN), since=locked)
        await told.until_latest(BoardFaults(frozenset()))
        await until(lambda: sim.lock is LockPosition.LOCKED, "locked again")

    mcu_run(test, tmp_path)


def test_mcu_that_is_reset_on_purpose_drives_its_lock_again(tmp_path: Path) -> None:
    """A technician clears faults in mid-session."""

    async def test(sim: SimMcu, pilot: McuPilot, told: Told) -> None:
        pilot.set_lock(True)
        await told.until_latest(Lock(LockPosition.LOCKED))
        sim.lock = LockPosition.UNKNOWN
        pilot.reset()
        await until(lambda: sim.resets == 2, "the reset")
        await until(lambda: sim.lock is LockPosition.LOCKED, "locked again")

    mcu_run(test, tmp_path)
