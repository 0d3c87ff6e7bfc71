"""The ledger's SQLite file: its schema, and connections that are fit to use it.

Charter: SQL definitions and connection settings; no rows are read or written here. WAL with
``synchronous=FULL`` is what makes a commit survive a power cut (NORMAL loses acknowledged commits
back to the last checkpoint), so it is set on every connection and read back. A mismatch is fatal.

A later schema adds a step to a list of migrations and raises ``SCHEMA_VERSION``. The hash of a row
names its layout (``rows.DOMAIN``): new columns that must be covered get a new layout beside the old.

Sources: SQLite documentation (wal.html, pragma.html, howtocorrupt.html, stricttables.html).
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from agent.ledger.errors import LedgerDamaged, LedgerNewer, LedgerUnusable, SettingRefused
from agent.ledger.rows import BODY_MAX_BYTES, HASH_BYTES, ID_MAX_CHARS
from agent.ledger.state import KEY_MAX_CHARS, VALUE_MAX_CHARS

APPLICATION_ID: Final = 0x65767365  # "evse"
SCHEMA_VERSION: Final = 1

BUSY_TIMEOUT_S: Final = 5.0
WAL_KEEP_BYTES: Final = 8 * 1024 * 1024
"""A WAL that a slow reader made longer is cut back to this when it starts over."""

# The triggers guard against bugs, not against attackers: those are found by the chain.
SCHEMA: Final = (
    f"""
    CREATE TABLE ledger (
        seq         INTEGER PRIMARY KEY CHECK (seq >= 1),
        kind        TEXT NOT NULL CHECK (length(kind) BETWEEN 1 AND 32),
        tx_id       TEXT CHECK (length(tx_id) BETWEEN 1 AND {ID_MAX_CHARS}),
        evse        INTEGER,
        body        BLOB NOT NULL CHECK (length(body) <= {BODY_MAX_BYTES}),
        boot_id     TEXT NOT NULL CHECK (length(boot_id) BETWEEN 1 AND {ID_MAX_CHARS}),
        mono_ms     INTEGER NOT NULL,
        wall_ms     INTEGER NOT NULL,
        time_status TEXT NOT NULL CHECK (length(time_status) = 1),
        prev_hash   BLOB NOT NULL CHECK (length(prev_hash) = {HASH_BYTES}),
        hash        BLOB NOT NULL CHECK (length(hash) = {HASH_BYTES})
    ) STRICT
    """,
    "CREATE INDEX ledger_tx ON ledger (tx_id, kind) WHERE tx_id IS NOT NULL",
    f"""
    CREATE TABLE state (
        namespace TEXT NOT NULL CHECK (length(namespace) BETWEEN 1 AND 32),
        key       TEXT NOT NULL CHECK (length(key) <= {KEY_MAX_CHARS}),
        value     TEXT NOT NULL CHECK (length(value) <= {VALUE_MAX_CHARS}),
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
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)

# (pragma, value to set, value it must then read as)
_SETTINGS: Final = (
    ("synchronous", "FULL", 2),
    ("foreign_keys", "ON", 1),
    ("trusted_schema", "OFF", 0),
    ("cell_size_check", "ON", 1),
)
# The writer runs checkpoints itself, after it has answered, and so that it sees their errors.
_WRITE_SETTINGS: Final = (
    ("wal_autocheckpoint", "0", 0),
    ("journal_size_limit", str(WAL_KEEP_BYTES), WAL_KEEP_BYTES),
)

# What SQLite says when the bytes in the file are wrong rather than the world around it. A sector that
# cannot be read counts: the file will not get better, and a fresh ledger can be written elsewhere.
_DAMAGE_CODES: Final = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT}
_DAMAGE_EXTENDED_CODES: Final = {
    sqlite3.SQLITE_IOERR_READ,
    sqlite3.SQLITE_IOERR_SHORT_READ,
    sqlite3.SQLITE_IOERR_CORRUPTFS,
}


