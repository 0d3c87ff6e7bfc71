"""Cutting: what goes, what stays, what is said of it, and what is found when it was not said."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.core.facts import ChargingState, Fact, PriceCause, PriceFact, TransactionFact, Trigger, TxKind
from agent.ipc.codec import encode_fact
from agent.ledger import database, retention, tables
from agent.ledger.book import Book
from agent.ledger.chain_check import Cut, start_of
from agent.ledger.errors import ChainBroken, ChainFault
from agent.ledger.reader import LedgerReader
from agent.ledger.retention import CutDone, CutOrder
from agent.ledger.rows import Head, NewRow
from agent.ledger.side_records import PutTariff, PutWitness, Witness
from tests.unit.ledger.making import Pen, new_row, numbered, opened, read_all, write
from tests.unit.ledger.test_store import tamper

EVER = 10**15


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    opened(path)
    return path


def order(up_to: int = EVER, acknowledged: int = EVER, before_wall_ms: int = EVER) -> CutOrder:
    return CutOrder(up_to, acknowledged, before_wall_ms, "boot-2", 7, 1_765_000_000_000, "S")


def cut(path: Path, what: CutOrder, then: Sequence[NewRow] = ()) -> CutDone:
    async def main() -> CutDone:
        pen = Pen(path)
        done: asyncio.Future[CutDone] = asyncio.get_running_loop().create_future()
        pen.writer.cut(what, done.set_result)
        for row in then:
            pen.send(row)
        result = await pen.answer(done)
        await pen.writer.close()
        assert pen.failures == []
        return result

    return asyncio.run(main())


def seqs(path: Path) -> list[int]:
    with LedgerReader(path) as reader:
        return [row.seq for row in reader.rows(0, 1000)]


def session(tx_id: str, updates: int = 1, **changes: Any) -> list[NewRow]:
    return [
        new_row(0, "tx_started", tx_id=tx_id, evse=1, **changes),
        *(new_row(n, "tx_updated", tx_id=tx_id, evse=1, **changes) for n in range(updates)),
        new_row(9, "tx_ended", tx_id=tx_id, evse=1, **changes),
    ]


def test_a_cut_removes_a_beginning_and_says_so(path: Path) -> None:
    write(path, *session("A"), numbered(), *session("B"))  # 2 to 4, 5, 6 to 8
    rows = read_all(path)
    assert cut(path, order(up_to=5)) == CutDone(5, 1, 5)
    left = read_all(path)
    assert left[:3] == rows[5:]
    said = left[3]
    assert (said.seq, said.kind, said.boot_id, said.mono_ms) == (9, "cut", "boot-2", 7)
    assert (said.wall_ms, said.time_status, said.tx_id, said.evse) == (1_765_000_000_000, "S", None, None)
    assert said.body.decode() == (  # the same bytes for the same facts: the row is hashed
        f'{{"counters":{{"T":1}},"genesis_hash":"{rows[0].hash.hex()}","last_hash":"{rows[4].hash.hex()}",'
        '"last_seq":5,"rows":5,"transactions":1}'
    )
    with LedgerReader(path) as reader:
        assert (reader.verify().seq, reader.verify(2).seq, reader.verify(4).seq, reader.verify(5).seq) == (9, 9, 9, 9)
        assert [tx.tx_id for tx in reader.transactions(0, 9)] == ["B"]
        assert reader.newest_cut() == Cut(9, Head(5, rows[4].hash), 5, 1, {"T": 1}, rows[0].hash)
        assert reader.audit() == []
    assert opened(path).damaged is None
    write(path, numbered())
    assert json.loads(read_all(path)[-1].body)["number"] == 2


def test_cuts_follow_one_another_and_take_the_older_ones_along(path: Path) -> None:
    genesis_hash = read_all(path)[0].hash
    for number in range(6):
        write(path, *(new_row(n) for n in range(5)))
        with LedgerReader(path) as reader:
            head_seq = reader.head().seq
        assert cut(path, order(up_to=head_seq - 2)).last_seq == head_seq - 2
        with LedgerReader(path) as reader:
            assert len(reader.rows(0, 100)) == 3, number
            found = reader.newest_cut()
            assert found is not None
            assert (found.seq, found.last.seq) == (head_seq + 1, head_seq - 2)
            assert found.genesis_hash == genesis_hash  # which ledger this is, long after its first row
            assert reader.audit() == []


def test_all_there_is_can_go_but_what_says_so(path: Path) -> None:
    write(path, *session("A"))
    assert cut(path, order()).rows == 4
    assert seqs(path) == [5]
    assert opened(path).head.seq == 5
    assert cut(path, order(up_to=4)) == CutDone(0, 0, 0)


@pytest.mark.parametrize(
    ("what", "last"),
    [
        (order(acknowledged=2), 2),
        (order(acknowledged=3), 2),
        (order(acknowledged=0), 0),
        (order(before_wall_ms=1_764_000_000_000), 0),  # the genesis row's own time
        (order(before_wall_ms=1_764_000_000_001), 2),  # the row without a known time is older than row 4
        (order(before_wall_ms=1_764_000_000_003), 4),
        (order(before_wall_ms=EVER), 5),  # nobody knows how old rows 6 and 7 are
    ],
)
def test_only_what_is_told_and_old_goes(path: Path, what: CutOrder, last: int) -> None:
    write(
        path,
        new_row(0),
        new_row(1, wall_ms=0, time_status="U"),
        new_row(2),
        new_row(3),
        new_row(4, wall_ms=0, time_status="U"),
        new_row(5, wall_ms=0, time_status="U"),
    )
    assert cut(path, what).last_seq == last
    assert seqs(path)[0] == last + 1


@pytest.mark.parametrize(
    ("up_to", "last"), [(1, 1), (2, 1), (4, 1), (8, 1), (9, 9), (10, 10), (12, 10), (14, 14), (99, 14)]
)
def test_transactions_stay_whole(path: Path, up_to: int, last: int) -> None:
    write(
        path,
        new_row(0, "tx_started", tx_id="A", evse=1),  # 2
        new_row(0, "tx_ended", tx_id="A", evse=1),
        new_row(0, "tx_started", tx_id="B", evse=2),  # 4
        new_row(0, "tx_updated", tx_id="A", evse=1),  # late
        new_row(0, "tx_ended", tx_id="B", evse=2),
        new_row(0),
        new_row(0),
        new_row(0, "receipt", tx_id="A", evse=1),  # 9: and only now is A done
        new_row(0),
        new_row(0, "tx_started", tx_id="C", evse=1),  # 11
        new_row(0),
        new_row(0),
        new_row(0, "tx_ended", tx_id="C", evse=1),  # 14
        new_row(0, "tx_started", tx_id="D", evse=1),  # 15: open
        new_row(0),
    )
    assert cut(path, order(up_to=up_to)).last_seq == last
    with LedgerReader(path) as reader:
        assert reader.audit() == []
        assert [row.tx_id for row in reader.open_transactions()] == ["D"]


@pytest.mark.parametrize(("up_to", "last"), [(2, 1), (3, 1), (4, 1), (5, 5)])
def test_transactions_that_overlap_by_a_row_stay_together(path: Path, up_to: int, last: int) -> None:
    write(
        path,
        new_row(0, "tx_started", tx_id="A", evse=1),
        new_row(0, "tx_started", tx_id="B", evse=2),
        new_row(0, "tx_ended", tx_id="A", evse=1),
        new_row(0, "tx_ended", tx_id="B", evse=2),
        new_row(0, "tx_started", tx_id="C", evse=2),
    )
    assert cut(path, order(up_to=up_to)).last_seq == last


def test_a_large_cut_goes_in_small_commits_with_others_between(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "CHUNK_ROWS", 10)
    for number in range(6):
        write(path, *session(f"T{number}", updates=5 + 7 * number))
    assert cut(path, order(), then=[new_row(0)] * 3).transactions == 6
    with LedgerReader(path) as reader:
        assert reader.transactions(0, 9) == []
        assert reader.audit() == []
        cuts = [json.loads(row.body)["rows"] for row in reader.rows(0, 1000, kinds=["cut"])]
        assert max(cuts) <= 10
    assert opened(path).damaged is None


def test_a_transaction_that_was_started_twice_goes_on_from_its_second_start(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nobody should write such rows; the table must go on saying what the rows say all the same.
    monkeypatch.setattr(retention, "CHUNK_ROWS", 2)
    write(path, new_row(0, "tx_started", tx_id="A", evse=1), new_row(0), *session("A", 3), new_row(0))  # 2, 4 to 8
    with closing(database.connect_for_writing(path)) as connection:
        book = Book(connection, tables.head(connection, path))
        begins = []
        while book.cut(order(up_to=8)) is not None:
            with LedgerReader(path) as reader:
                assert reader.audit() == []
                begins.append([tx.begin_seq for tx in reader.transactions(0, 9)])
    assert [each for each, _ in itertools.groupby(begins)] == [[2], [4], []]


def never_a_pause() -> list[NewRow]:
    """Three EVSEs in turn, each transaction ten rows long, and always one of them plugged in; then a pause."""
    rows = [
        new_row(at, kind, tx_id=f"T{begin}", evse=1 + begin // 4 % 3)
        for at in range(200)
        for begin in range(0, 192, 4)
        for kind in [{0: "tx_started", 10: "tx_ended"}.get(at - begin, "tx_updated")]
        if 0 <= at - begin <= 10
    ]
    return [row for row in rows if row.tx_id != "T188"] + session("T188")


@pytest.mark.parametrize(
    "rows",
    [
        session("A", updates=100),
        never_a_pause(),
        [new_row(0, wall_ms=0, time_status="U")] * 100 + [new_row(1)],
        [new_row(0, wall_ms=4_102_444_800_000, time_status="I"), *(new_row(n) for n in range(100))],
        [*session("A", wall_ms=4_102_444_800_000), new_row(1)],
    ],
    ids=["a long transaction", "never a pause", "no clock", "one row of 2100", "a transaction of 2100"],
)
def test_what_is_old_goes_however_far_the_next_place_to_cut_is(
    path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[NewRow]
) -> None:
    monkeypatch.setattr(retention, "CHUNK_ROWS", 10)
    write(path, *rows)
    what = order(before_wall_ms=1_764_500_000_000)
    assert cut(path, what).last_seq == 1 + len(rows)
    write(path, *session("B", wall_ms=1_764_600_000_000))
    young = cut(path, what)
    assert young.transactions == 0
    with LedgerReader(path) as reader:
        assert [tx.tx_id for tx in reader.transactions(0, 9)] == ["B"]
        assert reader.audit() == []


def test_a_place_to_cut_is_looked_for_in_small_pieces(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commits wait meanwhile."""
    monkeypatch.setattr(retention, "CHUNK_ROWS", 10)
    write(path, *session("A", updates=96), new_row(0, "tx_started", tx_id="B", evse=1))  # 2 to 99, 100
    looked: list[int] = []
    with closing(database.connect_for_writing(path)) as connection:
        book = Book(connection, tables.head(connection, path))
        while (done := book.cut(order(up_to=100))) is not None:
            looked.append(done.last_seq)
    assert looked == [1, *[0] * 8, *range(11, 99, 10), 99]


