"""The audit: each kind of damage is found, named, and does not hide the next."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.ledger import schema
from agent.ledger.audit import Audit, Finding, TableFault
from agent.ledger.errors import ChainFault
from agent.ledger.reader import LedgerReader
from agent.ledger.rows import Row
from agent.ledger.side_records import PutTariff, PutWitness, Witness
from tests.unit.ledger.making import new_row, numbered, opened, read_all, write
from tests.unit.ledger.old_ledgers import make_old
from tests.unit.ledger.test_retention import cut, order
from tests.unit.ledger.test_store import tamper


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    opened(path)
    write(
        path,
        new_row(1, "tx_started", tx_id="A", evse=1),
        numbered(tx_id="A"),
        numbered(tx_id="A"),
        new_row(2, "tx_ended", tx_id="A"),
        new_row(3, "tariff"),
        numbered(),
        new_row(4),
        changes=[PutTariff("T", "csms", b"{}")],
    )
    return path


def number_of(row: Row) -> tuple[str, int] | None:
    return ("T", json.loads(row.body)["number"]) if row.kind == "signed" else None


def findings(path: Path, *witnesses: Witness) -> list[tuple[str, int | None]]:
    with LedgerReader(path) as reader:
        found = reader.audit(witnesses=witnesses, number_of=number_of)
        assert all(isinstance(finding.detail, str) and finding.detail for finding in found)
        return [(finding.fault.value, finding.seq) for finding in found]


def test_a_sound_ledger_has_no_findings_before_and_after_a_cut(path: Path) -> None:
    assert findings(path) == []
    cut(path, order(up_to=5))
    assert findings(path) == []


@pytest.mark.parametrize(
    ("statements", "found"),
    [
        (["UPDATE ledger SET wall_ms = 1 WHERE seq = 3"], [("content", 3)]),
        (
            [
                "UPDATE ledger SET mono_ms = 1 WHERE seq IN (3, 4)",
                "UPDATE ledger SET hash = zeroblob(32) WHERE seq = 6",
            ],
            [("content", 3), ("content", 4), ("content", 6), ("link", 7)],
        ),
        (["DELETE FROM ledger WHERE seq IN (4, 5)"], [("gap", 4), ("number", 7), ("tx", 2), ("tx", 2)]),
        (["DELETE FROM ledger WHERE seq <= 2"], [("cut", 1), ("tx", 2)]),
        (["DELETE FROM ledger WHERE seq = 8"], []),
        (["UPDATE counter SET value = 7 WHERE name = 'T'"], [("number", None)]),
        (["DELETE FROM counter"], [("number", None)]),
        (["UPDATE tx SET end_seq = 6"], [("tx", 2), ("tx", 2)]),
        (["UPDATE tariff SET text = x'00'"], [("tariff", 6)]),
        (["UPDATE tariff SET seq = 5"], [("tariff", 5)]),
        (["UPDATE tariff SET seq = 1"], [("tariff", 1)]),
        (["INSERT INTO cut VALUES (1, 5)"], [("file", None)]),
        (["DROP TRIGGER ledger_update"], [("file", None)]),
        (["INSERT INTO witness VALUES (5, 'csms', zeroblob(32), 0)"], [("witness", 5)]),
        (["INSERT INTO witness VALUES (10, 'csms', zeroblob(32), 0)"], [("witness", 9)]),
    ],
)
def test_what_is_wrong_is_named(path: Path, statements: list[str], found: list[tuple[str, int | None]]) -> None:
    for statement in statements:
        if statement.startswith("DROP"):
            connection = sqlite3.connect(path)
            connection.execute(statement)
            connection.close()
        else:
            tamper(path, statement)
    assert findings(path) == found


def test_a_missing_tail_is_found_by_a_witness_from_outside(path: Path) -> None:
    hashes = [row.hash for row in read_all(path)]
    outside = Witness(8, hashes[7], "receipt", 0)
    assert findings(path, outside) == []
    tamper(path, "DELETE FROM ledger WHERE seq >= 7")
    assert ("witness", 7) in findings(path, outside)


def test_all_who_know_more_than_there_is_are_named(path: Path) -> None:
    later = [Witness(20, bytes(32), name, 0) for name in ("receipt", "csms")]
    with LedgerReader(path) as reader:
        [found] = reader.audit(witnesses=later)
    assert found.seq == 9 and "csms, receipt knows row 20" in found.detail


def test_counters_that_fell_since_the_cut_are_named(path: Path) -> None:
    cut(path, order(up_to=7))  # all numbered rows are gone
    assert findings(path) == []
    tamper(path, "UPDATE counter SET value = 2 WHERE name = 'T'")
    assert findings(path) == [("number", 9)]


def test_findings_have_a_limit(path: Path) -> None:
    tamper(path, "UPDATE ledger SET wall_ms = 1")
    with LedgerReader(path) as reader:
        assert len(reader.audit(findings_max=3)) == 3
        assert {finding.fault for finding in reader.audit()} == {ChainFault.CONTENT}


def test_progress_is_told_and_ends_at_all(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.ledger.chain_check._PAGE_ROWS", 3)
    told: list[tuple[int, int]] = []
    with LedgerReader(path) as reader:
        reader.audit(on_progress=lambda done, total: told.append((done, total)))
    assert told == [(3, 8), (6, 8), (8, 8)]


def test_a_witness_kept_here_is_heard(path: Path) -> None:
    write(path, changes=[PutWitness(3, bytes(32), "csms", 0)])
    assert findings(path) == [("witness", 3)]


def test_pages_that_are_damaged_are_named(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'witness'").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 8)
    with LedgerReader(path) as reader:
        found = reader.audit()
        assert TableFault.FILE in {finding.fault for finding in found}
        assert all(isinstance(finding.fault, TableFault | ChainFault) for finding in found)
        assert all(finding.detail and finding.detail != "None" for finding in found)


def test_what_sqlite_itself_finds_is_told(path: Path) -> None:
    with LedgerReader(path) as reader:

        def select(query: str, values: Sequence[object]) -> list[Any]:
            said = "row 7 missing from index ledger_tx"
            return [(said,)] if "integrity_check" in query else reader._select(query, values)

        found = list(Audit(select, schema.VERSION, lambda: (), None, None).findings())
    assert found == [Finding(TableFault.FILE, None, "row 7 missing from index ledger_tx")]


@pytest.mark.parametrize("cut_before", [False, True])
def test_a_counter_that_is_not_there_has_given_out_nothing(tmp_path: Path, cut_before: bool) -> None:
    path = tmp_path / "another.db"
    opened(path)
    write(path, numbered())
    if cut_before:
        cut(path, order())
    tamper(path, "DELETE FROM counter")
    assert findings(path) == [("number", 3 if cut_before else None)]


def test_the_first_number_is_1_unless_something_was_cut(path: Path) -> None:
    def one_more(row: Row) -> tuple[str, int] | None:
        found = number_of(row)
        return None if found is None else (found[0], found[1] + 1)

    with LedgerReader(path) as reader:
        seqs = [finding.seq for finding in reader.audit(number_of=one_more)]
    assert seqs == [3, None], "the row, and the counter that is behind it"
    cut(path, order(up_to=2))
    with LedgerReader(path) as reader:
        assert {finding.seq for finding in reader.audit(number_of=one_more)} == {None}


def test_a_ledger_of_an_older_version_is_told_to_be_one(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    make_old(path, 1, ())
    with LedgerReader(path) as reader:
        found = reader.audit()
    assert [(each.fault, each.seq) for each in found][:1] == [(TableFault.FILE, None)]
    assert "schema 1" in found[0].detail
