"""Meters that sign by themselves, as the station asks them: order, failures, what is left from before."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from agent.billing.record import Identity
from agent.core.facts import LogEntry, LogFact, Token
from agent.station.signers import MeterRecords
from hal.ports import DeviceTimeout, HeldRecord, RecordFailed, RecordFault, RecordRequest, SignedRecord

RECORD = SignedRecord(b"OCMF|{}|{}", b"key")
WHO = Identity(
    product="Example Box", serial="S1", software_version="1", software_digest="ab" * 32, charge_box="CP-1 | one"
)
WALL_MS = 1_774_738_800_000  # 2026-03-28T23:00Z, midnight in Berlin


class Meter:
    """A signing meter that notes what it is asked, and fails where it is told to."""

    def __init__(self, held: HeldRecord = HeldRecord.NOTHING, fails: str = "", record: SignedRecord = RECORD) -> None:
        self.held = held
        self.record = record
        self.fails = fails
        self.asked: list[str] = []
        self.request: RecordRequest | None = None

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if what == self.fails:
            raise (
                RecordFailed("meter", RecordFault.CORRUPTED, "broken")
                if what == "end"
                else DeviceTimeout("meter", "mute")
            )

    async def held_record(self) -> HeldRecord:
        self._ask("held")
        return self.held

    async def begin_record(self, request: RecordRequest) -> None:
        self._ask("begin")
        self.request = request

    async def end_record(self) -> SignedRecord:
        self._ask("end")
        return self.record

    async def abort_record(self) -> None:
        self._ask("abort")

    async def pending_record(self) -> SignedRecord | None:
        self._ask("pending")
        return None if self.held is HeldRecord.NOTHING else self.record

    async def confirm_record(self) -> None:
        self._ask("confirm")

    async def public_key(self) -> bytes:
        self._ask("key")
        return b"key"


class Rig:
    def __init__(self, meter: Meter) -> None:
        self.notes: list[LogFact] = []
        meters: Any = {1: meter}
        self.records = MeterRecords(meters, WHO, "Europe/Berlin", self.notes.append)

    def begin(self, source: str = "csms") -> Coroutine[Any, Any, None]:
        return self.records.begin(1, Token("04A1B2C3"), source, "demo;ab", WALL_MS)


def test_a_record_begins_with_the_driver_the_tariff_and_the_local_clock() -> None:
    meter = Meter()
    rig = Rig(meter)

    async def session() -> SignedRecord | None:
        await rig.begin()
        return await rig.records.end(1)

    assert asyncio.run(session()) is RECORD
    assert meter.asked == ["held", "begin", "end"]
    request = meter.request
    assert request is not None
    assert (request.id_assigned, request.id_type, request.id_data) == (True, "ISO14443", "04A1B2C3")
    assert (request.tariff_text, request.utc_ms, request.zone_minutes) == ("demo;ab", WALL_MS, 60)
    assert "|" not in request.point_id
    assert rig.notes == []


def test_remains_of_an_earlier_record_give_way_to_a_new_transaction() -> None:
    meter = Meter(HeldRecord.FINISHED)
    asyncio.run(Rig(meter).begin())
    assert meter.asked == ["held", "abort", "confirm", "begin"]


@pytest.mark.parametrize("fails", ["held", "begin"])
def test_a_record_that_cannot_begin_is_noted_and_not_asked_for_at_the_end(fails: str) -> None:
    meter = Meter(fails=fails)
    rig = Rig(meter)

    async def session() -> SignedRecord | None:
        await rig.begin()
        return await rig.records.end(1)

    assert asyncio.run(session()) is None
    assert [(note.entry, note.evse) for note in rig.notes] == [(LogEntry.RECORD_FAILED, 1)]
    assert "end" not in meter.asked


def test_a_record_that_cannot_end_is_noted() -> None:
    meter = Meter(fails="end")
    rig = Rig(meter)
    rig.records.resume(1, lambda: None)
    assert asyncio.run(rig.records.end(1)) is None
    assert dict(rig.notes[0].details)["step"] == "end"


def test_a_record_that_is_no_text_is_noted_and_ours_takes_its_place() -> None:
    meter = Meter(HeldRecord.FINISHED, record=SignedRecord(b'OCMF|{"MS":"Z\xe4hler"}|{}', b"key"))
    rig = Rig(meter)
    rig.records.resume(1, lambda: None)
    assert asyncio.run(rig.records.end(1)) is None
    assert asyncio.run(rig.records.left_over(1)) is None, "nor after a restart"
    failed = [(LogEntry.RECORD_FAILED, "end"), (LogEntry.RECORD_FAILED, "fetch")]
    assert [(note.entry, dict(note.details)["step"]) for note in rig.notes] == failed


def test_a_transaction_found_open_claims_the_meters_record() -> None:
    rig = Rig(Meter())
    rig.records.resume(1, lambda: None)
    rig.records.resume(2, lambda: None)  # no signing meter there
    assert asyncio.run(rig.records.end(1)) is RECORD
    assert asyncio.run(rig.records.end(1)) is None
    assert asyncio.run(rig.records.end(2)) is None


def test_the_record_of_the_transaction_before_is_not_given_to_a_resumed_one() -> None:
    """Where the register begins anew, the end of one transaction and the start of the next are one commit; the process
    may be gone before the meter was told that its record is kept."""
    meter = Meter(HeldRecord.FINISHED)
    rig = Rig(meter)
    rig.records.resume(1, lambda: RECORD.text)
    assert asyncio.run(rig.records.end(1)) is None
    assert meter.asked == ["end", "confirm"]
    assert [note.entry for note in rig.notes] == [LogEntry.RECORD_FAILED]