def test_a_search_in_vain_takes_nothing_from_what_is_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "CHUNK_ROWS", 10)
    *old, end = session("A", updates=30)
    write(path, *old, replace(end, wall_ms=1_764_600_000_000))
    assert cut(path, order(before_wall_ms=1_764_500_000_000)) == CutDone(1, 0, 1)  # the genesis


def test_an_open_transaction_ends_the_search_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "CHUNK_ROWS", 10)
    write(path, *session("A", updates=100)[:-1])
    with closing(database.connect_for_writing(path)) as connection:
        book = Book(connection, tables.head(connection, path))
        assert book.cut(order()) == CutDone(1, 0, 1)
        assert book.cut(order()) is None


def test_closing_ends_a_cut_early_and_leaves_a_whole_ledger(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "CHUNK_ROWS", 2)
    write(path, *(new_row(n) for n in range(1000)))
    done: list[CutDone] = []

    async def main() -> None:
        pen = Pen(path)
        pen.writer.cut(order(), done.append)
        with pytest.raises(RuntimeError, match="being cut"):
            pen.writer.cut(order(), done.append)
        await pen.writer.close()
        with pytest.raises(RuntimeError, match="closed"):
            pen.writer.cut(order(), done.append)
        await asyncio.sleep(0)

    asyncio.run(main())
    (found,) = done
    assert found.rows < 1000
    with LedgerReader(path) as reader:
        assert reader.audit() == []


