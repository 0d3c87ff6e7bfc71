"""The whole examination: the chain, and every table beside it against the chain.

Charter: collects what is wrong, one finding after the other, and goes on. Reads only, in constant
memory; takes as long as reading the file does. What only the makers of the bodies can know is asked
of them (``number_of``).
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from agent.ledger import schema
from agent.ledger.chain_check import ChainCheck, Cut, OnProgress, Select, newest_cut, numbers_after, start_of
from agent.ledger.errors import ChainBroken, ChainFault, LedgerDamaged
from agent.ledger.kinds import GENESIS, TARIFF, TX_ENDED, TX_STARTED
from agent.ledger.rows import Row
from agent.ledger.side_records import Witness

NumberOf = Callable[[Row], tuple[str, int] | None]
"""Which number of which counter a row has, if any."""

_FILE_FINDINGS_MAX: Final = 20
_TARIFF_PAGE: Final = 16  # up to 256 KiB each


class TableFault(enum.StrEnum):
    FILE = "file"  # pages, indexes, definitions
    NUMBER = "number"  # a counter, or a number that is left out or there twice
    TX = "tx"  # the table of transactions is not what the rows say
    TARIFF = "tariff"  # a tariff is not what its hash was made of, or came with no row


@dataclass(frozen=True, slots=True)
class Finding:
    """``seq`` is the row it is about, where it is about one."""

    fault: ChainFault | TableFault
    seq: int | None
    detail: str


_TX_COLUMNS: Final = "begin_seq, tx_id, evse, end_seq, receipt_seq"
_TX_WRONG: Final = f"""
    SELECT begin_seq, tx_id, 'is not what the rows say' FROM (
        SELECT {_TX_COLUMNS} FROM tx EXCEPT SELECT {_TX_COLUMNS} FROM ({schema.TX_FROM_LEDGER})
    )
    UNION ALL
    SELECT begin_seq, tx_id, 'is not known as the rows say' FROM (
        SELECT {_TX_COLUMNS} FROM ({schema.TX_FROM_LEDGER}) EXCEPT SELECT {_TX_COLUMNS} FROM tx
    )
"""

TX_DISAGREES: Final = f"""
    SELECT 1 FROM tx NOT INDEXED WHERE end_seq IS NULL
        AND begin_seq NOT IN (SELECT begin_seq FROM tx INDEXED BY tx_open WHERE end_seq IS NULL)
    UNION ALL
    SELECT 1 FROM tx INDEXED BY tx_open WHERE end_seq IS NULL AND NOT EXISTS (
        SELECT 1 FROM ledger WHERE seq = tx.begin_seq AND tx_id = tx.tx_id AND kind = '{TX_STARTED}'
    )
    UNION ALL
    SELECT 1 FROM ledger WHERE seq > :after_seq AND kind = '{TX_STARTED}' AND tx_id IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM tx WHERE tx_id = ledger.tx_id AND begin_seq <= ledger.seq
    )
    UNION ALL
    SELECT 1 FROM ledger JOIN tx ON tx.tx_id = ledger.tx_id
    WHERE seq > :after_seq AND kind = '{TX_ENDED}' AND begin_seq < seq AND (end_seq IS NULL OR end_seq > seq)
    LIMIT 1
