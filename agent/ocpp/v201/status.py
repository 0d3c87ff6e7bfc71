"""StatusNotification: which connector, which of five statuses, when.

Charter: tells each connector's present status when it changed for at least ``MinimumStatusDuration``.
Only the latest counts: what happened in between is in the transaction events. After a time offline
longer than ``OfflineThreshold`` and after a boot all connectors are told, else only the changed ones. What got no
answer is told again. A change from before the clock was set is told with the time now: a CSMS that goes by it must not
take the status before for the newer one.

Sources: OCPP 2.0.1 part 2 B01, B04, G01; checklist 2.2.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from agent.core.status import ConnectorState, ConnectorStatus
from agent.ocpp.dialect import Line, StationView
from agent.ocpp.rpc import Priority, TimedOut
from agent.ocpp.timestamps import EARLIEST_PLAUSIBLE_MS, to_rfc3339
from agent.ocpp.unanswered import Unanswered
from agent.ocpp.v201 import settings
from agent.ocpp.v201.messages import CONNECTOR
from agent.ocpp.waiting import happens

OFFLINE_THRESHOLD_DEFAULT_S: Final = 60

_STATUSES: Final = {
    ConnectorState.AVAILABLE: "Available",
    ConnectorState.RESERVED: "Reserved",
    ConnectorState.UNAVAILABLE: "Unavailable",
    ConnectorState.FAULTED: "Faulted",
}


def connector_status(state: ConnectorState) -> str:
    """ConnectorStatusEnumType: everything between plugging in and leaving is Occupied."""
    return _STATUSES.get(state, "Occupied")


def status_notification(status: ConnectorStatus, wall_ms: int) -> dict[str, Any]:
    """StatusNotificationRequest of a status since ``wall_ms``."""
    return {
        "timestamp": to_rfc3339(wall_ms),
        "connectorStatus": connector_status(status.state),
        "evseId": status.evse,
        "connectorId": CONNECTOR,
    }


class StatusReporter:
    """Keeps what the CSMS was told of each connector, over connections of one boot. ``now_ms`` gives the station's wall
    time."""

    def __init__(self, view: StationView, now_ms: Callable[[], Awaitable[int]]) -> None:
        self._view = view
        self._now_ms = now_ms
        self._told: dict[int, str] = {}  # by EVSE
        self._unanswered = Unanswered()
        self._changed_s: dict[int, float] = {}  # EVSEs that may have news, and since when
        self._offline_since_s: float | None = None
        self._heard = asyncio.Event()

    def hear(self, status: ConnectorStatus) -> None:
        """A connector changed. The station as a whole (0) has no status in 2.0.1."""
        if status.evse != 0:
            self._changed_s[status.evse] = asyncio.get_running_loop().time()
            self._heard.set()

    def forget(self) -> None:
        """The CSMS knows nothing of us, or was told in another version since: all are told anew (B01)."""
        self._told.clear()

    async def run(self, line: Line) -> None:
        """Report until the link ends (``LinkGone``)."""
        loop = asyncio.get_running_loop()
        threshold_s = self._view.integer(settings.OFFLINE_THRESHOLD, OFFLINE_THRESHOLD_DEFAULT_S)
        if self._offline_since_s is not None and loop.time() - self._offline_since_s > threshold_s:
            self.forget()  # B04
        self._changed_s = {evse: float("-inf") for evse in sorted(self._view.connectors) if evse != 0}
        try:
            while True:
                self._heard.clear()
                evse, wait_s = self._next_due(loop.time())
                if evse is not None:
                    await self._report(line, evse)
                    continue
                await happens(self._heard, wait_s)  # or something became due
        finally:
            self._offline_since_s = loop.time()

    async def tell(self, line: Line, evse: int) -> None:
        """Tell the present status though it did not change (TriggerMessage)."""
        if (status := self._view.connectors.get(evse)) is not None:
            await self._send(line, status)

    def _next_due(self, now_s: float) -> tuple[int | None, float | None]:
        """Take out the first EVSE whose status lasted long enough; else in how many seconds one may have."""
        minimum_s = self._view.integer(settings.MINIMUM_STATUS_DURATION, 0)
        waits: list[float] = []
        for evse, since_s in self._changed_s.items():
            left_s = minimum_s - (now_s - since_s)
            if left_s <= 0 or self._view.connectors[evse].state is ConnectorState.FAULTED:
                del self._changed_s[evse]
                return evse, None
            waits.append(left_s)
        for evse, left_s in self._unanswered.waits(now_s).items():
            if evse in self._changed_s:
                continue  # there is news to tell in its place
            if left_s <= 0:
                return evse, None
            waits.append(left_s)
        return None, min(waits, default=None)

    async def _report(self, line: Line, evse: int) -> None:
        status = self._view.connectors[evse]
        if self._told.get(evse) != connector_status(status.state) or evse in self._unanswered:
            await self._send(line, status)

    async def _send(self, line: Line, status: ConnectorStatus) -> None:
        answered, since_ms = False, status.wall_ms
        if since_ms < EARLIEST_PLAUSIBLE_MS:
            since_ms = await self._now_ms()
        try:
            payload = status_notification(status, since_ms)
            outcome = await line.call("StatusNotification", payload, priority=Priority.STATUS)
            answered = not isinstance(outcome, TimedOut)
        finally:  # the end of the link is no answer either
            self._unanswered.note(status.evse, asyncio.get_running_loop().time(), answered=answered)
        if answered:
            self._told[status.evse] = connector_status(status.state)
