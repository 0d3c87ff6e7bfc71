"""L1: power is cut at every write; what was acknowledged is there, all of it belongs together, and no
number was given out twice. The same check must find losses where the ledger is written carelessly.

``EVSED_CRASH=full`` tries every write with many subsets of what was not synced; without it, a sample.
"""

from __future__ import annotations

import json
import os
import random
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from agent.ledger import database, retention
from agent.ledger.book import Book, Job
from agent.ledger.errors import LedgerError
from agent.ledger.reader import LedgerReader
from agent.ledger.retention import CutOrder
from agent.ledger.rows import Head, Row
from agent.ledger.side_records import PutKey, PutMeter, PutTariff, PutWitness
from agent.ledger.state import Delete, Namespace, Put
from tests.crash.power_loss import Event, Recording, images
from tests.unit.ledger.making import chained, new_row, numbered, opened
from tests.unit.ledger.old_ledgers import make_old

FULL: Final = os.environ.get("EVSED_CRASH") == "full"
SEED: Final = 20261125

_SNAPSHOT: Final = (
    "SELECT seq, hash FROM ledger ORDER BY seq",
    "SELECT * FROM counter",
    "SELECT * FROM tx ORDER BY begin_seq",
    "SELECT hash, seq FROM tariff ORDER BY hash",
    "SELECT hash, seq FROM tariff_use ORDER BY hash",
    "SELECT * FROM signing_key ORDER BY key_id",
    "SELECT * FROM meter ORDER BY rowid",
    "SELECT * FROM witness",
    "SELECT * FROM state",
    "SELECT * FROM cut",
)


def snapshot(connection: database.Connection) -> tuple[Any, ...]:
    """All that a ledger holds."""
    return tuple(tuple(map(tuple, connection.execute(query).fetchall())) for query in _SNAPSHOT)


@dataclass(frozen=True, slots=True)
class Run:
    """What a workload did to its disk, and what the ledger held after each of its steps."""

    start: dict[str, bytes]
    events: Sequence[Event]
    held: list[tuple[Any, ...]]


Step = Callable[[Book], object]


def record(path: Path, steps: Sequence[Step], synchronous: str | None = None, *, migrating: bool = False) -> Run:
    """Run ``steps`` on the ledger at ``path``; the first may be to bring it to the newest schema."""
    recording = Recording(path, synchronous)
    held: list[tuple[Any, ...]] = []
    if migrating:
        recording.mark(0, acknowledged=False)
        database.migrate(recording.connection)
        recording.mark(0, acknowledged=True)
    book = Book(recording.connection, _head(recording.connection))
    held.append(snapshot(recording.connection))
    for number, step in enumerate(steps, 1):
        recording.mark(number, acknowledged=False)
        step(book)
        recording.mark(number, acknowledged=True)
        held.append(snapshot(recording.connection))
    return Run(recording.start, recording.close(), held)


def _head(connection: database.Connection) -> Head:
    seq, hash_ = connection.execute("SELECT seq, hash FROM ledger ORDER BY seq DESC LIMIT 1").fetchone()
    return Head(seq, hash_)


# ----------------------------------------------------------------------------------------- workloads


