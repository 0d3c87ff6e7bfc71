"""What frames and ledger rows say, in the words of scenarios.

Charter: the reading that rigs share: a CALL of the station as a ``Message``, the transactions of a ledger file as
``Account`` values. Judges nothing.

Units: mWh, UTC milliseconds. Sources: OCPP 1.6 section 4, OCPP 2.0.1 E.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agent.core.facts import TransactionFact
from agent.ipc.codec import decode_fact
from agent.ledger.reader import LedgerReader
from agent.ocpp.timestamps import from_rfc3339
from agent.sim.scenario.rig import Account
from agent.sim.scenario.verbs import Message

TRANSACTION = (Message.START, Message.VALUES, Message.STOP)
_PAGE_ROWS = 500
_EVENT_TYPES = {"Started": Message.START, "Updated": Message.VALUES, "Ended": Message.STOP}
_ACTIONS = {
    "StartTransaction": Message.START,
    "StopTransaction": Message.STOP,
    "Authorize": Message.AUTHORIZE,
    "BootNotification": Message.BOOT,
    "StatusNotification": Message.STATUS,
    "Heartbeat": Message.HEARTBEAT,
}


def message_of(action: str, payload: dict[str, Any]) -> Message | None:
    """What the station says with this call, in neutral words; None: nothing that scenarios speak of."""
    if action == "TransactionEvent":
        return _EVENT_TYPES[payload["eventType"]]
    if action == "MeterValues":
        return Message.VALUES if "transactionId" in payload else None
    return _ACTIONS.get(action)


def wall_ms_of(payload: dict[str, Any]) -> int:
    """The time that a transaction's message gives itself."""
    return from_rfc3339(payload["timestamp"] if "timestamp" in payload else payload["meterValue"][0]["timestamp"])


def read_accounts(file: Path) -> tuple[Account, ...]:
    """The transactions of a ledger, oldest first. Raises ``LedgerError``."""
    found: dict[str, Account] = {}
    with LedgerReader(file) as reader:
        after = 0
        while page := reader.rows(after, _PAGE_ROWS, kinds=("tx_started", "tx_ended")):
            for row in page:
                fact = decode_fact(row.kind, row.body)
                assert isinstance(fact, TransactionFact)
                sample = fact.samples[-1]
                mwh, wall_ms = sample.energy_import_mwh, row.wall_ms - row.mono_ms + sample.at_ms
                begun = found.get(fact.tx_id)
                if begun is None:
                    found[fact.tx_id] = Account(fact.tx_id, fact.evse, mwh, wall_ms)
                else:
                    begin = begun.begin_mwh, begun.began_wall_ms
                    reason = None if fact.stopped_reason is None else fact.stopped_reason.value
                    found[fact.tx_id] = Account(fact.tx_id, fact.evse, *begin, mwh, wall_ms, reason)
            after = page[-1].seq
    return tuple(found.values())
