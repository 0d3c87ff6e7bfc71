"""What a charging board is: which drivers speak to it, its hard limits, and what it guards by itself.

Charter: plain data. One board file (``*.toml`` beside this module, or a path of the integrator's)
describes one kind of board; the configuration of a station names the board of each EVSE and adds
addresses. A board file may only be written from the board's documents: the limits in it are the last
ones the software keeps, above the hardware's own.

Files are read and checked by ``agent.config.board_file``; this package must not depend on it.

Units: milliampere, millivolt, watt, bit/s.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable

from hal.ports import BoardFault


class BoardKind(enum.StrEnum):
    AC = "ac"
    DC = "dc"


class PilotDriver(enum.StrEnum):
    """Who speaks to the pilot board: ``hal.pilots.<value>``."""

    OPENEVSE = "openevse"  # autonomous: the board runs IEC 61851-1 and its contactor
    MCU = "mcu"  # subordinate: we run IEC 61851-1 and grant power

    @property
    def autonomous(self) -> bool:
        return self is PilotDriver.OPENEVSE


class PowerDriver(enum.StrEnum):
    """Who speaks to the DC power modules: ``hal.power.<value>``."""

    INFYPOWER = "infypower"


class Parity(enum.StrEnum):
    NONE = "N"
    EVEN = "E"
    ODD = "O"


@dataclass(frozen=True, slots=True, kw_only=True)
class PilotPart:
    """The pilot controller and what it has around it."""

    driver: PilotDriver
    baud: int = 115_200
    lock: bool = False  # a connector lock with position feedback
    contactor_feedback: bool = False  # mirror contacts are measured
    ventilation: bool = False  # vehicles of pilot state D may charge


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterPart:
    """The energy meter on its Modbus RTU line. ``map`` is a register map of ``hal.meters``."""

    map: str
    baud: int = 9_600
    parity: Parity = Parity.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerPart:
    """The DC power modules on their CAN bus."""

    driver: PowerDriver
    bitrate: int = 125_000


@dataclass(frozen=True, slots=True, kw_only=True)
class HardLimits:
    """What no setting, profile or vehicle can exceed. Voltages and power are those of a DC output."""

    max_current_ma: int
    min_current_ma: int = 6_000
    phases: int = 3
    min_voltage_mv: int | None = None
    max_voltage_mv: int | None = None
    max_power_w: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """One kind of board. ``interlocks`` are the faults the board finds, and opens on, by itself."""

    name: str
    kind: BoardKind
    source: str
    pilot: PilotPart
    meter: MeterPart
    limits: HardLimits
    interlocks: tuple[BoardFault, ...]
    power: PowerPart | None = None


def bundled_boards() -> dict[str, Traversable]:
    """The board files that ship with the package, by name (file name without ``.toml``)."""
    files = (each for each in resources.files(__name__).iterdir() if each.name.endswith(".toml"))
    return {each.name.removesuffix(".toml"): each for each in files}
