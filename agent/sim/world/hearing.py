"""Whether the CSMS hears what no transaction waits for: security events, meter values, heartbeats.

Charter: counts rows as they become durable, and in calm weather, when all is told, holds them against the messages that
came: each row came at least once, unless the CSMS itself refused or lost it often enough (``excuses``). Readings of a
transaction are messages of their own in 1.6 only; in 2.0.1 their numbers are watched where they are booked. Once an
hour it looks whether a station on a sound link still lives.

Sources: OCPP 1.6 4.6, 4.7 and the security white paper; OCPP 2.0.1 G02, J01, A04; checklist 16-MV.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Final

from agent.core.facts import SampleContext, TransactionFact, TxKind
from agent.sim.world.back_office import BackOffice

LOOK_EVERY_S: Final = 3_600
LATE_S: Final = 900
CLOCK_EVERY_S: Final = 86_400
"""However much else is said, a Heartbeat goes out so often: only its answer carries the time."""

_TOLD_READINGS: Final = frozenset({SampleContext.PERIODIC, SampleContext.CLOCK})


class Hearing:
    """See the module. ``heartbeat_s`` is the longest interval the station was ever given; ``wrong`` takes what must
    not be. Make it within the loop."""

    def __init__(self, office: BackOffice, *, is_16: bool, heartbeat_s: int, wrong: Callable[[int, str], None]) -> None:
        self._office = office
        self._is_16 = is_16
        self._heartbeat_s = heartbeat_s
        self._wrong = wrong
        self._rows: Counter[str] = Counter()  # by the action that tells them
        self._loop = asyncio.get_running_loop()
        self._loop.call_later(LOOK_EVERY_S, self._listen)

    def row(self, kind: str) -> None:
        """A row of no transaction has become durable."""
        if kind == "security":
            self._rows["SecurityEventNotification"] += 1
        elif kind == "meter":
            self._rows["MeterValues"] += 1

    def transaction(self, fact: TransactionFact) -> None:
        """A row of a transaction has."""
        if self._is_16 and fact.kind is TxKind.UPDATED:
            self._rows["MeterValues"] += any(sample.context in _TOLD_READINGS for sample in fact.samples)

    def look(self) -> None:
        """All is told."""
        excused = Counter(row[0] for row in self._office.excuses.excused)
        for action, rows in self._rows.items():
            heard = self._office.counts[action]
            if heard + excused[action] < rows:
                self._wrong(0, f"{rows} rows are for {action}, the CSMS has heard {heard}")

    def _listen(self) -> None:
        self._loop.call_later(LOOK_EVERY_S, self._listen)
        quiet_s, beatless_s = self._office.quiet_s()
        if quiet_s > self._heartbeat_s + LATE_S:
            self._wrong(0, f"nothing was heard for {quiet_s:.0f} s on a sound link")
        if beatless_s > CLOCK_EVERY_S + LATE_S:
            self._wrong(0, f"no Heartbeat for {beatless_s:.0f} s on a sound link")
