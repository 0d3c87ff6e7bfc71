"""Counting what is there, and estimating what it costs the flash."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from agent.ledger import book
from agent.ledger.stats import Span, nand_bytes, stats_of
from tests.unit.ledger.making import Pen, new_row, numbered, opened, write
from tests.unit.ledger.test_retention import cut, order

DAY_MS = 86_400_000
START_MS = 1_764_000_000_000


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(book, "COUNTED_EVERY_COMMITS", 1)
    path = tmp_path / "ledger.db"
    opened(path)
    return path


def test_what_is_there_is_counted(path: Path) -> None:
    path.with_name("ledger.db.reserve").write_bytes(bytes(100))
    write(path, *(new_row(n) for n in range(50)), numbered())
    found = stats_of(path)
    assert (found.rows, found.rows_by_kind) == (52, {"genesis": 1, "meter": 50, "signed": 1})
    assert found.file_bytes[""] == path.stat().st_size
    assert found.file_bytes[".reserve"] == 100
    assert (found.oldest, found.newest.seq) == (Span(1, START_MS, "S"), 52)
    assert (found.cut_up_to_seq, found.free_page_bytes) == (None, 0)
    assert (found.commits, found.commits_per_day, found.estimated_nand_bytes_per_year) == (1, None, None)  # one alone
    assert found.committed_bytes > 50 * len(new_row(0).body)


def test_a_cut_leaves_free_pages(path: Path) -> None:
    write(path, *(new_row(n, body=bytes(4000)) for n in range(50)))
    cut(path, order(up_to=40))
    found = stats_of(path)
    assert (found.rows, found.cut_up_to_seq, found.oldest.seq) == (12, 40, 41)
    assert found.free_page_bytes > 30 * 4096


def test_a_cut_is_wear_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(path, *(new_row(n) for n in range(5)))
    before = stats_of(path)
    monkeypatch.setattr(book, "COUNTED_EVERY_COMMITS", 2)
    row = new_row(7)

    async def main() -> None:
        pen = Pen(path)
        done: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        pen.writer.cut(order(up_to=4), done.set_result)
        await pen.answer(done)
        await pen.write(row)
        await pen.writer.close()

    asyncio.run(main())
    after = stats_of(path)
    assert after.commits == before.commits + 2
    assert after.committed_bytes > before.committed_bytes + len(row.body) + 160 + 160, "the row of the cut as well"


@pytest.mark.parametrize("first", [{"wall_ms": 1, "time_status": "U"}, {"wall_ms": 0}, {"wall_ms": -1}])
def test_wear_counts_from_the_first_row_whose_time_is_known(path: Path, first: dict[str, Any]) -> None:
    write(path, new_row(0, **first))
    write(path, new_row(1, wall_ms=START_MS))
    write(path, new_row(2, wall_ms=START_MS + DAY_MS))
    assert stats_of(path).commits_per_day == 3.0


def test_rates_are_told_once_enough_time_has_passed(path: Path) -> None:
    write(path, numbered(wall_ms=START_MS))
    write(path, numbered(wall_ms=START_MS + DAY_MS // 2))
    found = stats_of(path)
    assert (found.commits, found.commits_per_day) == (2, 4.0)
    assert found.estimated_nand_bytes_per_year == 365 * 2 * nand_bytes(2, found.committed_bytes)
    write(path, new_row(0, wall_ms=5, time_status="U"))
    assert stats_of(path).commits_per_day is None


def test_the_model_says_what_the_reference_says() -> None:
    # Table in 4.2: a checkpoint every 10 s at 24 h use, 8900 commits a day, is 325 GB a year.
    per_year = 365 * nand_bytes(8_900, 8_900 * 600)
    assert 0.85 * 325e9 < per_year < 325e9


def test_wear_is_written_now_and_then_and_nothing_else_is_lost_by_a_power_cut(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(book, "COUNTED_EVERY_COMMITS", 4)
    image = path.with_name("image.db")

    async def main() -> None:
        pen = Pen(path)
        for number in range(10):
            await pen.write(new_row(number))
        for suffix in ("", "-wal"):
            shutil.copy(f"{path}{suffix}", f"{image}{suffix}")
        await pen.write(numbered())
        await pen.write(numbered())
        await pen.writer.close()

    asyncio.run(main())
    assert (stats_of(image).commits, stats_of(image).rows) == (8, 11)
    assert (stats_of(path).commits, stats_of(path).rows) == (12, 13)
