"""Between the tables and the values: how rows and state changes are put into SQL and taken out.

Charter: single statements on a connection somebody else opened; those that write run within the
caller's transaction and raise ``sqlite3.Error``, which ends it.
"""

from __future__ import annotations

import operator
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, Final

from agent.ledger import database, schema
from agent.ledger.database import Connection
from agent.ledger.errors import ChainBroken, ChainFault, LedgerDamaged
from agent.ledger.kinds import TARIFF
from agent.ledger.rows import Head, Row
from agent.ledger.side_records import PutKey, PutMeter, PutTariff, PutWitness, SideRecord
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


WITNESSES_MAX: Final = 1000
_FORGET_WITNESSES: Final = """
    DELETE FROM witness WHERE (seq, name) IN (
        SELECT seq, name FROM witness ORDER BY seq DESC, name LIMIT -1 OFFSET ?
    )
"""


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


def insert_rows(connection: Connection, rows: Iterable[Row]) -> None:
    connection.executemany(_INSERT, map(_values, rows))


NUMBERS_AFTER: Final = "ledger.numbers_after"
"""The number after which the counters of this ledger begin; where it is not there, 0."""


def counter(connection: Connection, name: str) -> int:
    """The last number it gave out; before its first one that after which it begins."""
    query = "SELECT value FROM counter WHERE name IN (?, ?) ORDER BY name = ? LIMIT 1"
    found = connection.execute(query, (name, NUMBERS_AFTER, NUMBERS_AFTER)).fetchone()
    return 0 if found is None else int(found[0])


def set_counters(connection: Connection, values: Mapping[str, int]) -> None:
    connection.executemany(
        "INSERT INTO counter (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        values.items(),
    )


def start_counters(connection: Connection, values: Mapping[str, int]) -> None:
    """Only those that have no value yet."""
    connection.executemany(
        "INSERT INTO counter (name, value) VALUES (?, ?) ON CONFLICT (name) DO NOTHING", values.items()
    )


def add_to_counters(connection: Connection, values: Mapping[str, int]) -> None:
    connection.executemany(
        "INSERT INTO counter (name, value) VALUES (?, ?)"
        " ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
        values.items(),
    )


def apply_changes(
    connection: Connection, changes: Iterable[StateChange | SideRecord], rows: Sequence[Row], head_seq: int
) -> None:
    """In order: a later change wins. ``rows`` are those of the same job, ``head_seq`` is the last there is."""
    tariff_seqs = (row.seq for row in rows if row.kind == TARIFF)
    from_seq = rows[0].seq if rows else head_seq + 1
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
            case PutTariff(tariff_id, source, text):
                connection.execute(
                    "INSERT INTO tariff (hash, tariff_id, source, seq, text) VALUES (?, ?, ?, ?, ?)"
                    " ON CONFLICT (hash) DO UPDATE SET seq = excluded.seq",
                    (change.hash, tariff_id, source, next(tariff_seqs), text),
                )
            case PutKey(key_id, public_der):
                # Another key under this id runs into the trigger that lets no key change.
                connection.execute(
                    "INSERT INTO signing_key (key_id, public_der, from_seq) VALUES (?, ?, ?)"
                    " ON CONFLICT (key_id) DO UPDATE SET public_der = excluded.public_der"
                    " WHERE public_der <> excluded.public_der",
                    (key_id, public_der, from_seq),
                )
            case PutMeter():
                _put_meter(connection, change, from_seq)
            case PutWitness(seq, head_hash, name, wall_ms):
                connection.execute(
                    "INSERT INTO witness (seq, name, head_hash, wall_ms) VALUES (?, ?, ?, ?)"
                    " ON CONFLICT (seq, name) DO NOTHING",
                    (seq, name, head_hash, wall_ms),
                )
                connection.execute(_FORGET_WITNESSES, (WITNESSES_MAX,))
            case _:
                raise TypeError(f"no change: {change!r}")


def rebuild_tx(connection: Connection) -> None:
    """Make the table of transactions anew from the rows, as their triggers would have made it."""
    connection.execute("DELETE FROM tx")
    connection.execute(f"INSERT INTO tx (begin_seq, tx_id, evse, end_seq, receipt_seq) {schema.TX_FROM_LEDGER}")


def _put_meter(connection: Connection, meter: PutMeter, from_seq: int) -> None:
    now = connection.execute(
        "SELECT serial, key_id FROM meter WHERE evse = ? AND to_seq IS NULL", (meter.evse,)
    ).fetchone()
    if now is not None:
        if tuple(now) == (meter.serial, meter.key_id):
            return
        connection.execute("UPDATE meter SET to_seq = ? WHERE evse = ? AND to_seq IS NULL", (from_seq - 1, meter.evse))
    connection.execute(
        "INSERT INTO meter (evse, serial, key_id, from_seq) VALUES (?, ?, ?, ?)",
        (meter.evse, meter.serial, meter.key_id, from_seq),
    )
