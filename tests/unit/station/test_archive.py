"""Rows as records: times put right, transactions found again. On a real ledger file."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import structlog.testing

from agent.core.events import GapKind, Recovered
from agent.core.facts import (
    ChargingState,
    CheckpointFact,
    ClockFact,
    CostToldFact,
    Fact,
    Forerunner,
    LimitFact,
    LogEntry,
    ReceiptFact,
    Sample,
    SampleContext,
    SecurityFact,
    SignedFact,
    StopFact,
    StopReason,
    Token,
    TransactionFact,
    Trigger,
    TxKind,
    kind_of,
)
from agent.ipc.codec import encode_fact, to_plain
from agent.ipc.port import CsmsTx, Record, StationPort
from agent.ipc.wire import MAX_FRAME_BYTES, frame
from agent.ledger.reader import PAGE_MAX_ROWS
from agent.ledger.rows import NewRow
from agent.ledger.state import Namespace, Put, StateChange
from agent.ledger.store import Birth, open_ledger
from agent.ledger.writer import LedgerWriter
from agent.ocpp.rows import rows_of
from agent.station.archive import Archive
from agent.station.recovery import Stranded, end_stranded
from tests.support.newer_release import add_rows

BOOT = "boot-1"


def sample(energy_mwh: int, at_ms: int = 0) -> Sample:
    return Sample(SampleContext.PERIODIC, at_ms, "M1", energy_mwh)


def tx(kind: TxKind, seq_no: int, energy_mwh: int, at_ms: int = 0, tx_id: str = "t1", evse: int = 1) -> TransactionFact:
    return TransactionFact(
        kind=kind,
        tx_id=tx_id,
        seq_no=seq_no,
        evse=evse,
        trigger=Trigger.AUTHORIZED,
        charging_state=ChargingState.CHARGING,
        offline=False,
        samples=(sample(energy_mwh, at_ms),),
        token=Token("AA") if kind is TxKind.STARTED else None,
        stopped_reason=StopReason.LOCAL if kind is TxKind.ENDED else None,
    )


def written(
    path: Path,
    *rows: tuple[Fact, int, int, str],
    changes: tuple[StateChange, ...] = (),
    boot: str = BOOT,
    body_of: Callable[[Fact], bytes] = encode_fact,
) -> Archive:
    """An archive over a ledger with these (fact, monotonic, wall, time status) rows."""

    async def write() -> None:
        open_ledger(path, Birth("0", "S", BOOT, 0, 0, "U"))
        writer = LedgerWriter(path, asyncio.get_running_loop(), lambda error: None)
        new = [
            NewRow(
                kind=kind_of(fact),
                body=body_of(fact),
                boot_id=boot,
                mono_ms=mono_ms,
                wall_ms=wall_ms,
                time_status=status,
                tx_id=getattr(fact, "tx_id", None),
                evse=getattr(fact, "evse", None),
            )
            for fact, mono_ms, wall_ms, status in rows
        ]
        writer.append(new, changes)
        await writer.close()

    asyncio.run(write())
    return Archive(path)


def recovered(archive: Archive, mono_ms: int, wall_ms: int | None = None, boot_id: str = BOOT) -> Recovered:
    """The one open transaction."""
    [found] = archive.open_transactions(boot_id, mono_ms, wall_ms)
    assert isinstance(found, Recovered)
    return found


def test_open_transaction_is_found_with_its_newest_reading_and_next_number(tmp_path: Path) -> None:
    """20-TE-02: no number is used again after a restart."""
    archive = written(
        tmp_path / "l",
        (tx(TxKind.STARTED, 0, 100), 1_000, 0, "S"),
        (tx(TxKind.UPDATED, 1, 150), 2_000, 0, "S"),
        (CheckpointFact("t1", 1, sample(180)), 3_000, 0, "S"),
        (tx(TxKind.STARTED, 0, 1, tx_id="t2", evse=2), 4_000, 0, "S"),
        (tx(TxKind.ENDED, 1, 2, tx_id="t2", evse=2), 5_000, 0, "S"),
    )
    found = recovered(archive, 10_000)
    assert (found.tx_id, found.next_seq_no, found.begin_energy_mwh) == ("t1", 2, 100)
    assert found.last.energy_import_mwh == 180 and found.token == Token("AA")
    assert (found.gap, found.gap_ms, found.age_ms) == (GapKind.PROCESS, 7_000, 9_000)
    archive.close()


def test_an_open_transaction_remembers_that_its_token_was_refused(tmp_path: Path) -> None:
    refused = replace(tx(TxKind.UPDATED, 1, 150), trigger=Trigger.DEAUTHORIZED)
    started = replace(tx(TxKind.STARTED, 0, 100), authorized_by="cache")
    archive = written(tmp_path / "l", (started, 1_000, 0, "S"), (refused, 2_000, 0, "S"))
    found = recovered(archive, 10_000)
    assert (found.authorized_by, found.energy_blocked) == ("cache", True)
    archive.close()


def test_an_open_transaction_remembers_that_it_was_stopped(tmp_path: Path) -> None:
    stop = StopFact("t1", 1, Trigger.STOP_AUTHORIZED, StopReason.LOCAL, Token("AA"))
    rows = [(fact, 1_000, 0, "S") for fact in (tx(TxKind.STARTED, 0, 100), stop, tx(TxKind.UPDATED, 1, 150))]
    other = [(fact, 2_000, 0, "S") for fact in (tx(TxKind.STARTED, 0, 100, tx_id="t2", evse=2),)]
    archive = written(tmp_path / "l", *rows, *other)
    found = [each for each in archive.open_transactions(BOOT, 10_000, None) if isinstance(each, Recovered)]
    assert [each.stop for each in found] == [stop, None]
    archive.close()


def test_an_open_transaction_that_follows_another_is_as_old_as_their_session(tmp_path: Path) -> None:
    before = [tx(kind, number, 100, tx_id="t0") for number, kind in enumerate((TxKind.STARTED, TxKind.ENDED))]
    follows = replace(tx(TxKind.STARTED, 0, 1), follows=Forerunner("t0"))
    rows = [(fact, at_ms, at_ms, "S") for fact, at_ms in zip((*before, follows), (1_000, 5_000, 6_000), strict=True)]
    archive = written(tmp_path / "l", *rows)
    found = recovered(archive, 10_000)
    assert (found.tx_id, found.age_ms, found.follows) == ("t1", 9_000, Forerunner("t0"))
    archive.close()


@pytest.mark.parametrize("told", [CostToldFact("t1", 1, "1.20", final=True, text=""), LimitFact("t1", 1)])
def test_what_is_said_after_a_power_cut_does_not_make_it_a_restart(tmp_path: Path, told: Fact) -> None:
    """It came while the transaction was being recovered, and then the process was killed."""
    written(tmp_path / "l", (tx(TxKind.STARTED, 0, 100), 1_000, 1_800_000_000_000, "S")).close()
    archive = written(tmp_path / "l", (told, 40, 1_800_000_000_040, "I"), boot="boot-2")
    found = recovered(archive, 50, None, "boot-2")
    assert (found.gap, found.gap_ms) == (GapKind.POWER, None)
    archive.close()


def test_a_row_before_the_start_row_keeps_nobody_from_starting(tmp_path: Path) -> None:
    limit = LimitFact("t1", 1, source="technician")
    archive = written(tmp_path / "l", (limit, 1_000, 0, "S"), (tx(TxKind.STARTED, 0, 100), 2_000, 0, "S"))
    assert (recovered(archive, 10_000).begin_energy_mwh, recovered(archive, 10_000).gap_ms) == (100, 8_000)
    archive.close()


def test_a_record_on_disk_of_another_transaction_is_known(tmp_path: Path) -> None:
    rows = [(SignedFact(each, evse, f"OCMF|{each}"), 0, 0, "S") for each, evse in (("t1", 1), ("t2", 2), ("t3", 1))]
    archive = written(tmp_path / "l", *rows, body_of=lambda fact: getattr(fact, "record", "").encode())
    assert [archive.signed_before(tx_id, evse) for tx_id, evse in (("t3", 1), ("t4", 1), ("t2", 2))] == [
        b"OCMF|t1",
        b"OCMF|t3",
        None,
    ]
    archive.close()


def test_progress_counts_only_what_concerns_the_csms(tmp_path: Path) -> None:
    archive = written(
        tmp_path / "l",
        (tx(TxKind.STARTED, 0, 100), 1_000, 0, "S"),
        (CheckpointFact("t1", 1, sample(180)), 3_000, 0, "S"),
        (tx(TxKind.ENDED, 1, 200), 5_000, 0, "S"),
        changes=(
            Put(Namespace.CURSOR, "csms", "2"),
            Put(Namespace.CSMS_TX, "t1", "77"),
        ),
    )
    progress = archive.progress()
    assert (progress.delivered_seq, progress.undelivered) == (2, 1)
    assert progress.csms_txs == (CsmsTx("t1", 77),)
    archive.close()


def test_progress_counts_no_further_than_a_station_may_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.station.archive._COUNTED_ROWS", 5)
    archive = written(tmp_path / "l", *((tx(TxKind.UPDATED, n, n), n, n, "S") for n in range(7)))
    assert archive.progress().undelivered == 5
    archive.close()


def test_progress_names_no_transaction_that_the_csms_has_heard_the_end_of(tmp_path: Path) -> None:
    """Rows of 1.6 that older software kept: of transactions long told, and of those that retention has removed."""
    archive = written(
        tmp_path / "l",
        (tx(TxKind.STARTED, 0, 100, tx_id="told"), 1_000, 0, "S"),
        (tx(TxKind.ENDED, 1, 200, tx_id="told"), 2_000, 0, "S"),
        (tx(TxKind.STARTED, 0, 300, tx_id="ended"), 3_000, 0, "S"),
        (tx(TxKind.STARTED, 0, 1, tx_id="open"), 4_000, 0, "S"),
        (tx(TxKind.ENDED, 1, 400, tx_id="ended"), 5_000, 0, "S"),
        changes=(
            Put(Namespace.CURSOR, "csms", "5"),
            *(Put(Namespace.CSMS_TX, f"gone-{number:04}", "7") for number in range(2 * PAGE_MAX_ROWS)),
            Put(Namespace.CSMS_TX, "told", "8"),
            Put(Namespace.CSMS_TX, "ended", "9"),
            Put(Namespace.CSMS_TX, "open", "-1 given_up"),
        ),
    )
    assert archive.progress().csms_txs == (CsmsTx("ended", 9), CsmsTx("open", -1, given_up=True))
    left_over = archive.left_over_csms_txs()
    assert left_over == [f"gone-{number:04}" for number in range(PAGE_MAX_ROWS)], "a piece that fits into one commit"
    archive.close()


def test_the_row_that_ends_a_transaction_is_found(tmp_path: Path) -> None:
    archive = written(
        tmp_path / "l",
        (tx(TxKind.STARTED, 0, 100), 1_000, 0, "S"),
        (tx(TxKind.ENDED, 1, 200), 2_000, 0, "S"),
    )
    assert [seq for seq in range(5) if archive.end_at(seq) is not None] == [3]
    archive.close()


def test_a_transaction_of_very_many_rows_keeps_its_begin_and_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A vehicle that toggles all night: the message of the end needs both readings."""
    updates = [(tx(TxKind.UPDATED, seq, 100 + seq), seq, 1_000 + seq, "S") for seq in range(1, 2_000)]
    begin = (tx(TxKind.STARTED, 0, 100), 0, 1_000, "S")
    end = (tx(TxKind.ENDED, 2_000, 2_100), 2_000, 3_000, "S")
    archive = written(tmp_path / "ledger", begin, *updates, end)
    monkeypatch.setattr("agent.ocpp.rows.FIRST_ROWS", 900)
    found = [record.fact for record in told(archive)]
    assert len(found) <= 1_000
    assert [fact.seq_no for fact in found if isinstance(fact, TransactionFact)] == sorted(
        fact.seq_no for fact in found if isinstance(fact, TransactionFact)
    )
    assert isinstance(found[0], TransactionFact) and found[0].kind is TxKind.STARTED
    assert isinstance(found[-1], TransactionFact) and found[-1].kind is TxKind.ENDED


