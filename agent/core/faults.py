"""What each fault does, and the set of faults of one EVSE. What a fault is called is ``agent.health.catalogue``'s.

Rules:

* A fault is raised by its cause at once and always takes power away.
* ``Clears.SELF``: gone when its cause has been gone for ``fault_clear_ms`` (damps flapping).
* ``Clears.UNPLUG``: stays until the cause is gone *and* the vehicle has left.
* ``Clears.ACTION``: stays until somebody with authority clears it, and the cause is gone.
* ``ends``: the fault ends a running transaction for this reason; without it the session waits, as
  long as the vehicle can be seen.
* A restart ends no fault of the two latter kinds: they are kept, and end by their own rule. Only ``ledger`` ends with
  the process: the next one opens the ledger anew, and cannot work where it still fails.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
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
    clears: Clears = Clears.SELF
    ends: StopReason | None = None


_F = FaultCode
_SELF = FaultSpec()
SPECS: dict[FaultCode, FaultSpec] = {
    _F.PILOT_LOST: _SELF,
    _F.METER_LOST: _SELF,
    _F.METER_IMPLAUSIBLE: _SELF,
    _F.POWER_MODULE_LOST: _SELF,
    _F.POWER_MODULE: _SELF,
    _F.DIODE: _SELF,
    _F.PILOT_SHORT: _SELF,
    _F.PILOT: _SELF,
    _F.RESIDUAL_CURRENT: FaultSpec(Clears.UNPLUG, StopReason.GROUND_FAULT),
    _F.RESIDUAL_SELF_TEST: FaultSpec(Clears.ACTION, StopReason.GROUND_FAULT),
    _F.NO_GROUND: _SELF,
    _F.CONTACTOR_WELDED: FaultSpec(Clears.ACTION, StopReason.EMERGENCY_STOP),
    _F.CONTACTOR_OPEN: FaultSpec(Clears.UNPLUG, StopReason.OTHER),
    _F.LOCK: _SELF,
    _F.OVER_CURRENT: FaultSpec(Clears.UNPLUG, StopReason.OVERCURRENT_FAULT),
    _F.OVER_TEMPERATURE: _SELF,
    _F.NO_VENTILATION: _SELF,
    _F.PROXIMITY: _SELF,
    _F.BOARD_RESET: _SELF,
    _F.LEDGER: FaultSpec(Clears.ACTION, StopReason.OTHER),
}

LASTING = frozenset(code for code, spec in SPECS.items() if spec.clears is not Clears.SELF) - {_F.LEDGER}
"""Those that outlive a restart."""

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
    parts may raise the same fault and each must withdraw its own. ``kept`` are of before a restart: what caused them
    must show itself again, or is gone."""

    def __init__(self, clear_after_ms: int, kept: Iterable[FaultCode] = ()) -> None:
        self._clear_after_ms = clear_after_ms
        self._causes: dict[FaultCode, set[str]] = {}
        self._active: dict[FaultCode, None] = dict.fromkeys(kept)  # in the order they came
        self._gone_at_ms: dict[FaultCode, int] = dict.fromkeys(self._active, 0)

    def set(self, code: FaultCode, cause: str, present: bool, at_ms: int) -> None:
        if not present and not self._causes:
            return  # as mostly
        causes = self._causes.setdefault(code, set())
        if present:
            causes.add(cause)
            self._active[code] = None
            self._gone_at_ms.pop(code, None)
        elif cause in causes:
            causes.discard(cause)
            if not causes:
                self._gone_at_ms[code] = at_ms
        if not causes:
            del self._causes[code]

    def tick(self, at_ms: int, *, vehicle_gone: bool) -> None:
        """Drop the faults whose time has come."""
        for code, gone_at_ms in list(self._gone_at_ms.items()):
            clears = SPECS[code].clears
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
    def lasting(self) -> tuple[FaultCode, ...]:
        """Those of the active faults that outlive a restart."""
        return tuple(code for code in self._active if code in LASTING)

    @property
    def ends(self) -> StopReason | None:
        """The reason for which the active faults end a transaction, if any does."""
        return next((spec.ends for code in self._active if (spec := SPECS[code]).ends), None)

    @property
    def deadline_ms(self) -> int | None:
        times = [t for code, t in self._gone_at_ms.items() if SPECS[code].clears is not Clears.ACTION]
        return min(times) + self._clear_after_ms if times else None
