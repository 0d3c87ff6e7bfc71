"""The monitors of one station: which there are, and what may be set and cleared.

Charter: pure; names and limits of variables come from the device model. What is hard-wired can be neither changed nor
cleared (N04.FR.18, N06.FR.03). Of the standard's checks the first that fails is told.

A variable's monitors of one type differ in severity (N04.FR.10). Secrets are not watched at all (N04.FR.07). A
threshold needs a number, or a boolean, which counts as 0 or 1. A monitor's own value is a number that a variable could
reach: nothing has looked at its text before.

Sources: OCPP 2.0.1 part 2 N03, N04, N06.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from typing import Final

from agent.config.device_model import DeviceModel, GetStatus
from agent.config.variable import DataType, Key, Mutability, VariableSpec
from agent.core.facts import MonitorOrigin, VariableName
from agent.ipc.monitors import (
    ClearMonitorStatus,
    Monitor,
    MonitorAnswer,
    MonitorType,
    MonitorWrite,
    SetMonitorStatus,
)
from agent.monitoring.rules import decimal

CUSTOM_MAX: Final = 64
FIRST_CUSTOM_ID: Final = 100_000  # hard-wired ones count from 1
SEVERITIES: Final = range(10)
VALUE_MAX: Final = 10**15
VALUE_MAX_CHARS: Final = 40
_INTERVAL_MAX_S: Final = 31_536_000
_DAY_S: Final = 86_400
_NUMBERS: Final = (DataType.INTEGER, DataType.DECIMAL)
_THRESHOLDS: Final = (MonitorType.UPPER_THRESHOLD, MonitorType.LOWER_THRESHOLD)
_REJECTED: Final = SetMonitorStatus.REJECTED


class MonitorBook:
    """See the module. ``custom`` as they were kept over the restart, ``next_id`` as it stood then."""

    def __init__(
        self,
        model: DeviceModel,
        hard_wired: Iterable[Monitor],
        custom: Iterable[Monitor] = (),
        next_id: int = FIRST_CUSTOM_ID,
    ) -> None:
        self._model = model
        self._hard_wired = {each.id: each for each in sorted(hard_wired, key=lambda monitor: monitor.id)}
        assert all(monitor_id < FIRST_CUSTOM_ID for monitor_id in self._hard_wired), "ids of hard-wired ones"
        # A variable may be gone with new firmware, and its monitor with it (N04); older software kept any value.
        fit = (each for each in custom if _value(each.value) is not None)
        self._custom = {each.id: each for each in fit if model.find(key_of(each.name)) is not None}
        self.next_id = max([next_id, *(each + 1 for each in self._custom)])

    def all(self) -> list[Monitor]:
        return [*self._hard_wired.values(), *self._custom.values()]

    @property
    def custom(self) -> list[Monitor]:
        return list(self._custom.values())

    # -------------------------------------------------------------------------------------- set

    def set(self, write: MonitorWrite) -> MonitorAnswer:
        """Make or change a monitor."""
        key = self._model.find(key_of(write.name))
        if key is None:
            return MonitorAnswer(self._unknown(write), reason=f"no variable {key_of(write.name)}")
        refusal = _unfit(write, self._model.spec(key)) or self._in_the_way(write, key)
        if refusal is not None:
            return refusal
        monitor_id = self.next_id if write.id is None else write.id
        self.next_id = max(self.next_id, monitor_id + 1)
        self._custom[monitor_id] = Monitor(
            monitor_id, name_of(key), write.type, write.value, write.severity, write.transaction
        )
        return MonitorAnswer(SetMonitorStatus.ACCEPTED, monitor_id)

    def _unknown(self, write: MonitorWrite) -> SetMonitorStatus:
        known = self._model.get(key_of(write.name)).status is GetStatus.UNKNOWN_VARIABLE
        return SetMonitorStatus.UNKNOWN_VARIABLE if known else SetMonitorStatus.UNKNOWN_COMPONENT

    def _in_the_way(self, write: MonitorWrite, key: Key) -> MonitorAnswer | None:
        """What other monitors have against it."""
        name = name_of(key)
        if write.id in self._hard_wired:
            return MonitorAnswer(_REJECTED, reason=f"monitor {write.id} is hard-wired")
        if write.id is not None and write.id not in self._custom:
            return MonitorAnswer(_REJECTED, reason=f"no monitor {write.id}")
        if write.id is not None and self._custom[write.id].name != name:
            return MonitorAnswer(_REJECTED, reason=f"monitor {write.id} is of another variable")
        for other in self.all():
            same = (other.name, other.type, other.severity) == (name, write.type, write.severity)
            if same and other.id != write.id:
                return MonitorAnswer(SetMonitorStatus.DUPLICATE, reason=f"monitor {other.id} is like it")
        if write.id is None and len(self._custom) >= CUSTOM_MAX:
            return MonitorAnswer(_REJECTED, reason=f"{CUSTOM_MAX} monitors are set, more do not fit")
        return None

    # ------------------------------------------------------------------------------------ clear

    def clear(self, monitor_id: int) -> ClearMonitorStatus:
        if monitor_id in self._hard_wired:
            return ClearMonitorStatus.REJECTED
        known = self._custom.pop(monitor_id, None) is not None
        return ClearMonitorStatus.ACCEPTED if known else ClearMonitorStatus.NOT_FOUND

    def clear_custom(self) -> list[int]:
        """All that the CSMS has set; returns their ids."""
        cleared = list(self._custom)
        self._custom.clear()
        return cleared


def key_of(name: VariableName) -> Key:
    return Key(name.component, name.variable, name.instance, name.evse, name.connector, name.component_instance)


def name_of(key: Key) -> VariableName:
    return VariableName(key.component, key.variable, key.instance, key.evse, key.connector, key.component_instance)


def hard_wired(monitor_id: int, name: VariableName, severity: int) -> Monitor:
    """The monitor of a problem: it alerts while the boolean is true."""
    plain = Monitor(monitor_id, name, MonitorType.UPPER_THRESHOLD, "0", severity)
    return replace(plain, origin=MonitorOrigin.HARD_WIRED)


def _unfit(write: MonitorWrite, spec: VariableSpec) -> MonitorAnswer | None:
    """What speaks against it whatever else is set."""
    if spec.mutability is Mutability.WRITE_ONLY:
        return MonitorAnswer(_REJECTED, reason="a secret is not monitored")
    if write.type in _THRESHOLDS and spec.type not in (*_NUMBERS, DataType.BOOLEAN):
        return MonitorAnswer(SetMonitorStatus.UNSUPPORTED_MONITOR_TYPE, reason=f"no threshold for a {spec.type}")
    if write.severity not in SEVERITIES:
        return MonitorAnswer(_REJECTED, reason="severity: 0 to 9")
    low, high = _bounds(write.type, spec)
    value = _value(write.value)
    if value is None or (low is not None and value < low) or (high is not None and value > high):
        return MonitorAnswer(_REJECTED, reason=f"value: {'any' if low is None else low} to {high or 'any'}")
    return None


def _value(text: str) -> Decimal | None:
    found = decimal(text) if len(text) <= VALUE_MAX_CHARS else None
    return found if found is not None and -VALUE_MAX <= found <= VALUE_MAX else None


def _bounds(kind: MonitorType, spec: VariableSpec) -> tuple[int | None, int | None]:
    """Of a monitor's value."""
    match kind:
        case MonitorType.UPPER_THRESHOLD | MonitorType.LOWER_THRESHOLD:
            return (0, 1) if spec.type is DataType.BOOLEAN else (spec.minimum, spec.maximum)
        case MonitorType.DELTA:
            return 0, None
        case MonitorType.PERIODIC:
            return 1, _INTERVAL_MAX_S
        case MonitorType.PERIODIC_CLOCK_ALIGNED:
            return 1, _DAY_S
