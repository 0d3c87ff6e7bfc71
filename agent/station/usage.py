"""The station's use, hour by hour: what the core shows after each event, folded, and kept every quarter of an hour.

Charter: looks at the core and changes nothing. Reading and writing the file happen in a thread; a file that cannot be
written is tried again a quarter of an hour later, and keeps nobody from charging. Where nothing happens, writing once
an hour will do. A power cut loses the times since the last writing and no energy: the registers are kept with the
hours, and the next reading is counted from there.

Units: as in ``agent.usage.model``.
"""

from __future__ import annotations

import asyncio
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from agent.core.evse import Evse
from agent.core.facts import ChargingState
from agent.core.session import SessionState
from agent.core.station import Station
from agent.core.status import FaultCode
from agent.station.disk import raise_what_crashed
from agent.usage.fold import Fold, Levels
from agent.usage.model import PAGE_HOURS, RegisterAt, UsageHour, joined
from agent.usage.store import UsageStore
from hal.ports import MeterReading

SAVE_EVERY_S: Final = 900.0
QUIET_TURNS: Final = 4
"""So many times this, where nothing but time has passed."""

_FREE: Final = (SessionState.IDLE, SessionState.WAITING)
_METER_FAULTS: Final = frozenset({FaultCode.METER_LOST, FaultCode.METER_IMPLAUSIBLE})
_HOUR_LIMIT: Final = 2**40
"""Hours beyond are nobody's; so large a number can be calculated with."""

log = structlog.get_logger("usage")


@dataclass(slots=True)
class _Seen:
    """What was last seen of an EVSE."""

    levels: Levels
    tx_id: str | None
    faults: tuple[FaultCode, ...]
    reading: MeterReading | None


class Usage:
    """See the module. Call ``look`` after every event, ``close`` at the end."""

    def __init__(self, core: Station, path: Path, at_ms: int) -> None:
        self._core = core
        self._store = UsageStore(path)
        self._fold = Fold(core.evses, at_ms, self._registers())
        self._seen: dict[int, _Seen] = {}
        self._clock: tuple[int, str] | None = None
        self._online = False
        self._dropped_ms = 0
        self._quiet_turns = 0
        self._loop = asyncio.get_running_loop()
        self._disk = asyncio.Lock()  # what is under way to the file is for a moment neither here nor there
        self._timer = self._loop.call_later(SAVE_EVERY_S, self._due)
        self._saving: asyncio.Task[None] | None = None

    def look(self) -> None:
        """The core has handled an event."""
        ctx = self._core.ctx
        at_ms = ctx.at_ms
        if (clock := (ctx.wall_offset_ms, ctx.time_status)) != self._clock:
            self._clock = clock
            self._fold.set_clock(at_ms, None if ctx.time_status == "U" else ctx.wall_offset_ms)
        if ctx.online is not self._online:
            self._online = ctx.online
            self._fold.set_link(at_ms, up=ctx.online)
        for number, evse in self._core.evses.items():
            self._look_at(number, evse, at_ms)

    async def hours(self, first_hour: int, hours: int, evse: int | None) -> list[UsageHour]:
        """As ``StationPort.usage``. A file that cannot be read has nothing to tell."""
        first_hour = max(-_HOUR_LIMIT, min(first_hour, _HOUR_LIMIT))
        hours = max(0, min(hours, PAGE_HOURS))
        async with self._disk:
            try:
                kept = await asyncio.to_thread(self._store.rows, first_hour, hours, evse)
            except (OSError, sqlite3.Error) as error:
                log.error("usage statistics cannot be read", why=str(error))
                kept = []
            rows = {(row.hour, row.evse): row for row in kept}
            for key, row in self._fold.rows(self._core.ctx.at_ms).items():
                if first_hour <= row.hour < first_hour + hours and evse in (None, row.evse):
                    rows[key] = joined(rows[key], row) if key in rows else row
        return [rows[key] for key in sorted(rows)]

    async def close(self) -> None:
        """Keep what has come together since the last time."""
        self._timer.cancel()
        await self._save()

    # ------------------------------------------------------------------------------------- looking

    def _look_at(self, number: int, evse: Evse, at_ms: int) -> None:
        flow, reading = evse.flow, evse.reading
        faults = evse.faults.active
        charging = flow.active and flow.tx is not None and flow.tx.told_state is ChargingState.CHARGING
        levels = Levels(flow.state not in _FREE, charging, bool(faults))
        tx_id = None if flow.tx is None else flow.tx.tx_id
        seen = self._seen.get(number)
        if seen is None:  # what a start finds has been counted before
            seen = self._seen[number] = _Seen(Levels(), tx_id, faults, None)
        if levels != seen.levels:
            self._fold.set_levels(at_ms, number, levels)
            seen.levels = levels
        if tx_id != seen.tx_id:
            if tx_id is not None:
                self._fold.session_started(at_ms, number)
            seen.tx_id = tx_id
        if faults != seen.faults:
            if came := set(faults) - set(seen.faults):
                self._fold.faults_came(at_ms, number, len(came))
            if not _METER_FAULTS.isdisjoint(faults):
                self._fold.meter_lost(number)
            seen.faults = faults
        if reading is not None and reading is not seen.reading:
            stands = RegisterAt(reading.serial, reading.energy_import_mwh)
            self._fold.read(at_ms, number, stands, reading.power_mw // 1_000)
            seen.reading = reading

    # -------------------------------------------------------------------------------------- keeping

    def _registers(self) -> dict[int, RegisterAt]:
        try:
            return self._store.registers()
        except (OSError, sqlite3.Error) as error:
            log.error("usage statistics cannot be read", why=str(error))
            return {}

    def _due(self) -> None:
        self._timer = self._loop.call_later(SAVE_EVERY_S, self._due)
        self._quiet_turns += 1
        if not self._fold.stirred and self._quiet_turns < QUIET_TURNS:
            return
        self._quiet_turns = 0
        self._saving = self._loop.create_task(self._save())
        self._saving.add_done_callback(raise_what_crashed)

    async def _save(self) -> None:
        async with self._disk:
            taken = self._fold.take(self._core.ctx.at_ms)
            if taken is None:
                return
            try:
                dropped_ms = await asyncio.to_thread(self._store.add, taken)
            except (OSError, sqlite3.Error) as error:
                log.error("usage statistics cannot be written", why=str(error))
                self._fold.put_back(taken)
                return
        dropped_ms += self._fold.dropped_ms - self._dropped_ms
        self._dropped_ms = self._fold.dropped_ms
        if dropped_ms:
            log.warning("time that has no place in any hour is not counted", dropped_ms=dropped_ms)
