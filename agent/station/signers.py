"""Meters that sign by themselves: their record of a transaction, begun and ended around it.

Charter: one ``MeterRecords`` per station asks the meters; the shell waits for the answers where a fact must
wait for them. A meter's record passes through untouched and takes the place of ours; where the meter gives
none, ours is made and the log book says why. Knows no ledger: what is durable is told to it.

Order (metering reference 4.4, hardware reference EM580): the record begins before energy may flow and ends after
the contactor is open; the meter may forget it (``confirm``) only once it is on disk here. What a meter still
holds after a restart, or when another transaction begins, is fetched, kept without a transaction, and then confirmed.

A meter that lost its supply has ended its record by itself. That is the transaction's where it did not go on
afterwards; else it holds a part only, and ours takes its place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime
from typing import TypeVar
from zoneinfo import ZoneInfo

import structlog

from agent.billing.record import Identity, identification
from agent.core.facts import LogEntry, LogFact, Token
from agent.ocmf.record import plain_text
from hal.ports import (
    DeviceError,
    HeldRecord,
    RecordFailed,
    RecordFault,
    RecordRequest,
    SignedRecord,
    SigningMeter,
)

WAIT_S = 60.0  # more than any driver's own limits; a call that takes longer is a mistake of ours
_DATA_MAX_CHARS = 39
_TARIFF_MAX_CHARS = 251

T = TypeVar("T")

log = structlog.get_logger("meter")


class MeterRecords:
    """The signing meters of a station, by EVSE. ``note`` takes a line for the log book."""

    def __init__(
        self, meters: Mapping[int, SigningMeter], who: Identity, time_zone: str, note: Callable[[LogFact], None]
    ) -> None:
        self._meters = meters
        self._who = who
        self._zone = ZoneInfo(time_zone)
        self._note = note
        self._running: set[int] = set()
        self._waiting: set[int] = set()  # found open after a restart, and it has not gone on since
        self._kept: dict[int, bytes] = {}  # what of each meter is on disk already

    def signs(self, evse: int) -> bool:
        """Whether the meter of this EVSE signs by itself."""
        return evse in self._meters

    async def begin(self, evse: int, token: Token | None, source: str, tariff: str, wall_ms: int | None) -> None:
        """Let the meter begin its record; a failure is noted, and the transaction goes on with ours.

        What it still holds gives way: keep what is ``left_over`` before."""
        if await self._try(evse, "begin", self._begin(evse, token, source, tariff, wall_ms)):
            self._running.add(evse)

    async def _begin(self, evse: int, token: Token | None, source: str, tariff: str, wall_ms: int | None) -> bool:
        meter = self._meters[evse]
        # What it still holds could not be kept: a new transaction is worth more than the remains of another.
        if await meter.held_record() is HeldRecord.RUNNING:
            await meter.abort_record()
        if await meter.held_record() is not HeldRecord.NOTHING:
            await meter.confirm_record()
        who = identification(token, source, self._who.token_form)
        zone_ms = 0 if wall_ms is None else wall_ms
        offset = datetime.fromtimestamp(zone_ms / 1_000, UTC).astimezone(self._zone).utcoffset()
        request = RecordRequest(
            id_assigned=who.assigned,
            id_level=who.level,
            id_flags=who.flags,
            id_type=who.type,
            id_data=who.data[:_DATA_MAX_CHARS],
            tariff_text=plain_text(tariff, _TARIFF_MAX_CHARS),
            point_id_type="CBIDC",
            point_id=plain_text(f"{self._who.charge_box} {evse}", _DATA_MAX_CHARS),
            utc_ms=wall_ms,
            zone_minutes=0 if offset is None else int(offset.total_seconds()) // 60,
        )
        await meter.begin_record(request)
        return True

    def resume(self, evse: int, look_kept: Callable[[], bytes | None]) -> None:
        """A transaction was found open after a restart: the meter's record is still that one's, unless it is the record
        of the transaction before, which is kept on disk (``look_kept``) and could not be confirmed any more."""
        if evse in self._meters:
            self._running.add(evse)
            self._waiting.add(evse)
            if (kept := look_kept()) is not None:
                self._kept[evse] = kept

    async def go_on(self, evse: int) -> bool:
        """The transaction that was found open gets power again. True: the meter's record has ended before that."""
        self._waiting.discard(evse)
        return await self._try(evse, "go on", self._meters[evse].held_record()) is HeldRecord.FINISHED

    async def end(self, evse: int) -> SignedRecord | None:
        """The meter's record of the transaction that has ended; None where it has none that can be passed on."""
        if evse not in self._running:
            return None
        waited = evse in self._waiting
        self._running.discard(evse)
        self._waiting.discard(evse)
        return await self._try(evse, "end", self._end(evse, waited))

    async def _end(self, evse: int, waited: bool) -> SignedRecord:
        meter = self._meters[evse]
        had_ended = await meter.held_record() is HeldRecord.FINISHED
        record = self._checked(await meter.end_record())
        if record.text == self._kept.get(evse):
            await meter.confirm_record()
            raise RecordFailed("meter", RecordFault.UNCONFIRMED, "its record is of the transaction before")
        if had_ended and not waited:
            raise RecordFailed("meter", RecordFault.NOT_RUNNING, "its record ended before the transaction did")
        self._kept[evse] = record.text
        return record

    @staticmethod
    def _checked(record: SignedRecord) -> SignedRecord:
        """A record that is no text is none: no receipt could hold it. The meter keeps it until another begins."""
        try:
            record.text.decode()
        except UnicodeDecodeError as error:
            raise RecordFailed("meter", RecordFault.CORRUPTED, f"its record is not UTF-8: {error}") from error
        return record

    async def confirm(self, evse: int) -> None:
        """The record is on disk: the meter may forget it."""
        await self._try(evse, "confirm", self._meters[evse].confirm_record())

    async def left_over(self, evse: int) -> SignedRecord | None:
        """A record that the meter still holds, when no transaction claims it. One that is on disk is only confirmed."""
        return await self._try(evse, "fetch", self._left_over(evse))

    async def _left_over(self, evse: int) -> SignedRecord | None:
        meter = self._meters[evse]
        record = await meter.pending_record()
        if record is not None and self._checked(record).text == self._kept.get(evse):
            await meter.confirm_record()
            return None
        return record

    async def public_key(self, evse: int) -> bytes | None:
        return await self._try(evse, "key", self._meters[evse].public_key())

    async def _try(self, evse: int, what: str, call: Coroutine[object, object, T]) -> T | None:
        """The answer, or None after noting why there is none."""
        try:
            async with asyncio.timeout(WAIT_S):
                return await call
        except DeviceError as error:
            why = str(error)
        except TimeoutError:
            why = f"no answer within {WAIT_S:.0f} s"
        log.error("meter record failed", evse=evse, step=what, why=why)
        self._note(LogFact(LogEntry.RECORD_FAILED, evse, (("step", what), ("why", why[:300]))))
        return None
