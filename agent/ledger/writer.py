"""The one writer: batches what is waiting into single commits, and answers only after them.

Charter: one thread that owns the only writing connection. The event loop hands over rows and state
changes and never waits; whatever has come together goes into one commit (all EVSEs share it, which is
what keeps flash wear down), and the callers are answered in the loop's thread, in order, after COMMIT
has returned. Lazy changes wait for company (``LAZY_MAX``), ``LAZY_WAIT_S`` at most, and hold up nobody.

The first error of SQLite ends the writer: nothing more is accepted, answered or retried, and no
checkpoint is made while closing, so that pages whose flush failed are not copied on. What was
answered stays on disk; the station restarts and reads what is there.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import math
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from agent.ledger import database, tables
from agent.ledger.book import Book, Change, Job, MakeRoom
from agent.ledger.errors import LedgerFailed
from agent.ledger.retention import CutDone, CutOrder
from agent.ledger.rows import NewRow, Row, Sealed

LAZY_WAIT_S: Final = 1.0
LAZY_MAX: Final = 1024
"""So many rows and changes are company enough. More of them waiting idly would fill the queue."""

QUEUE_MAX: Final = 4096
"""Rows and changes waiting. So many means that the disk has stood still for long."""

CHECKPOINT_ROWS: Final = 500
"""A checkpoint into the main file after so many rows and changes (about 1000 pages of WAL)."""

OnDurable = Callable[[list[Row]], None]
OnCut = Callable[[CutDone], None]


def rows_left_in_wal(path: Path) -> int:
    """From how many rows a run counts on to its first checkpoint. A run that ended abruptly has left its WAL: then one
    is due at once, else the WAL of a station that loses power every night would grow for ever."""
    wal = path.with_name(path.name + "-wal")
    return CHECKPOINT_ROWS if wal.exists() and wal.stat().st_size else 0


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A job and who wants to hear of it."""

    job: Job
    on_durable: OnDurable | None


@dataclass(slots=True)
class _Cutting:
    """A cut under way, and what has gone so far."""

    order: CutOrder
    on_done: OnCut
    done: CutDone


