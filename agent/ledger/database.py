"""The ledger's SQLite file: connections that are fit to use it, and the steps to a newer schema.

Charter: connection settings and versions; no rows are read or written here. WAL with
``synchronous=FULL`` is what makes a commit survive a power cut (NORMAL loses acknowledged commits
back to the last checkpoint), so it is set on every connection and read back. A mismatch is fatal.

The hash of a row names its layout (``rows.DOMAIN``): new columns that must be covered get a new layout
beside the old.

Sources: SQLite documentation (wal.html, pragma.html, howtocorrupt.html, stricttables.html).
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from agent.ledger import schema
from agent.ledger.errors import LedgerDamaged, LedgerNewer, LedgerUnusable, SettingRefused

SCHEMA_VERSION: Final = schema.VERSION

BUSY_TIMEOUT_S: Final = 5.0
WAL_KEEP_BYTES: Final = 8 * 1024 * 1024
"""A WAL that a slow reader made longer is cut back to this when it starts over."""

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


class Connection(Protocol):
    """What the statements of this package need of a connection: SQLite's module, or one like it."""

    @property
    def in_transaction(self) -> bool: ...

    def execute(self, sql: str, parameters: Sequence[Any] = ..., /) -> Any: ...

    def executemany(self, sql: str, parameters: Any, /) -> Any: ...


def create(path: Path) -> sqlite3.Connection:
    """A new, empty file in WAL mode. Raises ``LedgerUnusable``, ``SettingRefused``."""
    connection = _connect(path, "rwc", any_thread=False)
    try:
        with typed_errors(path):
            connection.execute("PRAGMA journal_mode = WAL")
            apply_settings(connection, writing=True)
    except BaseException:
        connection.close()
        raise
    return connection


def connect_for_writing(path: Path) -> sqlite3.Connection:
    """For the one writer, which hands it to its thread. Raises ``LedgerError``, also for an older
    schema: ``open_ledger`` comes first."""
    connection = _connect_to_ledger(path, "rw", any_thread=True)
    with typed_errors(path):
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version < SCHEMA_VERSION:
        connection.close()
        raise LedgerUnusable(f"{path}: schema {version} was not brought to {SCHEMA_VERSION} yet")
    return connection


def connect_for_migration(path: Path) -> sqlite3.Connection:
    """Raises ``LedgerError``."""
    return _connect_to_ledger(path, "rw", any_thread=False)


def connect_for_reading(path: Path, *, any_thread: bool = False) -> sqlite3.Connection:
    """Cannot write: neither rows nor, when it is closed, a checkpoint. Raises ``LedgerError``."""
    return _connect_to_ledger(path, "ro", any_thread=any_thread)


def apply_settings(connection: Connection, *, writing: bool) -> None:
    """Raises ``SettingRefused``."""
    for name, value, _ in _SETTINGS + (_WRITE_SETTINGS if writing else ()):
        connection.execute(f"PRAGMA {name} = {value}")
    check_settings(connection)


def check_settings(connection: Connection) -> None:
    """Raises ``SettingRefused`` unless every setting durability rests on is in force."""
    for name, _, wanted in (("journal_mode", "", "wal"), *_SETTINGS):
        found = connection.execute(f"PRAGMA {name}").fetchone()
        if found != (wanted,):
            raise SettingRefused(f"SQLite setting {name}: {found} instead of {wanted}")


def migrate(connection: Connection) -> None:
    """Bring a sound, older ledger to ``SCHEMA_VERSION``: all of it in one commit, or nothing.

    Raises ``sqlite3.Error``."""
    connection.execute("BEGIN IMMEDIATE")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    for statement in schema.statements(version):
        connection.execute(statement)
    connection.execute("COMMIT")


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
            apply_settings(connection, writing=mode == "rw")
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


def _check_identity(connection: sqlite3.Connection, path: Path) -> None:
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (journal_mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    if application_id != schema.APPLICATION_ID or version < 1 or journal_mode != "wal":
        what = f"application id {application_id:#x}, schema {version}, journal mode {journal_mode}"
        raise LedgerDamaged(f"{path}: not a ledger ({what})")
    if version > SCHEMA_VERSION and not _is_writable_here(connection):
        raise LedgerNewer(f"{path}: schema {version} is newer than {SCHEMA_VERSION}, the newest known here")


def _is_writable_here(connection: sqlite3.Connection) -> bool:
    """Whether a newer ledger says that our definitions are enough."""
    if not connection.execute("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'counter'").fetchone():
        return False
    query = "SELECT value FROM counter WHERE name = ?"
    found = connection.execute(query, (schema.WRITABLE_FROM,)).fetchone()
    return found is not None and bool(found[0] <= SCHEMA_VERSION)
