"""The open end of the ledger: what one commit does, on a connection somebody else opened.

Charter: the SQL of a commit, all of it, and nothing of threads or queues. Rows get their places here:
a sealed row's number, its body and its hash are made between BEGIN and COMMIT, so that a number is used
up exactly when its row is on disk. The connection's errors pass through and end the ledger.

Sources: metering reference 4.2 (wear), 4.4 (write path).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from agent.ledger import retention, tables
from agent.ledger.database import Connection
from agent.ledger.kinds import TARIFF, TIME_UNKNOWN
from agent.ledger.retention import CutDone, CutOrder
from agent.ledger.rows import Head, NewRow, Row, Sealed, Slot, chain
from agent.ledger.side_records import PutTariff, SideRecord
from agent.ledger.state import StateChange

COUNT_COMMITS: Final = "ledger.commits"
COUNT_BYTES: Final = "ledger.bytes"
COUNTED_SINCE: Final = "ledger.since_ms"
"""Wear, and since when. Names with a dot are the ledger's own: no ``Sealed`` can have them."""

COUNTED_EVERY_COMMITS: Final = 32
"""Wear is counted in memory and written so often: a page more in every commit would be wear itself. A
power cut forgets no more than these."""

_ROW_BYTES: Final = 160  # its other columns and its share of the index, about

Change = StateChange | SideRecord

MakeRoom = Callable[[], bool]
"""Frees space on a full disk; False if there is none to free."""

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Job:
    """What is committed together or not at all. Raises ``ValueError`` for tariffs without their rows."""

    rows: tuple[NewRow | Sealed, ...]
    changes: tuple[Change, ...]

    def __post_init__(self) -> None:
        tariffs = sum(isinstance(change, PutTariff) for change in self.changes)
        if tariffs and tariffs != sum(row.kind == TARIFF for row in self.rows):
            raise ValueError(f"{tariffs} tariffs, and not as many rows of kind {TARIFF}")

    @property
    def size(self) -> int:
        return len(self.rows) + len(self.changes)


class Book:
    """Appends to the ledger that ends at ``head``."""

    def __init__(self, connection: Connection, head: Head, make_room: MakeRoom = lambda: False) -> None:
        self._connection = connection
        self.head = head
        self._make_room = make_room
        self._commits = self._bytes = 0  # not written yet
        self._search: retention.Search | None = None  # of the cut under way

    def commit(self, jobs: Sequence[Job]) -> list[list[Row]]:
        """All of ``jobs`` in one commit; their rows as they were written."""
        return self._with_room(lambda: self._commit(jobs))

    def _with_room(self, work: Callable[[], _Result]) -> _Result:
        """A full disk is no failed flush: nothing of the commit was written, so it may be tried again
        once there is room."""
        try:
            return work()
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_FULL or not self._make_room():
                raise
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        return work()

    def cut(self, order: CutOrder) -> CutDone | None:
        """Remove a chunk of what ``order`` allows, in one commit, or look on for one (no rows); None when there is
        nothing to remove."""
        return self._with_room(lambda: self._cut(order))

    def checkpoint(self) -> None:
        """Copy what the WAL holds into the main file, as far as readers let it; the rest is done next time."""
        self._with_room(lambda: self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone())

    def _commit(self, jobs: Sequence[Job]) -> list[list[Row]]:
        self._connection.execute("BEGIN IMMEDIATE")
        numbers = _Numbers(self._connection)
        head, written = self.head, []
        for job in jobs:
            rows = _place(job, head, numbers)
            if rows:
                head = Head(rows[-1].seq, rows[-1].hash)
            tables.insert_rows(self._connection, rows)
            tables.apply_changes(self._connection, job.changes, rows, head.seq)
            written.append(rows)
        numbers.keep()
        commits, size = self._commits + 1, self._bytes + _size(written)
        counted = commits >= COUNTED_EVERY_COMMITS
        if counted:
            tables.add_to_counters(self._connection, {COUNT_COMMITS: commits, COUNT_BYTES: size})
            tables.start_counters(self._connection, _time_of(written))
        self._connection.execute("COMMIT")
        self.head = head
        self._commits, self._bytes = (0, 0) if counted else (commits, size)
        return written

    def _cut(self, order: CutOrder) -> CutDone | None:
        self._connection.execute("BEGIN IMMEDIATE")
        if self._search is None or self._search.order != order:
            self._search = retention.Search(order, self.head.seq)
        end_seq = self._search.next_end(self._connection)
        if not end_seq:
            self._connection.execute("ROLLBACK")
            if end_seq is not None:
                return CutDone(0, 0, 0)
            self._search = None
            return None
        new, done = retention.cut_row(self._connection, order, end_seq)
        row = chain(self.head, new)
        tables.insert_rows(self._connection, [row])
        retention.remove(self._connection, end_seq, order.tariffs_in_use)
        self._connection.execute("COMMIT")
        self.head = Head(row.seq, row.hash)
        self._commits, self._bytes = self._commits + 1, self._bytes + _size([[row]])
        return done


class _Numbers:
    """The counters within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.used: dict[str, int] = {}

    def next(self, counter: str) -> int:
        last = self.used.get(counter)
        if last is None:
            last = tables.counter(self._connection, counter)
        self.used[counter] = last + 1
        return last + 1

    def keep(self) -> None:
        if self.used:
            tables.set_counters(self._connection, self.used)


def _place(job: Job, head: Head, numbers: _Numbers) -> list[Row]:
    """The job's rows behind ``head``, in their order."""
    rows: list[Row] = []
    for new in job.rows:
        if isinstance(new, Sealed):
            new = _made(new, head, numbers)
        row = chain(head, new)
        head = Head(row.seq, row.hash)
        rows.append(row)
    return rows


def _made(sealed: Sealed, after: Head, numbers: _Numbers) -> NewRow:
    used = dict(numbers.used)
    number = None if sealed.counter is None else numbers.next(sealed.counter)
    try:
        return sealed.made(Slot(after.seq + 1, after.hash, number))
    except Exception as error:
        if sealed.instead is None:
            raise
        numbers.used = used
        return sealed.instead(error)


def _size(written: Sequence[Sequence[Row]]) -> int:
    return sum(_ROW_BYTES + len(row.body) for rows in written for row in rows)


def _time_of(written: Sequence[Sequence[Row]]) -> dict[str, int]:
    known = [row.wall_ms for rows in written for row in rows if row.time_status != TIME_UNKNOWN and row.wall_ms > 0]
    return {COUNTED_SINCE: known[0]} if known else {}
