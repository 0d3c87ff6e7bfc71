"""Reading: pages, filters, open transactions, and beside a writer at work."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.ledger.errors import LedgerDamaged, LedgerUnusable
from agent.ledger.reader import PAGE_MAX_ROWS, LedgerReader
from tests.unit.ledger.making import Pen, new_row, opened, read_all, write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    opened(path)
    return path


def test_pages_and_filters(path: Path) -> None:
    write(path, *(new_row(n, "even" if n % 2 == 0 else "odd", tx_id=f"T{n // 4}") for n in range(12)))
    with LedgerReader(path) as reader:
        assert [row.seq for row in reader.rows(0, 5)] == [1, 2, 3, 4, 5]
        assert [row.seq for row in reader.rows(11, 5)] == [12, 13]
        assert reader.rows(13, 5) == []
        assert [row.seq for row in reader.rows(3, 3, kinds=["even"])] == [4, 6, 8]
        assert [row.seq for row in reader.rows(0, 9, kinds=["genesis", "odd"])] == [1, 3, 5, 7, 9, 11, 13]
        assert [row.seq for row in reader.rows(0, 9, kinds=[])] == []
        assert [row.seq for row in reader.rows(0, 9, tx_id="T1")] == [6, 7, 8, 9]
        assert [row.seq for row in reader.rows(6, 2, tx_id="T1")] == [7, 8]
        assert [row.seq for row in reader.rows(0, 9, tx_id="T1", kinds=["odd"])] == [7, 9]
        assert (reader.count(), reader.count(11), reader.count(3, kinds=["even"], tx_id="T1")) == (13, 2, 2)
        head = reader.head()
        assert (head.seq, head.hash) == (13, reader.rows(12, 1)[0].hash)


@pytest.mark.parametrize(
    ("index", "ask"),
    [
        ("ledger_rare", lambda reader: reader.rows(0, 5, kinds=["clock"])),
        ("ledger_rare", lambda reader: reader.newest_cut()),
        ("ledger_tx", lambda reader: reader.rows(7, 5, tx_id="T")),
        ("ledger_tx", lambda reader: reader.count(tx_id="T", kinds=["meter"])),
        ("tx_open", lambda reader: reader.open_transactions()),
        ("autoindex_tx", lambda reader: reader.find_tx("T")),
    ],
)
def test_what_is_asked_often_reads_no_whole_ledger(
    path: Path, index: str, ask: Callable[[LedgerReader], object]
) -> None:
    queries: list[str] = []
    with LedgerReader(path) as reader:
        reader._connection.set_trace_callback(queries.append)
        ask(reader)
        reader._connection.set_trace_callback(None)
        plan = " ".join(str(row) for query in queries for row in reader._select(f"EXPLAIN QUERY PLAN {query}"))
    assert index in plan
    assert "SCAN ledger" not in plan.replace("SCAN ledger USING INDEX ledger_rare", "")


@pytest.mark.parametrize("limit", [0, -1, PAGE_MAX_ROWS + 1])
def test_a_page_has_a_limit(path: Path, limit: int) -> None:
    with LedgerReader(path) as reader, pytest.raises(ValueError, match="page"):
        reader.rows(0, limit)


def test_open_transactions_are_those_started_and_not_ended(path: Path) -> None:
    write(
        path,
        new_row(1, "tx_started", tx_id="T-b", evse=1),
        new_row(2, "tx_started", tx_id="T-a", evse=2),
        new_row(3, "tx_started", tx_id="T-c", evse=3),
        *(new_row(n, "update", tx_id="T-a") for n in range(20)),
        new_row(4, "tx_ended", tx_id="T-b", evse=1),
        new_row(5, "update", tx_id="T-b"),  # a late row does not open it again
        new_row(6, "update", tx_id="T-x"),  # its start is not here
        new_row(7, "tx_started", tx_id="T-0", evse=1),
        new_row(8, "meter"),
    )
    with LedgerReader(path) as reader:
        assert [(row.tx_id, row.evse) for row in reader.open_transactions()] == [
            ("T-a", 2),
            ("T-c", 3),
            ("T-0", 1),
        ]


def test_no_transactions_at_all(path: Path) -> None:
    with LedgerReader(path) as reader:
        assert reader.open_transactions() == []


def test_a_reader_cannot_write(path: Path) -> None:
    with LedgerReader(path) as reader, pytest.raises(LedgerUnusable, match="readonly"):
        reader._select("DELETE FROM state")


def test_there_must_be_a_ledger(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnusable, match="unable to open"):
        LedgerReader(tmp_path / "none.db")
    assert list(tmp_path.iterdir()) == []
    other = tmp_path / "other.db"
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE t (x)")
    connection.close()
    with pytest.raises(LedgerDamaged, match="not a ledger"):
        LedgerReader(other)


def test_odd_names_are_only_names(tmp_path: Path) -> None:
    path = tmp_path / "a?mode=memory#%41.db"
    opened(path)
    write(path, new_row(1))
    assert len(read_all(path)) == 2
    assert path.exists()


def test_readers_see_whole_commits_while_the_writer_works(path: Path) -> None:
    async def main() -> None:
        pen = Pen(path)
        with LedgerReader(path) as reader:
            for number in range(30):
                await pen.write(new_row(0), new_row(1), new_row(2))
                assert reader.head().seq == 1 + 6 * number + 3  # an answered row can be read
                pen.send(new_row(3), new_row(4), new_row(5))
                assert reader.verify().seq % 3 == 1  # never a part of a commit
                await pen.until(lambda sent=2 * number + 2: len(pen.answers) == sent)  # type: ignore[misc]
        await pen.writer.close()

    asyncio.run(main())


@pytest.mark.wire
def test_another_process_reads_while_the_writer_works(path: Path) -> None:
    script = (
        "import pathlib, sys\n"
        "from agent.ledger.reader import LedgerReader\n"
        "with LedgerReader(pathlib.Path(sys.argv[1])) as reader:\n"
        "    print(reader.verify().seq)\n"
    )
    repository = Path(__file__).parents[3]

    async def main() -> int:
        pen = Pen(path)
        await pen.write(new_row(1))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, str(path), stdout=asyncio.subprocess.PIPE, cwd=repository
        )
        output = asyncio.create_task(process.communicate())
        sent = 0
        while not output.done():
            await pen.write(new_row(sent))
            sent += 1
        seen = int(output.result()[0])
        assert pen.failures == []
        await pen.writer.close()
        assert 2 <= seen <= 2 + sent
        return sent

    sent = asyncio.run(main())
    assert len(read_all(path)) == 2 + sent
