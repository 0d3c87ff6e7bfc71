"""The rows of one transaction, as dialects read them from the station.

Charter: a page at a time, so that neither the station nor the local socket carries more than a little at once. Of very
many rows those in the middle are left out: the first and the newest are there, with begin and end among them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from agent.ipc.port import Record, StationPort

FIRST_ROWS: Final = 4_500
"""From here on the newest page is all that is read: a long night of samples is less."""


async def rows_of(station: StationPort, tx_id: str, after_seq: int = 0) -> AsyncIterator[Record]:
    """See the module. Rows with seq > ``after_seq``, in order; ask for no more than are needed."""
    told = 0
    while page := await station.transaction(tx_id, after_seq, newest=told >= FIRST_ROWS):
        for record in page:
            yield record
        told, after_seq = told + len(page), page[-1].seq
