"""The boot selector of development: one small JSON file, replaced as a whole.

Charter: for machines whose boot loader is ``agent.sim.bootloaders.FileLoader`` (laptop, demo, tests); never for a
device. The file tells which slot boots and, for each, whether it is good, whether it may be booted, and how many tries
are left (null: not counted):

    {"primary": "b", "slots": {"a": {"good": true, "bootable": true, "tries": null},
                               "b": {"good": false, "bootable": true, "tries": 2}}}

No file means a device as it left the factory: the first slot is good, the other one empty. The file system must keep
a journal (``agent.firmware.storage.replace``).
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.firmware.errors import SlotFailed
from agent.firmware.faults import slot_faults
from agent.firmware.ports import BootState, SlotState
from agent.firmware.selectors import rules
from agent.firmware.selectors.rules import Slots
from agent.firmware.storage import Storage, opened, replace

MAX_TRIES: Final = 99
_MAX_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Record:
    """The file's content."""

    primary: str
    slots: tuple[SlotState, ...]

    def next_boot(self) -> str:
        """The slot that boots next: the primary while it is good or has tries, else the other one; with no tries
        left anywhere, those that may boot at all."""
        bootable = [each for each in self.slots if each.bootable]
        usable = [each for each in bootable if each.good or each.tries_left] or bootable
        slots = [each.slot for each in usable] or [self.primary]
        return self.primary if self.primary in slots else slots[0]

    def having(self, primary: str, changed: SlotState) -> Record:
        return Record(primary, tuple(changed if each.slot == changed.slot else each for each in self.slots))


def only_good(slots: Slots, good: str) -> Record:
    """``good`` is good and boots, the other one is empty."""
    return Record(good, tuple(SlotState(slot, slot == good, slot == good, None) for slot in slots))


def decode(content: bytes, slots: Slots) -> Record | None:
    """The record in ``content``; None where it is anything else."""
    try:
        fields = json.loads(content)
        states = tuple(_slot_state(slot, fields["slots"][slot]) for slot in slots)
        return Record(fields["primary"], states) if fields["primary"] in slots else None
    except (ValueError, LookupError, TypeError, RecursionError):
        return None


def encode(record: Record) -> bytes:
    slots = {
        each.slot: {"good": each.good, "bootable": each.bootable, "tries": each.tries_left} for each in record.slots
    }
    return json.dumps({"primary": record.primary, "slots": slots}, indent=1).encode() + b"\n"


def _slot_state(slot: str, fields: dict[str, object]) -> SlotState:
    good, bootable, tries = fields["good"], fields["bootable"], fields["tries"]
    if not isinstance(good, bool) or not isinstance(bootable, bool):
        raise TypeError("not a boolean")
    if tries is not None and (not isinstance(tries, int) or isinstance(tries, bool) or not 0 <= tries <= MAX_TRIES):
        raise TypeError("not a number of tries")
    return SlotState(slot, bootable, good, tries)


class FileSelector:
    """See ``agent.firmware.ports.BootSelector``. ``booted``: what the caller knows of the running slot."""

    reboot_argument: str | None = None

    def __init__(self, storage: Storage, path: Path, slots: Slots, booted: str | None) -> None:
        self._storage = storage
        self._path = path
        self._slots = rules.check_slots(slots)
        self._booted = booted

    def state(self) -> BootState:
        record = self._read()
        if record is None:
            return rules.unreadable_state(self._booted, self._slots)
        return rules.boot_state(self._booted, record.next_boot(), record.slots)

    def block(self, slot: str) -> None:
        state, record = self._demand()
        rules.demand_free(state, slot)
        assert state.booted is not None
        self._write(record, record.having(state.booted, SlotState(slot, False, False, None)))

    def activate(self, slot: str, tries: int) -> None:
        state, record = self._demand()
        rules.demand_free(state, slot)
        tries = min(max(tries, 1), MAX_TRIES)
        self._write(record, record.having(slot, SlotState(slot, True, False, tries)))

    def confirm(self, slot: str) -> None:
        state, record = self._demand()
        rules.demand_booted(state, slot)
        self._write(record, record.having(slot, SlotState(slot, True, True, None)))

    def revert(self, slot: str) -> None:
        state, record = self._demand()
        rules.demand_good(state, slot)
        other = state.of(rules.other_of(self._slots, slot))
        if not other.good:
            other = dataclasses.replace(other, bootable=False, tries_left=None)
        self._write(record, record.having(slot, other))

    def repair(self) -> list[str]:
        if self._read() is not None:
            return []
        if self._booted is None:
            raise self._unreadable()
        self._replace(only_good(self._slots, self._booted))
        return [
            f"{self._path} was unreadable and is written anew: slot {self._booted}, which runs now, is the good one"
        ]

    # --------------------------------------------------------------------------------------- the file

    def _demand(self) -> tuple[BootState, Record]:
        record = self._read()
        if record is None:
            raise self._unreadable()
        return rules.boot_state(self._booted, record.next_boot(), record.slots), record

    def _unreadable(self) -> SlotFailed:
        return SlotFailed(str(self._path), "not the record of a boot selector", "remove the file")

    def _read(self) -> Record | None:
        with slot_faults(self._path):
            try:
                file = self._storage.open(self._path)
            except FileNotFoundError:
                return only_good(self._slots, self._slots[0])
            with opened(file):
                return decode(file.read(0, _MAX_BYTES), self._slots)

    def _write(self, old: Record, new: Record) -> None:
        if new != old:
            self._replace(new)
            return
        with slot_faults(self._path):  # somebody who was killed may have left it unsynced
            self._storage.sync_folder(self._path.parent)

    def _replace(self, record: Record) -> None:
        with slot_faults(self._path):
            replace(self._storage, self._path, encode(record), 0o644)