def tariffs_of(path: Path) -> list[bytes]:
    with LedgerReader(path) as reader:
        assert reader.audit() == []
        return [tariff.text for tariff in reader.tariffs(0, 1000)]


def naming(tariff: PutTariff | None, kind: str) -> NewRow:
    """A row whose fact names a tariff, or none; a hostile text stands before it."""
    content = None if tariff is None else tariff.hash.hex()
    hostile = f'x","tariff":"{"0" * 64}"'
    fact: Fact
    if kind == "price":
        fact = PriceFact(hostile, 1, PriceCause.TARIFF, (), content)
    else:
        of_kind = TxKind.STARTED if kind == "tx_started" else TxKind.ENDED
        state = ChargingState.CHARGING
        fact = TransactionFact(of_kind, "T", 0, 1, Trigger.AUTHORIZED, state, False, group=hostile, tariff=content)
    return new_row(0, kind, tx_id="T", evse=1, body=encode_fact(fact))


def test_a_tariff_goes_with_the_last_row_that_brought_it(path: Path) -> None:
    first, second, third = PutTariff("A", "csms", b"1"), PutTariff("A", "csms", b"2"), PutTariff("A", "csms", b"3")
    other = PutTariff("B", "csms", b"4")
    for tariff in (first, other, second, first, third):  # rows 2 to 6; the first came back in row 5
        write(path, new_row(0, "tariff"), changes=[tariff])
    cut(path, order(up_to=4))
    assert tariffs_of(path) == [b"1", b"3"]
    cut(path, order(up_to=5))
    assert tariffs_of(path) == [b"3"]


