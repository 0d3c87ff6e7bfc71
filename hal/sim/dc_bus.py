"""A DC bus: sources with a voltage and a current limit on one side, a load on the other, and what flows.

Charter: the physics under DC power module simulators. Static per step: no inductance, no capacitance.
All integers: mV, mA, W, ms; energy is counted in nanojoules (mV * mA * ms) and never rounded inside.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

_NJ_PER_MWH = 3_600_000_000


class DcLoad(Protocol):
    """What hangs on the bus: a vehicle, a resistor, nothing."""

    def current_ma(self, voltage_mv: int) -> int:
        """The current it draws at this voltage; never negative, never falling as the voltage rises."""
        ...


@dataclass(slots=True)
class ResistiveLoad:
    milliohm: int

    def current_ma(self, voltage_mv: int) -> int:
        return voltage_mv * 1000 // self.milliohm


@dataclass(slots=True)
class BatteryLoad:
    """A battery behind its resistance; it takes current only above its open-circuit voltage."""

    open_circuit_mv: int
    milliohm: int

    def current_ma(self, voltage_mv: int) -> int:
        return max(0, voltage_mv - self.open_circuit_mv) * 1000 // self.milliohm


class OpenCircuit:
    """Nothing connected."""

    def current_ma(self, voltage_mv: int) -> int:  # noqa: ARG002 - the protocol's signature
        return 0


def operating_point(load: DcLoad, supply_ma: Callable[[int], int], highest_mv: int) -> tuple[int, int]:
    """Voltage (mV) and current (mA) where the sources meet the load.

    ``supply_ma(mV)`` is what the sources can give at that voltage and must not rise with it. Constant
    voltage: ``highest_mv``, if they can feed the load there. Otherwise the highest voltage they can hold.
    """
    if load.current_ma(highest_mv) <= supply_ma(highest_mv):
        return highest_mv, load.current_ma(highest_mv)
    low, high = 0, highest_mv  # the load is met at low, not at high
    while high - low > 1:
        middle = (low + high) // 2
        if load.current_ma(middle) <= supply_ma(middle):
            low = middle
        else:
            high = middle
    # The true point is less than 1 mV above: the sources are at their limit there.
    return low, min(supply_ma(low), load.current_ma(high))


class EnergyCounter:
    """Energy that flowed, exact over any number of steps."""

    def __init__(self) -> None:
        self.nanojoule = 0

    @property
    def mwh(self) -> int:
        return self.nanojoule // _NJ_PER_MWH

    def add(self, voltage_mv: int, current_ma: int, duration_ms: int) -> None:
        self.nanojoule += voltage_mv * current_ma * duration_ms
