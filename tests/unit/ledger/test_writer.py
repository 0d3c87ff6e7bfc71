"""The writer: order, batches, laziness, and the one way it fails."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.ledger import database, writer
from agent.ledger.errors import LedgerError, LedgerFailed, SettingRefused
from agent.ledger.reader import LedgerReader
from agent.ledger.rows import BODY_MAX_BYTES
from agent.ledger.state import KEY_MAX_CHARS, VALUE_MAX_CHARS, Clear, Delete, Namespace, Put
from tests.unit.ledger.making import Pen, new_row, opened, read_all, write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    opened(path)
    return path


class Disk(sqlite3.Connection):
    """A connection whose commits can be held up, or fail as a failing disk makes them."""

    gate: threading.Event
    commits: int
    error: sqlite3.Error | None

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        if sql == "COMMIT":
            self.gate.wait(10)
            type(self).commits += 1
            if self.error is not None:
                raise self.error
        return super().execute(sql, *args)


@pytest.fixture
def disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> type[Disk]:
    """All connections made from here on."""

    class ThisDisk(Disk):
        gate = threading.Event()
        commits = 0
        error = None

    ThisDisk.gate.set()
    _use(ThisDisk, monkeypatch)
    return ThisDisk


def _use(factory: type[sqlite3.Connection], monkeypatch: pytest.MonkeyPatch) -> None:
    connect: Callable[..., sqlite3.Connection] = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **options: connect(*args, factory=factory, **options))


def test_rows_are_answered_in_order_as_they_stand_on_disk(path: Path) -> None:
    async def main() -> Pen:
        pen = Pen(path)
        for number in range(0, 60, 3):
            pen.send(*(new_row(number + k, tx_id="T", evse=k) for k in range(3)))
        assert pen.answers == []  # never from within append
        await pen.writer.close()
        return pen

    pen = asyncio.run(main())
    assert [row for answer in pen.answers for row in answer] == read_all(path)[1:]
    assert [row.body for row in read_all(path)[1:]] == [new_row(n).body for n in range(60)]
    assert pen.failures == []


def test_nothing_is_answered_before_the_commit_has_returned(disk: type[Disk], path: Path) -> None:
    async def main() -> None:
        pen = Pen(path)
        disk.gate.clear()
        pen.send(new_row(1))
        await asyncio.sleep(0.05)
        assert pen.answers == []
        disk.gate.set()
        await pen.until(lambda: len(pen.answers) == 1)
        await pen.writer.close()

    asyncio.run(main())


def test_what_came_together_shares_a_commit(disk: type[Disk], path: Path) -> None:
    async def main() -> None:
        pen = Pen(path)
        disk.gate.clear()
        pen.send(new_row(0))
        await asyncio.sleep(0.05)  # the writer is at its first commit now, or takes all in one
        for number in range(1, 100):
            pen.send(new_row(number))
        disk.gate.set()
        await pen.until(lambda: len(pen.answers) == 100)
        assert disk.commits <= 2
        await pen.writer.close()

    asyncio.run(main())
    assert len(read_all(path)) == 101


def test_state_changes_apply_in_order_and_last(path: Path) -> None:
    write(
        path,
        changes=[
            Put(Namespace.TOKEN, "a", "1"),
            Put(Namespace.TOKEN, "b", "2"),
            Put(Namespace.TOKEN, "b", "3"),
            Delete(Namespace.TOKEN, "a"),
            Delete(Namespace.TOKEN, "never there"),
            Put(Namespace.CURSOR, "a", "7"),
            Put(Namespace.SETTING, "é" * KEY_MAX_CHARS, "ü" * VALUE_MAX_CHARS),
        ],
    )
    opened(path)
    with LedgerReader(path) as reader:
        assert reader.state(Namespace.TOKEN) == {"b": "3"}
        assert reader.state(Namespace.CURSOR) == {"a": "7"}
        assert reader.state(Namespace.SETTING) == {"é" * KEY_MAX_CHARS: "ü" * VALUE_MAX_CHARS}
    write(path, changes=[Clear(Namespace.TOKEN)])
    with LedgerReader(path) as reader:
        assert reader.state(Namespace.TOKEN) == {}
        assert reader.state(Namespace.CURSOR) == {"a": "7"}


def test_lazy_changes_wait_but_not_for_long(disk: type[Disk], path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "LAZY_WAIT_S", 0.15)

    async def main() -> None:
        pen = Pen(path)
        for number in range(5):
            pen.send(changes=[Put(Namespace.CURSOR, "csms", str(number))], lazy=True)
            await asyncio.sleep(0.01)
        assert pen.answers == []
        await pen.until(lambda: len(pen.answers) == 5)
        assert disk.commits == 1
        await pen.writer.close()

    asyncio.run(main())
    with LedgerReader(path) as reader:
        assert reader.state(Namespace.CURSOR) == {"csms": "4"}


def test_lazy_changes_that_are_company_enough_wait_no_longer(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is well must not look like one that stands still."""
    monkeypatch.setattr(writer, "LAZY_WAIT_S", 3600.0)
    monkeypatch.setattr(writer, "LAZY_MAX", 10)

    async def main() -> None:
        pen = Pen(path)
        for number in range(10):
            await asyncio.sleep(0.002)
            assert pen.answers == []
            pen.send(changes=[Put(Namespace.CURSOR, "csms", str(number))], lazy=True)
        await pen.until(lambda: len(pen.answers) == 10)
        await pen.writer.close()

    asyncio.run(main())


