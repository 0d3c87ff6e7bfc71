"""Which slot boots, where RAUC speaks to the boot loader: a ``BootSelector`` over GetSlotStatus, GetPrimary and Mark.

Charter: RAUC's two bootable slots (those with a bootname, of the booted slot's class) are ours in the order of their
bootnames: A and B, or system0 and system1, are a and b. Nothing is believed that can be read back.

RAUC cannot say whether a slot is on trial: with U-Boot and barebox it calls a slot good while tries are left. So a
small record of ours names, for each slot, the activation that was confirmed (RAUC's own count and time of it), or says
that it is on trial. A slot that RAUC activated since is on trial, too, whoever asked for it. A slot without a word in
either place came from the factory, and RAUC's word on it counts. A record that is lost or unreadable costs one more
self test, nothing else.

How many tries a slot gets is RAUC's configuration (boot-attempts); RAUC does not tell how many are left.
Sources: RAUC's manual (Mark, prevent-late-fallback, boot-attempts), bootchooser.c; firmware reference 1.3 (1, 2, 9).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.firmware.engines.rauc_bus import RaucBus, RaucSaid, RaucSession
from agent.firmware.engines.rauc_words import LOOK, clip, says_no_primary
from agent.firmware.errors import SlotFailed
from agent.firmware.faults import slot_faults
from agent.firmware.ports import BootState, SlotState
from agent.firmware.selectors.rules import (
    Slots,
    boot_state,
    check_slots,
    demand_booted,
    demand_free,
    demand_good,
    other_of,
)
from agent.firmware.storage import Storage, read_small, replace

_MAX_RECORD_BYTES: Final = 4096
_NOT_BOOTED: Final = "pass rauc.slot=BOOTNAME to the kernel"
_ON_TRIAL: Final = "trial"
"""In the record; no activation is called so, since those begin with a number."""


@dataclass(frozen=True, slots=True)
class _RaucSlot:
    """``activation``: which one, in RAUC's words; empty where it never was."""

    name: str
    bootname: str
    booted: bool
    bootable: bool
    activation: str


@dataclass(frozen=True, slots=True)
class _Seen:
    """RAUC's slots by our names, and our record of them."""

    slots: dict[str, _RaucSlot]
    primary: str | None
    confirmed: dict[str, str]

    def is_confirmed(self, slot: str) -> bool:
        return self.slots[slot].activation == self.confirmed.get(slot, "")

    @property
    def booted(self) -> str | None:
        return next((name for name, slot in self.slots.items() if slot.booted), None)

    @property
    def boot(self) -> BootState:
        slots = (
            SlotState(name, bootable=slot.bootable, good=slot.bootable and self.is_confirmed(name), tries_left=None)
            for name, slot in self.slots.items()
        )
        return boot_state(self.booted, self.primary, slots)


