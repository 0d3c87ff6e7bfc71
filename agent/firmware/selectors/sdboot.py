"""The boot selector of systemd-boot: entries of the Boot Loader Specification with boot counting.

Charter: decides which entries are there; their format is ``sdboot_entries``. The good slot's entry is not counted and
is never touched during an update. A trial is a second, counted entry with a higher version:

    evsed-a.conf      version 4      good
    evsed-b+3.conf    version 5      on trial; the loader renames it to evsed-b+2-1.conf before it starts it

The loader sorts entries without tries last, then by sort-key, then by version, highest first, and starts the first one.
So a trial goes before the good slot until its tries are used up. ``confirm`` adds the uncounted entry first and removes
the counted one then, so one of them is there always; its text is the one that was tried. A blocked slot has no entry.

What people must not do: give another entry of the partition a sort-key before ours, or set a default in loader.conf or
by ``bootctl set-default``; both go before all this. Where ``systemd-bless-boot`` runs before our self test, it confirms
a slot without it; where it runs after, it does the same as ``confirm``.

Sources: UAPI.1 Boot Loader Specification ("Boot counting", "Sorting"); systemd ``src/boot/boot.c``; systemd#33504 (a
plain entry beside a counted one), #36170 (read-only partition); firmware reference 1.1, 1.3 item 12.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from agent.firmware.errors import SlotFailed
from agent.firmware.ports import BootState, SlotState
from agent.firmware.selectors import rules
from agent.firmware.selectors.rules import Slots
from agent.firmware.selectors.sdboot_entries import MAX_ENTRY_BYTES, Entry, EntryFolder
from agent.firmware.storage import Storage

MAX_TRIES: Final = 99


class SdbootSelector:
    """See ``agent.firmware.ports.BootSelector``. ``folder``: ``loader/entries`` of the EFI system partition; ``name``:
    with which the names of our entries begin; ``template``: text of an entry, with ``{slot}`` and ``{version}``;
    ``booted``: the running slot (``booted.slot_of_command_line``)."""

    reboot_argument: str | None = None

    def __init__(
        self, storage: Storage, folder: Path, name: str, template: str, slots: Slots, booted: str | None
    ) -> None:
        self._slots = rules.check_slots(slots)
        self._folder = EntryFolder(storage, folder, name, slots, template)
        self._booted = booted

    def state(self) -> BootState:
        return self._state_of(self._folder.entries())

    def block(self, slot: str) -> None:
        entries = self._demand_free(slot)
        self._folder.remove([entry for entry in entries if entry.slot == slot])

    def activate(self, slot: str, tries: int) -> None:
        entries = self._demand_free(slot)
        stays = rules.other_of(self._slots, slot)
        file = self._folder.file_of(slot, min(max(tries, 1), MAX_TRIES))
        text = self._folder.text(slot, self._version_after(entries, stays))
        there = [entry for entry in entries if entry.file == file and entry.text.rstrip(b"\n") == text.rstrip(b"\n")]
        self._folder.remove([entry for entry in entries if entry.slot == slot and entry not in there])
        if there:
            self._folder.sync(file)
        else:
            self._folder.put(file, text)

    def confirm(self, slot: str) -> None:
        entries = self._folder.entries()
        rules.demand_booted(self._state_of(entries), slot)
        of_slot = [entry for entry in entries if entry.slot == slot]
        file = self._folder.file_of(slot, None)
        plain = [entry for entry in of_slot if entry.file == file and entry.loads]
        if plain:
            self._folder.sync(file)
        else:
            self._folder.remove([entry for entry in of_slot if entry.file == file])
            self._folder.put(file, self._tried_text(entries, slot))
        self._folder.remove([entry for entry in of_slot if entry.file != file])

    def revert(self, slot: str) -> None:
        """The other slot's entries go, also good ones: nothing else makes an older entry the first."""
        entries = self._folder.entries()
        rules.demand_good(self._state_of(entries), slot)
        self._sync_good(entries)
        self._folder.remove([entry for entry in entries if entry.slot != slot])

    def repair(self) -> list[str]:
        entries = self._folder.entries()
        useless = {entry.file: why for entry in entries if (why := self._uselessness(entry, entries))}
        done = [f"boot entry {file} {why} and is removed" for file, why in useless.items()]
        if useless:
            self._sync_good(entries)
            self._folder.remove([entry for entry in entries if entry.file in useless])
        left = [entry for entry in entries if entry.file not in useless]
        if self._booted and not any(entry.left is None or entry.slot == self._booted for entry in left):
            file = self._folder.file_of(self._booted, None)
            self._folder.put(file, self._folder.text(self._booted, 1))
            done.append(f"no slot had a boot entry to rely on; {file} is written for the one that runs now")
        return done

    # ---------------------------------------------------------------------------------------- entries

    def _demand_free(self, slot: str) -> list[Entry]:
        """All entries, if ``slot`` may change and the trial of it could come first and fail."""
        entries = self._folder.entries()
        rules.demand_free(self._state_of(entries), slot)
        self._folder.demand_writable(self._folder.file_of(rules.other_of(self._slots, slot), None))
        self._sync_good(entries)
        return entries

    def _sync_good(self, entries: list[Entry]) -> None:
        """Before anything is removed: somebody who was killed may have left unsynced what one would then rely on."""
        for entry in entries:
            if entry.left is None and entry.loads:
                self._folder.sync(entry.file)

    def _uselessness(self, entry: Entry, entries: list[Entry]) -> str:
        """Why an entry can go; empty where it means something."""
        plain = self._folder.file_of(entry.slot, None)
        others = [each for each in entries if each.slot == entry.slot and each.loads and each is not entry]
        if not entry.loads:
            return "was never finished"
        if any(each.file == plain for each in others):
            return f"stood beside {plain}"
        if entry.left is not None and any(each.left is not None and each.left < entry.left for each in others):
            return "had been tried already under another name"  # a rename by the loader left both
        return ""

    def _tried_text(self, entries: list[Entry], slot: str) -> bytes:
        """The text that ``slot`` was tried with; from the template where nobody knows it any more."""
        counted = [entry.text for entry in entries if entry.slot == slot and entry.loads and self._is_ours(entry)]
        stays = rules.other_of(self._slots, slot)
        return counted[0] if counted else self._folder.text(slot, self._version_after(entries, stays))

    def _version_after(self, entries: list[Entry], slot: str) -> int:
        """One more than the entries of ``slot``, whose shape must be ours for that to be the first."""
        version = 0
        for entry in entries:
            if entry.slot != slot or not entry.loads:
                continue
            if not self._is_ours(entry):
                raise SlotFailed(
                    entry.file,
                    f"its sort-key is not {self._folder.sort_key} or its version no whole number (or it is too long), "
                    "so nobody can tell which entry comes first",
                    "write it like packaging/boot/sdboot/evsed-a.conf",
                )
            version = max(version, entry.version or 0)
        return version + 1

    def _is_ours(self, entry: Entry) -> bool:
        fits = len(entry.text) <= MAX_ENTRY_BYTES
        return fits and entry.sort_key == self._folder.sort_key and entry.version is not None

    def _state_of(self, entries: list[Entry]) -> BootState:
        entries = [entry for entry in entries if entry.loads]
        slots = []
        for slot in self._slots:
            counters = [entry.left for entry in entries if entry.slot == slot]
            good = None in counters
            left = None if good else max((each for each in counters if each is not None), default=0)
            slots.append(SlotState(slot, bootable=good or left != 0, good=good, tries_left=left))
        primary = None
        if entries and all(map(self._is_ours, entries)):
            primary = min(entries, key=lambda entry: (entry.left == 0, -(entry.version or 0))).slot
        return rules.boot_state(self._booted, primary, slots)
