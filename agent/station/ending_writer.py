"""The ledger's writer as the station uses it: from a hundred places, each of which must reach its safe end.

Charter: what a failed or overfull ledger refuses raises nothing here. The station is told that its ledger failed, and
what was refused never becomes durable, as if it had been taken an instant before the failure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agent.ledger.book import Change
from agent.ledger.errors import LedgerFailed
from agent.ledger.retention import CutOrder
from agent.ledger.rows import NewRow, Sealed
from agent.ledger.writer import OnCut, OnDurable
from agent.station.platform import Writer


class EndingWriter:
    """See the module. ``failed`` may hear of one failure many times."""

    def __init__(self, writer: Writer, failed: Callable[[LedgerFailed], None]) -> None:
        self._writer = writer
        self._failed = failed

    def append(
        self,
        rows: Sequence[NewRow | Sealed] = (),
        changes: Sequence[Change] = (),
        on_durable: OnDurable | None = None,
        *,
        lazy: bool = False,
    ) -> None:
        try:
            self._writer.append(rows, changes, on_durable, lazy=lazy)
        except LedgerFailed as error:
            self._failed(error)

    def cut(self, order: CutOrder, on_done: OnCut) -> None:
        try:
            self._writer.cut(order, on_done)
        except LedgerFailed as error:
            self._failed(error)

    async def close(self) -> None:
        await self._writer.close()
