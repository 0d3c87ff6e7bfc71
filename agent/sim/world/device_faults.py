"""What can go wrong with the devices of one outlet, by name: how each begins and ends.

Charter: one table. A fault acts on the parts of an ``Outlet`` and on nothing else, and shows to the station as the
real driver would show it. A fault is over at once, after its time, or when it is cleared (``Ends``).

Units: the value of a fault is in the unit that its row names.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.sim.world.boards import Link
from hal.ports import BoardFault, CpState

if TYPE_CHECKING:
    from agent.sim.world.outlet import Outlet


class Fault(enum.StrEnum):
    """Names of device faults."""

    CONTACTOR_WELDED = "contactor_welded"
    CONTACTOR_STUCK_OPEN = "contactor_stuck_open"
    CONTACTOR_SLOW = "contactor_slow"
    LOCK_JAMMED = "lock_jammed"
    PILOT_SILENT = "pilot_silent"
    PILOT_GARBAGE = "pilot_garbage"
    PILOT_CHATTER = "pilot_chatter"
    PILOT_SHORT = "pilot_short"
    BOARD_RESET = "board_reset"
    RESIDUAL_CURRENT = "residual_current"
    RESIDUAL_SELF_TEST = "residual_self_test"
    NO_GROUND = "no_ground"
    OVER_TEMPERATURE = "over_temperature"
    OVER_CURRENT = "over_current"
    METER_SILENT = "meter_silent"
    METER_GARBAGE = "meter_garbage"
    METER_STUCK = "meter_stuck"
    METER_RESET = "meter_reset"
    METER_JUMP = "meter_jump"
    METER_ZERO = "meter_zero"
    METER_LATE = "meter_late"
    METER_EXCHANGED = "meter_exchanged"
    METER_ROLLOVER = "meter_rollover"
    BUS_GARBAGE = "bus_garbage"
    MODULE_LOST = "module_lost"
    MODULE_HOT = "module_hot"
    GRID_SAG = "grid_sag"


class Ends(enum.Enum):
    """When a fault is over."""

    CLEARED = "when cleared"
    TIME = "after its value in milliseconds, or when cleared"
    ONCE = "at once; what it changed stays changed"


class NotHere(ValueError):
    """This outlet has no part that the fault could strike."""


@dataclass(frozen=True, slots=True)
class FaultSpec:
    """``text`` is the sentence for the log. ``unit`` says what ``value`` is, ``value`` what it is when left out.

    ``begin`` is told the value; ``undo`` runs when the fault has been taken from ``Outlet.faults``.
    """

    text: str
    ends: Ends
    begin: Callable[[Outlet, int], None]
    undo: Callable[[Outlet], None] | None = None
    applies: Callable[[Outlet], bool] = lambda _: True
    value: int = 0
    unit: str = ""


# ------------------------------------------------------------------------------------------- contact and lock


def _contact(outlet: Outlet, _: int = 0) -> None:
    """Bring the contact in line with its faults."""
    plug, faults = outlet.plug_point, outlet.faults
    plug.welded = Fault.CONTACTOR_WELDED in faults
    plug.coil_dead = Fault.CONTACTOR_STUCK_OPEN in faults
    plug.move()


def _slow(outlet: Outlet, value: int = 0) -> None:
    outlet.plug_point.slow_ms = value


def _jam(outlet: Outlet, _: int = 0) -> None:
    outlet.board.jam(Fault.LOCK_JAMMED in outlet.faults)


# ------------------------------------------------------------------------------------------------------ pilot


def _link(outlet: Outlet, _: int = 0) -> None:
    """Line to the board and line to the meter, as the faults of now make them."""
    faults = outlet.faults
    noise = Fault.BUS_GARBAGE in faults
    if Fault.PILOT_SILENT in faults:
        outlet.board.set_link(Link.SILENT)
    else:
        outlet.board.set_link(Link.GARBAGE if noise or Fault.PILOT_GARBAGE in faults else Link.UP)
    outlet.meter.silent = Fault.METER_SILENT in faults
    outlet.meter.garbage = noise or Fault.METER_GARBAGE in faults
    outlet.meter.look()


def _short(outlet: Outlet, _: int = 0) -> None:
    outlet.plug_point.shorted = Fault.PILOT_SHORT in outlet.faults
    outlet.plug_point.measure()


def _bounce(outlet: Outlet, _: int = 0) -> None:
    """The pilot contact opens or closes, for longer than the board's own filter is blind."""
    plug = outlet.plug_point
    lasts = Fault.PILOT_CHATTER in outlet.faults
    plug.loose = lasts and not plug.loose and plug.vehicle_cp is not CpState.A
    plug.measure()
    if lasts:
        outlet.loop.call_later(outlet.rng.randrange(20, 600) / 1_000, _bounce_on, outlet)


