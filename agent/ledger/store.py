"""Opening the ledger when the station starts: a sound one, or a fresh one beside the evidence.

Charter: after ``open_ledger`` there is a ledger that can be written, whatever a power cut or a dying
disk left behind, and nothing that might be evidence was changed or lost on the way.

What is checked at every start is bounded, so that a million rows open at once: header, definitions, the
end of the chain with its witnesses, open transactions, and small files as a whole. All the rest is
``LedgerReader.audit``'s. An older schema is brought to the newest in one commit, once it was found sound.

A ledger is checked through a read-only connection (a writing one would checkpoint into the damaged
file when it closes). A damaged one is renamed to ``<name>.damaged-<n>``, with its ``-wal`` and
``-shm``, so that SQLite can still open it there. A new one is built under another name and renamed
into place: a file of the ledger's name is always a whole ledger. Its first row, kind ``genesis``,
names the last ledger that was set aside; so that a power cut between these steps loses nothing, it is
looked up in the directory, not handed over. What the station must not forget (``memory``) is read from that one, and is
in the new one from its first commit on.

No number of a record or receipt may be given out twice under one key, and nobody can rely on a damaged ledger
to tell which were. So nothing of it is asked: the ledgers of a station are counted, and each begins its counters
``NUMBERS_APART`` above the one before. The count is the name of an empty file beside them, ``<name>.numbers-<n>``,
which stays when the evidence is taken away, and outlives a ledger that vanishes. It rises when the new ledger is
whole, just before that is renamed into place: one that cannot be made, at however many starts, takes no numbers.

Sources: metering reference 4.1 (ways to lose a database), 4.5 (recovery).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.ledger import database, schema, tables
from agent.ledger.errors import LedgerDamaged, LedgerUnusable
from agent.ledger.kinds import GENESIS, TARIFF
from agent.ledger.memory import Memory, recall, tariff_body
from agent.ledger.reader import LedgerReader
from agent.ledger.rows import START, Head, NewRow, Row, chain
from agent.ledger.state import Namespace, Put

CHECKED_ROWS: Final = 2000
"""How much of the chain's end is verified at every start; ``LedgerReader.verify`` does all of it."""

EVIDENCE_MAX: Final = 16
"""More damaged ledgers than this and the storage is beyond use: no more are started on it."""

NUMBERS_APART: Final = 1_000_000_000
"""More numbers than any ledger gives out in the life of a station."""

PLACES: Final = 1_000
"""Ledgers that can be counted: the number of a signed record has at most twelve digits (OCMF, ``PG``)."""

# SQLite file format 1.3: the header's length, and in it the format versions for writing and reading.
_HEADER_BYTES: Final = 100
_VERSIONS: Final = slice(18, 20)

_SIDE_FILES: Final = ("-wal", "-shm")


@dataclass(frozen=True, slots=True)
class Birth:
    """What the first row of a new ledger says of its station, and both clocks."""

    software_version: str
    station_serial: str
    boot_id: str
    mono_ms: int
    wall_ms: int
    time_status: str


@dataclass(frozen=True, slots=True)
class Opened:
    """``damaged`` says what was wrong and where it is kept, where a ledger had to be set aside.
    ``rebuilt``: the rows were sound, but the table of transactions was not; it was made anew."""

    head: Head
    damaged: str | None = None
    rebuilt: bool = False


@dataclass(frozen=True, slots=True)
class _Checked:
    """A sound ledger. ``is_current``: nothing in it must be migrated or made anew, as at almost every start; it need
    not be opened again to learn that."""

    head: Head
    is_current: bool


def open_ledger(path: Path, birth: Birth) -> Opened:
    """Make sure that a sound ledger is at ``path``; start one if there is none or it is damaged.

    No other connection of this process may be open on it. Raises ``LedgerNewer`` (nothing touched),
    ``LedgerUnusable``, ``SettingRefused``."""
    try:
        return _open(path, birth)
    except OSError as error:
        raise LedgerUnusable(f"{path}: {error}") from error


