"""Transactions and receipts for people who look on: lists of them, and one receipt in one form.

Charter: reads the ledger through the archive and answers the port; decides nothing. A receipt is laid out in a thread
of its own, since the longest takes longer than the pilot may wait.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from agent.billing.errors import ReceiptError
from agent.billing.forms import Form, written
from agent.billing.read import parse
from agent.billing.told import Told
from agent.core.facts import TransactionFact
from agent.ipc.port import Record
from agent.ipc.receipts import ReceiptLine
from agent.ledger.side_records import Transaction
from agent.station.archive import Archive
from agent.telemetry.masking import mask_token

LINES_MAX: Final = 50
_FORMS: Final = frozenset({"text", "html", "json", "xml", "ocmf"})

log = structlog.get_logger("station")


class Receipts:
    """Answers ``receipts`` and ``receipt`` of the port."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    def lines(self, limit: int, before_seq: int | None) -> list[ReceiptLine]:
        """The newest first, at most ``limit`` (and ``LINES_MAX``), of those that began before row ``before_seq``."""
        found = self._archive.transactions(before_seq, max(1, min(limit, LINES_MAX)))
        return [_line(transaction, begin, end) for transaction, begin, end in found]

    async def receipt(self, tx_id: str, form: str) -> str:
        """The newest receipt of a transaction; empty where there is none, or none in this form."""
        sealed = self._archive.receipt(tx_id)
        if sealed is None or form not in _FORMS:
            return ""
        fact = self._archive.told_cost(tx_id)
        told = None if fact is None else Told(fact.cost, fact.final, fact.text)
        try:
            return await asyncio.to_thread(_laid_out, sealed, Form(form), told)
        except ReceiptError as error:
            log.error("receipt cannot be read", tx=tx_id, reason=str(error))
            return ""


def _laid_out(sealed: bytes, form: Form, told: Told | None) -> str:
    return (written(parse(sealed), form, told) or b"").decode()


def _line(transaction: Transaction, begin: Record, end: Record | None) -> ReceiptLine:
    first, last = begin.fact, None if end is None else end.fact
    assert isinstance(first, TransactionFact)
    energy_mwh = cost = None
    if isinstance(last, TransactionFact):
        if first.samples and last.samples:
            energy_mwh = last.samples[-1].energy_import_mwh - first.samples[-1].energy_import_mwh
        if last.total_cost is not None:
            cost = f"{last.total_cost} {last.currency or ''}".rstrip()
    return ReceiptLine(
        seq=transaction.begin_seq,
        tx_id=transaction.tx_id,
        evse=first.evse,
        token="" if first.token is None else mask_token(first.token.id_token),
        begin_wall_ms=begin.wall_ms,
        end_wall_ms=None if end is None else end.wall_ms,
        energy_mwh=energy_mwh,
        cost=cost,
        receipt=transaction.receipt_seq is not None,
    )
