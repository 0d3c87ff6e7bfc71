"""How the ledger fills and wears its disk: numbers for people.

Charter: reads only, counts; reads the whole file once for the rows by kind. What is said of flash is an
estimate from a model, not a measurement: the disk alone knows what it writes.

Sources: metering reference 4.2 (flash budget). Units: bytes, UTC milliseconds since 1970.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.ledger.book import COUNT_BYTES, COUNT_COMMITS, COUNTED_SINCE
from agent.ledger.kinds import TIME_UNKNOWN
from agent.ledger.reader import LedgerReader
from agent.ledger.rows import Row

SQLITE_BYTES_PER_COMMIT: Final = 6_400
"""WAL frames and their share of checkpoints, for a record of 600 bytes (measured)."""
FILE_SYSTEM_BYTES_PER_COMMIT: Final = 12_000
"""The file system's own journal, about; ext4 (assumed)."""
BODY_BYTES_INCLUDED: Final = 600
"""What each commit may hold before its further bytes count."""
WRITES_PER_BYTE: Final = 2
"""Into the WAL, and from there into the main file."""
WRITE_AMPLIFICATION: Final = 5
"""NAND bytes per byte written, for small synchronous writes (assumed)."""

_DAY_MS: Final = 86_400_000
_SHORTEST_MS: Final = 3_600_000
_SIDE_FILES: Final = ("", "-wal", "-shm", ".reserve")


@dataclass(frozen=True, slots=True)
class Span:
    """The time of a row, and whether its clock was known to be right."""

    seq: int
    wall_ms: int
    time_status: str


@dataclass(frozen=True, slots=True)
class Stats:
    """``commits`` and ``committed_bytes`` are those of the file's whole life, but for the last few before
    each power cut. Rates are None where too little time has passed to tell."""

    rows: int
    rows_by_kind: dict[str, int]
    file_bytes: dict[str, int]
    free_page_bytes: int
    commits: int
    committed_bytes: int
    commits_per_day: float | None
    estimated_nand_bytes_per_year: int | None
    oldest: Span
    newest: Span
    cut_up_to_seq: int | None


def stats_of(path: Path) -> Stats:
    """Raises ``LedgerError``, ``OSError``."""
    with LedgerReader(path) as reader:
        by_kind = reader.rows_by_kind()
        counters = reader.counters()
        oldest, head = reader.rows(0, 1)[0], reader.head()
        newest = reader.rows(head.seq - 1, 1)[0]
        free_bytes = reader.free_page_bytes()
        cut = reader.newest_cut()
    commits, committed = counters.get(COUNT_COMMITS, 0), counters.get(COUNT_BYTES, 0)
    days = _days(counters.get(COUNTED_SINCE), newest)
    return Stats(
        rows=sum(by_kind.values()),
        rows_by_kind=by_kind,
        file_bytes=file_bytes(path),
        free_page_bytes=free_bytes,
        commits=commits,
        committed_bytes=committed,
        commits_per_day=None if days is None else commits / days,
        estimated_nand_bytes_per_year=None if days is None else round(nand_bytes(commits, committed) / days * 365),
        oldest=_span(oldest),
        newest=_span(newest),
        cut_up_to_seq=None if cut is None else cut.last.seq,
    )


def nand_bytes(commits: int, committed_bytes: int) -> int:
    """About what so many commits of so many bytes in all make the flash write."""
    per_commit = SQLITE_BYTES_PER_COMMIT + FILE_SYSTEM_BYTES_PER_COMMIT
    beyond = max(0, committed_bytes - commits * BODY_BYTES_INCLUDED)
    return WRITE_AMPLIFICATION * (commits * per_commit + beyond * WRITES_PER_BYTE)


def _days(since_ms: int | None, newest: Row) -> float | None:
    if since_ms is None or newest.time_status == TIME_UNKNOWN or newest.wall_ms - since_ms < _SHORTEST_MS:
        return None
    return (newest.wall_ms - since_ms) / _DAY_MS


def file_bytes(path: Path) -> dict[str, int]:
    """The files of the ledger at ``path`` by suffix; the main file is the empty one. Raises ``OSError``."""
    found = {}
    for suffix in _SIDE_FILES:
        with contextlib.suppress(FileNotFoundError):  # the reserve may be given up at any moment
            found[suffix] = path.with_name(path.name + suffix).stat().st_size
    return found


def _span(row: Row) -> Span:
    return Span(row.seq, row.wall_ms, row.time_status)