def create(path: Path) -> sqlite3.Connection:
    """A new, empty file in WAL mode. Raises ``LedgerUnusable``, ``SettingRefused``."""
    connection = _connect(path, "rwc", any_thread=False)
    try:
        with typed_errors(path):
            connection.execute("PRAGMA journal_mode = WAL")
            _set(connection, _SETTINGS + _WRITE_SETTINGS)
            check_settings(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def connect_for_writing(path: Path) -> sqlite3.Connection:
    """For the one writer, which hands it to its thread. Raises ``LedgerError``."""
    return _connect_to_ledger(path, "rw", any_thread=True)


def connect_for_reading(path: Path, *, any_thread: bool = False) -> sqlite3.Connection:
    """Cannot write: neither rows nor, when it is closed, a checkpoint. Raises ``LedgerError``."""
    return _connect_to_ledger(path, "ro", any_thread=any_thread)


def check_settings(connection: sqlite3.Connection) -> None:
    """Raises ``SettingRefused`` unless every setting durability rests on is in force."""
    for name, _, wanted in (("journal_mode", "", "wal"), *_SETTINGS):
        found = connection.execute(f"PRAGMA {name}").fetchone()
        if found != (wanted,):
            raise SettingRefused(f"SQLite setting {name}: {found} instead of {wanted}")


def schema_of(connection: sqlite3.Connection) -> list[tuple[str, ...]]:
    """(type, name, table, SQL) of all that is defined in a file. Raises ``sqlite3.Error``."""
    return connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name").fetchall()


def expected_schema() -> list[tuple[str, ...]]:
    """What ``schema_of`` a sound ledger must say."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        for statement in SCHEMA:
            connection.execute(statement)
        return schema_of(connection)


@contextlib.contextmanager
def typed_errors(path: Path) -> Iterator[None]:
    """Turns what SQLite says into ``LedgerDamaged`` or ``LedgerUnusable``."""
    try:
        yield
    except UnicodeDecodeError as error:  # the module chokes on an error message that quotes a damaged name
        raise LedgerDamaged(f"{path}: definitions that are no text") from error
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        if code in _DAMAGE_EXTENDED_CODES or code & 0xFF in _DAMAGE_CODES:
            raise LedgerDamaged(f"{path}: {error}") from error
        raise LedgerUnusable(f"{path}: {error}") from error


def _connect_to_ledger(path: Path, mode: str, *, any_thread: bool) -> sqlite3.Connection:
    connection = _connect(path, mode, any_thread=any_thread)
    try:
        with typed_errors(path):
            _check_identity(connection, path)
            _set(connection, _SETTINGS + (_WRITE_SETTINGS if mode == "rw" else ()))
            check_settings(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(path: Path, mode: str, *, any_thread: bool) -> sqlite3.Connection:
    with typed_errors(path):
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=BUSY_TIMEOUT_S,
            isolation_level=None,  # transactions begin where the code says so
            check_same_thread=not any_thread,
        )
    # A damaged byte must show as a wrong row, by its number, not as a read that fails without one.
    connection.text_factory = _text
    return connection


def _text(stored: bytes) -> str:
    return stored.decode(errors="replace")


def _set(connection: sqlite3.Connection, settings: tuple[tuple[str, str, int], ...]) -> None:
    for name, value, _ in settings:
        connection.execute(f"PRAGMA {name} = {value}")


def _check_identity(connection: sqlite3.Connection, path: Path) -> None:
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (journal_mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    if application_id != APPLICATION_ID or version < 1 or journal_mode != "wal":
        what = f"application id {application_id:#x}, schema {version}, journal mode {journal_mode}"
        raise LedgerDamaged(f"{path}: not a ledger ({what})")
    if version > SCHEMA_VERSION:
        raise LedgerNewer(f"{path}: schema {version} is newer than {SCHEMA_VERSION}, the newest known here")
