"""From a remote start sent by the CSMS to the transaction's start on the wire there; the car is plugged in."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from tests.bench.raw_csms import RawCsms
from tests.bench.result import Figure, Tell, spread
from tests.bench.scene import heard, stage_with

_AIM_P95_MS = 15.0


class _Ear:
    """What the rounds wait for."""

    def __init__(self) -> None:
        self.free, self.occupied, self.started, self.ended = (asyncio.Event() for _ in range(4))
        self.started_ns = 0

    def hear(self, action: str, payload: dict[str, Any], at_ns: int) -> None:
        if action == "StatusNotification":
            if payload.get("connectorId", 0) > 0:
                state = payload.get("status") or payload.get("connectorStatus")
                (self.free if state == "Available" else self.occupied).set()
        elif action == "StartTransaction" or payload.get("eventType") == "Started":
            self.started_ns = at_ns
            self.started.set()
        elif action == "StopTransaction" or payload.get("eventType") == "Ended":
            self.ended.set()


async def measure(tell: Tell, version: str, rounds: int) -> list[Figure]:
    ear = _Ear()
    csms = RawCsms(version, ear.hear)
    took_ms: list[float] = []
    async with stage_with(csms, ("mcu_ac",), 60) as stage:
        await stage.start()
        await heard(csms.connected, "the CSMS link")
        for number in range(1, rounds + 1):
            await heard(ear.free, "the EVSE to be free")
            for event in (ear.occupied, ear.started, ear.ended):
                event.clear()
            await stage.order(1, "plug")
            await heard(ear.occupied, "the car to be seen")
            ear.free.clear()
            await asyncio.sleep(0.3)  # whatever plugging in caused is over
            sent_ns = time.monotonic_ns()
            await csms.call(*_remote_start(version, number))
            await heard(ear.started, "the start of the transaction")
            took_ms.append((ear.started_ns - sent_ns) / 1e6)
            await stage.order(1, "unplug")
            await heard(ear.ended, "the end of the transaction")
            if number % 10 == 0:
                tell(f"OCPP {version}: {number} of {rounds} rounds")
    return spread(f"remote start, OCPP {version}", took_ms, "ms", p95=_AIM_P95_MS)


def _remote_start(version: str, number: int) -> tuple[str, dict[str, Any]]:
    if version == "1.6":
        return "RemoteStartTransaction", {"connectorId": 1, "idTag": "REMOTE-7"}
    token = {"idToken": "REMOTE-7", "type": "Central"}
    return "RequestStartTransaction", {"idToken": token, "remoteStartId": number, "evseId": 1}
