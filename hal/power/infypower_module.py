"""What is known of one Infypower module: when it was heard, whether it is surely off, what it can give.

Charter: a record with the few rules that concern one module alone. The group decides what to send.
Units: ms, mV, mA.
"""

from __future__ import annotations

import enum

from hal.ports import ModuleFault
from hal.power.infypower_codec import Capability, Command, External, Output, State, Status, faults

ROUND = frozenset({Command.READ_OUTPUT, Command.READ_STATE, Command.READ_EXTERNAL})

# With one of these a module is not switched on: closing again and again onto a short helps nobody, and
# two modules with one address would each deliver what is meant for one.
_NO_START = frozenset(
    {
        ModuleFault.FAULT,
        ModuleFault.PROTECTION,
        ModuleFault.OVER_TEMPERATURE,
        ModuleFault.OUTPUT_OVER_VOLTAGE,
        ModuleFault.OUTPUT_SHORT,
        ModuleFault.DISCHARGE,
        ModuleFault.DUPLICATE_ADDRESS,
    }
)


class Phase(enum.Enum):
    CLOSING = "closing"  # OFF is repeated until the module itself says that its DC side is off
    READY = "ready"  # was seen off since it joined, and follows what the group wants


class Module:
    """One address. A module counts for capability from its first capability reply until it is dropped."""

    def __init__(self, address: int) -> None:
        self.address = address
        self.phase = Phase.CLOSING
        self.heard_ms: int | None = None
        self.capability: Capability | None = None
        self.status: Status | None = None  # None: not known since it joined
        self.temperature_c: int | None = None  # None: as with the status
        self.alarms: frozenset[ModuleFault] = frozenset()
        self.refused: set[Command] = set()  # set commands it said no to, until it takes one
        self.output: Output | None = None  # of this round
        self.output_at_ms = 0
        self.external: External | None = None  # of this round
        self.answered: set[Command] = set()  # in this round

    def heard_within(self, now_ms: int, timeout_ms: int) -> bool:
        return self.heard_ms is not None and now_ms - self.heard_ms <= timeout_ms

    @property
    def off(self) -> bool:
        """Said so itself, after the last time it was told."""
        return self.phase is Phase.READY and self.status is not None and Status.DC_OFF in self.status

    @property
    def may_start(self) -> bool:
        return self.off and not self.alarms & _NO_START

    @property
    def all_answered(self) -> bool:
        return self.answered >= ROUND

    @property
    def faults(self) -> frozenset[ModuleFault]:
        return self.alarms | {ModuleFault.FAULT} if self.refused else self.alarms

    def begin_round(self) -> None:
        self.output = None
        self.external = None
        self.answered.clear()

    def silent(self) -> None:
        """Not heard for a while: it is no longer known what it does. Alarms hold until it speaks again."""
        self.phase = Phase.CLOSING
        self.status = None
        self.temperature_c = None

    def drop(self) -> None:
        """So long silent that its own time-out has surely switched it off."""
        self.silent()
        self.capability = None
        self.alarms = frozenset()
        self.refused.clear()

    def take_state(self, state: State) -> None:
        self.status = state.status
        self.temperature_c = state.temperature_c
        self.alarms = faults(state.status)
        if ModuleFault.DUPLICATE_ADDRESS in self.alarms:
            self.phase = Phase.CLOSING  # one of the two says "off", the other may not be
        elif Status.DC_OFF in state.status:
            self.phase = Phase.READY
