"""Between the tables and the values: how rows and state changes are put into SQL and taken out.

Charter: single statements on a connection somebody else opened; those that write run within the
caller's transaction and raise ``sqlite3.Error``, which ends it.
"""

from __future__ import annotations

import dataclasses
import operator
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from agent.ledger import database
from agent.ledger.errors import LedgerDamaged
from agent.ledger.rows import Head, Row
from agent.ledger.state import Clear, Delete, Put, StateChange

_NAMES: Final = tuple(field.name for field in dataclasses.fields(Row))
_values = operator.attrgetter(*_NAMES)

COLUMNS: Final = ", ".join(_NAMES)
"""In the order of ``Row``: ``Row(*columns)``."""

_INSERT: Final = f"INSERT INTO ledger ({COLUMNS}) VALUES ({', '.join('?' * len(_NAMES))})"


def head(connection: sqlite3.Connection, path: Path) -> Head:
    """Where the rows end. Raises ``LedgerDamaged`` (also without rows), ``LedgerUnusable``."""
    try:
        found = connection.execute("SELECT seq, hash FROM ledger ORDER BY seq DESC LIMIT 1").fetchone()
    except sqlite3.Error as error:
        raise database.typed(error, path) from error
    if found is None:
        raise LedgerDamaged(f"{path}: no rows")
    return Head(*found)


def insert_rows(connection: sqlite3.Connection, rows: Iterable[Row]) -> None:
    connection.executemany(_INSERT, map(_values, rows))


def apply_changes(connection: sqlite3.Connection, changes: Iterable[StateChange]) -> None:
    """In order: a later change wins."""
    for change in changes:
        match change:
            case Put(namespace, key, value):
                connection.execute(
                    "INSERT INTO state (namespace, key, value) VALUES (?, ?, ?)"
                    " ON CONFLICT (namespace, key) DO UPDATE SET value = excluded.value",
                    (namespace, key, value),
                )
            case Delete(namespace, key):
                connection.execute("DELETE FROM state WHERE namespace = ? AND key = ?", (namespace, key))
            case Clear(namespace):
                connection.execute("DELETE FROM state WHERE namespace = ?", (namespace,))
