"""Rows as lines of JSON, for any tool and for whoever must prove something without this software.

Charter: every column of every row, exactly: the chain can be computed again from the lines alone (the
layout is in ``rows``). A body that is text stands as text, any other in Base64. Streams, in constant memory.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

from agent.ledger.reader import LedgerReader
from agent.ledger.rows import Row

_PAGE_ROWS = 100


def export_lines(reader: LedgerReader, first_seq: int = 1, last_seq: int | None = None) -> Iterator[str]:
    """Each row as one line without its newline, in order. Rows added meanwhile come too, unless
    ``last_seq`` says where to end. Raises ``LedgerError``."""
    after_seq = first_seq - 1
    while last_seq is None or after_seq < last_seq:
        page = reader.rows(after_seq, _PAGE_ROWS)
        for row in page:
            if last_seq is not None and row.seq > last_seq:
                return
            yield line_of(row)
        if not page:
            return
        after_seq = page[-1].seq


def line_of(row: Row) -> str:
    """``body`` is UTF-8 text; where the bytes are none, ``body_base64`` stands in its place."""
    try:
        body = {"body": row.body.decode()}
    except UnicodeDecodeError:
        body = {"body_base64": base64.b64encode(row.body).decode()}
    columns = {
        "seq": row.seq,
        "kind": row.kind,
        "tx_id": row.tx_id,
        "evse": row.evse,
        "boot_id": row.boot_id,
        "mono_ms": row.mono_ms,
        "wall_ms": row.wall_ms,
        "time_status": row.time_status,
        **body,
        "prev_hash": row.prev_hash.hex(),
        "hash": row.hash.hex(),
    }
    return json.dumps(columns, separators=(",", ":"), ensure_ascii=False)
