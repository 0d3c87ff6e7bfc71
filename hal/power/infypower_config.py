"""How one EVSE's Infypower modules are set up.

Charter: the settings and what makes them impossible; no behaviour. Times in milliseconds.
Source of the 10 s: Infypower CAN protocol V1.13; field drivers drop a module after 15 s.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from hal.power.infypower_codec import FIRST_CONTROLLER, LAST_CONTROLLER, LAST_MODULE

MODULE_SILENCE_MS = 10_000  # a module that hears no controller for this long switches itself off


class Mode(enum.StrEnum):
    GROUP = "group"  # one set-point, the group shares it; modules 0..n-1 are found by asking for the count
    MODULES = "modules"  # each configured module gets its share from us


@dataclass(frozen=True, slots=True)
class InfypowerConfig:
    """``addresses`` for mode modules, ``group`` for mode group. Raises ``ValueError`` where it cannot work."""

    name: str
    mode: Mode
    addresses: tuple[int, ...] = ()
    group: int = 0
    controller: int = FIRST_CONTROLLER
    off_timeout_ms: int = 15_000
    output_timeout_ms: int = 3_000
    poll_interval_ms: int = 1_000

    def __post_init__(self) -> None:
        problems = []
        if self.mode is Mode.MODULES and not self.addresses:
            problems.append("mode modules needs addresses")
        if self.mode is Mode.GROUP and self.addresses:
            problems.append("mode group finds its addresses itself")
        if len(set(self.addresses)) != len(self.addresses):
            problems.append("an address appears twice")
        if any(not 0 <= address <= LAST_MODULE for address in self.addresses):
            problems.append(f"addresses are 0..{LAST_MODULE}")
        if not 0 <= self.group <= LAST_MODULE:
            problems.append(f"group is 0..{LAST_MODULE}")
        if not FIRST_CONTROLLER <= self.controller <= LAST_CONTROLLER:
            problems.append(f"controller is {FIRST_CONTROLLER}..{LAST_CONTROLLER}")
        if self.off_timeout_ms <= MODULE_SILENCE_MS:
            # Current would be given to the others while the silent module still delivers its own.
            problems.append(f"off_timeout_ms must be above the modules' own {MODULE_SILENCE_MS}")
        if not 0 < self.poll_interval_ms < self.output_timeout_ms < MODULE_SILENCE_MS:
            problems.append(f"need 0 < poll_interval_ms < output_timeout_ms < {MODULE_SILENCE_MS}")
        if problems:
            raise ValueError(f"power module {self.name}: {'; '.join(problems)}")