class LedgerWriter:
    """The writer of the ledger at ``path``, which ``open_ledger`` has checked.

    Made and used in the thread of ``loop``. ``on_failed`` is called there, once, if the ledger fails.
    ``make_room`` (``Reserve.release``) is called in the writer's thread when the disk is full.
    Raises ``LedgerError`` if the ledger cannot be opened for writing."""

    def __init__(
        self,
        path: Path,
        loop: asyncio.AbstractEventLoop,
        on_failed: Callable[[LedgerFailed], None],
        make_room: MakeRoom = lambda: False,
    ) -> None:
        self._path = path
        self._loop = loop
        self._on_failed = on_failed
        with contextlib.ExitStack() as opening:
            self._connection = database.connect_for_writing(path)
            opening.callback(self._connection.close)
            # Reading the head with it makes it hold the file open: SQLite checkpoints when the last
            # connection closes, and this one, which cannot, is to be the last after a failure.
            self._last_to_close = database.connect_for_reading(path, any_thread=True)
            opening.callback(self._last_to_close.close)
            self._book = Book(self._connection, tables.head(self._last_to_close, path), make_room)
            opening.pop_all()
        self._rows_since_checkpoint = rows_left_in_wal(path)

        # Shared between the two threads, under this condition.
        self._changed = threading.Condition()
        self._jobs: collections.deque[_Waiting] = collections.deque()
        self._waiting = 0  # rows and changes in ``_jobs``
        self._due_s = math.inf  # monotonic time at which ``_jobs`` must be committed
        self._cutting: _Cutting | None = None
        self._closing = False
        self._failure: LedgerFailed | None = None

        # A daemon: should the loop die without ``close``, the process must still be able to end.
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._thread.start()

    def append(
        self,
        rows: Sequence[NewRow | Sealed] = (),
        changes: Sequence[Change] = (),
        on_durable: OnDurable | None = None,
        *,
        lazy: bool = False,
    ) -> None:
        """Commit ``rows`` and ``changes`` together; then call ``on_durable`` with the rows as written.

        The bodies of ``Sealed`` rows are made meanwhile, in the writer's thread and transaction. Without rows and
        changes ``on_durable`` tells when all that was appended before is on disk.

        ``lazy`` is for changes whose loss does no harm: they may wait a little. Raises
        ``LedgerFailed`` if the ledger has failed or the queue is full; nothing was taken then."""
        if lazy and rows:
            raise ValueError("rows are never lazy")
        if not rows and not changes and on_durable is None:
            raise ValueError("nothing to keep")
        job = Job(tuple(rows), tuple(changes))
        with self._changed:
            self._check_taking()
            if self._waiting + job.size > QUEUE_MAX:
                raise LedgerFailed(f"{self._path}: {self._waiting} rows and changes are waiting for the disk")
            self._jobs.append(_Waiting(job, on_durable))
            self._waiting += job.size
            waits = lazy and self._waiting < LAZY_MAX
            self._due_s = min(self._due_s, time.monotonic() + LAZY_WAIT_S if waits else -math.inf)
            self._changed.notify()

    def cut(self, order: CutOrder, on_done: OnCut) -> None:
        """Remove old rows, as far as ``order`` lets them go, chunk by chunk between other commits; then
        call ``on_done`` with what has gone in all. Closing ends it early. One at a time. Raises
        ``LedgerFailed`` if the ledger has failed."""
        with self._changed:
            self._check_taking()
            if self._cutting is not None:
                raise RuntimeError("the ledger is being cut already")
            # No further than the head is now: the rows that say what was cut would be cut for ever.
            bounded = replace(order, up_to_seq=min(order.up_to_seq, self._book.head.seq))
            self._cutting = _Cutting(bounded, on_done, CutDone(0, 0, 0))
            self._changed.notify()

    def _check_taking(self) -> None:
        if self._closing:
            raise RuntimeError("the ledger writer is closed")
        if self._failure is not None:
            raise LedgerFailed(str(self._failure)) from self._failure

    async def close(self) -> None:
        """Commit what is waiting, answer it, and close the file. Call before the loop ends."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        await asyncio.to_thread(self._thread.join)

    # ----------------------------------------------------------------------------- the writer thread

    def _run(self) -> None:
        try:
            while (batch := self._take()) or self._cutting is not None:
                if batch:
                    self._commit(batch)
                if self._cutting is not None:
                    self._cut_some(self._cutting)
                self._checkpoint_when_due()
        except sqlite3.Error as error:
            self._fail(error)
        except BaseException as error:  # ours: the loop must not wait for answers that never come
            self._fail(error)
            raise
        else:
            self._last_to_close.close()
            self._connection.close()  # the last one: checkpoints, leaves one tidy file

    def _take(self) -> list[_Waiting]:
        """All that is waiting, once it is due or a cut goes on; nothing when closed and done."""
        with self._changed:
            while not (self._closing or self._cutting) and (wait_s := self._due_s - time.monotonic()) > 0:
                self._changed.wait(None if wait_s == math.inf else wait_s)
            batch = list(self._jobs)
            self._jobs.clear()
            self._waiting = 0
            self._due_s = math.inf
            return batch

    def _commit(self, batch: list[_Waiting]) -> None:
        written = self._book.commit([waiting.job for waiting in batch])
        self._rows_since_checkpoint += sum(waiting.job.size for waiting in batch)
        for waiting, rows in zip(batch, written, strict=True):
            if waiting.on_durable is not None:
                self._loop.call_soon_threadsafe(waiting.on_durable, rows)

    def _cut_some(self, cutting: _Cutting) -> None:
        removed = None if self._closing else self._book.cut(cutting.order)
        if removed is not None:
            before = cutting.done
            rows, transactions = before.rows + removed.rows, before.transactions + removed.transactions
            cutting.done = CutDone(rows, transactions, max(before.last_seq, removed.last_seq))
            self._rows_since_checkpoint += removed.rows
            return
        with self._changed:
            self._cutting = None
        self._loop.call_soon_threadsafe(cutting.on_done, cutting.done)

    def _checkpoint_when_due(self) -> None:
        """Checkpoint after the answers, so that they do not wait for it, and seeing its errors.

        A reader at work may leave it incomplete; then the next one does the rest."""
        if self._rows_since_checkpoint >= CHECKPOINT_ROWS:
            self._book.checkpoint()
            self._rows_since_checkpoint = 0

    def _fail(self, error: BaseException) -> None:
        code = getattr(error, "sqlite_errorname", type(error).__name__)
        failure = LedgerFailed(f"{self._path}: {error} ({code})")
        failure.__cause__ = error
        with self._changed:
            self._failure = failure
            self._jobs.clear()
            self._waiting = 0
        self._connection.close()
        self._last_to_close.close()
        self._loop.call_soon_threadsafe(self._on_failed, failure)
