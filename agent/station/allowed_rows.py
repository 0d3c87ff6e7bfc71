"""Rows that others can cause without end: a CSMS that says the same wrong thing every minute, a gateway that was taken
over.

Charter: of each kind some at once, then one an hour, and none while what room there is, is for starts and ends of
transactions. What is left out goes to the process's log. The room of each kind is its own: a CSMS that talks nonsense
hides no login.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import structlog

from agent.allowance import Allowance
from agent.core.facts import LogFact, SecurityFact
from agent.core.station import Station

AT_ONCE: Final = 20
EVERY_MS: Final = 3_600_000
KINDS_MAX: Final = 32  # security events of the gateway have names of its choice; those beyond share one allowance

log = structlog.get_logger("station")


class AllowedRows:
    """See the module. ``append`` writes a row."""

    def __init__(self, core: Station, append: Callable[[LogFact | SecurityFact], None]) -> None:
        self._core = core
        self._append = append
        self._allowances: dict[str, Allowance] = {}

    def append(self, fact: LogFact | SecurityFact) -> None:
        """Write it, if there may be one more of its kind."""
        kind = fact.event_type if isinstance(fact, SecurityFact) else fact.entry.value
        known = kind in self._allowances or len(self._allowances) < KINDS_MAX
        allowance = self._allowances.setdefault(kind if known else "", Allowance(AT_ONCE, EVERY_MS))
        if self._core.ctx.ledger_scarce or not allowance.has_one(self._core.ctx.at_ms):
            log.warning("row left out", row=str(fact))
            return
        allowance.take()
        self._append(fact)
