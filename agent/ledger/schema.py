"""What is defined in a ledger's file, version by version.

Charter: SQL text, and the steps from each version to the next. A new file takes all steps, one after
another, an old one the steps it lacks: so both end with the same definitions, to the letter. A step
that has been released never changes. After a step that adds tables, indexes and triggers only, and that
older software may leave unknown when it writes, the ledger says so (``WRITABLE_FROM``, ADR 29): then the
image before can be rolled back to.

The triggers guard against bugs, not against attackers: those are found by the chain.
"""

from __future__ import annotations

import contextlib
import functools
import sqlite3
from typing import Final

from agent.ledger.kinds import FREQUENT, PRICE, RECEIPT, TARIFF, TX_ENDED, TX_STARTED

APPLICATION_ID: Final = 0x65767365  # "evse"

WRITABLE_FROM: Final = "ledger.writable_from"
"""The counter that says with which version's definitions alone a newer ledger may be read and written. Not there: only
with all that it has. From version 3 on it is there, so every step says it anew."""

NOT_FREQUENT: Final = f"kind NOT IN ({', '.join(repr(kind) for kind in FREQUENT)})"
"""A query that says this, to the letter, may use the index of rare kinds."""

_VERSION_1: Final = (
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
    # Also keeps INSERT OR REPLACE, which fires no DELETE trigger, from writing over a row.
    """
    CREATE TRIGGER ledger_insert BEFORE INSERT ON ledger
    WHEN NEW.seq <> (SELECT coalesce(max(seq), 0) + 1 FROM ledger)
    BEGIN SELECT raise(ABORT, 'ledger rows are only added at the end'); END
    """,
    f"PRAGMA application_id = {APPLICATION_ID}",
    "PRAGMA user_version = 1",
)

TX_FROM_LEDGER: Final = f"""
    SELECT began.seq AS begin_seq, began.tx_id, began.evse,
        (SELECT min(seq) FROM ledger WHERE tx_id = began.tx_id AND kind = '{TX_ENDED}' AND seq > began.seq)
            AS end_seq,
        (SELECT max(seq) FROM ledger WHERE tx_id = began.tx_id AND kind = '{RECEIPT}' AND seq > began.seq)
            AS receipt_seq
    FROM ledger AS began
    WHERE began.kind = '{TX_STARTED}' AND began.tx_id IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM ledger WHERE tx_id = began.tx_id AND kind = '{TX_STARTED}' AND seq < began.seq
    )
"""
"""What the table ``tx`` says, taken from the rows: its triggers must come to the same."""

