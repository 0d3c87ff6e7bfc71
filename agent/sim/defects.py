"""What can be broken inside the devices of a bench, by name: defects that a device finds out and tells by itself.

Charter: from a name to the simulator's way of playing it. What goes wrong on a wire is ``hal.sim.faults``, what a car
does wrong is ``agent.sim.car.Habit``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from hal.ports import CpState
from hal.power.infypower_codec import Status
from hal.sim.infypower import SimInfypower
from hal.sim.mcu_board import McuError, SimMcu
from hal.sim.openevse_firmware import State
from hal.sim.rapi_board import SimOpenEvse
from hal.sim.vehicle_port import VehiclePort

Play = Callable[[bool], None]
"""Breaks (True) or mends (False) one thing."""

_MCU: Final[Mapping[str, McuError]] = {
    "residual_current": McuError.RCD_TRIGGERED,
    "residual_self_test": McuError.RCD_SELF_TEST,
    "no_ventilation": McuError.VENTILATION_NOT_AVAILABLE,
    "lock": McuError.CONNECTOR_LOCK,
    "pilot": McuError.CP_SIGNAL,
    "over_current": McuError.OVER_CURRENT,
    "diode": McuError.DIODE,
}
_OPENEVSE: Final[Mapping[str, State]] = {
    "residual_current": State.GFCI,
    "residual_self_test": State.GFI_TEST_FAILED,
    "no_ground": State.NO_GROUND,
    "over_temperature": State.OVER_TEMPERATURE,
    "over_current": State.OVER_CURRENT,
    "diode": State.DIODE,
    "relay": State.RELAY_CLOSURE,
}
_MODULES: Final[Mapping[str, Status]] = {
    "module": Status.FAULT,
    "module_fan": Status.FAN,
    "module_hot": Status.OVER_TEMPERATURE,
    "module_input": Status.INPUT_PHASE_LOST,
}
_NO_CABLE_MA: Final = 1  # a resistor that no standard knows


def defects_of(board: SimMcu | SimOpenEvse, modules: SimInfypower | None) -> dict[str, Play]:
    """What can be broken at one EVSE."""
    found = _of_mcu(board) if isinstance(board, SimMcu) else _of_openevse(board)
    for name, alarm in _MODULES.items() if modules is not None else ():
        found[name] = _alarms(modules, alarm)
    return found


def _of_mcu(board: SimMcu) -> dict[str, Play]:
    def flag(error: McuError) -> Play:
        return lambda broken: board.set_error(error, broken)

    return {
        **{name: flag(error) for name, error in _MCU.items()},
        "weld": board.weld,
        "jam": board.jam_lock,
        "cable": lambda broken: board.vehicle.set_cable_rating(_NO_CABLE_MA if broken else None),
        "short": lambda broken: _short(board.vehicle, broken),
    }


def _of_openevse(board: SimOpenEvse) -> dict[str, Play]:
    def finds(state: State) -> Play:
        def play(broken: bool) -> None:
            board.firmware.found = state if broken else None

        return play

    return {
        **{name: finds(state) for name, state in _OPENEVSE.items()},
        "weld": board.firmware.weld,
        "short": lambda broken: _short(board.vehicle, broken),
    }


def _short(vehicle: VehiclePort, broken: bool) -> None:
    vehicle.set_cp(CpState.E if broken else CpState.A)


def _alarms(modules: SimInfypower | None, alarm: Status) -> Play:
    def play(broken: bool) -> None:
        assert modules is not None
        for module in modules.modules:
            module.alarms = module.alarms | alarm if broken else module.alarms & ~alarm

    return play
