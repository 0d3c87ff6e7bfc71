"""What a newer release leaves on the data partition when it is rolled back (ADR 29)."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable
from pathlib import Path

from agent.ledger import schema, tables
from agent.ledger.reader import LedgerReader
from agent.ledger.rows import Head, NewRow, Row, chain


def take_next_schema(path: Path, *, writable_from: int) -> None:
    """Migrate a ledger to a version that is not known here."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE weather (wall_ms INTEGER PRIMARY KEY, words TEXT NOT NULL) STRICT")
        tables.set_counters(connection, {schema.WRITABLE_FROM: writable_from})
        connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")


def add_rows(path: Path, rows: Iterable[NewRow]) -> None:
    """To a ledger that nobody else writes."""
    with LedgerReader(path) as reader:
        head = reader.head()
    made: list[Row] = []
    for row in rows:
        made.append(chain(head, row))
        head = Head(made[-1].seq, made[-1].hash)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        tables.insert_rows(connection, made)
        connection.execute("COMMIT")