def _bounce_on(outlet: Outlet) -> None:
    if Fault.PILOT_CHATTER in outlet.faults:
        _bounce(outlet)


def _reset_board(outlet: Outlet, _: int) -> None:
    outlet.board.reboot()


_NEAR_LAST_DIGIT_MWH = 2_000_000
_BOARD_FINDS = {
    Fault.RESIDUAL_CURRENT: BoardFault.RESIDUAL_CURRENT,
    Fault.RESIDUAL_SELF_TEST: BoardFault.RESIDUAL_SELF_TEST,
    Fault.NO_GROUND: BoardFault.NO_GROUND,
    Fault.OVER_TEMPERATURE: BoardFault.OVER_TEMPERATURE,
    Fault.OVER_CURRENT: BoardFault.OVER_CURRENT,
}


def _find(outlet: Outlet, _: int = 0) -> None:
    for fault, found in _BOARD_FINDS.items():
        if (fault in outlet.faults) is not (found in outlet.board.found):
            outlet.board.find(found, fault in outlet.faults)


# ------------------------------------------------------------------------------------------------------ meter


def _freeze(outlet: Outlet, _: int) -> None:
    outlet.meter.frozen_mwh = outlet.register_mwh
    outlet.meter.look()


def _thaw(outlet: Outlet) -> None:
    outlet.meter.frozen_mwh = None
    outlet.meter.look()


def _set_register(outlet: Outlet, value: int) -> None:
    outlet.meter.set_register(value, outlet.now_ms())


def _tell_once(outlet: Outlet, value: int) -> None:
    outlet.meter.once_mwh = value
    outlet.meter.look()


def _zero(outlet: Outlet, value: int) -> None:
    """But not where zero may be what it shows next."""
    rollover_mwh = outlet.meter.rollover_mwh
    if rollover_mwh is None or rollover_mwh - outlet.register_mwh > _NEAR_LAST_DIGIT_MWH:
        _tell_once(outlet, value)


def _jump(outlet: Outlet, value: int) -> None:
    _tell_once(outlet, max(0, outlet.register_mwh + value))


def _hold_reply(outlet: Outlet, _: int) -> None:
    """The next reply comes only after the next question, and is taken for its answer."""
    outlet.meter.lose_next = True
    outlet.meter.look()


def _exchange(outlet: Outlet, value: int) -> None:
    outlet.meter.serial = str(outlet.rng.randrange(30_000_000, 40_000_000))
    outlet.meter.set_register(value, outlet.now_ms())


def _near_rollover(outlet: Outlet, value: int) -> None:
    assert outlet.meter.rollover_mwh is not None
    outlet.meter.set_register(outlet.meter.rollover_mwh - value, outlet.now_ms())


# ------------------------------------------------------------------------------------------- module and grid


def _module(outlet: Outlet, _: int = 0) -> None:
    assert outlet.module is not None
    outlet.module.set_lost(Fault.MODULE_LOST in outlet.faults)
    outlet.module.set_hot(Fault.MODULE_HOT in outlet.faults)