def _open(path: Path, birth: Birth) -> Opened:
    opened = _open_or_create(path, birth)
    if _counted(path) is None:  # its first one, or one from before they were counted
        with LedgerReader(path) as reader:
            _count(path, reader.counters().get(tables.NUMBERS_AFTER, 0) // NUMBERS_APART)
    return opened


def _open_or_create(path: Path, birth: Birth) -> Opened:
    damage: str | None = None
    if path.exists():
        try:
            checked = _check(path)
            if checked.is_current:
                return Opened(checked.head)
            _migrate_when_older(path)
            return Opened(checked.head, rebuilt=_rebuild_when_wrong(path))
        except LedgerDamaged as error:
            damage = str(error)
            _set_aside(path)
    elif any(_beside(path, suffix).exists() for suffix in _SIDE_FILES):
        damage = f"{path}: gone, but not the files beside it"
        _set_aside(path)
    kept = evidence_of(path)
    previous = kept[-1] if kept else None
    head = _create(path, birth, previous, damage)
    if previous is None:
        return Opened(head)
    return Opened(head, f"{damage or 'an earlier ledger was set aside'}; kept as {previous.name}")


def _check(path: Path) -> _Checked:
    """Raises ``LedgerDamaged``; any other error is no reason to set it aside."""
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    if len(header) < _HEADER_BYTES:  # SQLite would delete the WAL beside an empty file
        raise LedgerDamaged(f"{path}: no more than {len(header)} bytes")
    if header[_VERSIONS] != b"\2\2":  # a reading connection would not mind that it cannot be written
        raise LedgerDamaged(f"{path}: versions {header[_VERSIONS].hex()} in its header are not those of WAL")
    with LedgerReader(path) as reader:
        reader.check_file()
        head = reader.verify(CHECKED_ROWS)
        is_newest = reader.schema_version >= database.SCHEMA_VERSION
        return _Checked(head, is_newest and reader.transactions_agree(CHECKED_ROWS))


def _migrate_when_older(path: Path) -> None:
    """Only a ledger that was found sound is migrated: a damaged one stays as it is, for evidence."""
    with LedgerReader(path) as reader:
        if reader.schema_version >= database.SCHEMA_VERSION:
            return
    with _changing(path) as connection:
        database.migrate(connection)
    with LedgerReader(path) as reader:
        reader.check_file()


def _rebuild_when_wrong(path: Path) -> bool:
    """The table of transactions follows from the rows: wrong, it is no reason to lose a whole chain."""
    with LedgerReader(path) as reader:
        if reader.transactions_agree(CHECKED_ROWS):
            return False
    with _changing(path) as connection:
        connection.execute("BEGIN IMMEDIATE")
        tables.rebuild_tx(connection)
        connection.execute("COMMIT")
    return True


@contextlib.contextmanager
def _changing(path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(database.connect_for_migration(path)) as connection, database.typed_errors(path):
        yield connection


# ------------------------------------------------------------------------------------- new ledgers


def _create(path: Path, birth: Birth, previous: Path | None, damage: str | None) -> Head:
    """Raises ``LedgerUnusable``, ``SettingRefused``, ``OSError``."""
    new = _beside(path, ".new")
    for leftover in (new, *(_beside(new, suffix) for suffix in ("-journal", *_SIDE_FILES))):
        leftover.unlink(missing_ok=True)
    place = _next_place(path)
    memory = Memory() if previous is None else recall(previous)
    rows = [_first_row(START, birth, GENESIS, _genesis_body(birth, previous, damage, memory, place * NUMBERS_APART))]
    for tariff in memory.tariffs:
        rows.append(_first_row(Head(rows[-1].seq, rows[-1].hash), birth, TARIFF, tariff_body(tariff)))
    lost = [Put(Namespace.FORGOTTEN, each, previous.name) for each in memory.unread if previous is not None]
    connection = database.create(new)
    try:
        with database.typed_errors(new):
            connection.execute("BEGIN IMMEDIATE")
            for statement in schema.statements():
                connection.execute(statement)
            tables.insert_rows(connection, rows)
            tables.apply_changes(connection, [*memory.values, *memory.tariffs, *lost], rows, rows[-1].seq)
            if place:
                tables.set_counters(connection, {tables.NUMBERS_AFTER: place * NUMBERS_APART})
            connection.execute("COMMIT")
            # All of it into the one file that is renamed.
            (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise LedgerUnusable(f"{new}: in use by another process")
    finally:
        connection.close()
    if place:
        _count(path, place)  # before the ledger is there: a place is left out rather than taken twice
    new.rename(path)
    _sync_directory(path)
    return Head(rows[-1].seq, rows[-1].hash)


def _first_row(after: Head, birth: Birth, kind: str, body: bytes) -> Row:
    return chain(after, NewRow(kind, body, birth.boot_id, birth.mono_ms, birth.wall_ms, birth.time_status))


def _genesis_body(birth: Birth, previous: Path | None, damage: str | None, memory: Memory, numbers_after: int) -> bytes:
    facts: dict[str, object] = {
        "product": "evsed",
        "software_version": birth.software_version,
        "station_serial": birth.station_serial,
    }
    if numbers_after:
        facts["numbers_after"] = numbers_after
    if previous is not None:
        facts["previous"] = {
            "file": previous.name,
            "damage": damage,
            "head_seq": None if memory.head is None else memory.head.seq,
            "head_hash": None if memory.head is None else memory.head.hash.hex(),
            "unread": memory.unread,
        }
    return json.dumps(facts, separators=(",", ":")).encode()


# ----------------------------------------------------------------------------------------- numbers


def _next_place(path: Path) -> int:
    """How many ledgers there were here before the one that is to be made. Raises ``LedgerUnusable``."""
    counted, kept = _counted(path), evidence_of(path)
    last_kept = _evidence_number(path, kept[-1].name) if kept else 0
    place = max(0 if counted is None else counted + 1, last_kept)
    if place >= PLACES:
        remedy = f"give the station a new metering key, then remove {path.name}.numbers-{counted}"
        raise LedgerUnusable(f"{path}: after {place} ledgers no number is left for records under one key; {remedy}")
    return place


def _counted(path: Path) -> int | None:
    """The place of the newest ledger that was counted here; the first has 0."""
    pattern = re.compile(rf"{re.escape(path.name)}\.numbers-([0-9]+)")
    found = (pattern.fullmatch(file.name) for file in path.parent.iterdir())
    return max((int(match[1]) for match in found if match), default=None)


def _count(path: Path, place: int) -> None:
    """Raises ``OSError``."""
    before, now = _counted(path), _beside(path, f".numbers-{place}")
    if before is None:
        now.touch()
    else:
        _beside(path, f".numbers-{before}").rename(now)
    _sync_directory(path)


# ---------------------------------------------------------------------------------------- evidence


def _set_aside(path: Path) -> None:
    """Rename the ledger and the files beside it.

    The ledger goes first: after a power cut between two renames, files without a ledger are seen at
    the next start and follow it; a ledger without its WAL would pass for a whole one."""
    files = [(suffix, file) for suffix in ("", *_SIDE_FILES) if (file := _beside(path, suffix)).exists()]
    kept = evidence_of(path)
    number = _evidence_number(path, kept[-1].name) if kept else 1
    while any(_beside(_evidence(path, number), suffix).exists() for suffix, _ in files):
        number += 1
    if number > EVIDENCE_MAX:
        raise LedgerUnusable(f"{path}: {EVIDENCE_MAX} damaged ledgers are kept beside it already")
    for suffix, file in files:
        file.rename(_beside(_evidence(path, number), suffix))
    _sync_directory(path)


def evidence_of(path: Path) -> list[Path]:
    """What was set aside, oldest first. Of a ledger that was gone, only the files beside it were there to keep."""
    numbers = {_evidence_number(path, file.name) for file in path.parent.iterdir()}
    return [_evidence(path, number) for number in sorted(numbers - {0})]


def _evidence(path: Path, number: int) -> Path:
    return _beside(path, f".damaged-{number}")


def _evidence_number(path: Path, name: str) -> int:
    """0 for the name of any other file."""
    match = re.fullmatch(rf"{re.escape(path.name)}\.damaged-([0-9]+)(-wal|-shm)?", name)
    return int(match[1]) if match else 0


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _sync_directory(path: Path) -> None:
    """A rename is durable only when its directory is."""
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
