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

_TX_FROM_LEDGER_2: Final = """
    SELECT began.seq AS begin_seq, began.tx_id, began.evse,
        (SELECT min(seq) FROM ledger WHERE tx_id = began.tx_id AND kind = 'tx_ended' AND seq > began.seq)
            AS end_seq,
        (SELECT max(seq) FROM ledger WHERE tx_id = began.tx_id AND kind = 'receipt' AND seq > began.seq)
            AS receipt_seq
    FROM ledger AS began
    WHERE began.kind = 'tx_started' AND began.tx_id IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM ledger WHERE tx_id = began.tx_id AND kind = 'tx_started' AND seq < began.seq
    )
"""

VERSION_2: Final = (
    *VERSION_1,
    "DROP INDEX ledger_tx",
    "CREATE INDEX ledger_tx ON ledger (tx_id) WHERE tx_id IS NOT NULL",
    "CREATE INDEX ledger_rare ON ledger (kind)"
    " WHERE kind NOT IN ('checkpoint', 'cost_told', 'meter', 'price', 'receipt', 'signed', 'tx_ended', 'tx_started',"
    " 'tx_updated')",
    """
    CREATE TABLE counter (
        name  TEXT PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 32),
        value INTEGER NOT NULL CHECK (value >= 0)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE tx (
        begin_seq   INTEGER PRIMARY KEY,
        tx_id       TEXT NOT NULL UNIQUE,
        evse        INTEGER,
        end_seq     INTEGER CHECK (end_seq > begin_seq),
        receipt_seq INTEGER CHECK (receipt_seq > begin_seq)
    ) STRICT
    """,
    "CREATE INDEX tx_open ON tx (begin_seq) WHERE end_seq IS NULL",
    """
    CREATE TRIGGER tx_begins AFTER INSERT ON ledger WHEN NEW.kind = 'tx_started' AND NEW.tx_id IS NOT NULL
    BEGIN
        INSERT INTO tx (begin_seq, tx_id, evse) VALUES (NEW.seq, NEW.tx_id, NEW.evse)
        ON CONFLICT (tx_id) DO NOTHING;
    END
    """,
    """
    CREATE TRIGGER tx_ends AFTER INSERT ON ledger WHEN NEW.kind = 'tx_ended'
    BEGIN UPDATE tx SET end_seq = NEW.seq WHERE tx_id = NEW.tx_id AND end_seq IS NULL; END
    """,
    """
    CREATE TRIGGER tx_receipt AFTER INSERT ON ledger WHEN NEW.kind = 'receipt'
    BEGIN UPDATE tx SET receipt_seq = NEW.seq WHERE tx_id = NEW.tx_id; END
    """,
    f"""
    CREATE TRIGGER tx_cut AFTER DELETE ON ledger WHEN OLD.kind = 'tx_started'
    BEGIN
        DELETE FROM tx WHERE begin_seq = OLD.seq;
        INSERT INTO tx (begin_seq, tx_id, evse, end_seq, receipt_seq) {_TX_FROM_LEDGER_2} AND began.tx_id = OLD.tx_id
        ON CONFLICT (tx_id) DO NOTHING;
    END
    """,
    f"INSERT INTO tx (begin_seq, tx_id, evse, end_seq, receipt_seq) {_TX_FROM_LEDGER_2}",
    """
    CREATE TABLE cut (
        id        INTEGER PRIMARY KEY CHECK (id = 1),
        up_to_seq INTEGER NOT NULL CHECK (up_to_seq >= 1)
    ) STRICT
    """,
    "DROP TRIGGER ledger_delete",
    """
    CREATE TRIGGER ledger_delete BEFORE DELETE ON ledger
    WHEN NOT EXISTS (SELECT 1 FROM cut WHERE up_to_seq >= OLD.seq)
    BEGIN SELECT raise(ABORT, 'ledger rows are never deleted but by a cut'); END
    """,
    """
    CREATE TABLE tariff (
        hash      BLOB PRIMARY KEY CHECK (length(hash) = 32),
        tariff_id TEXT NOT NULL CHECK (length(tariff_id) <= 64),
        source    TEXT NOT NULL CHECK (length(source) <= 64),
        seq       INTEGER NOT NULL,
        text      BLOB NOT NULL CHECK (length(text) <= 262144)
    ) STRICT
    """,
    """
    CREATE TRIGGER tariff_insert BEFORE INSERT ON tariff
    WHEN NOT EXISTS (SELECT 1 FROM ledger WHERE seq = NEW.seq AND kind = 'tariff')
    BEGIN SELECT raise(ABORT, 'a tariff comes with its ledger row'); END
    """,
    """
    CREATE TRIGGER tariff_update BEFORE UPDATE ON tariff
    WHEN NEW.hash <> OLD.hash OR NEW.tariff_id <> OLD.tariff_id OR NEW.source <> OLD.source
        OR NEW.text <> OLD.text OR NEW.seq < OLD.seq
    BEGIN SELECT raise(ABORT, 'tariffs never change'); END
    """,
    """
    CREATE TRIGGER tariff_delete BEFORE DELETE ON tariff
    WHEN NOT EXISTS (SELECT 1 FROM cut WHERE up_to_seq >= OLD.seq)
    BEGIN SELECT raise(ABORT, 'tariffs are never deleted but by a cut'); END
    """,
    """
    CREATE TABLE signing_key (
        key_id     TEXT PRIMARY KEY CHECK (length(key_id) BETWEEN 1 AND 128),
        public_der BLOB NOT NULL CHECK (length(public_der) <= 1024),
        from_seq   INTEGER NOT NULL
    ) STRICT
    """,
    """
    CREATE TRIGGER signing_key_update BEFORE UPDATE ON signing_key
    BEGIN SELECT raise(ABORT, 'a key never changes'); END
    """,
    """
    CREATE TRIGGER signing_key_delete BEFORE DELETE ON signing_key
    BEGIN SELECT raise(ABORT, 'keys are never deleted'); END
    """,
    """
    CREATE TABLE meter (
        evse     INTEGER NOT NULL,
        serial   TEXT NOT NULL CHECK (length(serial) <= 128),
        key_id   TEXT CHECK (length(key_id) BETWEEN 1 AND 128),
        from_seq INTEGER NOT NULL,
        to_seq   INTEGER CHECK (to_seq >= from_seq - 1)
    ) STRICT
    """,
    "CREATE UNIQUE INDEX meter_now ON meter (evse) WHERE to_seq IS NULL",
    """
    CREATE TRIGGER meter_update BEFORE UPDATE ON meter
    WHEN OLD.to_seq IS NOT NULL OR NEW.to_seq IS NULL OR NEW.evse <> OLD.evse OR NEW.serial <> OLD.serial
        OR NEW.key_id IS NOT OLD.key_id OR NEW.from_seq <> OLD.from_seq
    BEGIN SELECT raise(ABORT, 'a meter is only taken out of use'); END
    """,
    """
    CREATE TRIGGER meter_delete BEFORE DELETE ON meter
    BEGIN SELECT raise(ABORT, 'meters are never deleted'); END
    """,
    """
    CREATE TABLE witness (
        seq       INTEGER NOT NULL CHECK (seq >= 1),
        name      TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 64),
        head_hash BLOB NOT NULL CHECK (length(head_hash) = 32),
        wall_ms   INTEGER NOT NULL,
        PRIMARY KEY (seq, name)
    ) STRICT, WITHOUT ROWID
    """,
    "PRAGMA user_version = 2",
)

RELEASED: Final = {1: VERSION_1, 2: VERSION_2}


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