def _sag(outlet: Outlet, value: int) -> None:
    outlet.set_grid(value)


def _grid_back(outlet: Outlet) -> None:
    outlet.set_grid(outlet.evse.voltage_v * 1_000)


def _autonomous(outlet: Outlet) -> bool:
    return outlet.evse.board.pilot.driver.autonomous


def _locks(outlet: Outlet) -> bool:
    return outlet.evse.board.pilot.lock


def _dc(outlet: Outlet) -> bool:
    return outlet.module is not None


def _ac(outlet: Outlet) -> bool:
    return outlet.module is None


def _rolls_over(outlet: Outlet) -> bool:
    return outlet.meter.rollover_mwh is not None


_C, _T, _O, _S = Ends.CLEARED, Ends.TIME, Ends.ONCE, FaultSpec
FAULTS: dict[Fault, FaultSpec] = {
    Fault.CONTACTOR_WELDED: _S("the contactor's contacts weld together", _C, _contact, _contact),
    Fault.CONTACTOR_STUCK_OPEN: _S("the contactor's coil dies", _C, _contact, _contact),
    Fault.CONTACTOR_SLOW: _S("the contactor becomes slow", _C, _slow, _slow, value=300, unit="ms more"),
    Fault.LOCK_JAMMED: _S("the lock jams", _C, _jam, _jam, _locks),
    Fault.PILOT_SILENT: _S("the pilot board falls silent", _C, _link, _link),
    Fault.PILOT_GARBAGE: _S("only garbage comes from the pilot board", _C, _link, _link),
    Fault.PILOT_CHATTER: _S("the pilot contact chatters", _T, _bounce, _bounce, value=5_000, unit="ms"),
    Fault.PILOT_SHORT: _S("the pilot is shorted to earth", _C, _short, _short),
    Fault.BOARD_RESET: _S("the pilot board reboots by itself", _O, _reset_board),
    Fault.RESIDUAL_CURRENT: _S("the board finds residual current", _C, _find, _find),
    Fault.RESIDUAL_SELF_TEST: _S("the residual current detector fails its self-test", _C, _find, _find),
    Fault.NO_GROUND: _S("the board misses protective earth", _C, _find, _find, _autonomous),
    Fault.OVER_TEMPERATURE: _S("the board is too hot", _C, _find, _find, _autonomous),
    Fault.OVER_CURRENT: _S("the board finds over-current", _C, _find, _find),
    Fault.METER_SILENT: _S("the meter falls silent", _C, _link, _link),
    Fault.METER_GARBAGE: _S("only garbage comes from the meter", _C, _link, _link),
    Fault.METER_STUCK: _S("the meter shows the same register again and again", _C, _freeze, _thaw),
    Fault.METER_RESET: _S("the meter's register begins anew", _O, _set_register, unit="mWh it shows then"),
    Fault.METER_JUMP: _S("one meter reading is far off", _O, _jump, value=1_000_000_000, unit="mWh too much"),
    Fault.METER_ZERO: _S("one meter reading is zero", _O, _zero),
    Fault.METER_LATE: _S("a meter reply is held up", _O, _hold_reply),
    Fault.METER_EXCHANGED: _S("the meter is exchanged", _O, _exchange, value=1_000_000, unit="mWh the new one shows"),
    Fault.METER_ROLLOVER: _S(
        "the meter stands shortly before its last digit",
        _O,
        _near_rollover,
        None,
        _rolls_over,
        _NEAR_LAST_DIGIT_MWH,
        "mWh before",
    ),
    Fault.BUS_GARBAGE: _S("the bus carries only garbage", _T, _link, _link, value=10_000, unit="ms"),
    Fault.MODULE_LOST: _S("the power modules fall silent", _C, _module, _module, _dc),
    Fault.MODULE_HOT: _S("the power modules are too hot", _C, _module, _module, _dc),
    Fault.GRID_SAG: _S("the grid voltage changes", _C, _sag, _grid_back, _ac, 200_000, "mV"),
}