def test_no_page_of_a_transaction_is_heavy_and_its_end_is_in_the_newest(tmp_path: Path) -> None:
    """Signed records of a verbose meter, and behind the end a long receipt, which goes to nobody."""
    record, document = "\\" * 60_000, "x" * 200_000
    archive = written(
        tmp_path / "ledger",
        (tx(TxKind.STARTED, 0, 100), 0, 1_000, "S"),
        *((SignedFact("t1", 1, record), 1, 1_001, "S") for _ in range(40)),
        (end := tx(TxKind.ENDED, 1, 200), 2, 1_002, "S"),
        (ReceiptFact("t1", 1, document), 3, 1_003, "S"),
        (ReceiptFact("t1", 1, document), 4, 1_004, "S"),
    )
    pages: list[list[Record]] = []
    while page := archive.transaction("t1", pages[-1][-1].seq if pages else 0):
        pages.append(page)
    newest = archive.transaction("t1", newest=True)
    assert sum(map(len, pages)) == 44 and end in [each.fact for each in newest]
    assert max(len(frame({"value": to_plain(page, list[Record])})) for page in [*pages, newest]) < MAX_FRAME_BYTES / 4
    archive.close()


@pytest.mark.parametrize("readable", [True, False])
def test_a_start_needs_no_more_memory_for_a_car_that_has_stayed_for_months(tmp_path: Path, readable: bool) -> None:
    peaks = []
    for rows in (1_000, 4_000):
        more = ((tx(TxKind.UPDATED, n, 100 + n), n, n, "S") for n in range(1, rows))
        unread: Fact = LimitFact("t1", 1) if readable else STOPPED
        path = tmp_path / f"{rows}"
        body_of = encode_fact if readable else of_newer_release(STOPPED)
        archive = written(
            path, (tx(TxKind.STARTED, 0, 100), 0, 0, "S"), *more, (unread, rows, rows, "S"), body_of=body_of
        )
        tracemalloc.start()
        [found] = archive.open_transactions(BOOT, 10_000, None)
        assert not readable or sum(1 for _ in archive.history("t1")) == rows + 1
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        archive.close()
        assert (found.next_seq_no, found.last.energy_import_mwh) == (rows, 99 + rows)
    assert peaks[1] < 1.5 * peaks[0]


