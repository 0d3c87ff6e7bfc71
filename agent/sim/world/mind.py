"""The back office's mind: what it thinks of stations, tokens and the time.

Charter: the ``desk.Clerk`` of both dialects. It decides; how its words travel is ``back_office``'s. What it does badly
it does by ``manners``.

Units: seconds of the loop's clock, UTC milliseconds. Sources: checklist 16-BOOT-02 to 05, 16-AUTH; field fault 8.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Final

from agent.ocpp.version import Version
from agent.sim.world import manners as bad
from agent.sim.world.booking import Book
from agent.sim.world.desk import Payload
from agent.sim.world.excuses import Excuses, Row
from agent.sim.world.manners import Manners

_REFUSALS: Final = ("Blocked", "Invalid", "ConcurrentTx", "Expired")
HELD_MAX_S: Final = 900.0
INTERVAL_MAX_S: Final = 120


class Mind:
    """``manners``, ``tokens`` (status by token in upper case, else ``default_status``), ``groups`` (by token in upper
    case) and ``heartbeat_s`` are for the world to set at any time."""

    def __init__(
        self,
        rng: random.Random,
        wall_ms: Callable[[], int],
        book: Book,
        excuses: Excuses,
        violation: Callable[[str], None],
        manners: Manners,
        heartbeat_s: int,
    ) -> None:
        self.manners = manners
        self.tokens: dict[str, str] = {}
        self.default_status = "Accepted"
        self.groups: dict[str, str] = {}
        self.heartbeat_s = heartbeat_s
        self.violation = violation
        self._rng = rng
        self._wall_ms = wall_ms
        self._book = book
        self._excuses = excuses
        self._held: tuple[str, float] = ("", 0.0)  # boots are answered so until then

    def hold_boot(self, status: str, for_s: float) -> None:
        """Answer BootNotification Pending or Rejected for so long."""
        self._held = (status, asyncio.get_running_loop().time() + for_s)

    # -------------------------------------------------------------------------------------- Clerk

    def boot(self, software: str, reason: str) -> tuple[str, int]:
        """See ``desk.Clerk``."""
        self._book.boots.append((software, reason))
        self._book.counts["boots"] += 1
        rates, rng = self.manners, self._rng
        status, until_s = self._held
        if asyncio.get_running_loop().time() >= until_s:
            status = "Accepted"
            luck = rng.random() if rates.boot_pending or rates.boot_rejected else 1.0
            if luck < rates.boot_pending + rates.boot_rejected:
                status = "Pending" if luck < rates.boot_pending else "Rejected"
                self.hold_boot(status, rng.uniform(1, HELD_MAX_S))
        if self._strikes(rates.interval_zero):
            return status, 0
        return status, self.heartbeat_s if status == "Accepted" else rng.randint(1, INTERVAL_MAX_S)

    def verdict(self, token: str) -> str:
        """See ``desk.Clerk``."""
        if self._strikes(self.manners.changes_mind):
            return self._rng.choice(_REFUSALS)
        return self.tokens.get(token.upper(), self.default_status)

    def group(self, token: str) -> str | None:
        """See ``desk.Clerk``."""
        return self.groups.get(token.upper())

    def current_time(self) -> str:
        """See ``desk.Clerk``."""
        return bad.timestamp(self._wall_ms(), self.manners, self._rng)

    def is_excused(self, row: Row) -> bool:
        """See ``desk.Clerk``."""
        return row in self._excuses.excused

    # ------------------------------------------------------------------------------- before a boot

    def asks_before_boot(self, version: Version) -> list[tuple[str, Payload]]:
        """What it asks before it answers BootNotification; mostly nothing."""
        if not self._strikes(self.manners.talks_before_boot):
            return []
        asks: list[tuple[str, Payload]]
        if version.is_16:
            asks = [
                ("GetConfiguration", {}),
                ("GetConfiguration", {"key": ["NumberOfConnectors", "Nonsense"]}),
                ("ChangeConfiguration", {"key": "ConnectionTimeOut", "value": "120"}),
            ]
        else:
            request_id = self._rng.randint(0, 2**31 - 1)
            variable = {"component": {"name": "SampledDataCtrlr"}, "variable": {"name": "TxUpdatedInterval"}}
            asks = [
                ("GetBaseReport", {"requestId": request_id, "reportBase": "FullInventory"}),
                ("GetVariables", {"getVariableData": [variable]}),
            ]
        return [ask for ask in asks for _ in range(self._rng.randint(1, 3))]

    def _strikes(self, rate: float) -> bool:
        return bool(rate) and self._rng.random() < rate
