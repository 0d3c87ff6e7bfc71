"""Alarms without a cause: a fault that keeps an EVSE from charging, or sends for a technician, has something behind it.

Charter: one table, of the faults that the station reports and of what may make them. The rest of the world looks
whether what is broken is reported; here it is the other way round. Faults of lines and meters are not looked at: they
end with their cause, and a line may be lost for many reasons.

Units: ms of virtual time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from agent.core.status import FaultCode
from agent.sim.virtual_time import now_ms
from agent.sim.world.device_faults import Fault
from agent.sim.world.outlet import Outlet
from agent.sim.world.vehicle import Habit

LATELY_MS: Final = 120_000

AGAIN_MS: Final = 86_400_000
"""A fault that was there may come again so soon: an OpenEVSE that sleeps does not look whether the weld that a
technician has cleared is gone."""

KEPT_MS: Final = 30_000
"""A run that begins finds the faults that the one before has kept."""

_LINE: Final = frozenset({Fault.PILOT_SILENT, Fault.PILOT_GARBAGE, Fault.BUS_GARBAGE, Fault.BOARD_RESET})
_CAUSES: Final[Mapping[FaultCode, frozenset[Fault]]] = {
    FaultCode.CONTACTOR_WELDED: frozenset({Fault.CONTACTOR_WELDED}),
    FaultCode.CONTACTOR_OPEN: frozenset({Fault.CONTACTOR_STUCK_OPEN}),
    FaultCode.RESIDUAL_CURRENT: frozenset({Fault.RESIDUAL_CURRENT}),
    FaultCode.RESIDUAL_SELF_TEST: frozenset({Fault.RESIDUAL_SELF_TEST}),
    FaultCode.OVER_CURRENT: frozenset({Fault.OVER_CURRENT}),
    FaultCode.NO_GROUND: frozenset({Fault.NO_GROUND}),
    FaultCode.OVER_TEMPERATURE: frozenset({Fault.OVER_TEMPERATURE, Fault.MODULE_HOT}),
    FaultCode.LOCK: _LINE | {Fault.LOCK_JAMMED},
    FaultCode.BOARD_RESET: frozenset({Fault.BOARD_RESET}),
    FaultCode.PILOT_SHORT: frozenset({Fault.PILOT_SHORT}),
    FaultCode.DIODE: frozenset(),
    FaultCode.NO_VENTILATION: frozenset(),
}
_HABITS: Final[Mapping[FaultCode, frozenset[Habit]]] = {
    FaultCode.OVER_CURRENT: frozenset({Habit.OVERDRAW}),
    FaultCode.PILOT_SHORT: frozenset({Habit.ERROR}),
    FaultCode.DIODE: frozenset({Habit.NO_DIODE}),
    FaultCode.NO_VENTILATION: frozenset({Habit.VENTILATION}),
}


def is_false(fault: FaultCode, outlet: Outlet, seen_ms: int | None, began_ms: int) -> bool:
    """Whether nothing explains this fault, which is there now. ``seen_ms``: when it was there last; None: never.
    ``began_ms``: when this run of the station did."""
    at_ms, causes = now_ms(), _CAUSES.get(fault)
    known = seen_ms is not None and at_ms - seen_ms < AGAIN_MS
    if causes is None or known or at_ms - began_ms < KEPT_MS or outlet.was_struck(causes, at_ms - LATELY_MS):
        return False
    habits = frozenset[Habit]() if outlet.vehicle is None else outlet.vehicle.habits
    return habits.isdisjoint(_HABITS.get(fault, frozenset()))
