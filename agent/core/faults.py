"""The fault catalogue and the set of faults of one EVSE.

Rules:

* A fault is raised by its cause at once and always takes power away where the catalogue says so.
* ``Clears.SELF``: gone when its cause has been gone for ``fault_clear_ms`` (damps flapping).
* ``Clears.UNPLUG``: stays until the cause is gone *and* the vehicle has left.
* ``Clears.ACTION``: stays until somebody with authority clears it, and the cause is gone.
* ``ends``: the fault ends a running transaction for this reason; without it the session waits.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from agent.core.facts import StopReason
from agent.core.status import FaultCode
from hal.ports import BoardFault


class Clears(enum.Enum):
    SELF = "self"
    UNPLUG = "unplug"
    ACTION = "action"


@dataclass(frozen=True, slots=True)
class FaultSpec:
    """What a fault means. ``ocpp16`` is the ChargePointErrorCode (16-ST-07)."""

    clears: Clears
    ocpp16: str
    text: str
    ends: StopReason | None = None


_F = FaultCode
CATALOGUE: dict[FaultCode, FaultSpec] = {
    _F.PILOT_LOST: FaultSpec(Clears.SELF, "InternalError", "pilot board does not answer"),
    _F.METER_LOST: FaultSpec(Clears.SELF, "PowerMeterFailure", "energy meter does not answer"),
    _F.METER_IMPLAUSIBLE: FaultSpec(Clears.SELF, "PowerMeterFailure", "energy register went backwards"),
    _F.POWER_MODULE_LOST: FaultSpec(Clears.SELF, "InternalError", "no DC power module answers"),
    _F.POWER_MODULE: FaultSpec(Clears.SELF, "PowerSwitchFailure", "DC power module reports an alarm"),
    _F.DIODE: FaultSpec(Clears.SELF, "EVCommunicationError", "diode in the vehicle's pilot circuit missing"),
    _F.PILOT_SHORT: FaultSpec(Clears.SELF, "EVCommunicationError", "pilot short-circuited (state E)"),
    _F.PILOT: FaultSpec(Clears.SELF, "EVCommunicationError", "pilot level out of range"),
    _F.RESIDUAL_CURRENT: FaultSpec(
        Clears.UNPLUG, "GroundFailure", "residual current detected", StopReason.GROUND_FAULT
    ),
    _F.RESIDUAL_SELF_TEST: FaultSpec(
        Clears.ACTION, "GroundFailure", "residual current detector failed its self-test", StopReason.GROUND_FAULT
    ),
    _F.NO_GROUND: FaultSpec(Clears.SELF, "GroundFailure", "protective earth missing"),
    _F.CONTACTOR_WELDED: FaultSpec(
        Clears.ACTION, "PowerSwitchFailure", "contactor does not open (welded)", StopReason.EMERGENCY_STOP
    ),
    _F.CONTACTOR_OPEN: FaultSpec(Clears.UNPLUG, "PowerSwitchFailure", "contactor does not close", StopReason.OTHER),
    _F.LOCK: FaultSpec(Clears.SELF, "ConnectorLockFailure", "connector lock does not reach its position"),
    _F.OVER_CURRENT: FaultSpec(
        Clears.UNPLUG, "OverCurrentFailure", "vehicle draws more than offered", StopReason.OVERCURRENT_FAULT
    ),
    _F.OVER_TEMPERATURE: FaultSpec(Clears.SELF, "HighTemperature", "temperature too high"),
    _F.NO_VENTILATION: FaultSpec(Clears.SELF, "OtherError", "vehicle asks for ventilation, none here"),
    _F.PROXIMITY: FaultSpec(Clears.SELF, "OtherError", "proximity pilot invalid"),
    _F.BOARD_RESET: FaultSpec(Clears.SELF, "InternalError", "pilot board rebooted by itself"),
    _F.LEDGER: FaultSpec(Clears.ACTION, "InternalError", "ledger cannot be written", StopReason.OTHER),
}

FROM_BOARD: dict[BoardFault, FaultCode] = {
    BoardFault.DIODE: _F.DIODE,
    BoardFault.RESIDUAL_CURRENT: _F.RESIDUAL_CURRENT,
    BoardFault.RESIDUAL_SELF_TEST: _F.RESIDUAL_SELF_TEST,
    BoardFault.NO_GROUND: _F.NO_GROUND,
    BoardFault.CONTACTOR_WELDED: _F.CONTACTOR_WELDED,
    BoardFault.CONTACTOR_OPEN: _F.CONTACTOR_OPEN,
    BoardFault.OVER_TEMPERATURE: _F.OVER_TEMPERATURE,
    BoardFault.OVER_CURRENT: _F.OVER_CURRENT,
    BoardFault.NO_VENTILATION: _F.NO_VENTILATION,
    BoardFault.LOCK: _F.LOCK,
    BoardFault.PILOT: _F.PILOT,
    BoardFault.PROXIMITY: _F.PROXIMITY,
    BoardFault.SPURIOUS_RESET: _F.BOARD_RESET,
}


class Faults:
    """The active faults of one EVSE. A cause is named (``"board"``, ``"meter"``, ...), because two
    parts may raise the same fault and each must withdraw its own."""

    def __init__(self, clear_after_ms: int) -> None:
        self._clear_after_ms = clear_after_ms
        self._causes: dict[FaultCode, set[str]] = {}
        self._gone_at_ms: dict[FaultCode, int] = {}
        self._active: dict[FaultCode, None] = {}  # in the order they came

    def set(self, code: FaultCode, cause: str, present: bool, at_ms: int) -> None:
        causes = self._causes.setdefault(code, set())
        if present:
            causes.add(cause)
            self._active[code] = None
            self._gone_at_ms.pop(code, None)
        elif cause in causes:
            causes.discard(cause)
            if not causes:
                self._gone_at_ms[code] = at_ms

    def tick(self, at_ms: int, *, vehicle_gone: bool) -> None:
        """Drop the faults whose time has come."""
        for code, gone_at_ms in list(self._gone_at_ms.items()):
            clears = CATALOGUE[code].clears
            if clears is Clears.ACTION or (clears is Clears.UNPLUG and not vehicle_gone):
                continue
            if at_ms >= gone_at_ms + self._clear_after_ms:
                del self._gone_at_ms[code], self._active[code]

    def acknowledge(self) -> bool:
        """An authorized person clears latched faults; those with a living cause stay. True: none left."""
        for code in list(self._gone_at_ms):
            del self._gone_at_ms[code], self._active[code]
        return not self._active

    def has(self, code: FaultCode) -> bool:
        return code in self._active

    @property
    def active(self) -> tuple[FaultCode, ...]:
        return tuple(self._active)

    @property
    def ends(self) -> StopReason | None:
        """The reason for which the active faults end a transaction, if any does."""
        return next((spec.ends for code in self._active if (spec := CATALOGUE[code]).ends), None)

    @property
    def deadline_ms(self) -> int | None:
        times = [t for code, t in self._gone_at_ms.items() if CATALOGUE[code].clears is not Clears.ACTION]
        return min(times) + self._clear_after_ms if times else None
