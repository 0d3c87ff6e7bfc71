"""What a start finds in the ledger that its own software does not leave there: it must start, and clear it away."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.core.facts import (
    ChargingState,
    Fact,
    LogEntry,
    LogFact,
    Sample,
    SampleContext,
    StopReason,
    TransactionFact,
    Trigger,
    TxKind,
    kind_of,
)
from agent.ipc.codec import decode_fact, encode_fact
from agent.ledger import database, tables
from agent.ledger.book import Book, Job
from agent.ledger.reader import PAGE_MAX_ROWS, LedgerReader
from agent.ledger.retention import CutOrder
from agent.ledger.rows import NewRow
from agent.ledger.state import Namespace, Put, StateChange
from agent.ledger.writer import QUEUE_MAX
from agent.sim.scenario.expectations import all_told, available, charging, finished, online, preparing
from agent.sim.scenario.play import draw, expect, play, scenario
from agent.sim.scenario.quiet_world import QuietWorld
from agent.sim.scenario.verbs import CARD, cut_power, plug, restore_power, swipe, unplug
from agent.sim.scenario.world_rig import WorldRig, on_a_world_rig

GONE_EVSE = 9
ONE_SESSION = scenario(
    "one session",
    expect(online()),
    plug(),
    expect(preparing()),
    swipe(CARD),
    expect(charging()),
    draw(wh=1, for_ms=1_100),
    swipe(CARD),
    expect(finished()),
    unplug(),
    expect(available()),
    expect(all_told()),
)


class OldWorld(QuietWorld):
    """Somebody else wrote into its ledger: it says only what the program itself does wrong."""

    def _find_what_is_on_disk(self) -> None:
        if self.disk.path.exists():
            with LedgerReader(self.disk.path) as reader:
                self.mirror.resume_at(reader.head().seq)

    def wrong(self, evse: int, text: str) -> None:
        if "error of the program" in text:
            super().wrong(evse, text)


def write(ledger: Path, facts: Sequence[Fact] = (), changes: Sequence[StateChange] = ()) -> int:
    """Write as another run did; returns where the ledger ends then."""
    connection = database.connect_for_writing(ledger)
    book = Book(connection, tables.head(connection, ledger))
    book.commit([Job(tuple(row(fact) for fact in facts), tuple(changes))])
    connection.close()
    return book.head.seq


def row(fact: Fact) -> NewRow:
    tx_id, evse = getattr(fact, "tx_id", None), getattr(fact, "evse", None)
    return NewRow(kind_of(fact), encode_fact(fact), "another boot", 1_000, 1_796_119_200_000, "S", tx_id, evse)


def state(rig: WorldRig, namespace: Namespace) -> dict[str, str]:
    with LedgerReader(rig.world.disk.path) as reader:
        return reader.state(namespace)


def test_what_the_csms_calls_a_transaction_is_forgotten_with_its_end() -> None:
    async def story(rig: WorldRig) -> list[int]:
        kept = []
        for _ in range(2):
            await play(ONE_SESSION, rig)
            await rig.wait(2_000)  # lazy changes
            kept.append(len(state(rig, Namespace.CSMS_TX)))
        return kept

    assert on_a_world_rig("1.6", story) == [0, 0]


def test_more_left_over_ids_than_a_commit_takes_are_removed_over_several_starts() -> None:
    async def story(rig: WorldRig) -> list[int]:
        counts = []
        await rig.do(cut_power())
        left_over = [Put(Namespace.CSMS_TX, f"tx-{number:05}", "7") for number in range(QUEUE_MAX + 1)]
        write(rig.world.disk.path, changes=left_over)
        for _ in range(2):
            await rig.do(restore_power())
            await play(ONE_SESSION, rig)
            counts.append(len(state(rig, Namespace.CSMS_TX)))
            await rig.do(cut_power())
        await rig.do(restore_power())
        return counts

    left = QUEUE_MAX + 1
    assert on_a_world_rig("1.6", story) == [left - PAGE_MAX_ROWS, left - 2 * PAGE_MAX_ROWS]


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
def test_an_open_transaction_of_an_evse_that_is_gone_ends_and_may_be_removed(version: str) -> None:
    reading = Sample(SampleContext.BEGIN, 1_000, "M9", 5_000)
    started = TransactionFact(
        TxKind.STARTED, "tx-gone", 0, GONE_EVSE, Trigger.AUTHORIZED, ChargingState.CHARGING, False, (reading,)
    )

    async def story(rig: WorldRig) -> list[Fact | None]:
        ledger = rig.world.disk.path
        await rig.do(cut_power())
        begin_seq = write(ledger, [started])
        await rig.do(restore_power())
        await play(ONE_SESSION, rig)
        await rig.do(cut_power())
        with LedgerReader(ledger) as reader:
            assert not reader.open_transactions() and not list(reader.audit())
            facts = [decode_fact(row.kind, row.body) for row in reader.rows(begin_seq, PAGE_MAX_ROWS)]
            head_seq = reader.head().seq
        connection = database.connect_for_writing(ledger)
        order = CutOrder(head_seq, head_seq, 2**50, "boot", 0, 2**50, "S")
        done = Book(connection, tables.head(connection, ledger)).cut(order)
        connection.close()
        assert done is not None and done.last_seq > begin_seq
        await rig.do(restore_power())
        return facts

    facts = on_a_world_rig(version, story, OldWorld)
    (ended,) = (fact for fact in facts if isinstance(fact, TransactionFact) and fact.tx_id == "tx-gone")
    assert (ended.kind, ended.seq_no, ended.stopped_reason) == (TxKind.ENDED, 1, StopReason.POWER_LOSS)
    (end,) = ended.samples
    assert (end.energy_import_mwh, end.substituted, end.meter_state) == (5_000, True, "T")
    assert LogEntry.RECORD_FAILED in [fact.entry for fact in facts if isinstance(fact, LogFact)]
