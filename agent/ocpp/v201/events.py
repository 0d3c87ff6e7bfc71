"""Ledger rows of monitors as NotifyEvent (N07, N08).

Charter: pure. One row is one event and one message; the number of the row is the event's id, so it is unique as long
as the ledger lasts. Rows are delivered as all others are: in order, once, over link losses; a refusal is the end of it.

Sources: OCPP 2.0.1 part 2 N07.FR.06, 07; schema NotifyEventRequest.
"""

from __future__ import annotations

from typing import Any

from agent.core.facts import EventFact, VariableName
from agent.ipc.port import Record
from agent.ocpp.delivery import Message
from agent.ocpp.timestamps import to_rfc3339


def notify_event(fact: EventFact, record: Record) -> Message:
    """NotifyEventRequest."""
    at = to_rfc3339(record.wall_ms)
    event: dict[str, Any] = {
        "eventId": record.seq,
        "timestamp": at,
        "trigger": fact.trigger.value,
        "actualValue": fact.value,
        "eventNotificationType": fact.origin.value,
        "variableMonitoringId": fact.monitor_id,
        **names(fact.name),
    }
    optional = {"techCode": fact.tech_code, "techInfo": fact.tech_info, "transactionId": fact.in_tx}
    event |= {name: value for name, value in optional.items() if value}
    if fact.cleared:
        event["cleared"] = True
    return Message("NotifyEvent", {"generatedAt": at, "seqNo": 0, "eventData": [event]}, once=True)


def names(name: VariableName) -> dict[str, Any]:
    """ComponentType and VariableType."""
    component: dict[str, Any] = {"name": name.component}
    if name.component_instance is not None:
        component["instance"] = name.component_instance
    if name.evse is not None:
        component["evse"] = {"id": name.evse}
        if name.connector is not None:
            component["evse"]["connectorId"] = name.connector
    variable = {"name": name.variable}
    return {
        "component": component,
        "variable": variable if name.instance is None else variable | {"instance": name.instance},
    }
