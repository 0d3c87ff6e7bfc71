"""Walking the chain: from its first row or a cut, past every witness, to the head.

Charter: reads rows by pages and says what is wrong with them; constant memory, however many there
are. Rows that are added or cut meanwhile do no harm. Nothing is changed or repaired.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agent.ledger import tables
from agent.ledger.errors import ChainBroken, ChainFault
from agent.ledger.kinds import CUT
from agent.ledger.rows import START, Head, Row, hash_of_columns
from agent.ledger.schema import NOT_FREQUENT
from agent.ledger.side_records import Witness

_PAGE_ROWS: Final = 256
_PAGE: Final = f"SELECT {tables.COLUMNS} FROM ledger WHERE seq > ? ORDER BY seq LIMIT ?"
_FIRST: Final = "SELECT seq, prev_hash FROM ledger ORDER BY seq LIMIT 1"
_NEWEST_CUT: Final = f"SELECT seq, body FROM ledger WHERE kind = '{CUT}' AND {NOT_FREQUENT} ORDER BY seq DESC LIMIT 1"

Select = Callable[[str, Sequence[object]], list[Any]]
"""A query and its values; all that it finds, or ``LedgerDamaged``, ``LedgerUnusable``."""

OnProgress = Callable[[int, int], None]
"""(rows done, rows there are)"""

OnRow = Callable[[Row], None]


@dataclass(frozen=True, slots=True)
class Cut:
    """What a cut row says: ``seq`` is its own place, ``last`` the last row that was removed. The counters
    are as they stood then. ``genesis_hash`` is row 1's, handed on from cut to cut: which ledger this is."""

    seq: int
    last: Head
    rows: int
    transactions: int
    counters: dict[str, int]
    genesis_hash: bytes


@dataclass(frozen=True, slots=True)
class ChainFinding:
    seq: int
    fault: ChainFault
    detail: str


def newest_cut(select: Select) -> Cut | None:
    """Raises ``ChainBroken`` for a cut row that says nothing sensible."""
    found = select(_NEWEST_CUT, ())
    if not found:
        return None
    seq, body = found[0]
    try:
        facts = json.loads(body)
        return Cut(
            seq,
            Head(int(facts["last_seq"]), bytes.fromhex(facts["last_hash"])),
            facts["rows"],
            facts["transactions"],
            dict(facts["counters"]),
            bytes.fromhex(facts["genesis_hash"]),
        )
    except (ValueError, TypeError, KeyError) as error:
        raise ChainBroken(seq, ChainFault.CONTENT, f"it is no cut that can be read: {error!r}") from error


def numbers_after(genesis_body: bytes) -> int:
    """After which number a first row says that the counters begin; 0 where it says nothing of it."""
    try:
        return int(json.loads(genesis_body)["numbers_after"])
    except (ValueError, TypeError, KeyError):
        return 0


def start_of(select: Select) -> tuple[Head, list[ChainFinding]]:
    """What the first row there is must follow, and what is wrong with that."""
    found = select(_FIRST, ())
    if not found or found[0][0] == 1:
        return START, []
    first_seq, prev_hash = found[0]
    try:
        cut = newest_cut(select)
    except ChainBroken as error:
        return Head(first_seq - 1, prev_hash), [ChainFinding(error.seq, error.fault, error.detail)]
    last_seq = 0 if cut is None else cut.last.seq
    if cut is not None and first_seq == last_seq + 1:
        return cut.last, []
    if first_seq <= last_seq:
        detail = f"it stands there, although the cut in row {cut.seq if cut else 0} removed all up to {last_seq}"
        return Head(first_seq - 1, prev_hash), [ChainFinding(first_seq, ChainFault.CUT, detail)]
    detail = f"rows {last_seq + 1} to {first_seq - 1} are gone, and no cut says so"
    return Head(first_seq - 1, prev_hash), [ChainFinding(last_seq + 1, ChainFault.CUT, detail)]


class ChainCheck:
    """One walk. ``head`` is the last row it has reached."""

    def __init__(
        self,
        select: Select,
        witnesses: Iterable[Witness] = (),
        on_progress: OnProgress | None = None,
        on_row: OnRow | None = None,
    ) -> None:
        self._select = select
        self._on_progress = on_progress
        self._on_row = on_row
        self._witnesses: dict[int, list[Witness]] = {}
        for witness in witnesses:
            self._witnesses.setdefault(witness.seq, []).append(witness)
        self.head = START

    def walk(self, after: Head, head_seq: int) -> Iterator[ChainFinding]:
        """What is wrong with the rows behind ``after``, in order. ``head_seq`` is for the progress only."""
        self.head = after
        yield from self._contradictions(after)
        done = 0
        while page := self._select(_PAGE, (self.head.seq, _PAGE_ROWS)):
            for columns in page:
                if not _follows(columns, self.head):
                    yield from self._faults(columns)
                self.head = Head(columns[0], columns[10])
                if columns[0] in self._witnesses:
                    yield from self._contradictions(self.head)
                if self._on_row is not None:
                    self._on_row(Row(*columns))
            done += len(page)
            if self._on_progress is not None:
                self._on_progress(done, max(done, head_seq - after.seq))
        yield from self._beyond()

    def _faults(self, columns: Sequence[Any]) -> Iterator[ChainFinding]:
        seq, prev_hash, before = columns[0], columns[9], self.head
        if seq != before.seq + 1:
            before = self._cut_meanwhile(seq) or before
        if seq != before.seq + 1:
            yield ChainFinding(before.seq + 1, ChainFault.GAP, f"row {seq} stands in its place")
        elif prev_hash != before.hash:
            yield ChainFinding(seq, ChainFault.LINK, "it does not follow the row before it")
        try:
            tables.row_of(columns)
        except ChainBroken as error:
            yield ChainFinding(seq, error.fault, error.detail)
            return
        if hash_of_columns(*columns[:10]) != columns[10]:
            yield ChainFinding(seq, ChainFault.CONTENT, "its content was changed")

    def _cut_meanwhile(self, seq: int) -> Head | None:
        """What ``seq`` must follow, if the rows before it were cut while we walked."""
        if self._select(_FIRST, ())[0][0] != seq:
            return None
        start, wrong = start_of(self._select)
        return None if wrong else start

    def _contradictions(self, here: Head) -> Iterator[ChainFinding]:
        for witness in self._witnesses.get(here.seq, ()):
            if witness.head_hash != here.hash:
                detail = f"{witness.name} knows another row in this place"
                yield ChainFinding(here.seq, ChainFault.WITNESS, detail)

    def _beyond(self) -> Iterator[ChainFinding]:
        last = max(self._witnesses, default=0)
        if last > self.head.seq:
            names = ", ".join(sorted({witness.name for witness in self._witnesses[last]}))
            detail = f"{names} knows row {last}, but the rows end at {self.head.seq}"
            yield ChainFinding(self.head.seq + 1, ChainFault.WITNESS, detail)


def _follows(columns: Sequence[Any], before: Head) -> bool:
    """The quick look: whether all is as it should be."""
    if columns[0] != before.seq + 1 or columns[9] != before.hash:
        return False
    try:
        return bool(hash_of_columns(*columns[:10]) == columns[10])
    except (TypeError, AttributeError, struct.error):
        return False
