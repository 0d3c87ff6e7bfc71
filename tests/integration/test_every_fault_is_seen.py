"""Each fault that the bench can play is seen everywhere: page, metrics, OCPP in both dialects, log; and goes again.

Real processes on simulated boards, a real WebSocket to a CSMS, real HTTP to the local page. One station in each dialect
goes through the whole table, its EVSEs side by side. Faults that need a car are the last of the table.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agent.core.status import FaultCode
from agent.sim.defects import defects_of
from hal.sim.mcu_board import SimMcu
from hal.sim.rapi_board import SimOpenEvse
from tests.support.every_fault import AC, CASES, DC, OPENEVSE, play, watched

pytestmark = pytest.mark.wire


def test_the_table_has_every_defect_of_the_bench() -> None:
    """A defect that is added to the bench must be added here."""
    played = {name for case in CASES for order in case.orders for name in [order.removeprefix("break ")]}
    alike = {"module", "module_fan", "module_hot"}  # the same alarm in other words
    for board in (SimMcu(), SimOpenEvse()):
        assert set(defects_of(board, None)) - {"diode", "jam"} <= played | alike


def test_the_table_has_every_fault_that_a_board_can_tell() -> None:
    untold = set(FaultCode) - {FaultCode(case.code) for case in CASES if case.code in set(FaultCode)}
    assert untold == {
        FaultCode.LEDGER,  # the process ends: tests/crash and the simulated world
    }


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
def test_every_fault_is_seen_everywhere_and_goes_again(version: str, tmp_path: Path) -> None:
    async def main() -> None:
        unseen: list[str] = []
        async with watched(tmp_path, version) as scene:

            async def at(evse: int) -> None:
                for case in CASES:
                    if case.evse == evse:
                        unseen.extend(await play(scene.stage, scene.station, scene.witness, case))

            async with asyncio.TaskGroup() as tasks:
                for evse in (AC, OPENEVSE, DC):
                    tasks.create_task(at(evse))
            assert not unseen, "\n".join(unseen)
            assert not scene.csms.book.violations

    asyncio.run(main())