_VERSION_2: Final = (
    # With the rowid behind it, this gives a transaction's rows in order; the kind stood in the way.
    "DROP INDEX ledger_tx",
    "CREATE INDEX ledger_tx ON ledger (tx_id) WHERE tx_id IS NOT NULL",
    f"CREATE INDEX ledger_rare ON ledger (kind) WHERE {NOT_FREQUENT}",
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
    f"""
    CREATE TRIGGER tx_begins AFTER INSERT ON ledger WHEN NEW.kind = '{TX_STARTED}' AND NEW.tx_id IS NOT NULL
    BEGIN
        INSERT INTO tx (begin_seq, tx_id, evse) VALUES (NEW.seq, NEW.tx_id, NEW.evse)
        ON CONFLICT (tx_id) DO NOTHING;
    END
    """,
    f"""
    CREATE TRIGGER tx_ends AFTER INSERT ON ledger WHEN NEW.kind = '{TX_ENDED}'
    BEGIN UPDATE tx SET end_seq = NEW.seq WHERE tx_id = NEW.tx_id AND end_seq IS NULL; END
    """,
    f"""
    CREATE TRIGGER tx_receipt AFTER INSERT ON ledger WHEN NEW.kind = '{RECEIPT}'
    BEGIN UPDATE tx SET receipt_seq = NEW.seq WHERE tx_id = NEW.tx_id; END
    """,
    # A second start row of the same transaction, which nobody should write, is now the first there is.
    f"""
    CREATE TRIGGER tx_cut AFTER DELETE ON ledger WHEN OLD.kind = '{TX_STARTED}'
    BEGIN
        DELETE FROM tx WHERE begin_seq = OLD.seq;
        INSERT INTO tx (begin_seq, tx_id, evse, end_seq, receipt_seq) {TX_FROM_LEDGER} AND began.tx_id = OLD.tx_id
        ON CONFLICT (tx_id) DO NOTHING;
    END
    """,
    f"INSERT INTO tx (begin_seq, tx_id, evse, end_seq, receipt_seq) {TX_FROM_LEDGER}",
    # Filled only within the transaction that removes rows; empty between any two.
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
    f"""
    CREATE TRIGGER tariff_insert BEFORE INSERT ON tariff
    WHEN NOT EXISTS (SELECT 1 FROM ledger WHERE seq = NEW.seq AND kind = '{TARIFF}')
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

_VERSION_3: Final = (
    # The last row that brought or names a tariff, or one of the same commit: when that row is cut, nothing that is left
    # needs the tariff. Rows name it in hex.
    """
    CREATE TABLE tariff_use (
        name TEXT PRIMARY KEY CHECK (length(name) = 64),
        hash BLOB NOT NULL CHECK (length(hash) = 32),
        seq  INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX tariff_use_seq ON tariff_use (seq)",
    """
    CREATE TRIGGER tariff_comes AFTER INSERT ON tariff
    BEGIN
        INSERT INTO tariff_use (name, hash, seq)
        VALUES (lower(hex(NEW.hash)), NEW.hash, (SELECT max(seq) FROM ledger));
    END
    """,
    """
    CREATE TRIGGER tariff_comes_again AFTER UPDATE ON tariff
    BEGIN UPDATE tariff_use SET seq = (SELECT max(seq) FROM ledger) WHERE name = lower(hex(NEW.hash)); END
    """,
    # By a trigger, so that rows count which older software writes after a rollback. A quotation mark in a text of the
    # JSON has a backslash before it; SQLite's own functions for JSON may not be used in triggers here (trusted_schema).
    f"""
    CREATE TRIGGER tariff_named AFTER INSERT ON ledger
    WHEN NEW.kind IN ('{TX_STARTED}', '{PRICE}') AND instr(NEW.body, CAST('"tariff":"' AS BLOB)) > 0
    BEGIN
        UPDATE tariff_use SET seq = NEW.seq
        WHERE name = CAST(substr(NEW.body, instr(NEW.body, CAST('"tariff":"' AS BLOB)) + 10, 64) AS TEXT);
    END
    """,
    """
    CREATE TRIGGER tariff_goes AFTER DELETE ON tariff
    BEGIN DELETE FROM tariff_use WHERE name = lower(hex(OLD.hash)); END
    """,
    # To read all rows would keep the station from starting for minutes: any may be named by the newest.
    """
    INSERT INTO tariff_use (name, hash, seq)
    SELECT lower(hex(hash)), hash, (SELECT max(seq) FROM ledger) FROM tariff
    """,
    f"INSERT INTO counter (name, value) VALUES ('{WRITABLE_FROM}', 2)",
    "PRAGMA user_version = 3",
)

STEPS: Final = (_VERSION_1, _VERSION_2, _VERSION_3)
VERSION: Final = len(STEPS)


def statements(from_version: int = 0) -> list[str]:
    """What makes a file of the newest version out of one of ``from_version``; 0 is an empty one."""
    return [statement for step in STEPS[from_version:] for statement in step]


def found_in(connection: sqlite3.Connection) -> list[tuple[str, ...]]:
    """(type, name, table, SQL) of all that is defined in a file. Raises ``sqlite3.Error``."""
    return connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name").fetchall()


def is_as_made(found: list[tuple[str, ...]], version: int) -> bool:
    """Whether this is what a sound ledger of a version defines; one of a newer version than ours has more."""
    if version <= VERSION:
        return found == expected(version)
    return set(found) >= set(expected(VERSION))


@functools.cache
def expected(version: int) -> list[tuple[str, ...]]:
    """What ``found_in`` says of a sound ledger."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        for step in STEPS[:version]:
            for statement in step:
                connection.execute(statement)
        return found_in(connection)
