"""The disk under a simulated station's ledger, and its writer in virtual time.

Charter: the ledger's own commits on real SQLite files, at moments of virtual time; in place of the writer's thread
stands a timer. A power cut finds a commit not begun, done but not answered, or torn: any 512-byte sectors of what
the commit changed are on disk, the others are not. What was answered is there. A full disk refuses pages (SQLite's
own error), a failed sync ends the writer as it ends the real one.

Not modelled here: cuts in the middle of opening, migrating and setting aside; ``tests/crash`` cuts those at every
write.

Units: bytes, ms of virtual time.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from agent.ledger import database, tables
from agent.ledger.book import Book, Change, Job, MakeRoom
from agent.ledger.errors import LedgerFailed
from agent.ledger.retention import CutDone, CutOrder
from agent.ledger.rows import NewRow, Row, Sealed
from agent.ledger.writer import (
    CHECKPOINT_ROWS,
    LAZY_MAX,
    LAZY_WAIT_S,
    QUEUE_MAX,
    OnCut,
    OnDurable,
    rows_left_in_wal,
)

SECTOR_BYTES: Final = 512
COMMIT_MS: Final = (2, 40)
"""What a commit takes on an SD card, at least and at most; now and then the card stands still."""

STALL_MS: Final = (500, 4_000)
STALLS_PERMILLE: Final = 2
FULL_BYTES: Final = 1_000_000
ROOMY_BYTES: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class FreeSpace:
    """``agent.ledger.space.FileSystem`` of the simulated disk."""

    f_bavail: int
    f_frsize: int = 1


class LedgerDisk:
    """The disk of one station; lives through all its runs. ``on_rows`` hears of rows when they are answered for,
    ``on_cut`` of the new last row when old ones have gone.

    ``path`` is the ledger's file; the files beside it belong to the disk too."""

    def __init__(
        self,
        path: Path,
        chance: random.Random,
        on_rows: Callable[[Sequence[Row]], None],
        on_cut: Callable[[int], None],
    ) -> None:
        self.path = path
        self.full = False
        self.sync_fails = False  # the next commit's
        self.on_rows = on_rows
        self.on_cut = on_cut
        self.chance = chance
        self.commits = self.torn = 0
        self.cut_in_commit: Callable[[], None] | None = None  # called once, while a commit is being written
        self._writer: DiskWriter | None = None

    def open_writer(self, path: Path, on_failed: Callable[[LedgerFailed], None], make_room: MakeRoom) -> DiskWriter:
        assert path == self.path
        self._writer = DiskWriter(self, on_failed, make_room)
        return self._writer

    def look(self, _path: Path) -> FreeSpace:
        """Free space, for whoever asks before beginning something."""
        return FreeSpace(FULL_BYTES if self.full else ROOMY_BYTES)

    def fill(self, full: bool) -> None:
        """Somebody else takes the disk's last room, or gives it back."""
        self.full = full
        if self._writer is not None:
            self._writer.limit_pages(full)

    def strike(self) -> None:
        """A commit is being written: power fails now, unless somebody has thought better of it."""
        cut, self.cut_in_commit = self.cut_in_commit, None
        if cut is not None:
            cut()

    def lose(self) -> Callable[[], None]:
        """The run that writes ends here and now. Call the answer when its connections are closed: only then are the
        files as they were at this moment. SQLite tidies up as the last connection closes, so one that cannot write
        stays open until then."""
        torn = self._tear()
        self._writer = None
        last = sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True)
        last.execute("PRAGMA user_version").fetchone()  # only now is it open

        def restore() -> None:
            last.close()
            self._beside("-shm").unlink(missing_ok=True)  # the index in shared memory is made anew at every start
            for name, content in torn.items():
                self._beside(name).write_bytes(content)

        return restore

    def _tear(self) -> dict[str, bytes]:
        """What was being written is on disk, or is not; or (returned) some sectors of it are."""
        work = None if self._writer is None else self._writer.die()
        if work is None or self.chance.random() < 0.34:
            return {}
        before = self._files()
        work()
        if self.chance.random() < 0.5:
            return {}
        self.torn += 1
        return {name: self._mixed(before.get(name, b""), content) for name, content in self._files().items()}

    def _mixed(self, before: bytes, after: bytes) -> bytes:
        """Each sector as it was before or after, and the end of what grew possibly missing."""
        if before == after:
            return after
        mixed = bytearray(after)
        for at in range(0, len(after), SECTOR_BYTES):
            old, new = before[at : at + SECTOR_BYTES], after[at : at + SECTOR_BYTES]
            if old != new and self.chance.random() < 0.5:
                mixed[at : at + SECTOR_BYTES] = old.ljust(len(new), b"\0")
        if len(after) > len(before) and self.chance.random() < 0.3:
            del mixed[self.chance.randrange(len(before), len(after)) :]
        return bytes(mixed)

    def _files(self) -> dict[str, bytes]:
        """The ledger and its log."""
        return {name: file.read_bytes() for name in ("", "-wal") if (file := self._beside(name)).exists()}

    def _beside(self, name: str) -> Path:
        return self.path.with_name(self.path.name + name)


