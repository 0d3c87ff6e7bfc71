"""Delivery of 10,000 sessions that happened offline: rate, order, completeness, and memory meanwhile."""

from __future__ import annotations

import asyncio
import time
import uuid
from pathlib import Path
from typing import Any

from agent.core.facts import (
    ChargingState,
    Sample,
    SampleContext,
    StopReason,
    Token,
    TransactionFact,
    Trigger,
    TxKind,
    kind_of,
)
from agent.ipc.codec import encode_fact
from agent.ledger.rows import NewRow
from agent.ledger.store import Birth, open_ledger
from agent.ledger.writer import LedgerWriter
from tests.bench.processes import PRODUCT, memory, pid_of
from tests.bench.raw_csms import RawCsms
from tests.bench.result import Figure, Tell
from tests.bench.scene import BenchFailed, stage_with, start_devices

_BATCH_ROWS = 2_000  # the writer's queue is bounded
_SESSION_MS = 60_000
_SESSION_MWH = 7_000_000
_SAMPLE_S = 1.0
_LONGEST_S = 1_200
_GROWTH_AIM_MIB = 8.0


class _Ear:
    """The transactions as they arrive; ``faults`` names the first things out of order."""

    def __init__(self, sessions: int) -> None:
        self.messages = 0
        self.begun_ns = self.ended_ns = 0
        self.all = asyncio.Event()
        self.faults: list[str] = []
        self._sessions = sessions

    def hear(self, action: str, payload: dict[str, Any], at_ns: int) -> None:
        register = _register_wh(action, payload)
        if register is None:
            return
        session, ending = divmod(self.messages, 2)
        expected = (session + ending) * _SESSION_MWH // 1_000
        if register != expected and len(self.faults) < 5:
            self.faults.append(f"message {self.messages}: register {register} Wh, expected {expected}")
        self.begun_ns = self.begun_ns or at_ns
        self.messages += 1
        if self.messages == 2 * self._sessions:
            self.ended_ns = at_ns
            self.all.set()


def _register_wh(action: str, payload: dict[str, Any]) -> int | None:
    """Each session starts where the one before it ended, so the register tells which message this is."""
    if action == "StartTransaction":
        return int(payload["meterStart"])
    if action == "StopTransaction":
        return int(payload["meterStop"])
    if action == "TransactionEvent":
        for sample in payload["meterValue"][-1]["sampledValue"]:
            if sample.get("measurand", "").startswith("Energy.Active.Import.Register"):
                return round(float(sample["value"]))
    return None


async def measure(tell: Tell, version: str, sessions: int) -> list[Figure]:
    ear = _Ear(sessions)
    csms = RawCsms(version, ear.hear)
    async with stage_with(csms, ("mcu_ac",), 60) as stage:
        began_s = time.monotonic()
        await _write(stage.folder / "data" / "ledger.sqlite", sessions)
        tell(f"{sessions} sessions written in {time.monotonic() - began_s:.1f} s")
        await start_devices(stage)
        await stage.launch("run")
        await (await stage.station()).close()
        pids = {name: pid_of(stage, name) for name in PRODUCT}
        sizes = await _sample_until_all(tell, ear, pids)
    if ear.faults:
        raise BenchFailed("; ".join(ear.faults))
    passed_s = (ear.ended_ns - ear.begun_ns) / 1e9
    label = f"OCPP {version}"
    return [
        Figure(f"{label}: {ear.messages} messages delivered", passed_s, "s"),
        Figure(f"{label}: rate", ear.messages / passed_s, "messages/s"),
        *(figure for name in PRODUCT for figure in _growth(label, name, sizes[name])),
    ]


async def _write(path: Path, sessions: int) -> None:
    path.parent.mkdir(parents=True)
    wall_ms = int(time.time() * 1_000) - (sessions + 1) * _SESSION_MS
    open_ledger(path, Birth("bench", "SIM-0001", "bench-boot", 0, wall_ms, "S"))
    failures: list[Exception] = []
    writer = LedgerWriter(path, asyncio.get_running_loop(), failures.append)
    rows = [row for number in range(sessions) for row in _session(number, wall_ms)]
    for first in range(0, len(rows), _BATCH_ROWS):
        done = asyncio.Event()
        writer.append(rows[first : first + _BATCH_ROWS], on_durable=lambda _, done=done: done.set())  # type: ignore[misc]
        await done.wait()
    await writer.close()
    if failures:
        raise BenchFailed(str(failures[0]))


def _session(number: int, wall_ms: int) -> list[NewRow]:
    tx_id, token = str(uuid.UUID(int=number + 1)), Token("04A1B2C3D4E5F6")
    rows = []
    for kind, seq_no in ((TxKind.STARTED, 0), (TxKind.ENDED, 1)):
        ending = kind is TxKind.ENDED
        at_ms = number * _SESSION_MS + (_SESSION_MS - 1_000) * ending
        context = SampleContext.END if ending else SampleContext.BEGIN
        fact = TransactionFact(
            kind=kind,
            tx_id=tx_id,
            seq_no=seq_no,
            evse=1,
            trigger=Trigger.EV_DEPARTED if ending else Trigger.AUTHORIZED,
            charging_state=ChargingState.IDLE if ending else ChargingState.EV_CONNECTED,
            offline=True,
            samples=(Sample(context, at_ms, "20000001", (number + seq_no) * _SESSION_MWH),),
            token=None if ending else token,
            stopped_reason=StopReason.EV_DISCONNECTED if ending else None,
        )
        body = encode_fact(fact)
        rows.append(NewRow(kind_of(fact), body, "bench-boot", at_ms, wall_ms + at_ms, "S", tx_id, 1))
    return rows


async def _sample_until_all(tell: Tell, ear: _Ear, pids: dict[str, int]) -> dict[str, list[float]]:
    """RSS in MiB by process, once a second, until all is delivered."""
    sizes: dict[str, list[float]] = {name: [] for name in pids}
    deadline_s = time.monotonic() + _LONGEST_S
    while not ear.all.is_set():
        if time.monotonic() > deadline_s:
            raise BenchFailed(f"after {_LONGEST_S} s only {ear.messages} messages have come")
        await asyncio.sleep(_SAMPLE_S)
        for name, pid in pids.items():
            sizes[name].append(memory(pid).rss_kib / 1024)
        if len(sizes["station"]) % 10 == 0:
            tell(f"{ear.messages} messages, " + ", ".join(f"{name} {each[-1]:.1f} MiB" for name, each in sizes.items()))
    return sizes


def _growth(label: str, name: str, mib: list[float]) -> list[Figure]:
    """Memory is flat when the peak is near what it was once delivery ran (a tenth of the way in)."""
    early = mib[len(mib) // 10]
    return [
        Figure(f"{label}: {name} rss peak", max(mib), "MiB"),
        Figure(f"{label}: {name} rss growth", max(mib) - early, "MiB", _GROWTH_AIM_MIB),
    ]
