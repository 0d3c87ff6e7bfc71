"""Meters that sign by themselves, as the station asks them: order, failures, what is left from before."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from agent.billing.record import Identity
from agent.core.facts import LogEntry, LogFact, Token
from agent.station.signers import MeterRecords
from hal.meters.record_life import RecordEvent
from hal.ports import HeldRecord, SignedRecord
from tests.support.signing_meter import SimSigner

E = RecordEvent
WHO = Identity(
    product="Example Box", serial="S1", software_version="1", software_digest="ab" * 32, charge_box="CP-1 | one"
)
WALL_MS = 1_774_738_800_000  # 2026-03-28T23:00Z, midnight in Berlin


class Rig:
    def __init__(self, meter: SimSigner) -> None:
        self.notes: list[LogFact] = []
        meters: Any = {1: meter}
        self.records = MeterRecords(meters, WHO, "Europe/Berlin", self.notes.append)

    def begin(self, source: str = "csms") -> Coroutine[Any, Any, None]:
        return self.records.begin(1, Token("04A1B2C3"), source, "demo;ab", WALL_MS)

    async def charge(self, *, confirm: bool = True) -> bytes | None:
        """One transaction, as the shell lets it go; the record it gets."""
        if await self.records.left_over(1) is not None:
            await self.records.confirm(1)
        await self.begin()
        if (record := await self.records.end(1)) is not None and confirm:
            await self.records.confirm(1)
        return None if record is None else record.text

    def steps(self) -> list[str]:
        """What was noted to have failed."""
        assert {(note.entry, note.evse) for note in self.notes} <= {(LogEntry.RECORD_FAILED, 1)}
        return [dict(note.details)["step"] for note in self.notes]


def test_a_record_begins_with_the_driver_the_tariff_and_the_local_clock() -> None:
    meter = SimSigner()
    rig = Rig(meter)

    async def session() -> SignedRecord | None:
        await rig.begin()
        return await rig.records.end(1)

    assert asyncio.run(session()) == SignedRecord(b"1", b"key")
    request = meter.request
    assert request is not None
    assert (request.id_assigned, request.id_type, request.id_data) == (True, "ISO14443", "04A1B2C3")
    assert (request.tariff_text, request.utc_ms, request.zone_minutes) == ("demo;ab", WALL_MS, 60)
    assert "|" not in request.point_id
    assert rig.notes == []


@pytest.mark.parametrize("held", [E.SAYS_IDLE, E.SAYS_RUNNING, E.SAYS_READY, E.SAYS_CORRUPTED])
@pytest.mark.parametrize("fails", ["", "pending"])
def test_whatever_a_meter_holds_gives_way_to_the_next_transactions(held: RecordEvent, fails: str) -> None:
    """At the latest with the second one, where the first could not even fetch it."""
    meter = SimSigner(held, fails)
    rig = Rig(meter)

    async def sessions() -> list[bytes | None]:
        first = await rig.charge()
        meter.fails = ""
        return [first, await rig.charge()]

    first, second = asyncio.run(sessions())
    assert second == b"%d" % meter.begun
    assert first is not None or (held, fails) == (E.SAYS_READY, "pending")


@pytest.mark.parametrize(
    ("fails", "ends_as", "steps"),
    [
        ("fetch", E.SAYS_READY, ["end"]),
        ("end", E.SAYS_READY, ["end"]),
        ("confirm", E.SAYS_READY, ["confirm"]),
        ("", E.SAYS_CORRUPTED, ["end", "fetch"]),
    ],
)
def test_one_failure_costs_one_record(fails: str, ends_as: RecordEvent, steps: list[str]) -> None:
    meter = SimSigner(ends_as=ends_as)
    rig = Rig(meter)

    async def sessions() -> list[bytes | None]:
        meter.fails = fails
        first = await rig.charge()
        meter.fails, meter.ends_as = "", E.SAYS_READY
        return [first, *[await rig.charge() for _ in range(2)]]

    assert asyncio.run(sessions()) == [b"1" if fails == "confirm" else None, b"2", b"3"]
    assert rig.steps() == steps


def test_a_record_on_disk_that_could_not_be_confirmed_is_not_kept_again() -> None:
    meter = SimSigner()
    rig = Rig(meter)

    async def sessions() -> SignedRecord | None:
        await rig.charge(confirm=False)
        return await rig.records.left_over(1)

    assert asyncio.run(sessions()) is None
    assert meter.life.held is HeldRecord.NOTHING


@pytest.mark.parametrize("fails", ["held", "begin"])
def test_a_record_that_cannot_begin_is_noted_and_not_asked_for_at_the_end(fails: str) -> None:
    meter = SimSigner(fails=fails)
    rig = Rig(meter)
    assert asyncio.run(rig.charge()) is None
    assert rig.steps() == ["begin"]
    assert "end" not in meter.asked


def test_a_record_that_is_no_text_is_noted_and_ours_takes_its_place() -> None:
    meter = SimSigner(E.SAYS_READY, text=b'OCMF|{"MS":"Z\xe4hler"}|{}')
    rig = Rig(meter)
    rig.records.resume(1, lambda: None)
    assert asyncio.run(rig.records.end(1)) is None
    assert asyncio.run(rig.records.left_over(1)) is None, "nor after a restart"
    assert rig.steps() == ["end", "fetch"]
    assert asyncio.run(rig.charge()) == b"1"


def test_a_transaction_found_open_claims_the_meters_record() -> None:
    rig = Rig(SimSigner(E.SAYS_RUNNING, text=b"its own"))
    rig.records.resume(1, lambda: None)
    rig.records.resume(2, lambda: None)  # no signing meter there
    assert asyncio.run(rig.records.end(1)) == SignedRecord(b"its own", b"key")
    assert asyncio.run(rig.records.end(1)) is None
    assert asyncio.run(rig.records.end(2)) is None


@pytest.mark.parametrize(("goes_on", "record"), [(False, SignedRecord(b"its own", b"key")), (True, None)])
def test_what_ended_with_the_supply_is_whole_only_where_the_transaction_does_not_go_on(
    goes_on: bool, record: SignedRecord | None
) -> None:
    rig = Rig(SimSigner(E.SAYS_READY, text=b"its own"))
    rig.records.resume(1, lambda: None)
    if goes_on:
        assert asyncio.run(rig.records.go_on(1))
    assert asyncio.run(rig.records.end(1)) == record
    assert rig.steps() == (["end"] if goes_on else [])


def test_a_record_that_ends_in_mid_charge_is_kept_but_is_not_the_transactions() -> None:
    """The meter alone lost its supply for a moment."""
    meter = SimSigner()
    rig = Rig(meter)

    async def session() -> list[SignedRecord | None]:
        await rig.begin()
        meter.loses_supply()
        return [await rig.records.end(1), await rig.records.left_over(1)]

    assert asyncio.run(session()) == [None, SignedRecord(b"1", b"key")]
    assert rig.steps() == ["end"]
    assert "its record ended before the transaction did" in dict(rig.notes[0].details)["why"]


def test_the_record_of_the_transaction_before_is_not_given_to_a_resumed_one() -> None:
    """Where the register begins anew, the end of one transaction and the start of the next are one commit; the process
    may be gone before the meter was told that its record is kept."""
    meter = SimSigner(E.SAYS_READY, text=b"before")
    rig = Rig(meter)
    rig.records.resume(1, lambda: b"before")
    assert asyncio.run(rig.records.end(1)) is None
    assert meter.life.held is HeldRecord.NOTHING
    assert rig.steps() == ["end"]