def told(archive: Archive) -> list[Record]:
    """What a dialect gets to read of the transaction."""

    class Port:
        async def transaction(self, tx_id: str, after_seq: int = 0, *, newest: bool = False) -> list[Record]:
            page = archive.transaction(tx_id, after_seq, newest=newest)
            assert len(page) <= 100, "more would hold up the station's loop"
            return page

    async def read() -> list[Record]:
        return [record async for record in rows_of(cast(StationPort, Port()), "t1")]

    return asyncio.run(read())


def test_rows_that_are_nobody_elses_do_not_stop_a_reader(tmp_path: Path) -> None:
    """What retention leaves of an idle month: cut rows only, more of them than a page has."""
    path = tmp_path / "ledger"
    archive = written(path, (tx(TxKind.STARTED, 0, 100), 0, 1_000, "S"))
    archive.close()

    async def cut_rows() -> None:
        writer = LedgerWriter(path, asyncio.get_running_loop(), lambda error: None)
        cut = NewRow(kind="cut", body=b"{}", boot_id=BOOT, mono_ms=0, wall_ms=2_000, time_status="S")
        writer.append([cut] * 40)
        end = tx(TxKind.ENDED, 1, 200)
        writer.append(
            [
                NewRow(
                    kind=kind_of(end), body=encode_fact(end), boot_id=BOOT, mono_ms=1, wall_ms=3_000, time_status="S",
                    tx_id="t1", evse=1,
                )
            ]
        )  # fmt: skip
        await writer.close()

    asyncio.run(cut_rows())
    archive = Archive(path)
    [begin] = [record for record in archive.records(0, 16) if record.kind == "tx_started"]
    [end] = archive.records(begin.seq, 16)
    assert end.kind == "tx_ended"