@dataclass(slots=True)
class _Waiting:
    job: Job
    on_durable: OnDurable | None


class DiskWriter:
    """``agent.station.platform.Writer`` on the disk, for one run. Its rules are those of ``LedgerWriter``."""

    def __init__(self, disk: LedgerDisk, on_failed: Callable[[LedgerFailed], None], make_room: MakeRoom) -> None:
        self._disk = disk
        self._on_failed = on_failed
        self._make_room = make_room
        self._loop = asyncio.get_running_loop()
        self._connection = database.connect_for_writing(disk.path)
        # A cut is decided here; what the machine's own cache does to a simulated sync costs time and tells nothing.
        self._connection.execute("PRAGMA synchronous = OFF")
        self._book = Book(self._connection, tables.head(self._connection, disk.path), self._room)
        self._jobs: deque[_Waiting] = deque()
        self._waiting = 0
        self._rows_since_checkpoint = rows_left_in_wal(disk.path)
        self._batch: list[_Waiting] = []  # being written
        self._timer: asyncio.TimerHandle | None = None
        self._lazy_timer: asyncio.TimerHandle | None = None
        self._cutting: tuple[CutOrder, OnCut, CutDone] | None = None
        self._dead = False
        self._failed: LedgerFailed | None = None
        self.limit_pages(disk.full)

    # ------------------------------------------------------------------------------------- as asked

    def append(
        self,
        rows: Sequence[NewRow | Sealed] = (),
        changes: Sequence[Change] = (),
        on_durable: OnDurable | None = None,
        *,
        lazy: bool = False,
    ) -> None:
        if self._failed is not None:
            raise LedgerFailed(str(self._failed))
        job = Job(tuple(rows), tuple(changes))
        if self._waiting + job.size > QUEUE_MAX:
            raise LedgerFailed("too much is waiting for the disk")
        self._jobs.append(_Waiting(job, on_durable))
        self._waiting += job.size
        if not lazy or self._waiting >= LAZY_MAX:
            self._begin()
        elif self._lazy_timer is None and self._timer is None:
            self._lazy_timer = self._loop.call_later(LAZY_WAIT_S, self._begin)

    def cut(self, order: CutOrder, on_done: OnCut) -> None:
        if self._failed is not None:
            raise LedgerFailed(str(self._failed))
        if self._cutting is not None:
            raise RuntimeError("the ledger is being cut already")
        bounded = replace(order, up_to_seq=min(order.up_to_seq, self._book.head.seq))
        self._cutting = bounded, on_done, CutDone(0, 0, 0)
        self._begin()

    async def close(self) -> None:
        """Commit what is waiting, answer it, close the file."""
        if self._dead:
            self._connection.close()
            return
        while self._jobs or self._batch:
            self._stop_timers()
            self._batch = self._batch or self._take()
            try:
                self._write()
            except sqlite3.Error as error:
                self._fail(error)
            await asyncio.sleep(0)
        self.die()
        self._connection.close()

    def die(self) -> Callable[[], None] | None:
        """Nothing is taken or answered any more. Returns what was being written, not begun yet."""
        self._stop_timers()
        self._dead = True
        batch, self._batch = self._batch, []
        if not batch or self._failed is not None:
            return None
        return lambda: self._commit_unanswered(batch)

    def limit_pages(self, full: bool) -> None:
        """A full disk has no new pages for the ledger, and SQLite says so itself."""
        if not self._dead and self._failed is None:
            count = self._connection.execute("PRAGMA page_count").fetchone()[0]
            self._connection.execute(f"PRAGMA max_page_count = {count if full else 1_000_000_000}")

    # ---------------------------------------------------------------------------------- in its time

    def _room(self) -> bool:
        """The reserve is given up: there are pages again, for a while."""
        if not self._make_room():
            return False
        self._connection.execute("PRAGMA max_page_count = 1000000000")
        return True

    def _begin(self) -> None:
        if self._timer is not None or self._dead:
            return
        if self._lazy_timer is not None:
            self._lazy_timer.cancel()
            self._lazy_timer = None
        chance = self._disk.chance
        stalls = chance.randrange(1_000) < STALLS_PERMILLE
        self._batch = self._take()
        takes_ms = chance.randint(*(STALL_MS if stalls else COMMIT_MS))
        self._timer = self._loop.call_later(takes_ms / 1_000, self._turn)
        if self._batch and self._disk.cut_in_commit is not None:
            self._loop.call_later(takes_ms * chance.random() / 1_000, self._disk.strike)

    def _take(self) -> list[_Waiting]:
        batch = list(self._jobs)
        self._jobs.clear()
        self._waiting = 0
        return batch

    def _turn(self) -> None:
        self._timer = None
        try:
            if self._batch:
                self._write()
            if self._cutting is not None and not self._dead:
                self._cut_some(*self._cutting)
            if self._rows_since_checkpoint >= CHECKPOINT_ROWS and not self._dead:
                self._rows_since_checkpoint = 0
                self._book.checkpoint()
        except sqlite3.Error as error:
            self._fail(error)
            return
        if (self._jobs or self._cutting is not None) and not self._dead:
            self._begin()

    def _write(self) -> None:
        if self._disk.sync_fails:
            self._disk.sync_fails = False
            if self._disk.chance.random() < 0.5:  # written all the same, as the next start will find
                self._commit_unanswered(self._batch)
            raise sqlite3.OperationalError("disk I/O error")
        batch, self._batch = self._batch, []
        written = self._book.commit([waiting.job for waiting in batch])
        self._disk.commits += 1
        self._rows_since_checkpoint += sum(waiting.job.size for waiting in batch)
        for rows in written:
            self._disk.on_rows(rows)
        for waiting, rows in zip(batch, written, strict=True):
            if waiting.on_durable is not None and not self._dead:
                waiting.on_durable(rows)

    def _commit_unanswered(self, batch: list[_Waiting]) -> None:
        try:
            self._book.commit([waiting.job for waiting in batch])
        except sqlite3.Error:
            if self._connection.in_transaction:  # full: nothing of it is there
                self._connection.execute("ROLLBACK")

    def _cut_some(self, order: CutOrder, on_done: OnCut, done: CutDone) -> None:
        removed = self._book.cut(order)
        if removed is None:
            self._cutting = None
            on_done(done)
            return
        if removed.rows:
            self._disk.on_cut(self._book.head.seq)
        rows, transactions = done.rows + removed.rows, done.transactions + removed.transactions
        self._cutting = order, on_done, CutDone(rows, transactions, max(done.last_seq, removed.last_seq))
        self._rows_since_checkpoint += removed.rows

    def _fail(self, error: sqlite3.Error) -> None:
        self._failed = LedgerFailed(f"{self._disk.path}: {error}")
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        self._jobs.clear()
        self._batch.clear()
        self._waiting = 0
        self._stop_timers()
        self._loop.call_soon(self._on_failed, self._failed)

    def _stop_timers(self) -> None:
        for timer in (self._timer, self._lazy_timer):
            if timer is not None:
                timer.cancel()
        self._timer = self._lazy_timer = None
