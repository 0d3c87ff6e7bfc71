"""What an OpenEVSE board's state means, and which command brings it to what is wanted. Pure.

Rules:

* ``B`` is told for a sleeping board with a vehicle: there the board does not refresh its raw pilot
  field (it would still say C after a stop in C), only the connected flag. While the relay is still
  closed, waiting for the vehicle to open first, it is ``C``. A disabled board is ``F``.
* In a fault state the relay is open and no current is offered, so stop and disable are fulfilled. Neither ``FS`` nor
  ``FD`` is sent then: the board would forget the fault, and once enabled close again onto what it had found (no earth)
  instead of trying by its own rules, minutes apart. Only a relay that is stuck all the same is disabled. When the fault
  clears, the board passes through state A or B for 250 ms at least before it could close: time enough to stop.
* A stuck relay stands until the board has checked it again, since sleeping or disabled it does not look.
* A hard fault stands until the board has forgotten it. A board that was put to sleep or disabled meanwhile does not do
  that by itself when the vehicle leaves, and would never charge again: then it is reset.
* Current first, then enable: at no moment may the board offer more than wanted.
* A board whose firmware is built with BOOTLOCK (release 8.2.3 is) answers after each boot, but looks at nothing until
  ``SB``. It is put to sleep, or disabled, before that, so that it cannot begin by itself. Until then it knows of no
  vehicle, also where its flag says that there is none. ``SB`` is answered ``OK 1`` in a fault, which its state tells.
  What its tests at boot have found (no earth, residual current self-test) it does not look at again while locked: only
  a reset repeats them.

Sources: OpenEVSE firmware 8.2.3 ``J1772EvseController.cpp`` (states, debounce, what is checked when). The boot lock and
the states of the proximity pilot were read in the source of 9.2.0 (``main.cpp``, ``rapi_proc.h``); that 8.2.3 is
released with the lock is told by its users (openevse_esp32_firmware #738, #798). None of it was traced on a device.
Units: ampere, as the board has them.
"""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Mapping
from dataclasses import dataclass

from hal.ports import BoardFault, CpState

UNKNOWN, STATE_A, STATE_B, STATE_C, STATE_D = range(5)
STUCK_RELAY, SLEEPING, DISABLED = 0x08, 0xFE, 0xFF
_OFF = (SLEEPING, DISABLED)

_CP: Mapping[int, CpState] = {STATE_A: CpState.A, STATE_B: CpState.B, STATE_C: CpState.C, STATE_D: CpState.D}
_FAULTS: Mapping[int, BoardFault] = {
    STATE_D: BoardFault.NO_VENTILATION,  # it never serves such a vehicle
    0x05: BoardFault.DIODE,
    0x06: BoardFault.RESIDUAL_CURRENT,
    0x07: BoardFault.NO_GROUND,
    STUCK_RELAY: BoardFault.CONTACTOR_WELDED,
    0x09: BoardFault.RESIDUAL_SELF_TEST,
    0x0A: BoardFault.OVER_TEMPERATURE,
    0x0B: BoardFault.OVER_CURRENT,
    0x0E: BoardFault.CONTACTOR_OPEN,
    0x0F: BoardFault.PROXIMITY,  # shorted
    0x10: BoardFault.PROXIMITY,  # no resistor
}
_HEALTHY = {UNKNOWN, STATE_A, STATE_B, STATE_C, SLEEPING, DISABLED}

_THERMOMETERS = ("DS3231", "MCP9808", "TMP007")
_DECI_C = range(-1_000, 2_001)

_VFLAG_HARD_FAULT, _VFLAG_CHARGING, _VFLAG_CONNECTED = 0x0002, 0x0040, 0x0100
_VFLAG_TIMER, _VFLAG_BOOT_LOCK = 0x1000, 0x4000
FLAG_NO_STUCK_RELAY_CHECK = 0x0010
_CHECKS_OFF: Mapping[int, str] = {
    0x0002: "diode",
    0x0004: "ventilation",
    0x0008: "ground",
    FLAG_NO_STUCK_RELAY_CHECK: "stuck relay",
    0x0200: "residual current self-test",
    0x0400: "temperature",
}


@dataclass(frozen=True, slots=True)
class Status:
    """What the board last said of itself. ``current_a`` is None where it is not known."""

    state: int = UNKNOWN
    pilot: int = UNKNOWN
    vflags: int = 0
    current_a: int | None = None


