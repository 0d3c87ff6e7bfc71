"""What the operator's back office said a transaction costs: shown with a receipt, never part of it.

Charter: one value, told by the CSMS after or beside the station's own bill. No signature of ours covers it and
every rendering must say so.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Told:
    """``cost`` is the decimal number as it came; it has no currency of its own."""

    cost: str
    final: bool
    text: str = ""