def test_a_row_takes_the_lazy_changes_along_at_once(
    disk: type[Disk], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "LAZY_WAIT_S", 3600.0)

    async def main() -> None:
        pen = Pen(path)
        pen.send(changes=[Put(Namespace.CURSOR, "csms", "1")], lazy=True)
        await pen.write(new_row(1))
        assert [len(answer) for answer in pen.answers] == [0, 1]
        assert disk.commits == 1
        pen.send(changes=[Put(Namespace.CURSOR, "csms", "2")], lazy=True)
        await pen.writer.close()  # nor does closing leave it behind
        assert len(pen.answers) == 3

    asyncio.run(main())
    with LedgerReader(path) as reader:
        assert reader.state(Namespace.CURSOR) == {"csms": "2"}


def test_a_lazy_change_does_not_hold_up_the_row_before_it(
    disk: type[Disk], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "LAZY_WAIT_S", 3600.0)

    async def main() -> None:
        pen = Pen(path)
        disk.gate.clear()
        pen.send(new_row(1))
        await asyncio.sleep(0.05)  # the writer is at its first commit: the next two wait together
        pen.send(new_row(2))
        pen.send(changes=[Put(Namespace.CURSOR, "csms", "1")], lazy=True)
        disk.gate.set()
        await pen.until(lambda: len(pen.answers) == 3)
        await pen.writer.close()

    asyncio.run(main())


def test_nothing_to_keep_but_somebody_who_waits_for_what_was_appended_before(path: Path, disk: type[Disk]) -> None:
    async def main() -> None:
        pen = Pen(path)
        disk.gate.clear()
        told: list[int] = []
        pen.writer.append([new_row(1)], (), lambda rows: told.append(len(rows)))
        pen.writer.append(on_durable=lambda rows: told.append(len(rows)))
        await asyncio.sleep(0.05)
        assert told == []
        disk.gate.set()
        await pen.until(lambda: len(told) == 2)
        assert told == [1, 0]
        await pen.writer.close()

    asyncio.run(main())


def test_wrong_calls_are_refused_without_harm(path: Path) -> None:
    async def main() -> None:
        pen = Pen(path)
        with pytest.raises(ValueError, match="rows are never lazy"):
            pen.writer.append([new_row()], lazy=True)
        with pytest.raises(ValueError, match="nothing to keep"):
            pen.writer.append()
        with pytest.raises(ValueError, match="state token: value"):
            Put(Namespace.TOKEN, "a", "x" * (VALUE_MAX_CHARS + 1))
        with pytest.raises(ValueError, match="state token: key"):
            Delete(Namespace.TOKEN, "a\0b")
        with pytest.raises(ValueError, match="not storable"):
            Put(Namespace.TOKEN, "a", "\ud800")
        await pen.write(new_row(1, body=bytes(BODY_MAX_BYTES), evse=-(2**63)))
        await pen.writer.close()
        with pytest.raises(RuntimeError, match="closed"):
            pen.send(new_row(2))
        assert pen.failures == []

    asyncio.run(main())


def test_a_full_queue_takes_nothing_and_loses_nothing(
    disk: type[Disk], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "QUEUE_MAX", 50)

    async def main() -> None:
        pen = Pen(path)
        disk.gate.clear()
        taken = 0
        with pytest.raises(LedgerFailed, match="waiting for the disk"):
            while taken <= 2 * writer.QUEUE_MAX:
                pen.send(new_row(taken))
                taken += 1
        assert writer.QUEUE_MAX <= taken <= 2 * writer.QUEUE_MAX
        disk.gate.set()
        await pen.until(lambda: len(pen.answers) == taken)
        await pen.write(new_row(taken))  # it did not fail: it was slow
        await pen.writer.close()

    asyncio.run(main())


def test_a_failed_flush_ends_the_ledger_once_and_for_all(disk: type[Disk], path: Path) -> None:
    wal = path.with_name("ledger.db-wal")

    async def main() -> None:
        pen = Pen(path)
        await pen.write(new_row(1), changes=[Put(Namespace.CURSOR, "n", "1")])
        disk.error = sqlite3.OperationalError("disk I/O error")
        main_file = path.read_bytes()
        disk.gate.clear()
        for number in range(2, 5):
            pen.send(new_row(number), changes=[Put(Namespace.CURSOR, "n", str(number))])
        disk.gate.set()
        await pen.until(lambda: bool(pen.failures))
        with pytest.raises(LedgerFailed, match="disk I/O error"):
            pen.send(new_row(9))
        await pen.writer.close()
        assert disk.commits == 2  # no second try
        assert len(pen.failures) == 1
        assert len(pen.answers) == 1
        # Nothing was copied from the WAL whose flush failed.
        assert wal.stat().st_size > 0
        assert path.read_bytes() == main_file

    asyncio.run(main())
    disk.error = None
    assert opened(path).damaged is None
    assert [row.body for row in read_all(path)[1:]] == [new_row(1).body]
    with LedgerReader(path) as reader:
        assert reader.state(Namespace.CURSOR) == {"n": "1"}