class Mode(enum.Enum):
    OFFER = "offer"
    STOP = "stop"
    DISABLE = "disable"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the station wants. ``current_a`` counts only for ``OFFER``."""

    mode: Mode
    current_a: int = 0


def is_fault(state: int) -> bool:
    """Any state that the firmware does not count as normal operation, listed here or not."""
    return state not in _HEALTHY


def cp_state(status: Status) -> CpState | None:
    """The pilot as the core knows it; None while the board does not know it itself."""
    if status.state == UNKNOWN or boot_locked(status):
        return None
    if status.state == DISABLED:
        return CpState.F
    if status.state in _CP:
        return _CP[status.state]
    if not vehicle_connected(status):
        return CpState.A
    if status.state == SLEEPING:
        return CpState.C if status.vflags & _VFLAG_CHARGING else CpState.B
    return _CP.get(status.pilot, CpState.B)


def contactor_closed(status: Status) -> bool:
    return bool(status.vflags & _VFLAG_CHARGING) or status.state == STUCK_RELAY


def held_open(status: Status) -> bool:
    """Whether a fault of the board's own keeps its relay open."""
    return is_fault(status.state) and not contactor_closed(status)


def faults(status: Status, before: frozenset[BoardFault]) -> frozenset[BoardFault]:
    """The faults of this state; ``before`` are those of the state before it."""
    if is_fault(status.state):
        return frozenset({_FAULTS.get(status.state, BoardFault.PILOT)})
    if status.vflags & _VFLAG_HARD_FAULT:
        return before or frozenset({BoardFault.PILOT})  # put to sleep with it before we looked: which it was, is lost
    checks_relay = status.state in _CP
    return frozenset() if checks_relay else before & {BoardFault.CONTACTOR_WELDED}


def vehicle_connected(status: Status) -> bool:
    return bool(status.vflags & _VFLAG_CONNECTED)


def boot_locked(status: Status) -> bool:
    return bool(status.vflags & _VFLAG_BOOT_LOCK)


def has_timer(status: Status) -> bool:
    """Whether a delay timer stored in the board puts it to sleep and wakes it by the board's own clock."""
    return bool(status.vflags & _VFLAG_TIMER)


def needs_reset(status: Status) -> bool:
    """Whether there is a fault that nothing else ends: a hard one that is left over, without a vehicle, or any of a
    locked board, which knows of no vehicle."""
    if boot_locked(status) and is_fault(status.state):
        return True
    over = status.state in _OFF and not vehicle_connected(status)
    return over and bool(status.vflags & _VFLAG_HARD_FAULT)


def checks_off(settings_flags: int) -> tuple[str, ...]:
    """Names of the safety checks that the board's stored settings switch off."""
    return tuple(name for flag, name in _CHECKS_OFF.items() if settings_flags & flag)


def urgent_command(wanted: Wanted, status: Status) -> str | None:
    """What must go out at once for a stop or disable; None where the board is there already."""
    if wanted.mode is Mode.DISABLE:
        return None if status.state == DISABLED or held_open(status) else "FD"
    if wanted.mode is Mode.STOP:
        return None if status.state == SLEEPING or is_fault(status.state) else "FS"
    return None


def next_command(wanted: Wanted, status: Status, tried: frozenset[str] = frozenset()) -> str | None:
    """The next command on the way to ``wanted``, or None: confirmed, or nothing more to do now.

    ``tried`` are the commands of this round; none is repeated before the next one.
    """
    command = urgent_command(wanted, status)
    if boot_locked(status):
        if command is None and not is_fault(status.state):
            command = "SB" if status.state in _OFF else "FS"
    elif wanted.mode is Mode.OFFER:
        set_current = f"SC {wanted.current_a} V"  # V: volatile, does not wear the EEPROM
        if status.current_a != wanted.current_a and set_current not in tried:
            return set_current
        too_much = status.current_a is None or status.current_a > wanted.current_a
        if status.state in _OFF and not too_much:
            command = "FE"
    return None if command in tried else command


def temperatures(fields: tuple[str, ...]) -> dict[str, int]:
    """The answer to ``$GP`` (0.1 degrees Celsius each; -2560: not fitted) as 0.001 degrees by sensor.

    What cannot be a temperature is left out."""
    found = {}
    for name, text in zip(_THERMOMETERS, fields, strict=False):
        with contextlib.suppress(ValueError):
            if (deci_c := int(text)) in _DECI_C:
                found[name] = deci_c * 100
    return found
