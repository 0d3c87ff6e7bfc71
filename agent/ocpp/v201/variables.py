"""SetVariables, GetVariables and the base reports.

Charter: items to the station's settings store and its answers back, in order; the limits on a
message; a report cut into NotifyReport messages. What a variable is, and what may be written to it,
is the store's business.

Sources: OCPP 2.0.1 part 2 B05, B06, B07; checklist 2.2.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import structlog

from agent.ipc.port import SettingWrite, StationPort
from agent.ocpp.dialect import Line, StationView
from agent.ocpp.errors import ErrorCode, RpcError
from agent.ocpp.frames import Payload
from agent.ocpp.rpc import CallResult, Priority
from agent.ocpp.timestamps import to_rfc3339
from agent.ocpp.v201 import settings

log = structlog.get_logger("ocpp")

ITEMS_PER_REPORT_PART: Final = 20
VALUE_MAX_CHARS: Final = 2_500


async def set_variables(station: StationPort, view: StationView, request: Payload) -> Payload:
    """SetVariablesResponse: one result per item, in order (B05)."""
    items = request["setVariableData"]
    check_limits(view, settings.DEVICE_DATA, "SetVariables", items, request)
    statuses = await station.set_settings([_setting(item, item["attributeValue"]) for item in items])
    return {
        "setVariableResult": [
            _echo(item) | {"attributeStatus": status} for item, status in zip(items, statuses, strict=True)
        ]
    }


async def get_variables(station: StationPort, view: StationView, request: Payload) -> Payload:
    """GetVariablesResponse: one result per item, in order (B06)."""
    items = request["getVariableData"]
    check_limits(view, settings.DEVICE_DATA, "GetVariables", items, request)
    results = []
    for item, (status, value) in zip(
        items, await station.read_settings([_setting(item, "") for item in items]), strict=True
    ):
        result = _echo(item) | {"attributeStatus": status}
        if value is not None:
            result["attributeValue"] = value[:VALUE_MAX_CHARS]
        results.append(result)
    return {"getVariableResult": results}


def report_parts(request_id: int, generated_wall_ms: int, data: list[dict[str, Any]]) -> Iterator[Payload]:
    """The NotifyReportRequests of a report that is not empty (B07)."""
    for seq_no, first in enumerate(range(0, len(data), ITEMS_PER_REPORT_PART)):
        after = first + ITEMS_PER_REPORT_PART
        part: dict[str, Any] = {
            "requestId": request_id,
            "generatedAt": to_rfc3339(generated_wall_ms),
            "seqNo": seq_no,
            "reportData": data[first:after],
        }
        yield part | ({"tbc": True} if after < len(data) else {})


async def send_report(action: str, parts: Iterator[Payload], line: Line) -> None:
    """Send the parts in order; a part that is not taken ends the report, since it would have a hole."""
    for part in parts:
        outcome = await line.call(action, part, priority=Priority.REPORT)
        if not isinstance(outcome, CallResult):
            log.warning("report_broken_off", action=action, request_id=part["requestId"], seq_no=part["seqNo"])
            return


def check_limits(view: StationView, component: str, message: str, items: list[Any], request: Payload) -> None:
    """Hold a message against the limits that ``component`` tells. Raises ``RpcError``."""
    items_max = view.integer(settings.items_per_message(component, message), len(items))
    if len(items) > items_max:
        raise RpcError(ErrorCode.OCCURRENCE_CONSTRAINT_VIOLATION, f"more than {items_max} items")
    bytes_max = view.integer(settings.bytes_per_message(component, message), 0)
    if bytes_max and len(json.dumps(request, ensure_ascii=False, separators=(",", ":")).encode()) > bytes_max:
        raise RpcError(ErrorCode.FORMAT_VIOLATION, f"more than {bytes_max} bytes")


def _setting(item: dict[str, Any], value: str) -> SettingWrite:
    component, variable = item["component"], item["variable"]
    evse = component.get("evse", {})
    return SettingWrite(
        component=component["name"],
        variable=variable["name"],
        value=value,
        instance=variable.get("instance"),
        component_instance=component.get("instance"),
        evse=evse.get("id"),
        connector=evse.get("connectorId"),
        attribute=item.get("attributeType", "Actual"),
    )


def _echo(item: dict[str, Any]) -> dict[str, Any]:
    """The item's names as they came."""
    return {name: item[name] for name in ("attributeType", "component", "variable") if name in item}
