"""An OpenEVSE board's simulator and its driver, joined for a test. Times are shortened by the settings of both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from hal.pilots.openevse import OpenEvseConfig, OpenEvsePilot
from hal.ports import Contactor, CpState, PilotState
from hal.sim.openevse_firmware import OpenEvseTiming, State
from hal.sim.rapi_board import SimOpenEvse
from tests.integration.pilot_rig import Told, until

FAST = OpenEvseTiming(
    debounce_ms=20,
    debounce_to_a_ms=5,
    sleep_open_ms=60,
    stuck_check_ms=40,
    ground_check_ms=40,
    boot_ms=20,
    second_ms=40,
)
EVSE_TIMES: dict[str, Any] = {"poll_ms": 50, "reply_timeout_ms": 50, "boot_ms": 500, "close_ms": 300}


def evse_run(
    sim: SimOpenEvse,
    test: Callable[[OpenEvsePilot, Told], Coroutine[Any, Any, None]],
    *,
    wait_back: bool = True,
    **config: Any,
) -> None:
    async def main() -> None:
        sim.start(asyncio.get_running_loop())
        told = Told()
        pilot = OpenEvsePilot(OpenEvseConfig(sim.path, **{**EVSE_TIMES, **config}))
        try:
            if wait_back:
                pilot.start(told)
                await told.until_back()
            await test(pilot, told)
        finally:
            await pilot.close()

    asyncio.run(main())


async def evse_charge(sim: SimOpenEvse, pilot: OpenEvsePilot, told: Told) -> None:
    sim.vehicle.set_cp(CpState.B)
    await told.until_latest(PilotState(CpState.B))
    pilot.offer(16_000)
    await until(lambda: sim.firmware.state is State.B, "enabled")
    sim.vehicle.set_cp(CpState.C)
    await told.until_latest(Contactor(True))