class RaucSelector:
    """See the module. ``record`` is a file in a folder that both slots share."""

    reboot_argument: str | None = None

    def __init__(self, bus: RaucBus, slots: Slots, storage: Storage, record: Path) -> None:
        self._bus = bus
        self._slots = check_slots(slots)
        self._storage = storage
        self._record = record

    def state(self) -> BootState:
        with self._session() as rauc:
            return self._look(rauc).boot

    def block(self, slot: str) -> None:
        with self._session() as rauc:
            seen = self._look(rauc)
            _demand_booted_known(seen)
            demand_free(seen.boot, slot)
            self._remember(seen, slot, _ON_TRIAL)
            rauc.mark("bad", seen.slots[slot].name)
            if self._look(rauc).slots[slot].bootable:
                raise _not_done(seen.slots[slot].name, "bad")

    def activate(self, slot: str, tries: int) -> None:  # noqa: ARG002 - RAUC counts as its configuration says
        with self._session() as rauc:
            seen = self._look(rauc)
            _demand_booted_known(seen)
            demand_free(seen.boot, slot)
            self._remember(seen, slot, _ON_TRIAL)
            rauc.mark("active", seen.slots[slot].name)
            if self._look(rauc).primary != slot:
                raise _not_done(seen.slots[slot].name, "active")

    def confirm(self, slot: str) -> None:
        with self._session() as rauc:
            demand_booted(self._look(rauc).boot, slot)
            self._confirm_booted(rauc, slot)

    def _confirm_booted(self, rauc: RaucSession, slot: str) -> None:
        rauc.mark("good", "booted")  # by this word prevent-late-fallback does its work, too
        now = self._look(rauc)
        if not now.slots[slot].bootable:
            raise _not_done(now.slots[slot].name, "good")
        self._remember(now, slot, now.slots[slot].activation)

    def revert(self, slot: str) -> None:
        with self._session() as rauc:
            seen = self._look(rauc)
            demand_good(seen.boot, slot)
            tried = other_of(self._slots, slot)
            if tried in (seen.booted, seen.primary):
                rauc.mark("bad", seen.slots[tried].name)
            if self._look(rauc).primary == slot:
                return  # as with most boot loaders; with EFI's BootNext there is more to do
            rauc.mark("active", seen.slots[slot].name)
            now = self._look(rauc)
            self._remember(now, slot, now.slots[slot].activation)
            if now.primary != slot:
                raise _not_done(seen.slots[slot].name, "active")

    def repair(self) -> list[str]:
        """RAUC's changes are whole or not there. A confirmed booted slot gets its tries back, unless a trial of the
        other one is asked for: marking good might end that."""
        with self._session() as rauc:
            seen = self._look(rauc)
            words = []
            if self._confirmed() is None:
                words.append(f"{self._record} is not readable; the next self test writes it anew")
            pending = any(each.bootable and not seen.is_confirmed(name) for name, each in seen.slots.items())
            if seen.booted is not None and seen.is_confirmed(seen.booted) and not pending:
                was_bootable = seen.slots[seen.booted].bootable
                self._confirm_booted(rauc, seen.booted)
                if not was_bootable:
                    words.append(f"slot {seen.booted} had no tries left and got them back")
            return words

    # --------------------------------------------------------------------------------------- RAUC

    @contextlib.contextmanager
    def _session(self) -> Iterator[RaucSession]:
        with self._bus.session() as rauc:
            try:
                yield rauc
            except RaucSaid as error:
                raise SlotFailed("RAUC", clip(error.words), LOOK) from error

    def _look(self, rauc: RaucSession) -> _Seen:
        found = [_slot(name, status) for name, status in rauc.slot_status().items() if "bootname" in status]
        classes = {slot.name.partition(".")[0] for slot in found if slot.booted}
        rivals = [slot for slot in found if not classes or slot.name.partition(".")[0] in classes]
        if len(rivals) != len(self._slots):
            names = ", ".join(sorted(slot.name for slot in rivals)) or "none"
            raise SlotFailed("RAUC", f"its bootable slots are {names}; two are needed", "see RAUC's system.conf")
        slots = dict(zip(self._slots, sorted(rivals, key=lambda slot: slot.bootname), strict=True))
        try:
            primary = rauc.primary()
        except RaucSaid as error:
            if not says_no_primary(error.words):
                raise
            primary = ""
        ours = next((name for name, slot in slots.items() if slot.name == primary), None)
        return _Seen(slots, ours, self._confirmed() or {})

    # --------------------------------------------------------------------------------- our record

    def _confirmed(self) -> dict[str, str] | None:
        """Confirmed activations by our slot names; None: nobody can read them."""
        with slot_faults(self._record):
            data = read_small(self._storage, self._record, _MAX_RECORD_BYTES)
        try:
            found = json.loads(data) if data is not None else {}
        except (ValueError, RecursionError):
            return None
        if not isinstance(found, dict) or not all(isinstance(each, str) for each in found.values()):
            return None
        return found

    def _remember(self, seen: _Seen, slot: str, word: str) -> None:
        """Durable when it returns."""
        confirmed = {**seen.confirmed, slot: word}
        if confirmed != self._confirmed():
            with slot_faults(self._record):
                replace(self._storage, self._record, json.dumps(confirmed).encode())


def _slot(name: str, status: dict[str, object]) -> _RaucSlot:
    count = status.get("activated.count")
    return _RaucSlot(
        name,
        str(status["bootname"]),
        booted=status.get("state") == "booted",
        bootable=status.get("boot-status") == "good",
        activation=f"{count} {status.get('activated.timestamp')}" if count else "",
    )


def _demand_booted_known(seen: _Seen) -> None:
    if seen.booted is None:
        raise SlotFailed("RAUC", "it does not know which slot this system runs from", _NOT_BOOTED)


def _not_done(name: str, state: str) -> SlotFailed:
    return SlotFailed("RAUC", f"it marked {name} {state}, but the boot loader does not say so", LOOK)
