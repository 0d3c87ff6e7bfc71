"""What frames and ledger rows say, in the words of scenarios.

Charter: the reading that rigs share: a CALL of the station as a ``Message``, the transactions of a ledger file as
``Account`` values. Judges nothing.

Units: mWh, UTC milliseconds. Sources: OCPP 1.6 section 4, OCPP 2.0.1 E.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from agent.core.facts import TransactionFact
from agent.ipc.port import Record
from agent.ocpp.timestamps import from_rfc3339
from agent.sim.scenario.rig import Account
from agent.sim.scenario.verbs import Message
from agent.station.archive import Archive

QUEUED = (Message.START, Message.VALUES, Message.STOP, Message.SECURITY)
"""What is told from the ledger, and so must not be lost."""

_PAGE_ROWS = 500
_EVENT_TYPES = {"Started": Message.START, "Updated": Message.VALUES, "Ended": Message.STOP}
_ACTIONS = {
    "StartTransaction": Message.START,
    "StopTransaction": Message.STOP,
    "Authorize": Message.AUTHORIZE,
    "BootNotification": Message.BOOT,
    "StatusNotification": Message.STATUS,
    "Heartbeat": Message.HEARTBEAT,
    "SecurityEventNotification": Message.SECURITY,
}


def message_of(action: str, payload: dict[str, Any]) -> Message | None:
    """What the station says with this call, in neutral words; None: nothing that scenarios speak of."""
    if action == "TransactionEvent":
        return _EVENT_TYPES[payload["eventType"]]
    if action == "MeterValues":
        return Message.VALUES if "transactionId" in payload else None
    return _ACTIONS.get(action)


def wall_ms_of(payload: dict[str, Any]) -> int:
    """The time that a queued message gives itself."""
    return from_rfc3339(payload["timestamp"] if "timestamp" in payload else payload["meterValue"][0]["timestamp"])


def read_accounts(file: Path) -> tuple[Account, ...]:
    """The transactions of a ledger, oldest first, with times as the CSMS is told them. Raises ``LedgerError``."""
    found: dict[str, Account] = {}
    archive = Archive(file)
    try:
        after = 0
        while page := archive.records(after, _PAGE_ROWS):
            for record in page:
                if record.kind in ("tx_started", "tx_ended"):
                    _enter(record, found)
            after = page[-1].seq
    finally:
        archive.close()
    return tuple(found.values())


def _enter(record: Record, found: dict[str, Account]) -> None:
    fact = record.fact
    assert isinstance(fact, TransactionFact)
    sample = fact.samples[-1]
    mwh, wall_ms = sample.energy_import_mwh, sample.at_ms + record.clock_offset_ms
    begun = found.get(fact.tx_id)
    if begun is None:
        found[fact.tx_id] = Account(fact.tx_id, fact.evse, mwh, wall_ms)
    else:
        reason = None if fact.stopped_reason is None else fact.stopped_reason.value
        found[fact.tx_id] = replace(begun, end_mwh=mwh, ended_wall_ms=wall_ms, reason=reason)