def test_a_full_disk_fails_cleanly(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class SmallDisk(sqlite3.Connection):
        def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
            if sql == "BEGIN IMMEDIATE":
                super().execute("PRAGMA max_page_count = 40")
            return super().execute(sql, *args)

    _use(SmallDisk, monkeypatch)

    async def main() -> Pen:
        pen = Pen(path)
        number = 0
        while not pen.failures and number < 1000:
            number += 1
            try:
                pen.send(new_row(number, body=bytes(1000)), changes=[Put(Namespace.CURSOR, "n", str(number))])
            except LedgerFailed:
                break
            await asyncio.sleep(0.001)
        await pen.until(lambda: bool(pen.failures))
        await pen.writer.close()
        return pen

    pen = asyncio.run(main())
    assert "full" in str(pen.failures[0])
    monkeypatch.undo()
    answered = [row for answer in pen.answers for row in answer]
    assert len(answered) > 10
    assert opened(path).damaged is None
    assert read_all(path)[1:] == answered
    with LedgerReader(path) as reader:
        assert reader.state(Namespace.CURSOR) == {"n": str(len(answered))}


def test_our_own_mistake_in_the_thread_ends_the_ledger_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crashes: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", crashes.append)

    async def main() -> Pen:
        pen = Pen(path)
        pen.writer.append([], [None])  # type: ignore[list-item]
        pen.writer.append([None])  # type: ignore[list-item]
        await pen.until(lambda: bool(pen.failures))
        await pen.writer.close()
        return pen

    pen = asyncio.run(main())
    assert len(pen.failures) == 1
    assert crashes[0].exc_type is TypeError


def test_a_second_writer_cannot_fork_the_chain(path: Path) -> None:
    async def main() -> None:
        first, second = Pen(path), Pen(path)
        await first.write(new_row(1))
        second.send(new_row(2))
        await second.until(lambda: bool(second.failures))
        assert "only added at the end" in str(second.failures[0])
        await first.write(new_row(3))
        await second.writer.close()
        await first.writer.close()

    asyncio.run(main())
    assert [row.body for row in read_all(path)[1:]] == [new_row(1).body, new_row(3).body]


def test_checkpoints_keep_the_wal_short_and_closing_leaves_one_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "CHECKPOINT_ROWS", 20)
    wal = path.with_name("ledger.db-wal")

    async def main() -> None:
        pen = Pen(path)
        for number in range(100):
            await pen.write(new_row(number, body=bytes(1000)))
        assert wal.stat().st_size < 100 * 4096
        await pen.writer.close()

    asyncio.run(main())
    assert not wal.exists()
    assert len(read_all(path)) == 101


def test_runs_that_end_abruptly_do_not_make_the_wal_grow_for_ever(path: Path, tmp_path: Path) -> None:
    async def run_and_lose_power(path: Path, left: Path) -> None:
        pen = Pen(path)
        for number in range(10):
            await pen.write(new_row(number, body=bytes(1000)))
        left.mkdir()
        for name in ("ledger.db", "ledger.db-wal"):
            shutil.copy(path.with_name(name), left)
        await pen.writer.close()

    sizes = []
    for run in range(10):
        left = tmp_path / f"after run {run}"
        asyncio.run(run_and_lose_power(path, left))
        path = left / "ledger.db"
        sizes.append(path.with_name("ledger.db-wal").stat().st_size)
    assert max(sizes) < 2 * sizes[0], sizes
    assert len(read_all(path)) == 101


@pytest.mark.parametrize("setting", ["synchronous", "trusted_schema", "cell_size_check", "foreign_keys"])
def test_a_setting_that_does_not_hold_is_fatal(path: Path, monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    class Deaf(sqlite3.Connection):
        def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
            value = "ON" if setting == "trusted_schema" else "OFF"
            return super().execute(f"PRAGMA {setting} = {value}" if sql.startswith(f"PRAGMA {setting} =") else sql)

    _use(Deaf, monkeypatch)
    for connect in (database.connect_for_writing, database.connect_for_reading):
        with pytest.raises(SettingRefused, match=setting):
            connect(path)
    with pytest.raises(SettingRefused, match=setting):
        database.create(path.with_name("other.db"))
    with pytest.raises(LedgerError):
        asyncio.run(_open_pen(path))


async def _open_pen(path: Path) -> None:
    Pen(path)
