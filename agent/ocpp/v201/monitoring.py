"""Monitors as the CSMS sets, clears and asks for them (N02 to N06).

Charter: items to the station and its answers back, in order; the limits on a message; a report cut into
NotifyMonitoringReport messages. What a monitor is, and which may be set, is the station's business.

Sources: OCPP 2.0.1 part 2 N02 to N06; checklist 2.3.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from agent.core.facts import VariableName
from agent.ipc.monitors import Monitor, MonitorAnswer, MonitorType, MonitorWrite
from agent.ipc.port import StationPort
from agent.ocpp.dialect import StationView
from agent.ocpp.frames import Payload
from agent.ocpp.timestamps import to_rfc3339
from agent.ocpp.v201 import events, settings
from agent.ocpp.v201.messages import status
from agent.ocpp.v201.variables import check_limits

ITEMS_PER_PART: Final = 20

_CRITERIA: Final = {
    "ThresholdMonitoring": (MonitorType.UPPER_THRESHOLD, MonitorType.LOWER_THRESHOLD),
    "DeltaMonitoring": (MonitorType.DELTA,),
    "PeriodicMonitoring": (MonitorType.PERIODIC, MonitorType.PERIODIC_CLOCK_ALIGNED),
}


async def set_variable_monitoring(station: StationPort, view: StationView, request: Payload) -> Payload:
    """SetVariableMonitoringResponse: one result per item, in order (N04)."""
    items = request["setMonitoringData"]
    check_limits(view, settings.MONITORING, "SetVariableMonitoring", items, request)
    answers = await station.set_monitors([_write(item) for item in items])
    return {"setMonitoringResult": [_result(item, answer) for item, answer in zip(items, answers, strict=True)]}


async def clear_variable_monitoring(station: StationPort, view: StationView, request: Payload) -> Payload:
    """ClearVariableMonitoringResponse: one result per id, in order (N06)."""
    ids = request["id"]
    check_limits(view, settings.MONITORING, "ClearVariableMonitoring", ids, request)
    statuses = await station.clear_monitors(ids)
    return {
        "clearMonitoringResult": [
            {"id": monitor_id, "status": each.value} for monitor_id, each in zip(ids, statuses, strict=True)
        ]
    }


async def set_monitoring_base(station: StationPort, request: Payload) -> Payload:
    """SetMonitoringBaseResponse (N03)."""
    return status(await station.set_monitoring_base(request["monitoringBase"]))


async def set_monitoring_level(station: StationPort, request: Payload) -> Payload:
    """SetMonitoringLevelResponse (N05)."""
    return status(await station.set_monitoring_level(request["severity"]))


# ------------------------------------------------------------------------------------------- report


async def wanted(station: StationPort, view: StationView, request: Payload) -> list[Monitor]:
    """What GetMonitoringReportRequest asks for (N02)."""
    places = request.get("componentVariable", [])
    check_limits(view, settings.DEVICE_DATA, "GetReport", places, request)
    criteria = request.get("monitoringCriteria", _CRITERIA)
    types = {each for criterion in criteria for each in _CRITERIA[criterion]}
    return [
        monitor
        for monitor in await station.monitors()
        if monitor.type in types and (not places or any(_is_at(monitor.name, place) for place in places))
    ]


def report_parts(request_id: int, generated_wall_ms: int, monitors: list[Monitor]) -> Iterator[Payload]:
    """The NotifyMonitoringReportRequests of a report that is not empty: monitors by their variable."""
    by_name: dict[VariableName, list[dict[str, Any]]] = {}
    for monitor in monitors:
        by_name.setdefault(monitor.name, []).append(_monitoring(monitor))
    data = [events.names(name) | {"variableMonitoring": each} for name, each in by_name.items()]
    for seq_no, first in enumerate(range(0, len(data), ITEMS_PER_PART)):
        after = first + ITEMS_PER_PART
        part: dict[str, Any] = {
            "requestId": request_id,
            "generatedAt": to_rfc3339(generated_wall_ms),
            "seqNo": seq_no,
            "monitor": data[first:after],
        }
        yield part | ({"tbc": True} if after < len(data) else {})


def _monitoring(monitor: Monitor) -> dict[str, Any]:
    """VariableMonitoringType."""
    return {
        "id": monitor.id,
        "transaction": monitor.transaction,
        "value": float(monitor.value),
        "type": monitor.type.value,
        "severity": monitor.severity,
    }


def _is_at(name: VariableName, place: dict[str, Any]) -> bool:
    """Whether a ComponentVariableType means this variable: what it leaves out may be anything (N02.FR.15 to 17)."""
    component, variable = place["component"], place.get("variable", {})
    evse = component.get("evse", {})
    asked = (
        (component["name"], name.component),
        (component.get("instance"), name.component_instance),
        (variable.get("name"), name.variable),
        (variable.get("instance"), name.instance),
        (evse.get("id"), name.evse),
        (evse.get("connectorId"), name.connector),
    )
    return all(wish is None or _folded(wish) == _folded(had) for wish, had in asked)


def _folded(part: str | int | None) -> str | int | None:
    return part.casefold() if isinstance(part, str) else part


# --------------------------------------------------------------------------------------------- items


def _write(item: dict[str, Any]) -> MonitorWrite:
    component, variable = item["component"], item["variable"]
    evse = component.get("evse", {})
    name = VariableName(
        component["name"],
        variable["name"],
        variable.get("instance"),
        evse.get("id"),
        evse.get("connectorId"),
        component.get("instance"),
    )
    # A float prints with the digits it was written with.
    value = str(item["value"])
    return MonitorWrite(
        name, MonitorType(item["type"]), value, item["severity"], item.get("transaction", False), item.get("id")
    )


def _result(item: dict[str, Any], answer: MonitorAnswer) -> dict[str, Any]:
    """SetMonitoringResultType: the item's names as they came."""
    result = {name: item[name] for name in ("type", "severity", "component", "variable")}
    result |= status(answer.status.value, "Unspecified" if answer.reason else "", answer.reason)
    monitor_id = item.get("id") if answer.id is None else answer.id
    return result if monitor_id is None else result | {"id": monitor_id}
