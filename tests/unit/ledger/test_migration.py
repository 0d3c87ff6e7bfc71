"""Every released form of the ledger is brought to the newest, or left exactly as it was."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from agent.ledger import schema
from agent.ledger.errors import LedgerUnusable
from agent.ledger.reader import LedgerReader
from agent.ledger.rows import Row
from agent.ledger.side_records import Transaction
from agent.ledger.state import Namespace
from agent.ledger.writer import LedgerWriter
from tests.unit.ledger.making import chained, new_row, numbered, opened, read_all, write
from tests.unit.ledger.old_ledgers import RELEASED, make_old

ROWS = chained(
    [
        new_row(0, "genesis"),
        new_row(1, "tx_started", tx_id="T-1", evse=1),
        new_row(2, "tx_updated", tx_id="T-1", evse=1),
        new_row(3, "tx_started", tx_id="T-2", evse=2),
        new_row(4, "tx_ended", tx_id="T-1", evse=1),
        new_row(5, "clock"),
    ]
)
STATE = [("cursor", "csms", "4")]


@pytest.fixture(params=sorted(RELEASED))
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    make_old(path, request.param, ROWS, STATE)
    return path


def test_every_released_form_is_in_the_list() -> None:
    assert sorted(RELEASED) == list(range(1, schema.VERSION))


def test_an_old_ledger_becomes_a_new_one_with_all_it_held(old: Path) -> None:
    found = opened(old)
    assert (found.damaged, found.head.seq, found.rebuilt) == (None, 6, False)
    assert read_all(old) == ROWS
    with LedgerReader(old) as reader:
        assert reader.schema_version == schema.VERSION
        assert reader.state(Namespace.CURSOR) == {"csms": "4"}
        assert reader.transactions(0, 10) == [Transaction("T-1", 1, 2, 5, None), Transaction("T-2", 2, 4, None, None)]
        assert [row.tx_id for row in reader.open_transactions()] == ["T-2"]
        assert reader.audit() == []
    write(old, numbered(), new_row(6, "tx_ended", tx_id="T-2"))
    assert opened(old).head.seq == 8
    with LedgerReader(old) as reader:
        assert reader.audit() == []
        assert reader.open_transactions() == []


def test_both_ways_lead_to_the_same_definitions(old: Path, tmp_path: Path) -> None:
    opened(old)
    fresh = tmp_path / "fresh.db"
    opened(fresh)
    connections = [sqlite3.connect(path) for path in (old, fresh)]
    migrated, made = [schema.found_in(connection) for connection in connections]
    assert migrated == made
    for connection in connections:
        connection.close()


def test_a_migration_that_fails_changes_nothing(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class FullDisk(sqlite3.Connection):
        def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
            if sql == "BEGIN IMMEDIATE":
                (pages,) = super().execute("PRAGMA page_count").fetchone()
                super().execute(f"PRAGMA max_page_count = {pages + 4}")
            return super().execute(sql, *args)

    with monkeypatch.context() as patch:
        connect = sqlite3.connect
        patch.setattr(sqlite3, "connect", lambda *args, **options: connect(*args, factory=FullDisk, **options))
        with pytest.raises(LedgerUnusable, match="full"):
            opened(old)
    with LedgerReader(old) as reader:
        assert reader.schema_version < schema.VERSION
        reader.check_file()
        assert reader.verify().seq == 6
    assert opened(old).damaged is None
    assert read_all(old) == ROWS


def test_an_old_ledger_can_be_read_and_verified_but_not_written(old: Path) -> None:
    with LedgerReader(old) as reader:
        assert reader.verify().seq == 6
        assert [finding.detail for finding in reader.audit()] == ["schema 1: it is older than 2"]
    with pytest.raises(LedgerUnusable, match="schema 1 was not brought to 2"):
        LedgerWriter(old, None, lambda _: None)  # type: ignore[arg-type]


def test_a_damaged_old_ledger_is_kept_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    wrong = Row(**{field: getattr(ROWS[3], field) for field in ROWS[3].__slots__} | {"body": b"x"})
    make_old(path, 1, [*ROWS[:3], wrong, *ROWS[4:]])
    content = path.read_bytes()
    assert "row 4" in (opened(path).damaged or "")
    assert path.with_name("ledger.db.damaged-1").read_bytes() == content
