"""From a fault that the bench plays to everybody who should see it: page, metrics, log, CSMS; no car is there.

How soon a silent device counts as lost is a rule of the product (some polls); what comes on top is what this measures.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

from tests.bench.result import Figure, Tell, spread
from tests.bench.scene import BenchFailed
from tests.support.every_fault import CASES, Case, Watched, cleared, unseen_by, until, watched

_LOOK_S = 0.02
_GIVE_UP_S = 20.0
_AIM_BEYOND_LOG_S = 1.0  # the poll interval of the boards


async def measure(tell: Tell, version: str) -> list[Figure]:
    cases = [case for case in CASES if not case.charging and not case.plugged]
    with tempfile.TemporaryDirectory() as folder:
        async with watched(Path(folder), version) as scene:
            took_s: list[tuple[float, float]] = []
            for case in cases:
                logged_s, all_s = await _one(scene, case)
                took_s.append((logged_s, all_s))
                tell(f"OCPP {version}: {case}: logged after {logged_s:.2f} s, seen by all after {all_s:.2f} s")
    beyond = [all_s - logged_s for logged_s, all_s in took_s]
    whole = spread(f"fault to all, OCPP {version}", [all_s for _, all_s in took_s], "s")
    return whole + spread(f"log to all, OCPP {version}", beyond, "s", max=_AIM_BEYOND_LOG_S)


async def _one(scene: Watched, case: Case) -> tuple[float, float]:
    """Seconds until it is in the log, and until everybody sees it."""
    begun_s = time.monotonic()
    for order in case.orders:
        await scene.stage.order(case.evse, *order.split())
    logged_s = None
    while blind := await asyncio.to_thread(scene.witness.blind, case, True):
        passed_s = time.monotonic() - begun_s
        if logged_s is None and "log" not in blind:
            logged_s = passed_s
        if passed_s > _GIVE_UP_S:
            raise BenchFailed(f"{case}: not seen by {', '.join(blind)}")
        await asyncio.sleep(_LOOK_S)
    all_s = time.monotonic() - begun_s
    await scene.stage.order(case.evse, "clear")
    await until(lambda: cleared(scene.station, case.evse))
    if still := await unseen_by(scene.witness, case, there=False):
        raise BenchFailed("; ".join(still))
    return all_s if logged_s is None else logged_s, all_s
