"""StatusNotification: which status, when, and by which legal way.

Charter: reports every change of a connector (16-ST-00) that lasts ``MinimumStatusDuration``, in
order; after a time offline only the present status and only if it differs from what the CSMS was
told (16-ST-05). The core's states are those of 1.6, but changes may have been skipped or have
happened offline; where the transition table has no way from the last told status to the new one, the
intermediate status is told too, so that no CSMS sees an illegal jump. What got no answer is told again.

Sources: OCPP 1.6 section 4.9, 7.7 and errata 4; checklist 1.6, 16-ST-00 to 08, 16-BOOT-07.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from agent.core.status import ConnectorState, ConnectorStatus, FaultCode
from agent.health.catalogue import CATALOGUE
from agent.ocpp.dialect import Line, StationView
from agent.ocpp.rpc import Priority, TimedOut
from agent.ocpp.timestamps import EARLIEST_PLAUSIBLE_MS, to_rfc3339
from agent.ocpp.unanswered import Unanswered
from agent.ocpp.v16 import keys
from agent.ocpp.waiting import happens

PENDING_MAX: Final = 64
TIMER_RESOLUTION_S: Final = 0.001  # less than this is not worth a wait
INFO_MAX_CHARS: Final = 50

S = ConnectorState

# From -> to, the table of the standard (A2 to I8). Staying is no transition.
TRANSITIONS: Final[dict[ConnectorState, frozenset[ConnectorState]]] = {
    S.AVAILABLE: frozenset(set(S) - {S.AVAILABLE, S.FINISHING}),
    S.PREPARING: frozenset(set(S) - {S.PREPARING, S.RESERVED, S.UNAVAILABLE}),
    S.CHARGING: frozenset(set(S) - {S.CHARGING, S.PREPARING, S.RESERVED}),
    S.SUSPENDED_EV: frozenset(set(S) - {S.SUSPENDED_EV, S.PREPARING, S.RESERVED}),
    S.SUSPENDED_EVSE: frozenset(set(S) - {S.SUSPENDED_EVSE, S.PREPARING, S.RESERVED}),
    S.FINISHING: frozenset({S.AVAILABLE, S.PREPARING, S.UNAVAILABLE, S.FAULTED}),
    S.RESERVED: frozenset({S.AVAILABLE, S.PREPARING, S.UNAVAILABLE, S.FAULTED}),
    S.UNAVAILABLE: frozenset(set(S) - {S.UNAVAILABLE, S.FINISHING, S.RESERVED}),
    S.FAULTED: frozenset(set(S) - {S.FAULTED}),
}

# 16-ST-04: the states in which EVCommunicationError may be told.
_EV_ERROR_STATES: Final = frozenset({S.PREPARING, S.SUSPENDED_EV, S.SUSPENDED_EVSE, S.FINISHING})
_STATION_STATES: Final = frozenset({S.AVAILABLE, S.UNAVAILABLE, S.FAULTED})

Told = tuple[ConnectorState, tuple[FaultCode, ...]]


def way(told: ConnectorState | None, state: ConnectorState) -> tuple[ConnectorState, ...]:
    """The statuses to tell, ``state`` last, so that every step is in the table."""
    if told is None or told is state or state in TRANSITIONS[told]:
        return (state,)
    if state in (S.RESERVED, S.UNAVAILABLE):
        return (S.AVAILABLE, state)
    return (S.FINISHING if state is S.PREPARING else S.PREPARING, state)


def status_notification(status: ConnectorStatus, state: ConnectorState, vendor: str) -> dict[str, Any]:
    """StatusNotification.req of ``status``, told as ``state`` (an intermediate one has no error)."""
    payload: dict[str, Any] = {"connectorId": status.evse, "status": state.value, "errorCode": "NoError"}
    if status.faults and state is _told_state(status):
        first, *others = status.faults
        payload["errorCode"] = _error_code(first, state)
        payload["vendorId"] = vendor[:255]
        payload["vendorErrorCode"] = first.value
        if others:
            payload["info"] = ",".join(fault.value for fault in others)[:INFO_MAX_CHARS]
    if status.wall_ms >= EARLIEST_PLAUSIBLE_MS:  # no time is better than 1970
        payload["timestamp"] = to_rfc3339(status.wall_ms)
    return payload


def _error_code(fault: FaultCode, state: ConnectorState) -> str:
    code = CATALOGUE[fault.value].ocpp16
    return "OtherError" if code == "EVCommunicationError" and state not in _EV_ERROR_STATES else code


def _told_state(status: ConnectorStatus) -> ConnectorState:
    """Connector 0, the station as a whole, knows three statuses only."""
    if status.evse == 0 and status.state not in _STATION_STATES:
        return S.AVAILABLE
    return status.state


class StatusReporter:
    """Keeps what the CSMS was told of each connector, over connections of one boot, until another version is spoken."""

    def __init__(self, view: StationView) -> None:
        self._view = view
        self._told: dict[int, Told] = {}
        self._unanswered = Unanswered()
        self._pending: list[tuple[float, ConnectorStatus]] = []  # (heard at, status), oldest first
        self._heard = asyncio.Event()

    def hear(self, status: ConnectorStatus) -> None:
        """A connector changed."""
        self._pending.append((asyncio.get_running_loop().time(), status))
        if len(self._pending) > PENDING_MAX:
            del self._pending[0]  # what is skipped, ``way`` makes good
        self._heard.set()

    def forget(self) -> None:
        """The CSMS knows nothing of us, or was told in another version since: all are told anew (16-BOOT-07)."""
        self._told.clear()

    async def run(self, line: Line) -> None:
        """Report until the link ends (``LinkGone``)."""
        # No history of the time offline: the present status of all, at once.
        self._pending = [(float("-inf"), status) for _, status in sorted(self._view.connectors.items())]
        while True:
            self._heard.clear()
            due, wait_s = self._next_due(asyncio.get_running_loop().time())
            if due is not None:
                await self._report(line, due)
                continue
            await happens(self._heard, wait_s)  # or something became due

    async def tell(self, line: Line, evse: int) -> None:
        """Tell the present status though it did not change (TriggerMessage)."""
        if (status := self._view.connectors.get(evse)) is not None:
            await self._send(line, status, _told_state(status))

    def _next_due(self, now_s: float) -> tuple[ConnectorStatus | None, float | None]:
        """Take out the first status that lasted long enough; else in how many seconds one may have (16-ST-03)."""
        minimum_s = self._view.integer(keys.MINIMUM_STATUS_DURATION, 0)
        waits: list[float] = []
        for entry in list(self._pending):
            heard_s, status = entry
            rest = self._pending[self._pending.index(entry) + 1 :]
            replaced_s = next((later_s for later_s, later in rest if later.evse == status.evse), None)
            left_s = minimum_s - ((now_s if replaced_s is None else replaced_s) - heard_s)
            if left_s <= TIMER_RESOLUTION_S or status.state is S.FAULTED:
                self._pending.remove(entry)
                return status, None
            if replaced_s is None:
                waits.append(left_s)
            else:
                self._pending.remove(entry)  # too short to be told
        for evse, left_s in self._unanswered.waits(now_s).items():
            if any(status.evse == evse for _, status in self._pending):
                continue  # there is news to tell in its place
            if left_s <= TIMER_RESOLUTION_S:
                return self._view.connectors[evse], None
            waits.append(left_s)
        return None, min(waits, default=None)

    async def _report(self, line: Line, status: ConnectorStatus) -> None:
        told = self._told.get(status.evse)
        target = _told_state(status)
        if told == (target, status.faults) and status.evse not in self._unanswered:
            return
        told_state = told[0] if told is not None and status.evse != 0 else None
        for state in way(told_state, target):
            await self._send(line, status, state)

    async def _send(self, line: Line, status: ConnectorStatus, state: ConnectorState) -> None:
        payload = status_notification(status, state, self._view.welcome.vendor)
        answered = False
        try:
            outcome = await line.call("StatusNotification", payload, priority=Priority.STATUS)
            answered = not isinstance(outcome, TimedOut)
        finally:  # the end of the link is no answer either
            self._unanswered.note(status.evse, asyncio.get_running_loop().time(), answered=answered)
        if answered:
            self._told[status.evse] = (state, status.faults if state is _told_state(status) else ())
