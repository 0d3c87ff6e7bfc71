"""Removing the oldest rows: how far a cut may go, and what its row says.

Charter: only a whole beginning of the chain can go, so that the rest stays a chain. Rows go that are
told (``acknowledged_seq``), old (``before_wall_ms``), and part of no transaction that is open or reaches
beyond. A row of kind ``cut`` is added in the same commit: it names the last row removed and its hash,
and so the first row that is left. The file does not shrink, its pages are used again.

A transaction of more than ``CHUNK_ROWS`` goes in several commits, but only once all of it may go.

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
"""Rows in one commit: rows that wait meanwhile wait no longer than this takes."""

_WINDOWS: Final = (CHUNK_ROWS, 4 * CHUNK_ROWS, 16 * CHUNK_ROWS, 64 * CHUNK_ROWS)
"""How far is looked for a place that no transaction reaches over. Where cars come and go without a
pause for longer than that, nothing is cut until there is one."""


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


def next_end(connection: Connection, order: CutOrder, head_seq: int) -> int | None:
    """The last row that the next commit may remove; None if there is none."""
    first_seq: int = connection.execute("SELECT min(seq) FROM ledger").fetchone()[0]
    limit_seq = min(order.up_to_seq, order.acknowledged_seq, head_seq)
    for window in _WINDOWS:
        last_seq = min(first_seq + window - 1, limit_seq)
        old_seq, younger = _old_until(connection, first_seq, last_seq, order.before_wall_ms)
        end_seq = _whole_until(connection, first_seq, old_seq)
        if end_seq >= first_seq:
            return min(end_seq, first_seq + CHUNK_ROWS - 1)
        if younger or last_seq == limit_seq:
            break
    return None


def _old_until(connection: Connection, first_seq: int, last_seq: int, before_wall_ms: int) -> tuple[int, bool]:
    """The last row that is surely old, with all before it; and whether a younger one ended the search.

    A row whose time nobody knew is as old as the next one that does."""
    old_seq = first_seq - 1
    query = "SELECT seq, wall_ms, time_status FROM ledger WHERE seq BETWEEN ? AND ? ORDER BY seq"
    for seq, wall_ms, time_status in connection.execute(query, (first_seq, last_seq)):
        if time_status == TIME_UNKNOWN:
            continue
        if wall_ms >= before_wall_ms:
            return old_seq, True
        old_seq = seq
    return old_seq, False


def _whole_until(connection: Connection, first_seq: int, last_seq: int) -> int:
    """The last row at or before ``last_seq`` that no transaction reaches over; before ``first_seq`` if none."""
    query = """
        SELECT begin_seq, end_seq IS NULL, (SELECT max(seq) FROM ledger WHERE ledger.tx_id = tx.tx_id)
        FROM tx WHERE begin_seq <= ? ORDER BY begin_seq
    """
    whole_seq, reached_seq = first_seq - 1, 0.0
    for begin_seq, still_open, newest_seq in connection.execute(query, (last_seq,)):
        if reached_seq < begin_seq:
            whole_seq = begin_seq - 1
        reached_seq = max(reached_seq, math.inf if still_open else newest_seq)
    return last_seq if reached_seq <= last_seq else whole_seq


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
    """Remove the rows up to ``end_seq``, and tariffs that were replaced by then.

    A tariff that was the newest of its name may price a transaction that is left, however old it is."""
    kept = [bytes.fromhex(each) for each in tariffs_in_use]
    connection.execute("INSERT INTO cut (id, up_to_seq) VALUES (1, ?)", (end_seq,))
    connection.execute("DELETE FROM ledger WHERE seq <= ?", (end_seq,))
    connection.execute(
        "DELETE FROM tariff WHERE seq <= ? AND EXISTS (SELECT 1 FROM tariff AS newer WHERE newer.seq <= ?"
        " AND newer.seq > tariff.seq AND newer.tariff_id = tariff.tariff_id AND newer.source = tariff.source)"
        f" AND hash NOT IN ({', '.join('?' * len(kept))})",
        (end_seq, end_seq, *kept),
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
