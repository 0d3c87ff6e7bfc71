"""The output of a DC EVSE: what its modules are ordered to put out, and what they say that they do.

Rules:

* Ordered is what the vehicle asks for, and no more current than it may have.
* What was ordered before a lowering may be put out as long as a vehicle may take to follow one: a ramp takes time.
* A voltage above the ordered one is the modules' doing while they drive current. Without current it is the vehicle's
  battery that is measured. Readings in a row must show it.
"""

from __future__ import annotations

from agent.core.of_late import Lasting, MostOfLate
from agent.core.settings import DcBench, Timing
from hal.ports import PowerOutput

_QUIET_MA = 1_000  # below this the contactor may open without load


class DcOutput:
    """Orders and measurements of one EVSE's modules, in mV and mA. Without modules nothing is ever ordered."""

    def __init__(self, timing: Timing, bench: DcBench | None) -> None:
        self._timing = timing
        self.demand = bench
        self._measured: PowerOutput | None = None
        self._mv, self._ma = (MostOfLate(timing.raise_limit_every_ms) for _ in range(2))
        self._too_high = Lasting()

    def order(self, offered_ma: int) -> tuple[int, int] | None:
        """Voltage and current to order where so much may flow now; None: the output is to be off."""
        if self.demand is None or offered_ma == 0:
            return None
        return self.demand.voltage_mv, min(self.demand.current_ma, offered_ma)

    def ordered(self, voltage_mv: int, current_ma: int, at_ms: int) -> None:
        """The modules have been told; 0 while they are to be off."""
        self._mv.set(voltage_mv, at_ms)
        self._ma.set(current_ma, at_ms)

    def may_give_ma(self, at_ms: int) -> int:
        return self._ma.most(at_ms)

    def hear(self, measured: PowerOutput | None) -> None:
        """None: nobody knows."""
        self._measured = measured

    @property
    def quiet(self) -> bool:
        return self._measured is None or self._measured.current_ma < _QUIET_MA

    def is_too_high(self, at_ms: int) -> bool:
        """Whether the modules have put out more voltage than ordered for too long, as of a new measurement."""
        most_mv, timing = self._mv.most(at_ms), self._timing
        over = (
            self._measured is not None
            and most_mv > 0
            and not self.quiet
            and self._measured.voltage_mv > most_mv + timing.over_voltage_margin_mv
        )
        return self._too_high.lasts_ms(over, at_ms) >= timing.over_voltage_ms
