"""Between the tables and the values: how rows and state changes are put into SQL and taken out.

Charter: single statements on a connection somebody else opened; those that write run within the
caller's transaction and raise ``sqlite3.Error``, which ends it.
"""

from __future__ import annotations

import operator
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, Final

from agent.ledger import database
from agent.ledger.errors import ChainBroken, ChainFault, LedgerDamaged
from agent.ledger.rows import Head, Row
from agent.ledger.state import Clear, Delete, Put, StateChange

_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "seq": (int,),
    "kind": (str,),
    "tx_id": (str, NoneType),
    "evse": (int, NoneType),
    "body": (bytes,),
    "boot_id": (str,),
    "mono_ms": (int,),
    "wall_ms": (int,),
    "time_status": (str,),
    "prev_hash": (bytes,),
    "hash": (bytes,),
}
_NAMES: Final = tuple(_TYPES)
_values = operator.attrgetter(*_NAMES)

COLUMNS: Final = ", ".join(_NAMES)
"""What ``row_of`` makes a row of."""

_INSERT: Final = f"INSERT INTO ledger ({COLUMNS}) VALUES ({', '.join('?' * len(_NAMES))})"


def head(connection: sqlite3.Connection, path: Path) -> Head:
    """Where the rows end. Raises ``LedgerDamaged`` (also without rows), ``LedgerUnusable``."""
    with database.typed_errors(path):
        found = connection.execute(f"SELECT {COLUMNS} FROM ledger ORDER BY seq DESC LIMIT 1").fetchone()
    if found is None:
        raise LedgerDamaged(f"{path}: no rows")
    last = row_of(found)
    return Head(last.seq, last.hash)


def row_of(columns: Sequence[Any]) -> Row:
    """Raises ``ChainBroken`` for a column of another type: one damaged bit in a record can make one."""
    for (name, types), value in zip(_TYPES.items(), columns, strict=True):
        if not isinstance(value, types):
            raise ChainBroken(columns[0], ChainFault.CONTENT, f"its {name} is {type(value).__name__}")
    return Row(*columns)


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
