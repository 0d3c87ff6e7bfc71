"""Transactions and their receipts as people look at them: one line each, and the receipt itself on demand.

Charter: plain data of the port (``agent.ipc.port``). A token is never here in full.

Units: mWh; ``wall_ms`` is UTC in milliseconds since 1970.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReceiptLine:
    """One transaction. ``seq`` is its first row: the next page is asked for with the least ``seq`` of this one.

    ``end_wall_ms`` None: it still runs. ``token`` is masked. ``cost`` is a decimal number with its currency, tax
    included; None where this station has not priced it. ``receipt``: whether there is one to be had."""

    seq: int
    tx_id: str
    evse: int
    token: str
    begin_wall_ms: int
    end_wall_ms: int | None
    energy_mwh: int | None
    cost: str | None
    receipt: bool