def test_security_events_are_found_among_all_rows(tmp_path: Path) -> None:
    events = [SecurityFact("InvalidMessages", str(number)) for number in range(3)]
    rows: list[tuple[Fact, int, int, str]] = []
    for event in events:
        rows += [(tx(TxKind.STARTED, 0, 0), 0, 0, "S"), (event, 0, 0, "S")]
    archive = written(tmp_path / "l", *rows)
    first = archive.security_records(0, 2)
    assert [record.fact for record in first] == events[:2]
    assert [record.fact for record in archive.security_records(first[-1].seq, 2)] == events[2:]
    archive.close()


# ------------------------------------------------------------------ after a rollback to this release (ADR 29)


def of_newer_release(*unreadable: Fact) -> Callable[[Fact], bytes]:
    """Bodies as a newer release writes them: all with more in them than is known here, these with a word that is no
    value here."""

    def body_of(fact: Fact) -> bytes:
        plain = json.loads(encode_fact(fact)) | {"colour": "red"}
        for sample_plain in plain.get("samples", []):
            sample_plain["colour"] = "red"
        if fact in unreadable:
            plain |= {name: "Magic" for name in ("trigger", "reason", "wall_ms") if name in plain} | {"text": 7}
            plain.pop("event_type", None)
        return json.dumps(plain).encode()

    return body_of


def test_rows_with_more_in_them_than_is_known_are_read(tmp_path: Path) -> None:
    started, told = tx(TxKind.STARTED, 0, 5), SecurityFact("StartupOfTheDevice", "FirmwareUpdate")
    archive = written(tmp_path / "l", (started, 0, 0, "S"), (told, 1, 1, "S"), body_of=of_newer_release())
    assert [record.fact for record in archive.records(0, 10)] == [started, told]
    assert [found.tx_id for found in archive.open_transactions(BOOT, 10, None)] == ["t1"]
    archive.close()