@pytest.mark.parametrize("kind", ["tx_started", "price"])
def test_a_tariff_stays_as_long_as_a_row_that_names_it(path: Path, kind: str) -> None:
    """However old it is, and whatever its name: OCPP 2.1 asks for a new tariffId for each change."""
    named, unnamed, newer = (PutTariff(each, "csms", each.encode()) for each in "ABC")
    for tariff in (named, unnamed, newer):  # rows 2 to 4
        write(path, new_row(0, "tariff"), changes=[tariff])
    rows = [naming(named if each == kind else None, each) for each in ("tx_started", "price")]
    write(path, *rows, naming(None, "price"), naming(None, "tx_ended"))  # 5 to 8
    cut(path, order(up_to=4))
    assert tariffs_of(path) == [b"A"]
    cut(path, order(up_to=8))
    assert tariffs_of(path) == []


def test_a_tariff_in_use_stays_whatever_names_it(path: Path) -> None:
    in_use, newer = PutTariff("A", "csms", b"1"), PutTariff("A", "csms", b"2")
    for tariff in (in_use, newer):
        write(path, new_row(0, "tariff"), changes=[tariff])
    cut(path, replace(order(), tariffs_in_use=frozenset({in_use.hash.hex()})))
    assert tariffs_of(path) == [b"1"]


def test_of_very_many_tariffs_some_wait_for_the_next_commit(path: Path) -> None:
    """However few the rows are: the text of a tariff may be long."""
    kept = PutTariff("kept", "csms", b"kept")
    write(path, new_row(0, "tariff"), changes=[kept])  # 2
    many = [PutTariff(f"{number}", "csms", b"%d" % number) for number in range(250)]
    write(path, *(new_row(0, "tariff") for _ in many), changes=many)  # 3 to 252
    write(path, *(new_row(number) for number in range(40)))
    in_use = replace(order(), tariffs_in_use=frozenset({kept.hash.hex()}))
    left = []
    for up_to in (252, 262, 272):
        cut(path, replace(in_use, up_to_seq=up_to))
        left.append(len(tariffs_of(path)))
    assert left == [151, 51, 1]


def test_a_beginning_that_was_removed_by_other_means_is_named(path: Path) -> None:
    write(path, *(new_row(n) for n in range(10)))
    cut(path, order(up_to=3))
    tamper(path, "DELETE FROM ledger WHERE seq <= 6")
    with LedgerReader(path) as reader:
        with pytest.raises(ChainBroken, match="rows 4 to 6 are gone, and no cut says so") as caught:
            reader.verify()
        assert (caught.value.seq, caught.value.fault) == (4, ChainFault.CUT)
        assert [(finding.fault, finding.seq) for finding in reader.audit()] == [(ChainFault.CUT, 4)]
    assert opened(path).damaged is not None


