"""A report entry in the shape of OCPP 2.0.1 ReportDataType.

Charter: names and nesting only (schema NotifyReportRequest); what stands in a report is
``DeviceModel.report``, splitting it into messages is the dialect's.
"""

from __future__ import annotations

from typing import Any

from agent.config.device_model import ReportEntry
from agent.config.variable import Key, Mutability, VariableSpec

_REPORTING_VALUE_SIZE = 2_500


def report_data(entry: ReportEntry) -> dict[str, Any]:
    """The entry as a ReportDataType; absent parts are left out."""
    attribute: dict[str, Any] = {"mutability": entry.spec.mutability.value, "persistent": entry.spec.persistent}
    if entry.spec.mutability is not Mutability.WRITE_ONLY and entry.value is not None:
        attribute["value"] = entry.value[:_REPORTING_VALUE_SIZE]
    return {
        "component": _component(entry.key),
        "variable": _named(entry.key.variable, entry.key.instance),
        "variableAttribute": [attribute],
        "variableCharacteristics": _characteristics(entry.spec),
    }


def _named(name: str, instance: str | None) -> dict[str, Any]:
    return {"name": name} if instance is None else {"name": name, "instance": instance}


def _component(key: Key) -> dict[str, Any]:
    component = _named(key.component, key.component_instance)
    if key.evse is not None:
        component["evse"] = {"id": key.evse} | ({} if key.connector is None else {"connectorId": key.connector})
    return component


def _characteristics(spec: VariableSpec) -> dict[str, Any]:
    present = {
        "unit": spec.unit,
        "minLimit": spec.min_limit,
        "maxLimit": spec.max_limit,
        "valuesList": ",".join(spec.values) or None,
    }
    monitored = spec.mutability is not Mutability.WRITE_ONLY
    characteristics: dict[str, Any] = {"dataType": spec.type.value, "supportsMonitoring": monitored}
    return characteristics | {name: value for name, value in present.items() if value is not None}
