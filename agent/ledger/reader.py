"""Reading the ledger: for the station itself and for any other process, while rows are being added.

Charter: one read-only connection. Every method is one short transaction that ends before it returns
(a reader that stayed in one would make the WAL grow without end), so results are pages, never
cursors. A reader belongs to the thread that opened it.

All methods raise ``LedgerDamaged`` or ``LedgerUnusable``.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from agent.ledger import database, schema, tables
from agent.ledger.audit import TX_DISAGREES, Audit, Finding, NumberOf
from agent.ledger.chain_check import ChainCheck, ChainFinding, Cut, OnProgress, newest_cut, start_of
from agent.ledger.errors import ChainBroken, ChainFault, LedgerDamaged
from agent.ledger.kinds import FREQUENT
from agent.ledger.rows import Head, Row
from agent.ledger.side_records import Meter, SigningKey, Tariff, Transaction, Witness
from agent.ledger.state import Namespace

PAGE_MAX_ROWS: Final = 1000
WHOLE_CHECK_MAX_BYTES: Final = 32 * 1024 * 1024
"""SQLite checks files up to this size as a whole at every start."""

_AFTER_ALL: Final = 2**63 - 1
_TRANSACTIONS: Final = "SELECT tx_id, evse, begin_seq, end_seq, receipt_seq FROM tx"
_STATE_OF_TX: Final = "SELECT key, value FROM state WHERE namespace = ?"
_RUNS_ON: Final = "EXISTS (SELECT 1 FROM tx WHERE tx_id = state.key AND (end_seq IS NULL OR end_seq > ?))"
_TARIFFS: Final = "SELECT hash, tariff_id, source, seq, text FROM tariff"


class LedgerReader:
    """A read-only view of the ledger at ``path``. Raises ``LedgerError`` if it cannot be opened."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = database.connect_for_reading(path)
        self.schema_version: int = self._select("PRAGMA user_version")[0][0]
        """Older than this software's only until ``open_ledger``, or in one that was set aside; newer only after a
        rollback."""

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
        self,
        after_seq: int,
        limit: int,
        *,
        kinds: Sequence[str] | None = None,
        tx_id: str | None = None,
        newest: bool = False,
    ) -> list[Row]:
        """Rows with seq > ``after_seq`` in order, at most ``limit`` (1 to ``PAGE_MAX_ROWS``): the first of them, or
        the ``newest``."""
        _check_limit(limit)
        where, values = _where(after_seq, kinds, tx_id)
        # The inner query needs no bodies: within a transaction it is answered from the index alone.
        page = f"SELECT seq FROM ledger WHERE {where} ORDER BY seq {'DESC' if newest else 'ASC'} LIMIT ?"
        found = self._select(
            f"SELECT {tables.COLUMNS} FROM ledger WHERE seq IN ({page}) ORDER BY seq", (*values, limit)
        )
        return [tables.row_of(columns) for columns in found]

    def count(
        self,
        after_seq: int = 0,
        *,
        kinds: Sequence[str] | None = None,
        tx_id: str | None = None,
        limit: int = _AFTER_ALL,
    ) -> int:
        """How many rows ``rows`` would give in all its pages, or ``limit`` of them if there are more."""
        where, values = _where(after_seq, kinds, tx_id)
        found = self._select(f"SELECT count(*) FROM (SELECT 1 FROM ledger WHERE {where} LIMIT ?)", (*values, limit))
        return int(found[0][0])

    def open_transactions(self) -> list[Row]:
        """The start rows of all transactions that have no end row, in order.

        At most ``PAGE_MAX_ROWS``, far more than any station has EVSEs."""
        found = self._select(
            f"SELECT {tables.COLUMNS} FROM ledger"
            " WHERE seq IN (SELECT begin_seq FROM tx WHERE end_seq IS NULL) ORDER BY seq LIMIT ?",
            (PAGE_MAX_ROWS,),
        )
        return [tables.row_of(columns) for columns in found]

    def begun_and_not_ended(self, seq: int) -> list[str]:
        """The transactions that had begun at row ``seq`` and not ended yet, the first ``PAGE_MAX_ROWS`` of them."""
        query = "SELECT tx_id FROM tx WHERE begin_seq <= ? AND (end_seq IS NULL OR end_seq > ?) LIMIT ?"
        return [tx_id for (tx_id,) in self._select(query, (seq, seq, PAGE_MAX_ROWS))]

    def transactions(self, after_seq: int, limit: int) -> list[Transaction]:
        """Transactions that began after row ``after_seq``, in that order; 1 to ``PAGE_MAX_ROWS`` of them."""
        _check_limit(limit)
        found = self._select(f"{_TRANSACTIONS} WHERE begin_seq > ? ORDER BY begin_seq LIMIT ?", (after_seq, limit))
        return [Transaction(*columns) for columns in found]

    def newest_transactions(self, before_seq: int | None, limit: int) -> list[Transaction]:
        """Those that began before row ``before_seq`` (None: all), the newest first; 1 to ``PAGE_MAX_ROWS`` of them."""
        _check_limit(limit)
        query = f"{_TRANSACTIONS} WHERE begin_seq < ? ORDER BY begin_seq DESC LIMIT ?"
        return [Transaction(*columns) for columns in self._select(query, (before_seq or _AFTER_ALL, limit))]

    def transaction(self, tx_id: str) -> Transaction | None:
        found = self._select(f"{_TRANSACTIONS} WHERE tx_id = ?", (tx_id,))
        return Transaction(*found[0]) if found else None

    def find_tx(self, prefix: str, limit: int = 10) -> list[Transaction]:
        """Transactions whose id begins like this, by id: what a person types is seldom all of it."""
        _check_limit(limit)
        # A range instead of GLOB or LIKE: it takes the index, and no character of the prefix is special.
        last = prefix + "\U0010ffff"
        found = self._select(
            f"{_TRANSACTIONS} WHERE tx_id >= ? AND tx_id <= ? ORDER BY tx_id LIMIT ?", (prefix, last, limit)
        )
        return [Transaction(*columns) for columns in found]

    def counters(self) -> dict[str, int]:
        """The last number that each counter gave out; names with a dot are the ledger's own."""
        return dict(self._select("SELECT name, value FROM counter ORDER BY name"))

    def rows_by_kind(self) -> dict[str, int]:
        """Reads the whole file."""
        return dict(self._select("SELECT kind, count(*) FROM ledger GROUP BY kind ORDER BY kind"))

    def free_page_bytes(self) -> int:
        """What cuts have freed inside the file; it is used before the file grows."""
        ((pages,),), ((page_bytes,),) = self._select("PRAGMA freelist_count"), self._select("PRAGMA page_size")
        return int(pages * page_bytes)

    def tariff(self, content_hash: bytes) -> Tariff | None:
        found = self._select(f"{_TARIFFS} WHERE hash = ?", (content_hash,))
        return Tariff(*found[0]) if found else None

    def tariffs(self, after_seq: int, limit: int) -> list[Tariff]:
        """By the row that brought them; 1 to ``PAGE_MAX_ROWS``."""
        _check_limit(limit)
        found = self._select(f"{_TARIFFS} WHERE seq > ? ORDER BY seq LIMIT ?", (after_seq, limit))
        return [Tariff(*columns) for columns in found]

    def signing_keys(self) -> list[SigningKey]:
        """All keys there ever were, in order of their first rows."""
        found = self._select("SELECT key_id, public_der, from_seq FROM signing_key ORDER BY from_seq, key_id")
        return [SigningKey(*columns) for columns in found]

    def meters(self) -> list[Meter]:
        """All meters there ever were, in order of their first rows."""
        found = self._select("SELECT evse, serial, key_id, from_seq, to_seq FROM meter ORDER BY rowid")
        return [Meter(*columns) for columns in found]

    def witnesses(self) -> list[Witness]:
        """The newest, at most ``tables.WITNESSES_MAX``, by the rows they know."""
        if self.schema_version < 2:
            return []
        found = self._select("SELECT seq, head_hash, name, wall_ms FROM witness ORDER BY seq, name")
        try:
            return [Witness(*columns) for columns in found]
        except ValueError as error:
            raise LedgerDamaged(f"{self._path}: {error}") from error

    def newest_cut(self) -> Cut | None:
        """What was removed last from the beginning, if anything was."""
        return newest_cut(self._select)

    def state(self, namespace: Namespace) -> dict[str, str]:
        """All keys and values of a namespace."""
        return dict(self._select("SELECT key, value FROM state WHERE namespace = ?", (namespace,)))

    def state_is_sound(self) -> bool:
        """Whether SQLite finds nothing wrong with the table of all that ``state`` reads."""
        return self._select("PRAGMA integrity_check(state)") == [("ok",)]

    def state_of_running(self, namespace: Namespace, after_seq: int) -> dict[str, str]:
        """Of a namespace whose keys are transactions, what concerns those that did not end up to row ``after_seq``."""
        return dict(self._select(f"{_STATE_OF_TX} AND {_RUNS_ON}", (namespace, after_seq)))

    def state_of_ended(self, namespace: Namespace, up_to_seq: int, limit: int) -> list[str]:
        """Keys of such a namespace whose transactions ended up to row ``up_to_seq``, or are in no row any more; 1 to
        ``PAGE_MAX_ROWS`` of them."""
        _check_limit(limit)
        found = self._select(f"{_STATE_OF_TX} AND NOT {_RUNS_ON} ORDER BY key LIMIT ?", (namespace, up_to_seq, limit))
        return [key for key, _ in found]

    # ------------------------------------------------------------------------------------- checking

    def verify(
        self, last: int | None = None, *, witnesses: Sequence[Witness] = (), on_progress: OnProgress | None = None
    ) -> Head:
        """Check the chain: the ``last`` rows, or all of them, also across a cut. Returns the head.

        The chain must hold every witness kept here, and those that the caller knows of: only a witness
        kept elsewhere can tell that the whole file is an old one. Raises ``ChainBroken`` for the first
        thing that is wrong. Goes by pages; rows added meanwhile are checked too."""
        head = self.head()
        start, findings = self._start(head, last)
        check = ChainCheck(self._select, [*self.witnesses(), *witnesses], on_progress)
        for finding in itertools.chain(findings, check.walk(start, head.seq)):
            raise ChainBroken(finding.seq, finding.fault, finding.detail)
        return check.head

    def _start(self, head: Head, last: int | None) -> tuple[Head, list[ChainFinding]]:
        if last is None or head.seq <= last:
            return start_of(self._select)
        before_seq = head.seq - last
        (first_seq,) = self._select("SELECT min(seq) FROM ledger")[0]
        if first_seq > before_seq:
            return start_of(self._select)
        before = self.rows(before_seq - 1, 1)[0]
        if before.seq != before_seq:
            raise ChainBroken(before_seq, ChainFault.GAP, f"row {before.seq} stands in its place")
        return Head(before.seq, before.hash), []

    def audit(
        self,
        *,
        witnesses: Sequence[Witness] = (),
        number_of: NumberOf | None = None,
        on_progress: OnProgress | None = None,
        findings_max: int = 100,
    ) -> list[Finding]:
        """Everything that can be checked, and all that is wrong with it, up to ``findings_max``.

        ``number_of`` tells which number of which counter is in a row; without it only the counters
        themselves are looked at. Reads the whole file, in constant memory."""

        def all_witnesses() -> list[Witness]:
            return [*self.witnesses(), *witnesses]

        audit = Audit(self._select, self.schema_version, all_witnesses, number_of, on_progress)
        return list(itertools.islice(audit.findings(), findings_max))

    def check_file(self) -> None:
        """Check what the chain does not cover: definitions, pages, indexes. Raises ``LedgerDamaged``.

        SQLite's check takes the definitions as they stand: one damaged bit in the text of a trigger
        or a CHECK would pass it and refuse every row thereafter. It reads every page, so at a start
        large files go without: there the chain's end and the transactions are checked, and ``audit``
        does the rest when there is time."""
        with database.typed_errors(self._path):
            found = schema.found_in(self._connection)
        if not schema.is_as_made(found, self.schema_version):
            raise LedgerDamaged(f"{self._path}: its tables or triggers are not defined as they were made")
        ((pages,),), ((page_bytes,),) = self._select("PRAGMA page_count"), self._select("PRAGMA page_size")
        if pages * page_bytes <= WHOLE_CHECK_MAX_BYTES:
            ((said,),) = self._select("PRAGMA integrity_check(1)")
            if said != "ok":
                raise LedgerDamaged(f"{self._path}: {said}")

    def transactions_agree(self, last: int) -> bool:
        """Whether what is known of open transactions is what the ``last`` rows say, and the rows they
        begin with. ``audit`` compares all of them."""
        if self.schema_version < 2:
            return True
        after_seq = self.head().seq - last
        return not self._select(TX_DISAGREES, {"after_seq": after_seq})

    def _select(self, query: str, values: Sequence[object] | dict[str, object] = ()) -> list[Any]:
        with database.typed_errors(self._path):
            return self._connection.execute(query, values).fetchall()


def _check_limit(limit: int) -> None:
    if not 1 <= limit <= PAGE_MAX_ROWS:
        raise ValueError(f"ledger page of {limit} rows: 1 to {PAGE_MAX_ROWS}")


def _where(after_seq: int, kinds: Sequence[str] | None, tx_id: str | None) -> tuple[str, tuple[object, ...]]:
    where: list[str] = ["seq > ?"]
    values: list[object] = [after_seq]
    if tx_id is not None:
        where.append("tx_id = ?")
        values.append(tx_id)
    if kinds is not None:
        where.append(f"kind IN ({', '.join('?' * len(kinds))})")
        values.extend(kinds)
        if tx_id is None and not set(kinds) & set(FREQUENT):
            where.append(schema.NOT_FREQUENT)  # true already; it names the index
    return " AND ".join(where), tuple(values)
