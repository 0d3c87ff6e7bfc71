"""The ledger beside its own disk: commits against bare fsync, and a million rows opened and verified.

Charter: the product's own code on a real file system (where temporary files go). Bare fsync writes as many
bytes as the ledger's WAL takes for a commit, over and over into a file that is already there, in turn
with the commits, so that both see the same disk. What is opened and verified is measured in a process
of its own, the opening first with nothing of the file in the page cache, as when power has just come.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Final

from agent.ledger import database, tables
from agent.ledger.book import Book, Job
from agent.ledger.reader import LedgerReader
from agent.ledger.rows import NewRow, Sealed, Slot
from agent.ledger.store import Birth, open_ledger
from agent.ledger.writer import CHECKPOINT_ROWS, LedgerWriter
from agent.ocmf.sign import seal
from agent.security.keys import MeteringKey, load_or_create_key
from tests.bench.result import Figure, Tell
from tests.bench.scene import BenchFailed

_ROUND: Final = 50
_BATCH: Final = 8  # a station of so many EVSEs
_PAYLOAD_BYTES: Final = 500
_ROWS_PER_TX: Final = 20
_JOB_ROWS: Final = 2_000
_LONGEST_S: Final = 600

_SHARE_AIM: Final = 70.0
_VERIFY_AIM_PER_S: Final = 20_000.0
_OPEN_AIM_S: Final = 2.0
_GROWTH_AIM_MIB: Final = 8.0
_BIRTH: Final = Birth("bench", "SIM-0001", "bench-boot", 0, 1_764_000_000_000, "S")


async def measure(tell: Tell, commits: int, rows: int) -> list[Figure]:
    with tempfile.TemporaryDirectory() as directory:
        figures = await _measure_commits(tell, Path(directory), commits)
        return figures + await _measure_size(tell, Path(directory, "large.db"), rows)


# ------------------------------------------------------------------------------------------- commits


async def _measure_commits(tell: Tell, directory: Path, commits: int) -> list[Figure]:
    path = directory / "commits.db"
    open_ledger(path, _BIRTH)
    failures: list[Exception] = []
    writer = LedgerWriter(path, asyncio.get_running_loop(), failures.append)
    size = await _wal_bytes_per_commit(path, writer)
    tell(f"a commit writes {size} bytes to the WAL")
    single_s = batch_s = bare_s = 0.0
    with (directory / "bare").open("wb", buffering=0) as bare:
        os.posix_fallocate(bare.fileno(), 0, _ROUND * size)
        for _ in range(max(1, commits // _ROUND)):
            bare_s += await asyncio.to_thread(_fsyncs, bare.fileno(), size)
            single_s += await _commits(writer, 1)
            batch_s += await _commits(writer, _BATCH)
    await writer.close()
    if failures:
        raise BenchFailed(str(failures[0]))
    total = max(1, commits // _ROUND) * _ROUND
    return [
        Figure(f"bare fsync of {size} bytes", total / bare_s, "/s"),
        Figure("one record at a time", total / single_s, "/s"),
        Figure("one record at a time, of bare fsync", 100 * bare_s / single_s, "%", _SHARE_AIM, at_least=True),
        Figure("one record at a time, beyond bare fsync", 1e6 * (single_s - bare_s) / total, "us"),
        Figure("of that signing and verifying", 1e6 * _signing_s(_ROUND) / _ROUND, "us"),
        Figure(f"{_BATCH} records waiting at a time", total * _BATCH / batch_s, "/s"),
        Figure(f"{_BATCH} records waiting at a time, of bare fsync", 100 * _BATCH * bare_s / batch_s, "%"),
    ]


async def _wal_bytes_per_commit(path: Path, writer: LedgerWriter) -> int:
    wal = path.with_name(path.name + "-wal")
    await _commit(writer, 1)
    before = wal.stat().st_size
    for _ in range(_ROUND):
        await _commit(writer, 1)
    size = (wal.stat().st_size - before) // _ROUND
    # As on any day but the first: once it was checkpointed, the WAL is written over and grows no more.
    for _ in range(2 * CHECKPOINT_ROWS):
        await _commit(writer, 1)
    return size


async def _commits(writer: LedgerWriter, records: int) -> float:
    began_s = time.perf_counter()
    for _ in range(_ROUND):
        await _commit(writer, records)
    return time.perf_counter() - began_s


async def _commit(writer: LedgerWriter, records: int) -> None:
    done = asyncio.Event()
    rows = [Sealed("signed", _record, "bench-boot", 0, 1_764_000_000_000, "S", "tx", 1, "T") for _ in range(records)]
    writer.append(rows, on_durable=lambda _: done.set())
    await asyncio.wait_for(done.wait(), 30)


def _record(slot: Slot) -> bytes:
    """A record of the usual size, signed and verified as a meter record is."""
    return seal(f"{slot.number} {slot.prev_hash.hex()}".encode().ljust(_PAYLOAD_BYTES), _key())


@cache
def _key() -> MeteringKey:
    with tempfile.TemporaryDirectory() as directory:
        return load_or_create_key(Path(directory, "metering.key"))


def _signing_s(records: int) -> float:
    """Seconds that signing and verifying alone take."""
    began_s = time.perf_counter()
    for number in range(records):
        _record(Slot(number, bytes(32), number))
    return time.perf_counter() - began_s


def _fsyncs(descriptor: int, size: int) -> float:
    content = bytes(size)
    began_s = time.perf_counter()
    for number in range(_ROUND):
        os.pwrite(descriptor, content, number * size)
        os.fsync(descriptor)
    return time.perf_counter() - began_s


# ---------------------------------------------------------------------------------------------- size


async def _measure_size(tell: Tell, path: Path, rows: int) -> list[Figure]:
    began_s = time.monotonic()
    await asyncio.to_thread(_fill, path, rows)
    mib = path.stat().st_size / 2**20
    tell(f"{rows} rows, {mib:.0f} MiB, written in {time.monotonic() - began_s:.1f} s")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.ledger", str(path), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await asyncio.wait_for(process.communicate(), _LONGEST_S)
    if process.returncode != 0:
        raise BenchFailed("the ledger could not be opened and verified")
    found = json.loads(output)
    label = f"{rows} rows"
    return [
        Figure(f"{label}: file", mib, "MiB"),
        Figure(f"{label}: opened in", found["cold_open_s"], "s", _OPEN_AIM_S),
        Figure(f"{label}: opened again in", found["open_s"], "s"),
        Figure(f"{label}: verified at", rows / found["verify_s"], "rows/s", _VERIFY_AIM_PER_S, at_least=True),
        Figure(f"{label}: whole audit", found["audit_s"], "s"),
        Figure(f"{label}: rss after opening", found["opened_mib"], "MiB"),
        Figure(
            f"{label}: rss growth by verifying", found["verified_mib"] - found["opened_mib"], "MiB", _GROWTH_AIM_MIB
        ),
        Figure(f"{label}: rss growth by the audit", found["audited_mib"] - found["verified_mib"], "MiB"),
    ]


def _fill(path: Path, rows: int) -> None:
    """Transactions of ``_ROWS_PER_TX`` rows each, with bodies of different sizes."""
    head = open_ledger(path, _BIRTH).head
    with closing(database.connect_for_writing(path)) as connection:
        book = Book(connection, head)
        while book.head.seq < rows:
            first, count = book.head.seq, min(_JOB_ROWS, rows - book.head.seq)
            book.commit([Job(tuple(_rows(first, count)), ())])
            book.checkpoint()


def _rows(first: int, count: int) -> Iterator[NewRow]:
    kinds = ["tx_started", *["checkpoint"] * (_ROWS_PER_TX - 2), "tx_ended"]
    for number in range(first, first + count):
        tx, place = divmod(number, _ROWS_PER_TX)
        body = b"%d" % number + bytes(200 + number * 7919 % 300)
        wall_ms = 1_764_000_000_000 + number * 1_000
        yield NewRow(kinds[place], body, "bench-boot", number * 1_000, wall_ms, "S", f"{tx:032x}", 1)


def _look(path: Path) -> dict[str, float]:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
    found = {"cold_open_s": _open(path), "open_s": _open(path), "opened_mib": _peak_mib()}
    with LedgerReader(path) as reader:
        began_s = time.perf_counter()
        reader.verify()
        found |= {"verify_s": time.perf_counter() - began_s, "verified_mib": _peak_mib()}
        began_s = time.perf_counter()
        if reader.audit():
            raise BenchFailed("the ledger has findings")
        found |= {"audit_s": time.perf_counter() - began_s, "audited_mib": _peak_mib()}
    return found


def _open(path: Path) -> float:
    """What a station does at its start."""
    began_s = time.perf_counter()
    open_ledger(path, _BIRTH)
    with closing(database.connect_for_writing(path)) as connection, LedgerReader(path) as reader:
        tables.head(connection, path)
        reader.open_transactions()
        reader.rows(0, 500, kinds=("clock",))
    return time.perf_counter() - began_s


def _peak_mib() -> float:
    """The most this process has ever had (VmHWM)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


def main(arguments: Sequence[str]) -> int:
    print(json.dumps(_look(Path(arguments[0]))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
