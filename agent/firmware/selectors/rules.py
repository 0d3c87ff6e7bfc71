"""What every boot selector demands before it changes anything, and how it fails.

Charter: checks on slots and on a ``BootState``, and the translation of ``OSError``; all end in ``SlotFailed`` with what
to do. Pure but for the translation. The rules: the slot that changes is not the booted one, the slot that stays is
good, only a booted slot can be confirmed, only a good one can be gone back to.
Source: firmware reference 1.3 (items 2, 5, 9) and 1.5.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from agent.firmware.errors import SlotFailed
from agent.firmware.ports import BootState, SlotState

Slots = tuple[str, str]
"""The two slots by name; the first is the one a device leaves the factory with."""

FULL_TRIES: Final = 3
"""Tries of a good slot, where a boot loader counts those too."""

_NAME: Final = re.compile(r"[a-z0-9]{1,8}")


def check_slots(slots: Iterable[str]) -> Slots:
    """``slots`` if they can be names of files and variables on every boot loader. Raises ``SlotFailed``."""
    names = tuple(slots)
    if len(names) != 2 or names[0] == names[1] or not all(_NAME.fullmatch(name) for name in names):
        raise SlotFailed("slots", f"{names!r} are not two different words of at most 8 of a-z and 0-9")
    return names


def other_of(slots: Slots, slot: str) -> str:
    """The slot beside ``slot``."""
    return slots[1] if slot == slots[0] else slots[0]


def boot_state(booted: str | None, primary: str | None, slots: Iterable[SlotState]) -> BootState:
    """A ``BootState``; on trial is a booted slot that is not good."""
    slots = tuple(slots)
    on_trial = any(each.slot == booted and not each.good for each in slots)
    return BootState(booted, primary, on_trial, slots)


def unreadable_state(booted: str | None, slots: Slots) -> BootState:
    """Of a boot loader whose own data nobody can read: no primary, no good slot."""
    return boot_state(booted, None, (SlotState(slot, False, False, None) for slot in slots))


def _demand_known(state: BootState, slot: str) -> None:
    slots = [each.slot for each in state.slots]
    if slot not in slots:
        raise SlotFailed(f"slot {slot}", f"this device has only {' and '.join(slots)}")


def demand_free(state: BootState, slot: str) -> None:
    """``slot`` may lose its content or be put on trial: it is not the booted one, and that one is good."""
    _demand_known(state, slot)
    if state.booted is None:
        raise SlotFailed(
            f"slot {slot}",
            "nobody can tell which slot this system runs from, it may be this one",
            "the boot loader must pass evsed.slot=NAME to the kernel, see packaging/boot/README.md",
        )
    if slot == state.booted:
        raise SlotFailed(f"slot {slot}", "this system runs from it")
    if not state.of(state.booted).good:
        raise SlotFailed(
            f"slot {slot}",
            f"the slot that would stay, {state.booted}, is not marked good",
            "try again when its self test has passed",
        )


def demand_booted(state: BootState, slot: str) -> None:
    """``slot`` is the one whose health can be judged now."""
    _demand_known(state, slot)
    if slot != state.booted:
        raise SlotFailed(f"slot {slot}", f"only the booted slot can be confirmed, that is {state.booted or 'unknown'}")


def demand_good(state: BootState, slot: str) -> None:
    """``slot`` has proved itself, so it may be gone back to without a trial."""
    _demand_known(state, slot)
    if not state.of(slot).good:
        raise SlotFailed(f"slot {slot}", "it is not marked good, so it cannot be gone back to", "activate it instead")
