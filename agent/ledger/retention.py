"""Removing the oldest rows: how far a cut may go, and what its row says.

Charter: only a whole beginning of the chain can go, so that the rest stays a chain. Rows go that are
told (``acknowledged_seq``), old (``before_wall_ms``), and part of no transaction that is open or reaches
beyond. A row of kind ``cut`` is added in the same commit: it names the last row removed and its hash,
and so the first row that is left. The file does not shrink, its pages are used again.

A transaction of more than ``CHUNK_ROWS`` goes in several commits, but only once all of it may go.

What has a wall time after now, or none that is known, is as old as the next row with a sound one.

All functions run within the caller's transaction.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from agent.ledger.chain_check import Cut, newest_cut
from agent.ledger.database import Connection
from agent.ledger.kinds import CUT, TIME_UNKNOWN
from agent.ledger.rows import Head, NewRow

CHUNK_ROWS: Final = 1000
"""Rows that are looked at or removed in one go: rows that wait meanwhile wait no longer than this takes."""

CHUNK_TARIFFS: Final = 100
"""Tariffs that are removed in one go: the text of one may be as long as those of many rows."""


@dataclass(frozen=True, slots=True)
class CutOrder:
    """What may go at most, and the clocks for the rows that will say so (see ``NewRow``). ``tariffs_in_use``: content
    hashes (hex) of tariffs that stay, whatever has replaced them."""

    up_to_seq: int
    acknowledged_seq: int
    before_wall_ms: int
    boot_id: str
    mono_ms: int
    wall_ms: int
    time_status: str
    tariffs_in_use: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class CutDone:
    """What has gone. ``last_seq`` is the last row removed, 0 if there was none to remove."""

    rows: int
    transactions: int
    last_seq: int


class Search:
    """How far the cut of ``order`` may go in a ledger that ends at ``head_seq``.

    It is looked for in small pieces, however far the next place is that no transaction reaches over. Once found it
    holds: what comes to a transaction meanwhile might as well have come after the cut."""

    def __init__(self, order: CutOrder, head_seq: int) -> None:
        self.order = order
        self._limit_seq = min(order.up_to_seq, order.acknowledged_seq, head_seq)
        self._looked_seq = 0
        self._old_seq = 0  # the last row that is surely old, with all before it
        self._reached_seq = 0.0  # how far the transactions reach that began until then
        self._whole_seq = 0  # the last row until then that none of them reaches over
        self._over = False

    def next_end(self, connection: Connection) -> int | None:
        """The last row that the next commit may remove; 0 if none is found yet, None if there is none."""
        first_seq: int = connection.execute("SELECT min(seq) FROM ledger").fetchone()[0]
        if self._whole_seq < first_seq and not self._over:
            self._look_on(connection, max(first_seq, self._looked_seq + 1))
        if self._whole_seq >= first_seq:
            return min(self._whole_seq, first_seq + CHUNK_ROWS - 1)
        return None if self._over else 0

    def _look_on(self, connection: Connection, from_seq: int) -> None:
        self._looked_seq = min(from_seq + CHUNK_ROWS - 1, self._limit_seq)
        old_before_seq = self._old_seq
        younger = self._look_for_old(connection, from_seq)
        self._look_for_whole(connection, old_before_seq)
        self._over = younger or self._looked_seq == self._limit_seq or self._reached_seq > self._limit_seq

    def _look_for_old(self, connection: Connection, from_seq: int) -> bool:
        """Whether a younger row ended the search."""
        query = "SELECT seq, wall_ms, time_status FROM ledger WHERE seq BETWEEN ? AND ? ORDER BY seq"
        for seq, wall_ms, time_status in connection.execute(query, (from_seq, self._looked_seq)):
            if time_status == TIME_UNKNOWN or wall_ms > self.order.wall_ms:
                continue
            if wall_ms >= self.order.before_wall_ms:
                return True
            self._old_seq = seq
        return False

    def _look_for_whole(self, connection: Connection, after_seq: int) -> None:
        query = """
            SELECT begin_seq, end_seq IS NULL, (SELECT max(seq) FROM ledger WHERE ledger.tx_id = tx.tx_id)
            FROM tx WHERE begin_seq > ? AND begin_seq <= ? ORDER BY begin_seq
        """
        for begin_seq, still_open, newest_seq in connection.execute(query, (after_seq, self._old_seq)):
            if self._reached_seq < begin_seq:
                self._whole_seq = begin_seq - 1
            self._reached_seq = max(self._reached_seq, math.inf if still_open else newest_seq)
        if self._reached_seq <= self._old_seq:
            self._whole_seq = self._old_seq


def cut_row(connection: Connection, order: CutOrder, end_seq: int) -> tuple[NewRow, CutDone]:
    """What will be said of removing all rows up to ``end_seq``. Call before ``remove``."""
    first_seq, first_hash = connection.execute("SELECT seq, hash FROM ledger ORDER BY seq LIMIT 1").fetchone()
    (last_hash,) = connection.execute("SELECT hash FROM ledger WHERE seq = ?", (end_seq,)).fetchone()
    (transactions,) = connection.execute("SELECT count(*) FROM tx WHERE begin_seq <= ?", (end_seq,)).fetchone()
    before = _newest_cut(connection)
    cut = Cut(
        seq=0,  # not known yet, and not in the body
        last=Head(end_seq, last_hash),
        rows=end_seq - first_seq + 1,
        transactions=transactions,
        counters=dict(connection.execute("SELECT name, value FROM counter WHERE name NOT LIKE '%.%'").fetchall()),
        genesis_hash=first_hash if before is None else before.genesis_hash,
    )
    row = NewRow(CUT, _body(cut), order.boot_id, order.mono_ms, order.wall_ms, order.time_status)
    return row, CutDone(cut.rows, transactions, end_seq)


def remove(connection: Connection, end_seq: int, tariffs_in_use: Iterable[str] = ()) -> None:
    """Remove the rows up to ``end_seq``, and tariffs that no row behind it names.

    A tariff that a transaction may still begin with stays, however old the row is that named it last. Of very many
    tariffs some wait for the next commit."""
    connection.execute("INSERT INTO cut (id, up_to_seq) VALUES (1, ?)", (end_seq,))
    connection.execute("DELETE FROM ledger WHERE seq <= ?", (end_seq,))
    kept = [bytes.fromhex(each) for each in tariffs_in_use]
    connection.execute(
        "DELETE FROM tariff WHERE hash IN (SELECT hash FROM tariff_use WHERE seq <= ?"
        f" AND hash NOT IN ({', '.join('?' * len(kept))}) ORDER BY seq LIMIT ?)",
        (end_seq, *kept, CHUNK_TARIFFS),
    )
    connection.execute("DELETE FROM cut")


def _newest_cut(connection: Connection) -> Cut | None:
    def select(query: str, values: Any) -> list[Any]:
        found: list[Any] = connection.execute(query, values).fetchall()
        return found

    return newest_cut(select)


def _body(cut: Cut) -> bytes:
    facts = {
        "counters": cut.counters,
        "genesis_hash": cut.genesis_hash.hex(),
        "last_hash": cut.last.hash.hex(),
        "last_seq": cut.last.seq,
        "rows": cut.rows,
        "transactions": cut.transactions,
    }
    return json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()
