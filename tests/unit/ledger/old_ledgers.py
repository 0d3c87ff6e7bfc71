"""Ledgers as released versions left them: their SQL, frozen. Never change one; add the next.

Charter: real files of every released schema, for the tests of migration.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Final

from agent.ledger.rows import Row

VERSION_1: Final = (
    """
    CREATE TABLE ledger (
        seq         INTEGER PRIMARY KEY CHECK (seq >= 1),
        kind        TEXT NOT NULL CHECK (length(kind) BETWEEN 1 AND 32),
        tx_id       TEXT CHECK (length(tx_id) BETWEEN 1 AND 64),
        evse        INTEGER,
        body        BLOB NOT NULL CHECK (length(body) <= 262144),
        boot_id     TEXT NOT NULL CHECK (length(boot_id) BETWEEN 1 AND 64),
        mono_ms     INTEGER NOT NULL,
        wall_ms     INTEGER NOT NULL,
        time_status TEXT NOT NULL CHECK (length(time_status) = 1),
        prev_hash   BLOB NOT NULL CHECK (length(prev_hash) = 32),
        hash        BLOB NOT NULL CHECK (length(hash) = 32)
    ) STRICT
    """,
    "CREATE INDEX ledger_tx ON ledger (tx_id, kind) WHERE tx_id IS NOT NULL",
    """
    CREATE TABLE state (
        namespace TEXT NOT NULL CHECK (length(namespace) BETWEEN 1 AND 32),
        key       TEXT NOT NULL CHECK (length(key) <= 512),
        value     TEXT NOT NULL CHECK (length(value) <= 65536),
        PRIMARY KEY (namespace, key)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TRIGGER ledger_update BEFORE UPDATE ON ledger
    BEGIN SELECT raise(ABORT, 'ledger rows never change'); END
    """,
    """
    CREATE TRIGGER ledger_delete BEFORE DELETE ON ledger
    BEGIN SELECT raise(ABORT, 'ledger rows are never deleted'); END
    """,
    """
    CREATE TRIGGER ledger_insert BEFORE INSERT ON ledger
    WHEN NEW.seq <> (SELECT coalesce(max(seq), 0) + 1 FROM ledger)
    BEGIN SELECT raise(ABORT, 'ledger rows are only added at the end'); END
    """,
    "PRAGMA application_id = 1702261605",
    "PRAGMA user_version = 1",
)

RELEASED: Final = {1: VERSION_1}


def make_old(path: Path, version: int, rows: Sequence[Row], state: Sequence[tuple[str, str, str]] = ()) -> None:
    """A ledger of a released schema with these rows, closed in good order."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("BEGIN")
    for statement in RELEASED[version]:
        connection.execute(statement)
    insert = (
        "INSERT INTO ledger (seq, kind, tx_id, evse, body, boot_id, mono_ms, wall_ms, time_status, prev_hash, hash)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    )
    connection.executemany(insert, map(astuple, rows))
    connection.executemany("INSERT INTO state VALUES (?, ?, ?)", state)
    connection.execute("COMMIT")
    connection.close()
