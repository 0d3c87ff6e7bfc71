"""The boot selector of U-Boot: variables of its redundant environment, in the manner of RAUC.

Charter: sets ``BOOT_ORDER`` and, for each slot, how often it may still be tried; the boot script
``packaging/boot/uboot.cmd`` reads and counts them. A slot ``a`` is called ``A`` in the environment:

    BOOT_ORDER    "B A": slots by preference; a blocked slot is not in it
    BOOT_B_LEFT   boots left without ``confirm``; 0 to 9, since U-Boot calculates in hexadecimal
    BOOT_B_GOOD   1: the script boots it without counting (and saves nothing)

The first two are what RAUC uses and its scripts know; ``GOOD`` is ours, so that no number of ordinary power cuts uses a
good slot up. Under a script that ignores it a good slot still gets its tries back at every start (``repair``). All
variables of a change are saved in one write (``uboot_env``). Where everything is used up the script gives all slots of
``BOOT_ORDER`` their tries back; it never stops.

Sources: RAUC integration manual, "U-Boot"; firmware reference 1.1, 1.3 items 1, 2, 9.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agent.firmware.ports import BootState, SlotState
from agent.firmware.selectors import rules
from agent.firmware.selectors.rules import FULL_TRIES, Slots
from agent.firmware.selectors.uboot_env import Environment, EnvironmentCopy, EnvironmentPair, Loaded
from agent.firmware.storage import Storage

MAX_TRIES: Final = 9

_ORDER: Final = "BOOT_ORDER"
_DIGITS: Final = frozenset("0123456789")


@dataclass(frozen=True, slots=True)
class _Choice:
    """What the variables say: slots by preference, tries left of each, and which are good."""

    order: tuple[str, ...]
    left: dict[str, int]
    good: frozenset[str]

    def usable(self, slot: str) -> bool:
        return slot in self.order and (slot in self.good or self.left[slot] > 0)


class UbootSelector:
    """See ``agent.firmware.ports.BootSelector``. ``copies``: both places of the environment, each of ``size_bytes``;
    ``booted``: the running slot (``booted.slot_of_command_line``)."""

    reboot_argument: str | None = None

    def __init__(
        self,
        storage: Storage,
        copies: tuple[EnvironmentCopy, ...],
        size_bytes: int,
        slots: Slots,
        booted: str | None,
    ) -> None:
        self._pair = EnvironmentPair(storage, copies, size_bytes)
        self._slots = rules.check_slots(slots)
        self._booted = booted

    def state(self) -> BootState:
        loaded = self._pair.load()
        if loaded is None:
            return rules.unreadable_state(self._booted, self._slots)
        return self._state_of(self._choice(loaded.environment))

    def block(self, slot: str) -> None:
        loaded, choice = self._demand()
        rules.demand_free(self._state_of(choice), slot)
        self._save(loaded, _good(_without(choice, slot), rules.other_of(self._slots, slot)))

    def activate(self, slot: str, tries: int) -> None:
        loaded, choice = self._demand()
        rules.demand_free(self._state_of(choice), slot)
        left = {**choice.left, slot: min(max(tries, 1), MAX_TRIES)}
        self._save(loaded, _Choice(_first(slot, choice.order), left, choice.good - {slot}))

    def confirm(self, slot: str) -> None:
        loaded, choice = self._demand()
        rules.demand_booted(self._state_of(choice), slot)
        self._save(loaded, _good(choice, slot))

    def revert(self, slot: str) -> None:
        loaded, choice = self._demand()
        rules.demand_good(self._state_of(choice), slot)
        other = rules.other_of(self._slots, slot)
        self._save(loaded, _good(choice if other in choice.good else _without(choice, other), slot))

    def repair(self) -> list[str]:
        loaded, choice = self._demand()
        done, repaired = [], choice
        if loaded.damaged:
            done.append("one copy of the U-Boot environment was damaged and is written anew")
        for slot in self._slots:
            if slot in choice.good and choice.left[slot] < FULL_TRIES:
                repaired = _Choice(repaired.order, {**repaired.left, slot: FULL_TRIES}, repaired.good)
                done.append(f"the good slot {slot} had {choice.left[slot]} tries left and has {FULL_TRIES} again")
        if self._booted in choice.good and not set(choice.order) & choice.good:
            repaired = _good(repaired, self._booted)
            done.append(f"{_ORDER} named no good slot and names {self._booted} again, which runs now")
        if done:
            self._save(loaded, repaired)
        return done

    # -------------------------------------------------------------------------------------- variables

    def _demand(self) -> tuple[Loaded, _Choice]:
        loaded = self._pair.demand()
        return loaded, self._choice(loaded.environment)

    def _choice(self, environment: Environment) -> _Choice:
        """As the boot script takes the variables, also those that are not set or make no sense."""
        by_name = {slot.upper(): slot for slot in self._slots}
        words = (environment.get(_ORDER) or "").split()
        order = tuple(dict.fromkeys(by_name[word] for word in words if word in by_name))
        left = {slot: _tries(environment.get(_left(slot))) for slot in self._slots}
        good = frozenset(slot for slot in self._slots if environment.get(_is_good(slot)) == "1")
        return _Choice(order or tuple(sorted(self._slots, key=lambda slot: slot not in good)), left, good)

    def _state_of(self, choice: _Choice) -> BootState:
        slots = (
            SlotState(
                slot,
                bootable=choice.usable(slot),
                good=slot in choice.good,
                tries_left=None if slot in choice.good else choice.left[slot],
            )
            for slot in self._slots
        )
        primary = next(filter(choice.usable, choice.order), choice.order[0])
        return rules.boot_state(self._booted, primary, slots)

    def _save(self, loaded: Loaded, choice: _Choice) -> None:
        changes = {_ORDER: " ".join(slot.upper() for slot in choice.order)}
        for slot in self._slots:
            changes[_left(slot)] = str(choice.left[slot])
            changes[_is_good(slot)] = "1" if slot in choice.good else "0"
        self._pair.save(loaded, loaded.environment.having(changes))


def _without(choice: _Choice, slot: str) -> _Choice:
    """``slot`` is not booted; somebody else is."""
    order = tuple(each for each in choice.order if each != slot)
    return _Choice(order, {**choice.left, slot: 0}, choice.good - {slot})


def _good(choice: _Choice, slot: str) -> _Choice:
    """``slot`` boots first from now on."""
    return _Choice(_first(slot, choice.order), {**choice.left, slot: FULL_TRIES}, choice.good | {slot})


def _first(slot: str, order: tuple[str, ...]) -> tuple[str, ...]:
    return (slot, *(each for each in order if each != slot))


def _tries(value: str | None) -> int:
    """A variable that is not set counts as full, one that makes no sense as none."""
    if not value:
        return FULL_TRIES
    return int(value) if len(value) == 1 and value in _DIGITS else 0


def _left(slot: str) -> str:
    return f"BOOT_{slot.upper()}_LEFT"


def _is_good(slot: str) -> str:
    return f"BOOT_{slot.upper()}_GOOD"