def test_rows_that_cannot_be_read_stay_and_stop_nobody(tmp_path: Path) -> None:
    """An error here would end the station each time the gateway asks."""
    unreadable: list[Fact] = [
        ClockFact(1_800_000_010_000, "CSMS", 10_000),
        SecurityFact("Magic", ""),
        tx(TxKind.STARTED, 0, 1, tx_id="t2"),
        tx(TxKind.UPDATED, 1, 700),
    ]
    kept_begin, told = tx(TxKind.STARTED, 0, 5), SecurityFact("SettingSystemTime", "")
    facts: list[Fact] = [kept_begin, *unreadable, told]
    rows = [(each, at, at, "S") for at, each in enumerate(facts)]
    archive = written(tmp_path / "l", *rows, body_of=of_newer_release(*unreadable))
    with structlog.testing.capture_logs() as logged:
        assert [record.fact for record in archive.records(0, 10)] == [kept_begin, told]
        assert archive.records(2, 1)[0].fact == told, "a page of nothing but such rows is not the last"
        assert [begin.fact for _, begin, _ in archive.transactions(None, 1)] == [kept_begin]
        assert [record.fact for record in archive.security_records(0, 10)] == [told]
    assert [each["row"] for each in logged] == [3, 4, 5, 6], "each once"
    archive.close()


BEGUN: Fact = tx(TxKind.STARTED, 0, 100)
MORE: Fact = tx(TxKind.UPDATED, 1, 700)
STOPPED: Fact = StopFact("t1", 1, Trigger.REMOTE_STOP, StopReason.REMOTE, None)


@pytest.mark.parametrize("unreadable", [BEGUN, MORE, STOPPED], ids=["begun", "more", "stopped"])
def test_an_open_transaction_with_a_row_that_cannot_be_read_is_ended_and_not_resumed(
    tmp_path: Path, unreadable: Fact
) -> None:
    """That row may have stopped it, or refused its token. Its seqNo go on after those that the other release told, and
    the registers in such a row still count."""
    rows = [(each, at, at, "S") for at, each in enumerate((BEGUN, MORE, STOPPED))]
    archive = written(tmp_path / "l", *rows, body_of=of_newer_release(unreadable))
    [found] = archive.open_transactions(BOOT, 10, None)
    assert isinstance(found, Stranded)
    assert (found.tx_id, found.evse, found.next_seq_no, found.last.energy_import_mwh) == ("t1", 1, 2, 700)
    ended, logged = end_stranded(found, 10)
    assert (ended.kind, ended.seq_no, ended.samples[-1].substituted) == (TxKind.ENDED, 2, True)
    assert logged.entry is LogEntry.RECORD_FAILED
    archive.close()


def test_an_open_transaction_with_a_row_of_a_kind_that_is_not_known_is_ended(tmp_path: Path) -> None:
    """What the row of a newer release says of it, nobody here can know."""
    written(tmp_path / "l", (BEGUN, 0, 0, "S")).close()
    add_rows(tmp_path / "l", [NewRow("pause", b"{}", BOOT, 1, 1, "S", tx_id="t1", evse=1)])
    archive = Archive(tmp_path / "l")
    [found] = archive.open_transactions(BOOT, 10, None)
    assert isinstance(found, Stranded) and found.next_seq_no == 1
    archive.close()


def test_an_open_transaction_without_a_single_reading_waits_for_whoever_can_read_it(tmp_path: Path) -> None:
    archive = written(tmp_path / "l", (BEGUN, 0, 0, "S"), body_of=lambda _: b'{"samples": [{"meter": 1}]}')
    assert archive.open_transactions(BOOT, 10, None) == []
    archive.close()


def test_an_open_transaction_after_which_others_charged_does_not_get_their_energy(tmp_path: Path) -> None:
    """A release that could not read its start left it open; the one that can comes back weeks later."""
    archive = written(
        tmp_path / "l",
        (BEGUN, 0, 0, "S"),
        (tx(TxKind.STARTED, 0, 800, tx_id="t2"), 1, 1, "S"),
        (tx(TxKind.ENDED, 1, 300_000, tx_id="t2"), 2, 2, "S"),
    )
    [found] = archive.open_transactions(BOOT, 10, None)
    assert isinstance(found, Stranded)
    assert (found.tx_id, found.last.energy_import_mwh) == ("t1", 100)
    archive.close()
