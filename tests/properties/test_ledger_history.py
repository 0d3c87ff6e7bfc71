"""Invariants over whole histories of a ledger, with restarts, killed processes and cuts: numbers have no
gaps (L2), whatever is done to the rows is found (L4), transactions follow from the rows (L5)."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.ledger import database, retention, tables
from agent.ledger.book import Book, Job
from agent.ledger.chain_check import ChainCheck, ChainFinding, start_of
from agent.ledger.errors import ChainBroken, ChainFault
from agent.ledger.reader import LedgerReader
from agent.ledger.retention import CutOrder
from agent.ledger.rows import NewRow, Row, Sealed
from agent.ledger.side_records import PutTariff, Witness
from tests.unit.ledger.making import new_row, numbered, opened, read_all

unhurried = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])

_TX = st.sampled_from("abcd")
_SIZE = st.integers(0, 900)


def _row(kind: str) -> st.SearchStrategy[NewRow | Sealed]:
    return st.builds(lambda tx, size: new_row(size, kind, tx_id=tx, evse=1, body=bytes(size)), _TX, _SIZE)


def _naming(kind: str, tx: str, size: int) -> NewRow | Sealed:
    """A row whose fact names a tariff, which may never have come."""
    content = PutTariff("t", "csms", bytes(size)).hash.hex()
    return new_row(size, kind, tx_id=tx, evse=1, body=b'{"tariff":"%s"}' % content.encode())


def _numbered(counter: str) -> NewRow | Sealed:
    return numbered(counter)


_NEW: st.SearchStrategy[NewRow | Sealed] = st.one_of(
    *map(_row, ("tx_started", "tx_updated", "tx_ended", "receipt", "meter")),
    st.sampled_from(["T", "F"]).map(_numbered),
    st.builds(lambda size: new_row(size, "tariff", body=bytes(size)), _SIZE),
    st.builds(lambda size: new_row(size, "tariff", body=bytes(size)), st.integers(0, 3)),
    st.builds(
        lambda kind, tx, size: _naming(kind, tx, size), st.sampled_from(["tx_started", "price"]), _TX, st.integers(0, 3)
    ),
)


@dataclass(frozen=True)
class Commit:
    jobs: list[list[NewRow | Sealed]]


@dataclass(frozen=True)
class CutRows:
    """So many rows are to stay."""

    stay: int


@dataclass(frozen=True)
class Stop:
    """The process ends: in good order, or killed."""

    killed: bool


_STEP = st.one_of(
    st.builds(Commit, st.lists(st.lists(_NEW, min_size=1, max_size=5), min_size=1, max_size=3)),
    st.builds(Commit, st.lists(st.lists(_NEW, min_size=1, max_size=5), min_size=1, max_size=3)),
    st.builds(CutRows, st.integers(0, 12)),
    st.builds(Stop, st.booleans()),
)
_HISTORY = st.lists(_STEP, min_size=1, max_size=12)


@dataclass
class Life:
    """A ledger that goes through a history. ``said`` is every row that was answered."""

    directory: Path
    said: list[Row] = field(default_factory=list)
    cuts: int = 0

    def __post_init__(self) -> None:
        self.path = self.directory / "ledger.db"
        self._open()

    def _open(self) -> None:
        found = opened(self.path)
        assert (found.damaged, found.rebuilt) == (None, False)
        self.connection = database.connect_for_writing(self.path)
        self.book = Book(self.connection, found.head)

    def go(self, step: Commit | CutRows | Stop) -> None:
        match step:
            case Commit(jobs):
                for rows in self.book.commit([_job(rows) for rows in jobs]):
                    self.said += rows
            case CutRows(stay):
                seq = self.book.head.seq - stay
                order = CutOrder(seq, seq, 10**15, "boot-1", 1, 1_764_000_000_000, "S")
                self.cuts += self.book.cut(order) is not None
            case Stop(killed):
                self._stop(killed)

    def _stop(self, killed: bool) -> None:
        """What a killed process leaves is what its files hold now, with the WAL as it is."""
        suffixes = ("", "-wal") if killed else ()
        for suffix in suffixes:
            shutil.copy(f"{self.path}{suffix}", f"{self.path}{suffix}.left")
        self.connection.close()
        for suffix in suffixes:
            Path(f"{self.path}{suffix}.left").rename(f"{self.path}{suffix}")
        self._open()


def _job(rows: Sequence[NewRow | Sealed]) -> Job:
    tariffs = [row.body for row in rows if isinstance(row, NewRow) and row.kind == "tariff"]
    return Job(tuple(rows), tuple(PutTariff(f"t{len(text) % 3}", "csms", text) for text in tariffs))


def number_of(row: Row) -> tuple[str, int] | None:
    if row.kind != "signed":
        return None
    return str(json.loads(row.body)["counter"]), int(json.loads(row.body)["number"])


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "CHUNK_ROWS", 7)


@settings(unhurried, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(_HISTORY)
def test_l2_numbers_rise_by_one_whatever_happens_between(history: list[Commit | CutRows | Stop]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        life = Life(Path(directory))
        for step in history:
            life.go(step)
        numbers = [json.loads(row.body)["number"] for row in life.said if row.kind == "signed"]
        by_counter = {name: [n for n, row in _signed(life.said) if row == name] for name in ("T", "F")}
        assert sum(map(len, by_counter.values())) == len(numbers)
        for name, given_out in by_counter.items():
            assert given_out == list(range(1, len(given_out) + 1))
            assert tables.counter(life.connection, name) == len(given_out)
        life.connection.close()
        # And L1: what was answered and not cut is there, in its place, as it was said.
        left = {row.seq: row for row in read_all_from(life.path)}
        first = min(left)
        assert [left[row.seq] for row in life.said if row.seq >= first] == [r for r in life.said if r.seq >= first]


def _signed(rows: Sequence[Row]) -> list[tuple[int, str]]:
    return [(json.loads(row.body)["number"], json.loads(row.body)["counter"]) for row in rows if row.kind == "signed"]


def read_all_from(path: Path) -> list[Row]:
    with LedgerReader(path) as reader:
        return reader.rows(0, 1000)


@settings(unhurried, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(_HISTORY)
def test_l5_transactions_are_what_the_rows_say_after_every_step(history: list[Commit | CutRows | Stop]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        life = Life(Path(directory))
        for step in history:
            life.go(step)
            before = life.connection.execute("SELECT * FROM tx ORDER BY begin_seq").fetchall()
            assert before == _model(life.connection.execute("SELECT seq, kind, tx_id, evse FROM ledger ORDER BY seq"))
            life.connection.execute("BEGIN")
            tables.rebuild_tx(life.connection)
            assert life.connection.execute("SELECT * FROM tx ORDER BY begin_seq").fetchall() == before
            life.connection.execute("ROLLBACK")
            with LedgerReader(life.path) as reader:
                assert reader.transactions_agree(5)
        life.connection.close()
        with LedgerReader(life.path) as reader:
            assert reader.audit() == []


@settings(unhurried, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(_HISTORY)
def test_a_tariff_is_there_as_long_as_a_row_that_names_it(history: list[Commit | CutRows | Stop]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        life = Life(Path(directory))
        there: set[str] = set()
        named: dict[str, int] = {}  # the last row that names one that was there
        for step in history:
            said = len(life.said)
            life.go(step)
            for row in life.said[said:]:
                if row.kind == "tariff":
                    there.add(PutTariff("t", "csms", row.body).hash.hex())
                elif row.body.startswith(b'{"tariff"') and (content := json.loads(row.body)["tariff"]) in there:
                    named[content] = row.seq
            there = {each.hex() for (each,) in life.connection.execute("SELECT hash FROM tariff")}
            (first,) = life.connection.execute("SELECT min(seq) FROM ledger").fetchone()
            assert {content for content, seq in named.items() if seq >= first} <= there
        life.connection.close()


def _model(rows: Any) -> list[tuple[Any, ...]]:
    """(begin, tx, evse, end, receipt), told by walking the rows."""
    found: dict[str, list[Any]] = {}
    for seq, kind, tx_id, evse in rows:
        if kind == "tx_started" and tx_id not in found:
            found[tx_id] = [seq, tx_id, evse, None, None]
        elif kind == "tx_ended" and tx_id in found:
            found[tx_id][3] = found[tx_id][3] or seq
        elif kind == "receipt" and tx_id in found:
            found[tx_id][4] = seq
    return sorted(map(tuple, found.values()))


# ------------------------------------------------------------------------------------------------ L4

_COLUMNS = ("kind", "tx_id", "evse", "body", "boot_id", "mono_ms", "wall_ms", "time_status", "prev_hash", "hash")


class Evidence:
    """A ledger that was cut, and what can be done to it without leaving a trace but in the chain."""

    def __init__(self, connection: sqlite3.Connection, rows: list[Row]) -> None:
        self.connection = connection
        self.rows = rows

    def findings(self, damage: Callable[[sqlite3.Connection], object], *witnesses: Witness) -> list[ChainFinding]:
        self.connection.execute("BEGIN")
        try:
            damage(self.connection)
            start, wrong = start_of(self._select)
            return wrong + list(ChainCheck(self._select, witnesses).walk(start, 0))
        finally:
            self.connection.execute("ROLLBACK")

    def _select(self, query: str, values: Sequence[object]) -> list[Any]:
        return self.connection.execute(query, values).fetchall()


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("evidence") / "ledger.db"
    head = opened(path).head
    with closing(database.connect_for_writing(path)) as connection:
        book = Book(connection, head)
        for number in range(12):
            rows = (new_row(number, tx_id="T", evse=number % 3), numbered(), new_row(number, "clock"))
            book.commit([Job(rows, ())])
            if number in (5, 9):
                book.cut(CutOrder(2 * number, 2 * number, 10**15, "boot-1", 1, 1_764_000_000_000, "S"))
        with closing(sqlite3.connect(path, isolation_level=None)) as bare:
            bare.execute("PRAGMA ignore_check_constraints = ON")
            for (name,) in bare.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
                bare.execute(f"DROP TRIGGER {name}")
            yield Evidence(bare, read_all_from(path))


def _flipped(value: Any, bit: int) -> Any:
    match value:
        case None:
            return None
        case int():
            return value ^ (1 << bit % 62)
        case bytes():
            changed = bytearray(value or b"\0")
            changed[bit // 8 % len(changed)] ^= 1 << bit % 8
            return bytes(changed)
        case _:
            at = bit // 5 % len(value)
            return value[:at] + chr(ord(value[at]) ^ (1 << bit % 5)) + value[at + 1 :]


def test_l4_the_sound_ledger_has_no_findings(evidence: Evidence) -> None:
    assert evidence.rows[0].seq > 1
    assert evidence.findings(lambda _: None) == []


@unhurried
@given(st.data(), st.sampled_from(_COLUMNS), st.integers(0, 5000))
def test_l4_any_bit_in_any_row_is_found_and_its_row_named(
    evidence: Evidence, data: st.DataObject, column: str, bit: int
) -> None:
    row = data.draw(st.sampled_from(evidence.rows))
    value = getattr(row, column)
    changed = (3 if column == "evse" else "x") if value is None else _flipped(value, bit)
    found = evidence.findings(
        lambda connection: connection.execute(f"UPDATE ledger SET {column} = ? WHERE seq = ?", (changed, row.seq))
    )
    assert row.seq in {finding.seq for finding in found}


@unhurried
@given(st.data(), st.integers(1, 4))
def test_l4_any_missing_rows_are_found(evidence: Evidence, data: st.DataObject, count: int) -> None:
    first = data.draw(st.sampled_from(evidence.rows))
    head = evidence.rows[-1]
    witness = Witness(head.seq, head.hash, "csms", 0)
    found = evidence.findings(
        lambda connection: connection.execute(
            "DELETE FROM ledger WHERE seq >= ? AND seq < ?", (first.seq, first.seq + count)
        ),
        witness,
    )
    assert found
    assert found[0].seq <= first.seq
    at_an_end = first is evidence.rows[0] or first.seq + count > head.seq
    assert found[0].fault in ({ChainFault.CUT, ChainFault.WITNESS} if at_an_end else {ChainFault.GAP, ChainFault.CUT})


@unhurried
@given(st.data())
def test_l4_any_two_swapped_rows_are_found(evidence: Evidence, data: st.DataObject) -> None:
    first, second = data.draw(st.lists(st.sampled_from(evidence.rows), min_size=2, max_size=2, unique_by=id))

    def swap(connection: sqlite3.Connection) -> None:
        for seq, of in ((first.seq, second), (second.seq, first)):
            values = [getattr(of, column) for column in _COLUMNS]
            connection.execute(
                f"UPDATE ledger SET ({', '.join(_COLUMNS)}) = ({', '.join('?' * 10)}) WHERE seq = ?", [*values, seq]
            )

    found = {finding.seq for finding in evidence.findings(swap)}
    assert {first.seq, second.seq} <= found


@unhurried
@given(st.data())
def test_l4_a_tail_cut_off_before_a_witness_is_found_and_only_then(evidence: Evidence, data: st.DataObject) -> None:
    witnessed, last = data.draw(st.sampled_from(evidence.rows)), data.draw(st.sampled_from(evidence.rows))
    found = evidence.findings(
        lambda connection: connection.execute("DELETE FROM ledger WHERE seq > ?", (last.seq,)),
        Witness(witnessed.seq, witnessed.hash, "receipt", 0),
    )
    newest_cut_seq = max(row.seq for row in evidence.rows if row.kind == "cut")
    if witnessed.seq > last.seq:
        assert (last.seq + 1, ChainFault.WITNESS) in {(finding.seq, finding.fault) for finding in found}
    else:  # without the row that says what was cut, the beginning gives the missing end away
        assert (found == []) == (last.seq >= newest_cut_seq)


def test_l4_an_old_image_put_back_is_found_by_a_witness_kept_elsewhere(tmp_path: Path) -> None:
    life = Life(tmp_path)
    life.go(Commit([[new_row(1)], [numbered()]]))
    life.go(Stop(killed=False))
    old = life.path.read_bytes()
    life.go(Commit([[new_row(2)]]))
    receipt = Witness(life.book.head.seq, life.book.head.hash, "receipt", 0)
    life.connection.close()
    with LedgerReader(life.path) as reader:
        assert reader.verify(witnesses=[receipt]).seq == receipt.seq
    life.path.write_bytes(old)
    with LedgerReader(life.path) as reader:
        assert reader.verify().seq == 3  # by itself it is a whole chain
        with pytest.raises(ChainBroken, match="receipt knows row 4, but the rows end at 3"):
            reader.verify(witnesses=[receipt])
    assert len(read_all(life.path)) == 3
