"""Facts on their way to disk where a meter signs by itself: what must be durable before what."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from agent.billing.books import Stamp
from agent.billing.record import Identity
from agent.core.effects import Append
from agent.core.events import Durable
from agent.core.facts import ChargingState, LogFact, Sample, SampleContext, TransactionFact, Trigger, TxKind
from agent.ledger.side_records import PutKey
from agent.security.keys import key_id_of
from agent.sim.virtual_time import run_virtual
from agent.station.disk import Disk
from agent.station.signers import MeterRecords
from hal.meters.record_life import RecordEvent
from hal.ports import HeldRecord, SignedRecord
from tests.support.signing_meter import SimSigner

WHO = Identity(product="Box", serial="S1", software_version="1", software_digest="ab" * 32, charge_box="CP-1")


@dataclass
class Row:
    """A row whose kind is what it is about."""

    kind: str
    tx_id: str = "tx"
    evse: int = 1
    seq: int = 1


@dataclass
class Around:
    """Ledger, rows and station, as far as ``Disk`` needs them. ``log``: what became durable, or was told so."""

    meter: SimSigner
    log: list[str] = field(default_factory=list)
    notes: list[LogFact] = field(default_factory=list)
    learned: list[tuple[str, PutKey]] = field(default_factory=list)  # keys, and the row that each came with

    def __post_init__(self) -> None:
        me: Any = self
        signers = MeterRecords({1: me.meter}, WHO, "Europe/Berlin", self.notes.append)
        self.signers = signers
        self.disk = Disk(me, me, signers, me, "key", {}, me)

    # the writer
    def append(self, rows: list[Row], changes: list[Any], on_durable: Callable[[list[Row]], None]) -> None:
        self.learned += [(rows[0].kind, each) for each in changes if isinstance(each, PutKey)]

        def durable() -> None:
            self.log += [f"{row.kind}, meter {self.meter.life.held}" for row in rows]
            on_durable(rows)

        asyncio.get_running_loop().call_later(0.1, durable)

    # the rows
    def rows(
        self, facts: tuple[TransactionFact, ...], stamp: Stamp, record: SignedRecord | None, *, meter_begins: bool
    ) -> tuple[list[Any], list[Any]]:
        signed = "" if record is None else f" with {record.text.decode()}"
        return [Row(f"{fact.kind}{signed}") for fact in facts], []

    def passed_through(self, fact: None, stamp: Stamp, record: SignedRecord, evse: int) -> Row:
        return Row(f"{record.text.decode()} of nobody")

    # the logic and the station
    @property
    def billing(self) -> Any:
        return self

    def books(self, tx_id: str) -> None:
        return None

    def now_stamp(self) -> Stamp:
        return Stamp("boot", 0, 0, "S")

    def publish(self, news: object) -> None:
        pass

    def learned_key(self, evse: int, public_der: bytes) -> None:
        pass

    def give(self, event: Durable) -> None:
        self.log.append(f"told {event.ticket}, meter {self.meter.life.held}")

    async def write(self, kind: TxKind, *contexts: SampleContext) -> None:
        samples = tuple(Sample(each, 0, "M1", 0) for each in contexts)
        fact = TransactionFact(kind, "tx", 0, 1, Trigger.AUTHORIZED, ChargingState.CHARGING, False, samples)
        self.disk.carry_out(Append(1, (fact,), 0, 0, "S"))
        await asyncio.sleep(1)


def test_what_the_meter_still_holds_is_durable_before_it_forgets_it_and_before_power_flows() -> None:
    around = Around(SimSigner(RecordEvent.SAYS_READY, text=b"theirs"))
    run_virtual(around.write(TxKind.STARTED))
    assert around.log == [
        f"{TxKind.STARTED}, meter {HeldRecord.FINISHED}",
        f"theirs of nobody, meter {HeldRecord.FINISHED}",
        f"told 1, meter {HeldRecord.RUNNING}",
    ]
    assert around.notes == []


def test_what_ended_with_the_supply_is_the_transactions_where_it_does_not_go_on() -> None:
    around = Around(SimSigner(RecordEvent.SAYS_READY, text=b"its own"))
    around.signers.resume(1, lambda: None)
    run_virtual(around.write(TxKind.ENDED, SampleContext.END))
    assert around.log[0] == f"{TxKind.ENDED} with its own, meter {HeldRecord.FINISHED}"
    assert around.meter.life.held is HeldRecord.NOTHING


def test_the_key_of_a_record_is_one_commit_with_it() -> None:
    """Also of one that no transaction claims: the meter may not have answered when it was asked for its key."""
    around = Around(SimSigner(RecordEvent.SAYS_READY, text=b"theirs"))

    async def story() -> None:
        await around.write(TxKind.STARTED)
        await around.write(TxKind.ENDED, SampleContext.END)

    run_virtual(story())
    key = PutKey(key_id_of(b"key"), b"key")
    assert around.learned == [("theirs of nobody", key), (f"{TxKind.ENDED} with 1", key)]
    assert "key" not in around.meter.asked


@pytest.mark.parametrize("again", [False, True])
def test_a_part_that_ended_with_the_supply_is_kept_for_itself_where_the_transaction_goes_on(again: bool) -> None:
    """``again``: the supply goes once more, and then it does not go on."""
    around = Around(SimSigner(RecordEvent.SAYS_READY, text=b"a part"))

    async def story() -> None:
        around.signers.resume(1, lambda: None)
        await around.write(TxKind.UPDATED, SampleContext.INTERRUPTION_END)
        if again:
            around.signers.resume(1, lambda: b"a part")
        await around.write(TxKind.ENDED, SampleContext.END)

    run_virtual(story())
    assert f"a part of nobody, meter {HeldRecord.FINISHED}" in around.log
    assert [each for each in around.log if each.startswith(TxKind.ENDED)] == [f"Ended, meter {HeldRecord.NOTHING}"]
    assert [dict(note.details)["step"] for note in around.notes] == ["end"]


def test_a_record_that_still_runs_goes_on_with_its_transaction() -> None:
    around = Around(SimSigner(RecordEvent.SAYS_RUNNING, text=b"its own"))

    async def story() -> None:
        around.signers.resume(1, lambda: None)
        await around.write(TxKind.UPDATED, SampleContext.INTERRUPTION_END)
        await around.write(TxKind.ENDED, SampleContext.END)

    run_virtual(story())
    assert around.log[-2] == f"{TxKind.ENDED} with its own, meter {HeldRecord.FINISHED}"
    assert around.notes == []
