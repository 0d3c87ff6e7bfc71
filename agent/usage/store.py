"""The file that keeps the hours: two years of them, in a size that does not grow.

Charter: one SQLite file beside the ledger. Every call opens and closes it, in whichever thread it is made; the owner
makes one call at a time. What is written comes every quarter of an hour or so, touches two or three pages, and is
there as a whole or not at all after a power cut (rollback journal, ``synchronous=FULL``).

It is no billing data: a file that is damaged, or of another version, is set aside (the newest of them is kept) and
another begun. The hours that are kept are the newest by their number and not by any clock: a clock that is years
ahead for a while makes nothing old.

Units: as in ``model``. Sources: SQLite documentation (pragma.html, rescode.html, withoutrowid.html).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from typing import Final, TypeVar

import structlog

from agent.usage.fold import Taken
from agent.usage.model import STATION, RegisterAt, UsageHour, joined

T = TypeVar("T")

KEPT_HOURS: Final = 2 * 366 * 24
VERSION: Final = 1

_DEFINITIONS: Final = (
    """
    CREATE TABLE hour (
        hour              INTEGER NOT NULL,
        evse              INTEGER NOT NULL,
        running_ms        INTEGER NOT NULL,
        energy_import_mwh INTEGER NOT NULL,
        sessions          INTEGER NOT NULL,
        occupied_ms       INTEGER NOT NULL,
        charging_ms       INTEGER NOT NULL,
        peak_power_w      INTEGER NOT NULL,
        faults            INTEGER NOT NULL,
        fault_ms          INTEGER NOT NULL,
        link_up_ms        INTEGER NOT NULL,
        PRIMARY KEY (hour, evse)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE register (
        evse              INTEGER PRIMARY KEY,
        serial            TEXT NOT NULL,
        energy_import_mwh INTEGER NOT NULL
    ) STRICT
    """,
    f"PRAGMA user_version = {VERSION}",
)
_columns: Final = attrgetter(*(field.name for field in fields(UsageHour)))
# The bytes in the file are wrong, not the world around it.
_DAMAGE: Final = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT}

log = structlog.get_logger("usage")


class UsageStore:
    """See the module. Every method raises ``sqlite3.Error`` or ``OSError`` where the disk does not do its part."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._hours: int | None = None  # in the file; None: not counted yet

    def registers(self) -> dict[int, RegisterAt]:
        """How far the meters are counted, by EVSE. Looks through the whole file: for the start."""
        return self._sound(_checked_registers)

    def rows(self, first_hour: int, hours: int, evse: int | None) -> list[UsageHour]:
        """The rows of so many hours, by hour and EVSE."""
        wanted = "hour >= ? AND hour < ?" + ("" if evse is None else " AND evse = ?")
        values = (first_hour, first_hour + hours, *(() if evse is None else (evse,)))
        query = f"SELECT * FROM hour WHERE {wanted} ORDER BY hour, evse"
        return self._sound(lambda file: [UsageHour(*row) for row in file.execute(query, values)])

    def add(self, taken: Taken) -> int:
        """Join these hours to those that are kept, in one commit; the oldest go where there are too many.

        Returns how much time of the station found no room in its hour, in ms."""
        try:
            dropped_ms, self._hours = self._sound(lambda file: _add(file, taken, self._hours))
        except Exception:
            self._hours = None  # who knows what was done
            raise
        return dropped_ms

    def _sound(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Work on the file; on a fresh one, if the one that is there is damaged."""
        try:
            with _open(self.path) as file:
                return work(file)
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF not in _DAMAGE:
                raise
            aside = self.path.with_name(self.path.name + ".damaged")
            log.error("the usage statistics were damaged: they are set aside and begin anew", why=str(error))
        self.path.replace(aside)
        self._hours = None
        self.path.with_name(self.path.name + "-journal").unlink(missing_ok=True)  # not the next file's
        with _open(self.path) as file:
            return work(file)


@contextmanager
def _open(path: Path) -> Iterator[sqlite3.Connection]:
    # Transactions begin where the code says so.
    file = sqlite3.connect(path, isolation_level=None)
    try:
        file.execute("PRAGMA synchronous = FULL")
        file.execute("PRAGMA journal_mode = TRUNCATE")  # two changes of names less for each commit than by default
        (version,) = file.execute("PRAGMA user_version").fetchone()
        if version == 0:
            with _commit(file):
                for definition in _DEFINITIONS:
                    file.execute(definition)
        elif version != VERSION:
            raise sqlite3.DatabaseError(f"version {version} instead of {VERSION}")
        yield file
    finally:
        file.close()


@contextmanager
def _commit(file: sqlite3.Connection) -> Iterator[None]:
    """All of it or nothing: closing the file takes back what was not committed."""
    file.execute("BEGIN IMMEDIATE")
    yield
    file.execute("COMMIT")


def _checked_registers(file: sqlite3.Connection) -> dict[int, RegisterAt]:
    (found,) = file.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise sqlite3.DatabaseError(found)
    return _registers(file)


def _registers(file: sqlite3.Connection) -> dict[int, RegisterAt]:
    return {evse: RegisterAt(*stands) for evse, *stands in file.execute("SELECT * FROM register")}


def _add(file: sqlite3.Connection, taken: Taken, counted: int | None) -> tuple[int, int]:
    """Returns the time that found no room, and how many hours there are now; ``counted``: before, where known."""
    dropped_ms, new = 0, 0
    with _commit(file):
        for row in taken.rows:
            before = _row(file, row.hour, row.evse)
            whole = row if before is None else joined(before, row)
            _put(file, "hour", _columns(whole))
            new += row.evse == STATION and before is None
            if row.evse == STATION and before is not None:
                dropped_ms += before.running_ms + row.running_ms - whole.running_ms
        # A page less to be written where nobody charges.
        for evse, stands in taken.registers.items() - _registers(file).items():
            _put(file, "register", (evse, stands.serial, stands.energy_import_mwh))
        hours = _count(file) if counted is None else counted + new
        if hours > KEPT_HOURS:
            _retire(file)
    return dropped_ms, min(hours, KEPT_HOURS)


def _row(file: sqlite3.Connection, hour: int, evse: int) -> UsageHour | None:
    found = file.execute("SELECT * FROM hour WHERE hour = ? AND evse = ?", (hour, evse)).fetchone()
    return None if found is None else UsageHour(*found)


def _put(file: sqlite3.Connection, table: str, values: Sequence[int | str]) -> None:
    file.execute(f"INSERT OR REPLACE INTO {table} VALUES ({', '.join('?' * len(values))})", values)


def _count(file: sqlite3.Connection) -> int:
    """Every hour has a row of the station. Walks through the whole file: once in a life."""
    (hours,) = file.execute("SELECT count(*) FROM hour WHERE evse = ?", (STATION,)).fetchone()
    return int(hours)


def _retire(file: sqlite3.Connection) -> None:
    """The hours before the last that may stay go."""
    oldest = "SELECT hour FROM hour WHERE evse = ? ORDER BY hour DESC LIMIT 1 OFFSET ?"
    file.execute(f"DELETE FROM hour WHERE hour < ({oldest})", (STATION, KEPT_HOURS - 1))
