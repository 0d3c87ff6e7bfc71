"""What a ledger can do wrong, by name.

Charter: the typed errors of this package, nothing else. Wrong arguments are programmer errors and
raise ``ValueError`` at the call that brought them, before anything reaches the disk.
"""

from __future__ import annotations

import enum


class LedgerError(Exception):
    """The root of all of them."""


class LedgerDamaged(LedgerError):
    """The file is not a sound ledger: not ours, torn, zeroed, or failing its integrity check."""


class ChainFault(enum.StrEnum):
    GAP = "gap"  # another row stands where this one should
    LINK = "link"  # the row does not name the hash of the row before it
    CONTENT = "content"  # the row is not what its own hash was made of
    CUT = "cut"  # rows at the beginning are gone, and no cut row says so
    WITNESS = "witness"  # somebody outside knows a row that is not in the chain


class ChainBroken(LedgerDamaged):
    """The rows are not one whole chain. ``seq`` is the first row that is wrong or missing."""

    def __init__(self, seq: int, fault: ChainFault, detail: str) -> None:
        super().__init__(f"ledger row {seq}: {detail}")
        self.seq = seq
        self.fault = fault
        self.detail = detail


class LedgerNewer(LedgerError):
    """The file was made by a later version of this software, and does not say that this one may write it; it is left
    alone."""


class LedgerUnusable(LedgerError):
    """The environment refuses: no file, no permission, no space, locked. The file may be fine."""


class SettingRefused(LedgerError):
    """SQLite did not take a setting our durability rests on. Fatal: never write like this."""


class LedgerFailed(LedgerError):
    """The ledger takes no more rows: no billing from here on until the station has restarted.

    A failed flush is never retried: the kernel may have dropped the very pages it failed on."""
