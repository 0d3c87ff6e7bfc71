"""The words in rows that the ledger itself makes or understands, as they are spelled on disk.

Charter: text constants; what is in the bodies of these rows is another's business, but for ``CUT``
and ``GENESIS``, which the ledger writes. Any other kind may be stored too.
"""

from __future__ import annotations

from typing import Final

GENESIS: Final = "genesis"
CUT: Final = "cut"

TX_STARTED: Final = "tx_started"
TX_ENDED: Final = "tx_ended"
RECEIPT: Final = "receipt"
TARIFF: Final = "tariff"
PRICE: Final = "price"

FREQUENT: Final = (
    "checkpoint",
    "cost_told",
    "meter",
    PRICE,
    RECEIPT,
    "signed",
    TX_ENDED,
    TX_STARTED,
    "tx_updated",
)
"""What comes with every transaction. All other kinds are so few (of ``stop`` there is one row to a transaction) that
an index of them costs next to nothing. The list is part of the schema: to change it is a migration."""

TIME_UNKNOWN: Final = "U"
"""The time status of a row whose ``wall_ms`` is worth nothing."""