def test_rows_in_place_of_those_that_were_cut_are_named(path: Path) -> None:
    write(path, *(new_row(n) for n in range(10)))
    old = read_all(path)[4]
    cut(path, order(up_to=5))
    values = ", ".join(f"x'{v.hex()}'" if isinstance(v, bytes) else "NULL" if v is None else repr(v) for v in _of(old))
    tamper(path, f"INSERT INTO ledger VALUES ({values})")
    with LedgerReader(path) as reader, pytest.raises(ChainBroken, match="although the cut in row 12 removed") as caught:
        reader.verify()
    assert (caught.value.seq, caught.value.fault) == (5, ChainFault.CUT)


def _of(row: Any) -> list[Any]:
    return [getattr(row, name) for name in row.__slots__]


def test_a_changed_cut_row_is_found(path: Path) -> None:
    write(path, *(new_row(n) for n in range(10)))
    cut(path, order(up_to=5))
    tamper(
        path, "UPDATE ledger SET body = CAST(replace(CAST(body AS TEXT), 'rows', 'rown') AS BLOB) WHERE kind = 'cut'"
    )
    with LedgerReader(path) as reader, pytest.raises(ChainBroken) as caught:
        reader.verify()
    assert caught.value.seq == 12


@pytest.mark.parametrize("up_to", [4, 5, 12])
def test_rows_cut_while_the_chain_is_walked_are_no_gap(path: Path, monkeypatch: pytest.MonkeyPatch, up_to: int) -> None:
    monkeypatch.setattr("agent.ledger.chain_check._PAGE_ROWS", 4)
    write(path, *(new_row(n) for n in range(20)))
    cuts: list[CutDone] = []

    def meanwhile(done: int, total: int) -> None:
        if not cuts:
            cuts.append(cut(path, order(up_to=up_to)))

    with LedgerReader(path) as reader:
        assert reader.verify(on_progress=meanwhile).seq == 22
    assert cuts[0].last_seq == up_to


def test_rows_that_vanish_by_other_means_while_the_chain_is_walked_are_a_gap(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.ledger.chain_check._PAGE_ROWS", 4)
    write(path, *(new_row(n) for n in range(20)))
    with LedgerReader(path) as reader, pytest.raises(ChainBroken) as caught:
        reader.verify(on_progress=lambda done, _: tamper(path, "DELETE FROM ledger WHERE seq <= 12"))
    assert (caught.value.seq, caught.value.fault) == (5, ChainFault.GAP)


def test_a_witness_of_the_last_row_removed_still_counts(path: Path) -> None:
    write(path, *(new_row(n) for n in range(10)))
    hashes = [row.hash for row in read_all(path)]
    cut(path, order(up_to=5))
    with LedgerReader(path) as reader:
        reader.verify(witnesses=[Witness(seq, hashes[seq - 1], "csms", 0) for seq in (1, 5, 6, 11)])
        with pytest.raises(ChainBroken, match="csms knows another row in this place") as caught:
            reader.verify(witnesses=[Witness(5, hashes[0], "csms", 0)])
    assert (caught.value.seq, caught.value.fault) == (5, ChainFault.WITNESS)


def test_a_tail_cut_off_before_a_witness_is_found_at_the_start(path: Path) -> None:
    rows = [new_row(n) for n in range(10)]
    write(path, *rows)
    write(path, changes=[PutWitness(9, read_all(path)[8].hash, "csms", 0)])
    tamper(path, "DELETE FROM ledger WHERE seq > 9")
    assert opened(path).damaged is None  # the witness saw no more than this
    tamper(path, "DELETE FROM ledger WHERE seq > 7")
    assert "csms knows row 9, but the rows end at 7" in (opened(path).damaged or "")


@pytest.mark.parametrize("last_seq", [4, 9])
def test_a_beginning_that_does_not_fit_its_cut_is_walked_from_its_first_row(last_seq: int) -> None:
    body = f'{{"counters":{{}},"genesis_hash":"00","last_hash":"00","last_seq":{last_seq},"rows":1,"transactions":0}}'

    def select(query: str, _: Sequence[object]) -> list[Any]:
        return [(12, body.encode())] if "kind = 'cut'" in query else [(7, b"before")]

    head, wrong = start_of(select)
    assert head == Head(6, b"before")
    assert [(each.seq, each.fault) for each in wrong] == [(7 if last_seq == 9 else 5, ChainFault.CUT)]
