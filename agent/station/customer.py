"""What this station keeps of a customer, told and cleared (OCPP 2.0.1 N09, N10).

Charter: plain words for people; nothing else reads them. A customer is meant by a token, by a free identifier (the
text of a token or of a group) or by a certificate, of which this station keeps none.

Kept and clearable: the authorization cache and the price the CSMS told for a token. Kept and never cleared: the
ledger, with the transactions and the signed records and receipts made of them, which the law on measuring and the one
on accounts ask for; the tokens of the configuration, which are its owner's. The newest ``TRANSACTIONS_MAX``
transactions are looked through, a few at a time, since the station has more urgent things to do.

Units: mWh inside, kWh in words; UTC.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from agent.auth.token import fold
from agent.core.facts import TransactionFact
from agent.core.station import Station
from agent.ipc.monitors import CustomerRequest
from agent.ipc.port import Record
from agent.ledger.side_records import Transaction
from agent.station.archive import Archive
from agent.station.money import Money
from agent.station.tokens import Tokens

TRANSACTIONS_MAX: Final = 5_000
LISTED_MAX: Final = 100
_PAGE: Final = 10

Belongs = Callable[[str | None, str | None], bool]
"""Whether a token's text, or its group, is the customer's."""


class Customers:
    """See the module."""

    def __init__(self, archive: Archive, tokens: Tokens, money: Money, core: Station) -> None:
        self._archive = archive
        self._tokens = tokens
        self._money = money
        self._core = core

    async def answer(self, request: CustomerRequest) -> str:
        """See ``StationPort.customer_information``."""
        belongs = _belongs(request)
        if belongs is None:
            return ""
        cached = self._tokens.cached(belongs)
        prices = self._money.price_texts(lambda token: belongs(token, None))
        found: list[str] = []
        if request.report:
            found += [_cache_words(row) for row in cached]
            found += [f"Price told for token {token}: {text}" for token, text in prices.items()]
            found += self._running(belongs)
            found += await self._transactions(belongs)
        if request.clear and (cached or prices):
            await self._tokens.forget([row["id"] for row in cached])
            self._money.forget_texts(prices)
            found.append(
                f"Cleared: {len(cached)} entries of the authorization cache, {len(prices)} price texts."
                " Transactions in the ledger are kept by law and were not cleared."
            )
        return "\n".join(found)

    def _running(self, belongs: Belongs) -> list[str]:
        running = ((number, evse.flow.tx) for number, evse in self._core.evses.items())
        return [
            f"Transaction {tx.tx_id} runs now on EVSE {number}."
            for number, tx in running
            if tx is not None and belongs(None if tx.token is None else tx.token.id_token, tx.group)
        ]

    async def _transactions(self, belongs: Belongs) -> list[str]:
        """Those in the ledger, the newest first."""
        found: list[str] = []
        count, looked_at, before_seq = 0, 0, None
        while looked_at < TRANSACTIONS_MAX and (page := self._archive.transactions(before_seq, _PAGE)):
            for transaction, begin, end in page:
                if any(_is_of(record, belongs) for record in (begin, end)):
                    count += 1
                    found += [_transaction_words(transaction, begin, end)] if count <= LISTED_MAX else []
            looked_at, before_seq = looked_at + len(page), page[-1][0].begin_seq
            await asyncio.sleep(0)
        if count:
            more = f", the newest {LISTED_MAX} of them" if count > LISTED_MAX else ""
            found.insert(0, f"Transactions in the ledger, kept by law: {count}{more}:")
        if looked_at >= TRANSACTIONS_MAX:
            found.append(f"Only the newest {TRANSACTIONS_MAX} transactions were looked through.")
        return found


def _belongs(request: CustomerRequest) -> Belongs | None:
    """None: nothing here is known by what was asked for."""
    if request.token is not None and request.token.id_token:
        wanted = fold(request.token.id_token)
        return lambda token, _group: token is not None and fold(token) == wanted
    if request.identifier:
        identifier = fold(request.identifier)
        return lambda token, group: identifier in (fold(token or ""), fold(group or ""))
    return None


def _is_of(record: Record | None, belongs: Belongs) -> bool:
    fact = None if record is None else record.fact
    if not isinstance(fact, TransactionFact):
        return False
    return belongs(None if fact.token is None else fact.token.id_token, fact.group)


def _cache_words(row: dict[str, Any]) -> str:
    group = f", group {row['group']}" if row["group"] else ""
    until = "" if row["expires_wall_ms"] is None else f", until {_instant(row['expires_wall_ms'])}"
    return f"Authorization cache: token {row['id']} is {row['status']}{group}{until}."


def _transaction_words(transaction: Transaction, begin: Record, end: Record | None) -> str:
    until, energy = "not ended", ""
    first, last = begin.fact, None if end is None else end.fact
    if end is not None and isinstance(first, TransactionFact) and isinstance(last, TransactionFact):
        mwh = last.samples[-1].energy_import_mwh - first.samples[-1].energy_import_mwh
        until, energy = _instant(end.wall_ms), f", {mwh / 1_000_000:.3f} kWh"
    return f"- {transaction.tx_id} on EVSE {transaction.evse}: {_instant(begin.wall_ms)} to {until}{energy}"


def _instant(wall_ms: int) -> str:
    return datetime.fromtimestamp(wall_ms // 1_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
