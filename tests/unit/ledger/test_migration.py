"""Every released form of the ledger is brought to the newest, or left exactly as it was."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from agent.ledger import schema
from agent.ledger.errors import LedgerUnusable
from agent.ledger.reader import LedgerReader
from agent.ledger.rows import Row
from agent.ledger.side_records import PutTariff, Transaction
from agent.ledger.state import Namespace
from agent.ledger.writer import LedgerWriter
from tests.unit.ledger.making import chained, new_row, numbered, opened, read_all, write
from tests.unit.ledger.old_ledgers import RELEASED, make_old
from tests.unit.ledger.test_retention import cut, order

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


def test_a_tariff_of_before_stays_until_all_that_was_there_then_is_cut(tmp_path: Path) -> None:
    """Nobody noted which row named it last; and older software may go on writing (ADR 29)."""
    path, tariff = tmp_path / "ledger.db", PutTariff("old", "live", b"{}")
    make_old(path, 2, chained([new_row(0, "genesis"), new_row(1, "tariff"), *(new_row(n) for n in range(2, 6))]))
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        values = (tariff.hash, tariff.tariff_id, tariff.source, 2, tariff.text)
        connection.execute("INSERT INTO tariff (hash, tariff_id, source, seq, text) VALUES (?, ?, ?, ?, ?)", values)
    assert opened(path).head.seq == 6
    write(path, new_row(7))
    left = []
    for up_to_seq in (5, 6):
        cut(path, order(up_to=up_to_seq))
        with LedgerReader(path) as reader:
            assert reader.audit() == [] and reader.counters()[schema.WRITABLE_FROM] == 2
            left.append(len(reader.tariffs(0, 9)))
    assert left == [1, 0]


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
                super().execute(f"PRAGMA max_page_count = {pages + 1}")
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
        version = reader.schema_version
        assert reader.verify().seq == 6
        assert [each.detail for each in reader.audit()] == [f"schema {version}: it is older than {schema.VERSION}"]
    with pytest.raises(LedgerUnusable, match=f"schema {version} was not brought to {schema.VERSION}"):
        LedgerWriter(old, None, lambda _: None)  # type: ignore[arg-type]


def test_a_damaged_old_ledger_is_kept_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    wrong = Row(**{field: getattr(ROWS[3], field) for field in ROWS[3].__slots__} | {"body": b"x"})
    make_old(path, 1, [*ROWS[:3], wrong, *ROWS[4:]])
    content = path.read_bytes()
    assert "row 4" in (opened(path).damaged or "")
    assert path.with_name("ledger.db.damaged-1").read_bytes() == content
