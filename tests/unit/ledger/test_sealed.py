"""Rows that are made in the writer's transaction: their places, their numbers, and what goes wrong."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from agent.ledger.errors import LedgerFailed
from agent.ledger.reader import LedgerReader
from agent.ledger.rows import BODY_MAX_BYTES, NewRow, Sealed
from agent.ledger.side_records import PutTariff
from tests.unit.ledger.making import Pen, new_row, numbered, opened, read_all, sealed_row, write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    opened(path)
    return path


def counters(path: Path) -> dict[str, int]:
    with LedgerReader(path) as reader:
        return {name: value for name, value in reader.counters().items() if "." not in name}


def numbers(path: Path, kind: str = "signed") -> list[int]:
    return [json.loads(row.body)["number"] for row in read_all(path) if row.kind == kind]


def test_a_body_is_made_for_its_place(path: Path) -> None:
    write(path, new_row(1), numbered(), new_row(2), numbered(), numbered("receipt"))
    rows = read_all(path)
    for row in (rows[2], rows[4], rows[5]):
        body = json.loads(row.body)
        assert (body["seq"], body["prev"]) == (row.seq, row.prev_hash.hex()) == (row.seq, rows[row.seq - 2].hash.hex())
    assert numbers(path) == [1, 2, 1]
    assert counters(path) == {"T": 2, "receipt": 1}
    with LedgerReader(path) as reader:
        assert reader.verify().seq == 6


def test_without_a_counter_there_is_no_number(path: Path) -> None:
    write(path, sealed_row(lambda slot: repr(slot.number).encode()))
    assert read_all(path)[1].body == b"None"
    assert counters(path) == {}


def test_numbers_go_on_over_jobs_commits_and_restarts(path: Path) -> None:
    async def run() -> None:
        pen = Pen(path)
        for _ in range(5):
            pen.send(numbered(), numbered())
            pen.send(numbered("F", kind="fiscal"))
        await pen.writer.close()
        assert [len(answer) for answer in pen.answers] == [2, 1] * 5

    for _ in range(3):
        assert opened(path).damaged is None
        asyncio.run(run())
    assert numbers(path) == list(range(1, 31))
    assert numbers(path, "fiscal") == list(range(1, 16))
    assert counters(path) == {"T": 30, "F": 15}


def test_it_is_made_in_the_writers_thread(path: Path) -> None:
    threads: list[str] = []

    def make(_: object) -> bytes:
        threads.append(threading.current_thread().name)
        return b""

    write(path, sealed_row(make))
    assert threads == ["ledger-writer"]


@pytest.mark.parametrize("made", [RuntimeError("no key"), "text", bytes(BODY_MAX_BYTES + 1)])
def test_what_cannot_be_made_ends_the_ledger_and_uses_up_no_number(
    path: Path, monkeypatch: pytest.MonkeyPatch, made: object
) -> None:
    crashes: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", crashes.append)

    def make(_: object) -> Any:
        if isinstance(made, Exception):
            raise made
        return made

    async def main() -> Pen:
        pen = Pen(path)
        await pen.write(numbered())
        pen.send(new_row(1), numbered(), sealed_row(make, counter="T"))
        await pen.until(lambda: bool(pen.failures))
        with pytest.raises(LedgerFailed):
            pen.send(numbered())
        await pen.writer.close()
        return pen

    pen = asyncio.run(main())
    assert len(pen.answers) == len(crashes) == 1
    assert numbers(path) == [1]
    write(path, numbered())
    assert numbers(path) == [1, 2]
    assert counters(path) == {"T": 2}


def test_another_row_takes_the_place_of_one_that_cannot_be_made_and_no_number_is_used_up(path: Path) -> None:
    def make(_: object) -> bytes:
        raise ValueError("no room for the number")

    def instead(error: Exception) -> NewRow:
        return new_row(kind="log", body=str(error).encode())

    write(path, numbered(), sealed_row(make, counter="T", instead=instead), new_row(1), numbered())
    write(path, sealed_row(make, counter="F", instead=instead))
    rows = read_all(path)
    assert [row.kind for row in rows] == ["genesis", "signed", "log", "meter", "signed", "log"]
    assert rows[2].body == b"no room for the number"
    assert numbers(path) == [1, 2]
    assert counters(path) == {"T": 2}
    with LedgerReader(path) as reader:
        assert reader.verify().seq == 6


def test_a_commit_that_failed_used_up_no_number(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(sqlite3.Connection):
        fails = False

        def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
            if sql == "COMMIT" and type(self).fails:
                raise sqlite3.OperationalError("disk I/O error")
            return super().execute(sql, *args)

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **options: connect(*args, factory=Failing, **options))

    async def main() -> None:
        pen = Pen(path)
        await pen.write(numbered())
        Failing.fails = True
        pen.send(numbered(), numbered())
        await pen.until(lambda: bool(pen.failures))
        await pen.writer.close()

    asyncio.run(main())
    Failing.fails = False
    write(path, numbered())
    assert numbers(path) == [1, 2]


@pytest.mark.parametrize("change", [{"kind": "Tx"}, {"boot_id": ""}, {"tx_id": "ü"}, {"mono_ms": 2**63}])
def test_wrong_fields_are_refused_at_the_callers_own_call(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"ledger row {next(iter(change))}"):
        sealed_row(lambda _: b"", **change)


@pytest.mark.parametrize("name", ["", "ledger.commits", "x" * 33, "ü", "1T"])
def test_a_counter_has_a_name(name: str) -> None:
    with pytest.raises(ValueError, match="ledger row counter"):
        Sealed("signed", lambda _: b"", "boot", 0, 0, "S", counter=name)


def test_a_tariff_needs_its_row(path: Path) -> None:
    async def main() -> None:
        pen = Pen(path)
        with pytest.raises(ValueError, match="1 tariffs"):
            pen.send(new_row(1), changes=[PutTariff("T", "csms", b"{}")])
        await pen.write(new_row(1))
        await pen.writer.close()

    asyncio.run(main())
