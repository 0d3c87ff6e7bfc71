"""Reading the ledger: for the station itself and for any other process, while rows are being added.

Charter: one read-only connection. Every method is one short transaction that ends before it returns
(a reader that stayed in one would make the WAL grow without end), so results are pages, never
cursors. A reader belongs to the thread that opened it.

All methods raise ``LedgerDamaged`` or ``LedgerUnusable``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from agent.ledger import database, schema, tables
from agent.ledger.errors import ChainBroken, ChainFault, LedgerDamaged
from agent.ledger.kinds import TX_ENDED, TX_STARTED
from agent.ledger.rows import START, Head, Row, verify
from agent.ledger.state import Namespace

PAGE_MAX_ROWS: Final = 1000
_VERIFY_PAGE_ROWS: Final = 256


class LedgerReader:
    """A read-only view of the ledger at ``path``. Raises ``LedgerError`` if it cannot be opened."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = database.connect_for_reading(path)
        self.schema_version: int = self._select("PRAGMA user_version")[0][0]
        """Older than this software's only until ``open_ledger``, or in one that was set aside."""

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> LedgerReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def head(self) -> Head:
        """The last row's place. ``LedgerDamaged`` if there is none: every ledger has a first row."""
        return tables.head(self._connection, self._path)

    def rows(
        self, after_seq: int, limit: int, *, kinds: Sequence[str] | None = None, tx_id: str | None = None
    ) -> list[Row]:
        """Rows with seq > ``after_seq`` in order, at most ``limit`` (1 to ``PAGE_MAX_ROWS``)."""
        if not 1 <= limit <= PAGE_MAX_ROWS:
            raise ValueError(f"ledger page of {limit} rows: 1 to {PAGE_MAX_ROWS}")
        where, values = _where(after_seq, kinds, tx_id)
        # The inner query needs no bodies: within a transaction it is answered from the index alone.
        page = f"SELECT seq FROM ledger WHERE {where} ORDER BY seq LIMIT ?"
        found = self._select(
            f"SELECT {tables.COLUMNS} FROM ledger WHERE seq IN ({page}) ORDER BY seq", (*values, limit)
        )
        return [tables.row_of(columns) for columns in found]

    def count(self, after_seq: int = 0, *, kinds: Sequence[str] | None = None, tx_id: str | None = None) -> int:
        """How many rows ``rows`` would give in all its pages."""
        where, values = _where(after_seq, kinds, tx_id)
        return int(self._select(f"SELECT count(*) FROM ledger WHERE {where}", values)[0][0])

    def open_transactions(self, start_kind: str = TX_STARTED, end_kind: str = TX_ENDED) -> list[Row]:
        """The start rows of all transactions that have no end row, in order.

        At most ``PAGE_MAX_ROWS``, far more than any station has EVSEs. The kinds are those that the
        ledger knows; naming them is left over from when it knew none."""
        if (start_kind, end_kind) != (TX_STARTED, TX_ENDED):
            raise ValueError(f"transactions begin with {TX_STARTED} and end with {TX_ENDED}")
        found = self._select(
            f"SELECT {tables.COLUMNS} FROM ledger"
            " WHERE seq IN (SELECT begin_seq FROM tx WHERE end_seq IS NULL) ORDER BY seq LIMIT ?",
            (PAGE_MAX_ROWS,),
        )
        return [tables.row_of(columns) for columns in found]

    def counters(self) -> dict[str, int]:
        """The last number that each counter gave out; names with a dot are the ledger's own."""
        return dict(self._select("SELECT name, value FROM counter"))

    def state(self, namespace: Namespace) -> dict[str, str]:
        """All keys and values of a namespace."""
        return dict(self._select("SELECT key, value FROM state WHERE namespace = ?", (namespace,)))

    def verify(self, last: int | None = None) -> Head:
        """Check the chain: the ``last`` rows, or all of them. Returns the head.

        Raises ``ChainBroken``. Goes by pages; rows added meanwhile are checked too."""
        head = self.head()
        start = START
        if last is not None and head.seq > last:
            before = self.rows(head.seq - last - 1, 1)[0]
            if before.seq != head.seq - last:
                raise ChainBroken(head.seq - last, ChainFault.GAP, f"row {before.seq} stands in its place")
            start = Head(before.seq, before.hash)
        return verify(self._rows_after(start.seq), start)

    def check_file(self) -> None:
        """Check what the chain does not cover: pages, index, definitions. Raises ``LedgerDamaged``.

        SQLite's check takes the definitions as they stand: one damaged bit in the text of a trigger
        or a CHECK would pass it and refuse every row thereafter."""
        ((found,),) = self._select("PRAGMA integrity_check(1)")
        if found != "ok":
            raise LedgerDamaged(f"{self._path}: {found}")
        with database.typed_errors(self._path):
            found = schema.found_in(self._connection)
        if found != schema.expected(self.schema_version):
            raise LedgerDamaged(f"{self._path}: its tables or triggers are not defined as they were made")

    def _rows_after(self, seq: int) -> Iterator[Row]:
        while page := self.rows(seq, _VERIFY_PAGE_ROWS):
            yield from page
            seq = page[-1].seq

    def _select(self, query: str, values: Sequence[object] | dict[str, object] = ()) -> list[Any]:
        with database.typed_errors(self._path):
            return self._connection.execute(query, values).fetchall()


def _where(after_seq: int, kinds: Sequence[str] | None, tx_id: str | None) -> tuple[str, tuple[object, ...]]:
    where: list[str] = ["seq > ?"]
    values: list[object] = [after_seq]
    if tx_id is not None:
        where.append("tx_id = ?")
        values.append(tx_id)
    if kinds is not None:
        where.append(f"kind IN ({', '.join('?' * len(kinds))})")
        values.extend(kinds)
    return " AND ".join(where), tuple(values)