class Days:
    """A station's days, shortened: transactions with signed records, tariffs, cuts, checkpoints."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._open: list[str] = []

    def steps(self, count: int) -> list[Step]:
        return [self._step(number) for number in range(count)]

    def _step(self, number: int) -> Step:
        if number % 6 == 5:
            # The newest rows stay, as those do that were not told yet.
            return lambda book: _cut(book, book.head.seq - self._chance.randrange(12))
        if number % 7 == 6:
            return lambda book: book.checkpoint()
        return lambda book: book.commit([self._job(number, book.head) for _ in range(self._chance.randint(1, 3))])

    def _job(self, number: int, head: Head) -> Job:
        state = Put(Namespace.CURSOR, "number", str(number))
        body = bytes(self._chance.randrange(1500))
        match self._chance.randrange(7):
            case 0 | 1 if len(self._open) < 2:
                tx_id = f"T{number}-{self._chance.random()}"
                self._open.append(tx_id)
                started = new_row(number, "tx_started", tx_id=tx_id, evse=number % 4, body=body)
                return Job((started, numbered(tx_id=tx_id)), (state,))
            case 0 | 1 | 2 if self._open:
                tx_id = self._open.pop(0)
                ended = new_row(number, "tx_ended", tx_id=tx_id, evse=number % 4)
                return Job((numbered(tx_id=tx_id), ended, numbered("receipt", kind="receipt", tx_id=tx_id)), (state,))
            case 3:
                tariff = PutTariff(f"tariff-{number % 3}", "csms", b"%d" % number + body)
                return Job((new_row(number, "tariff"),), (tariff, state))
            case 4:
                meter, key = PutMeter(1, f"M{number}"), PutKey(f"k{number}", b"DER")
                return Job((), (state, meter, key, Delete(Namespace.TOKEN, "x")))
            case 5:
                return Job((numbered("F", kind="fiscal"),), (PutWitness(head.seq, head.hash, "csms", 0), state))
            case _:
                return Job((new_row(number, body=body),), (state,))


def _cut(book: Book, up_to_seq: int) -> None:
    """One commit, if there is anything to cut."""
    order = CutOrder(up_to_seq, up_to_seq, 10**15, "boot-1", 1, 1_764_000_000_000, "S")
    while (done := book.cut(order)) is not None and not done.rows:
        pass


def number_of(row: Row) -> tuple[str, int] | None:
    counter = {"signed": "T", "receipt": "receipt", "fiscal": "F"}.get(row.kind)
    return None if counter is None else (counter, json.loads(row.body)["number"])


# ------------------------------------------------------------------------------------------ the check


def fault_of(path: Path, run: Run, acknowledged: int, begun: int) -> str | None:
    """What is wrong with the files at ``path``, in one word; None if all is well."""
    try:
        with LedgerReader(path) as reader:
            reader.check_file()  # definitions too: those of one schema, whole
        found = opened(path)
    except (LedgerError, sqlite3.Error):
        return "unreadable"
    if found.damaged is not None or found.rebuilt:
        return "damaged"
    with closing(database.connect_for_reading(path)) as connection:
        held = snapshot(connection)
    if held not in run.held[acknowledged : begun + 1]:
        return "lost" if held in run.held else "mixed"
    with LedgerReader(path) as reader:
        return "inconsistent" if reader.audit(number_of=number_of) else None


def tally(run: Run, every: int, subsets: int) -> Counter[str]:
    """Images by what is wrong with them; sound ones are ``ok``."""
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(dir=_fast_directory()) as directory:
        path = Path(directory, "ledger.db")
        for image in images(run.start, run.events, random.Random(SEED), every, subsets):
            image.write(path)
            found[fault_of(path, run, image.acknowledged, image.begun) or "ok"] += 1
    return found


def _fast_directory() -> str | None:
    """Images are checked, not kept: memory will do."""
    memory = "/dev/shm"
    return memory if os.access(memory, os.W_OK) else None


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(retention, "CHUNK_ROWS", 8)
    yield


# Every crash point with some subsets, or a sample of both.
_EVERY, _SUBSETS = (1, 3) if FULL else (7, 2)


@pytest.mark.usefixtures("small_chunks")
def test_l1_nothing_acknowledged_is_lost_and_all_belongs_together(path: Path) -> None:
    opened(path)
    run = record(path, Days(SEED).steps(70))
    first_rows = {held[0][0] for held in run.held}
    assert len(first_rows) >= 5  # so often was something cut
    found = tally(run, _EVERY, _SUBSETS)
    assert set(found) == {"ok"}, found
    assert found["ok"] > (3_000 if FULL else 300), found


@pytest.mark.parametrize("seed", range(3 if FULL else 1))
def test_l1_a_migration_is_done_or_not_begun(path: Path, seed: int) -> None:
    rows = [new_row(0, "genesis"), *(new_row(n, "tx_started", tx_id=f"T{n}", body=bytes(700)) for n in range(30))]
    make_old(path, 1, chained([*rows, new_row(1, "tx_ended", tx_id="T3")]), [("cursor", "csms", "9")])
    run = record(path, Days(seed).steps(6), migrating=True)
    found = tally(run, 1 if FULL else 5, 4)
    assert set(found) == {"ok"}, found
    assert found["ok"] > (400 if FULL else 80), found


@pytest.mark.parametrize("synchronous", ["NORMAL", "OFF"])
def test_control_the_check_finds_what_a_careless_setting_loses(path: Path, synchronous: str) -> None:
    opened(path)
    run = record(path, Days(SEED).steps(40), synchronous)
    found = tally(run, 13 if FULL else 29, 2)
    assert found["lost"] > 10, found
    assert found["ok"] < found.total() * 2 // 3, found  # a cut soon after a checkpoint loses nothing


def test_control_the_check_finds_an_answer_before_its_commit(path: Path) -> None:
    opened(path)
    run = record(path, Days(SEED).steps(20))
    late = Run(run.start, run.events, run.held[1:] + run.held[-1:])  # says before each step what held after it
    assert set(tally(late, 29, 1)) != {"ok"}
