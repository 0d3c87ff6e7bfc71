"""The floor, the reserve, and a commit that finds the disk full."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.ledger.database import WAL_KEEP_BYTES
from agent.ledger.errors import LedgerFailed
from agent.ledger.reader import LedgerReader
from agent.ledger.space import FLOOR_BYTES, RESERVE_BYTES, Reserve, Room, room
from tests.unit.ledger.making import Pen, new_row, numbered, opened, read_all, write
from tests.unit.ledger.test_retention import cut, order


@dataclass
class Disk:
    """A file system with so much free."""

    free_bytes: int

    @property
    def f_bavail(self) -> int:
        return self.free_bytes // 4096

    f_frsize = 4096

    def look(self, path: Path) -> Disk:
        assert path.is_dir()
        return self


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.mark.parametrize(
    ("free", "low", "scarce"),
    [
        (2 * FLOOR_BYTES, False, False),
        (2 * FLOOR_BYTES - 4096, False, True),
        (FLOOR_BYTES, False, True),
        (FLOOR_BYTES - 4096, True, True),
        (0, True, True),
    ],
)
def test_room_is_scarce_below_the_mark_and_low_below_the_floor(path: Path, free: int, low: bool, scarce: bool) -> None:
    assert room(path, look=Disk(free).look) == Room(free, low, scarce)


@pytest.mark.parametrize(("free", "scarce"), [(0, True), (FLOOR_BYTES // 4 - 4096, True), (FLOOR_BYTES // 4, False)])
def test_room_that_was_scarce_is_so_until_there_is_clearly_more(path: Path, free: int, scarce: bool) -> None:
    free += 2 * FLOOR_BYTES
    assert room(path, look=Disk(free).look, was_scarce=True) == Room(free, False, scarce)
    assert not room(path, look=Disk(free).look).scarce


@pytest.mark.parametrize(
    ("outside", "wal", "low"),
    [
        (WAL_KEEP_BYTES, 0, False),
        (WAL_KEEP_BYTES - 4096, 0, True),  # what is written into the ledger's free pages goes to the WAL first
        (WAL_KEEP_BYTES - 1024 * 1024, 1024 * 1024, False),
        (0, 0, True),
    ],
)
def test_what_a_cut_has_freed_in_the_ledger_is_room(path: Path, outside: int, wal: int, low: bool) -> None:
    """Its file does not shrink: once it has filled the disk, there would never be room again."""
    opened(path)
    floor_bytes, disk = WAL_KEEP_BYTES + 512 * 1024, Disk(outside)
    write(path, *(new_row(number, body=bytes(20_000)) for number in range(100)))
    assert room(path, floor_bytes, disk.look).low
    readings_floor_bytes = (outside + 1024 * 1024) // 2
    assert room(path, readings_floor_bytes, disk.look).scarce
    cut(path, order())
    path.with_name(path.name + "-wal").write_bytes(bytes(wal))
    assert room(path, readings_floor_bytes, disk.look).scarce is low, "for readings too"
    assert room(path, floor_bytes, disk.look) == Room(outside, low, scarce=True)
    assert not Reserve(path, floor_bytes=floor_bytes, look=disk.look).ensure(), "that is a file of its own"


def test_the_real_disk_has_some_room(path: Path) -> None:
    found = os.statvfs(path.parent)
    assert 0 < room(path).free_bytes <= found.f_blocks * found.f_frsize


def test_the_reserve_takes_up_its_space_and_gives_it_back(path: Path) -> None:
    reserve = Reserve(path)
    assert not reserve.release()
    assert reserve.ensure()
    assert reserve.ensure()
    assert reserve.file.name == "ledger.db.reserve"
    assert reserve.file.stat().st_blocks * 512 >= RESERVE_BYTES
    assert reserve.release()
    assert not reserve.file.exists()
    assert reserve.ensure()


@pytest.mark.parametrize("size_bytes", [0, 4096, RESERVE_BYTES])
def test_a_torn_reserve_is_made_anew(path: Path, size_bytes: int) -> None:
    reserve = Reserve(path)
    with reserve.file.open("wb") as file:
        file.truncate(size_bytes)  # a hole: no blocks at all
    assert reserve.ensure()
    assert reserve.file.stat().st_blocks * 512 >= RESERVE_BYTES


def test_a_reserve_that_lacks_one_block_or_is_of_another_size_is_made_anew(path: Path) -> None:
    reserve = Reserve(path)
    with reserve.file.open("wb") as file:
        file.write(bytes(RESERVE_BYTES - 4096))
        file.truncate(RESERVE_BYTES)
    assert reserve.ensure()
    assert reserve.file.stat().st_blocks * 512 >= RESERVE_BYTES
    with reserve.file.open("ab") as file:
        file.write(bytes(4096))  # an older version's was larger
    assert reserve.ensure()
    assert reserve.file.stat().st_size == RESERVE_BYTES


def test_a_whole_reserve_is_left_as_it_is_and_only_its_owner_may_read_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve = Reserve(path)
    assert reserve.ensure()
    assert reserve.file.stat().st_mode & 0o777 == 0o600

    def fail(*_: object) -> None:
        raise AssertionError("it was there")

    monkeypatch.setattr(os, "posix_fallocate", fail)
    assert reserve.ensure()


def test_no_reserve_is_made_of_the_last_space(path: Path) -> None:
    disk = Disk(FLOOR_BYTES + RESERVE_BYTES - 4096)
    reserve = Reserve(path, look=disk.look)
    assert not reserve.ensure()
    assert not reserve.file.exists()
    disk.free_bytes += 4096
    assert reserve.ensure()


@pytest.mark.parametrize(("number", "raises"), [(errno.ENOSPC, False), (errno.EIO, True)])
def test_a_reserve_that_cannot_be_made_leaves_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int, raises: bool
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", fail)
    reserve = Reserve(path)
    if raises:
        with pytest.raises(OSError, match="Input/output"):
            reserve.ensure()
    else:
        assert not reserve.ensure()
    assert not reserve.file.exists()


class SmallDisk(sqlite3.Connection):
    """A ledger may have so many pages and no more, until the reserve is given up."""

    pages = 0

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        if sql == "BEGIN IMMEDIATE":
            super().execute(f"PRAGMA max_page_count = {self.pages}")
        return super().execute(sql, *args)


@pytest.fixture
def disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> type[SmallDisk]:
    opened(path)

    class ThisDisk(SmallDisk):
        pages = 60

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **options: connect(*args, factory=ThisDisk, **options))
    return ThisDisk


def test_a_full_disk_takes_the_reserve_and_the_same_commit_again(path: Path, disk: type[SmallDisk]) -> None:
    reserve = Reserve(path)
    reserve.ensure()
    released = []

    def make_room() -> bool:
        released.append(reserve.release())
        disk.pages = 120
        return released[-1]

    async def main() -> Pen:
        pen = Pen(path, make_room)
        with contextlib.suppress(LedgerFailed):
            while not pen.failures:
                await pen.write(numbered(), new_row(1, body=bytes(3000)))  # one commit each: a large one fails twice
        await pen.writer.close()
        return pen

    pen = asyncio.run(main())
    assert released == [True, False]  # the second time there was nothing left to give up
    assert "full" in str(pen.failures[0])
    answered = [row for answer in pen.answers for row in answer]
    assert len(answered) > 40
    assert read_all(path)[1:] == answered
    with LedgerReader(path) as reader:
        assert reader.verify().seq == len(answered) + 1
        assert reader.counters()["T"] == len(pen.answers)


def test_another_error_is_never_tried_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(path)
    commits = []

    class Failing(sqlite3.Connection):
        def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
            if sql == "COMMIT":
                commits.append(sql)
                error = sqlite3.OperationalError("disk I/O error")
                error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
                raise error
            return super().execute(sql, *args)

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **options: connect(*args, factory=Failing, **options))

    def make_room() -> bool:
        raise AssertionError("there is room")

    async def main() -> None:
        pen = Pen(path, make_room)
        pen.send(new_row(1))
        await pen.until(lambda: bool(pen.failures))
        await pen.writer.close()

    asyncio.run(main())
    assert commits == ["COMMIT"]