"""
"""A quick look at what recovery rests on: finds something when it cannot be relied on."""


class Audit:
    """One examination, by queries of ``select`` on a ledger of that schema."""

    def __init__(
        self,
        select: Select,
        schema_version: int,
        witnesses: Callable[[], Sequence[Witness]],
        number_of: NumberOf | None,
        on_progress: OnProgress | None,
    ) -> None:
        self._select = select
        self._version = schema_version
        self._witnesses = witnesses
        self._numbers = _NumberCheck(number_of, select)
        self._on_row = None if number_of is None else self._numbers.look
        self._on_progress = on_progress

    def findings(self) -> Iterator[Finding]:
        """What cannot even be read is a finding, and the end of one part only."""
        parts = [self._file, self._rows]
        if self._version >= 2:
            parts += [self._counters, self._transactions, self._tariffs]
        for part in parts:
            try:
                yield from part()
            except LedgerDamaged as error:
                yield Finding(TableFault.FILE, None, str(error))

    def _file(self) -> Iterator[Finding]:
        if self._version < schema.VERSION:
            yield Finding(TableFault.FILE, None, f"schema {self._version}: it is older than {schema.VERSION}")
        found = self._select("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name", ())
        if not schema.is_as_made(found, self._version):
            yield Finding(TableFault.FILE, None, "its tables or triggers are not defined as they were made")
        for (said,) in self._select(f"PRAGMA integrity_check({_FILE_FINDINGS_MAX})", ()):
            if said != "ok":
                yield Finding(TableFault.FILE, None, said)
        if self._version >= 2 and self._select("SELECT 1 FROM cut", ()):
            yield Finding(TableFault.FILE, None, "rows may be deleted, as if a cut were being made")

    def _rows(self) -> Iterator[Finding]:
        start, wrong = start_of(self._select)
        for finding in wrong:
            yield Finding(finding.fault, finding.seq, finding.detail)
        head_seq = self._select("SELECT coalesce(max(seq), 0) FROM ledger", ())[0][0]
        chain = ChainCheck(self._select, self._witnesses(), self._on_progress, self._on_row)
        for finding in chain.walk(start, head_seq):
            yield Finding(finding.fault, finding.seq, finding.detail)
            yield from self._numbers.said()
        yield from self._numbers.said()

    def _counters(self) -> Iterator[Finding]:
        counters = dict(self._select("SELECT name, value FROM counter", ()))
        for name, last in self._numbers.last.items():
            if counters.get(name, 0) != last:
                detail = f"counter {name} stands at {counters.get(name, 0)}, the last number in a row is {last}"
                yield Finding(TableFault.NUMBER, None, detail)
        cut = self._newest_cut()
        for name, then in {} if cut is None else cut.counters.items():
            if counters.get(name, 0) < then:
                detail = f"counter {name} stands at {counters.get(name, 0)}, at the last cut it stood at {then}"
                yield Finding(TableFault.NUMBER, cut.seq if cut else None, detail)

    def _newest_cut(self) -> Cut | None:
        try:
            return newest_cut(self._select)
        except ChainBroken:  # told with the rows
            return None

    def _transactions(self) -> Iterator[Finding]:
        for begin_seq, tx_id, what in self._select(_TX_WRONG, ()):
            yield Finding(TableFault.TX, begin_seq, f"transaction {tx_id} {what}")

    def _tariffs(self) -> Iterator[Finding]:
        cut = self._newest_cut()
        cut_seq = 0 if cut is None else cut.last.seq
        rowid = 0
        page = "SELECT rowid, hash, tariff_id, seq, text FROM tariff WHERE rowid > ? ORDER BY rowid LIMIT ?"
        row = f"SELECT 1 FROM ledger WHERE seq = ? AND kind = '{TARIFF}'"
        while found := self._select(page, (rowid, _TARIFF_PAGE)):
            for rowid, content_hash, tariff_id, seq, text in found:  # noqa: B007
                if hashlib.sha256(text).digest() != content_hash:
                    yield Finding(TableFault.TARIFF, seq, f"tariff {tariff_id} is not what its hash was made of")
                if seq > cut_seq and not self._select(row, (seq,)):
                    yield Finding(TableFault.TARIFF, seq, f"tariff {tariff_id} came with no row")


class _NumberCheck:
    """The numbers of each counter must rise by one from row to row, from where the first row says that they begin."""

    def __init__(self, number_of: NumberOf | None, select: Select) -> None:
        self._number_of = number_of
        self._select = select
        self._next_seq = 1
        self._after: int | None = None  # None: the first row is gone, and nobody knows
        self._said: list[Finding] = []
        self.last: dict[str, int] = {}

    def look(self, row: Row) -> None:
        found = None if self._number_of is None else self._number_of(row)
        if row.seq == 1:
            self._after = numbers_after(row.body) if row.kind == GENESIS else 0
        elif row.seq != self._next_seq and self._select("SELECT min(seq) FROM ledger", ()) == [(row.seq,)]:
            self._after = None  # what was before is cut, perhaps only since we have begun
            self.last.clear()
        self._next_seq = row.seq + 1
        if found is None:
            return
        name, number = found
        before = self.last.get(name, number - 1 if self._after is None else self._after)
        if number != before + 1 and len(self._said) < _FILE_FINDINGS_MAX:
            detail = f"its number of counter {name} is {number}, {before + 1} was to come"
            self._said.append(Finding(TableFault.NUMBER, row.seq, detail))
        self.last[name] = number

    def said(self) -> Iterator[Finding]:
        yield from self._said
        self._said.clear()
