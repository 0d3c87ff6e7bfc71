"""What the device model says of monitoring: MonitoringCtrlr, and a problem of every part that can have one.

Charter: data. Which component a trouble belongs to is the health catalogue's; here it gets its variables, for each
EVSE those of its own parts and once those of the station. They are computed, never set.

Sources: OCPP 2.0.1 part 2 appendix 3 (MonitoringCtrlr), N03 to N07; checklist 2.4.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from agent.config.variable import DataType, Key, Mutability, VariableSpec
from agent.core.facts import VariableName
from agent.health.catalogue import CATALOGUE, Entry
from agent.health.model import Part, Severity

MONITORING_ENABLED: Final = "MonitoringCtrlr.Enabled"
ACTIVE_BASE: Final = "MonitoringCtrlr.ActiveMonitoringBase"
ACTIVE_LEVEL: Final = "MonitoringCtrlr.ActiveMonitoringLevel"
OFFLINE_SEVERITY: Final = "MonitoringCtrlr.OfflineQueuingSeverity"
BASES: Final = ("All", "FactoryDefault", "HardWiredOnly")
CONNECTOR: Final = 1  # the number of an EVSE's only connector

_OF_EVSE: Final = frozenset(
    {Part.METER, Part.PILOT, Part.CONTACTOR, Part.POWER_MODULE, Part.LOCK, Part.BUS, Part.TEMPERATURE}
)
"""Parts that each EVSE has; all others are the station's."""

_RW: Final = Mutability.READ_WRITE


def _limit(count: int) -> VariableSpec:
    return VariableSpec(type=DataType.INTEGER, default=str(count), minimum=0)


def _severity(default: Severity, access: Mutability) -> VariableSpec:
    return VariableSpec(
        type=DataType.INTEGER, default=str(default.value), mutability=access, minimum=0, maximum=max(Severity)
    )


MONITORING: Final[Mapping[str, VariableSpec]] = {
    "MonitoringCtrlr.Available": VariableSpec(type=DataType.BOOLEAN, default="true"),
    MONITORING_ENABLED: VariableSpec(type=DataType.BOOLEAN, default="true", mutability=_RW),
    **{
        f"MonitoringCtrlr.{name}[{message}]": _limit(count)
        for name, count in (("ItemsPerMessage", 100), ("BytesPerMessage", 65_536))
        for message in ("SetVariableMonitoring", "ClearVariableMonitoring")
    },
    # What is worse than or as bad as this is kept for the CSMS while there is no link.
    OFFLINE_SEVERITY: _severity(Severity.ERROR, _RW),
    # These two have messages of their own to set them (N03, N05).
    ACTIVE_BASE: VariableSpec(type=DataType.OPTION_LIST, default="All", values=BASES),
    ACTIVE_LEVEL: _severity(Severity.DEBUG, Mutability.READ_ONLY),
}


def problem_name(entry: Entry, evse: int) -> VariableName:
    """The variable that a trouble at ``evse`` (0: the station) makes true."""
    if entry.part not in _OF_EVSE:
        return VariableName(entry.component, entry.variable)
    connector = CONNECTOR if entry.component == "Connector" else None
    return VariableName(entry.component, entry.variable, evse=evse or None, connector=connector if evse else None)


def problems(evses: Mapping[int, bool]) -> Iterable[tuple[Entry, int]]:
    """Every trouble that a station with these EVSEs can have, and where; ``evses`` says which have power modules."""
    for entry in CATALOGUE.values():
        if entry.part not in _OF_EVSE:
            yield entry, 0
            continue
        for evse, has_modules in evses.items():
            if has_modules or entry.part is not Part.POWER_MODULE:
                yield entry, evse


def problem_specs(evses: Mapping[int, bool]) -> dict[Key, VariableSpec]:
    """The variables of all these, sorted; see ``problems``."""
    names = {problem_name(entry, evse) for entry, evse in problems(evses)}
    keys = [Key(n.component, n.variable, n.instance, n.evse, n.connector, n.component_instance) for n in names]
    spec = VariableSpec(type=DataType.BOOLEAN, default="false", persistent=False)
    return dict.fromkeys(sorted(keys, key=str), spec)
