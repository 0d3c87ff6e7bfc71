"""The boot selector of the Raspberry Pi: ``autoboot.txt`` and the one-shot flag ``tryboot``.

Charter: names the boot partition of the good slot and that of the slot to be tried. The file is exactly one disk sector
of 512 bytes, so that overwriting it in place is old or new and nothing between; it is never renamed, never changes its
size, and always names two partitions:

    [all]                  the good slot: every boot but a one-shot one
    tryboot_a_b=1
    boot_partition=2
    [tryboot]              the slot on trial; the good one where nothing is on trial
    boot_partition=3

Good is what ``[all]`` names. This boot loader cannot count: a trial is one boot, asked for by ``reboot_argument``, and
any reset (also a power cut before the reboot) leads back to ``[all]``. It has no flag against a slot either: a blocked
slot is one that the file does not name. A slot that hangs is left by the hardware watchdog only, so there must be one.

Sources: Raspberry Pi documentation, "autoboot.txt" (at most 512 bytes, filters, A/B flow) and "Fail-safe OS updates";
EEPROM release notes: ``tryboot_a_b`` came with pieeprom-2022-11-25; firmware reference 1.1, 1.3 item 5, 1.5.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from agent.firmware.errors import SlotFailed
from agent.firmware.faults import slot_faults
from agent.firmware.ports import BootState, SlotState
from agent.firmware.selectors import rules
from agent.firmware.selectors.booted import PiBoot
from agent.firmware.selectors.rules import Slots
from agent.firmware.storage import Storage, opened

FILE_BYTES: Final = 512
"""One disk sector; the firmware reads no longer file."""

MIN_EEPROM_BUILT_AT_S: Final = 1_669_334_400
"""2022-11-25: the first boot loader for all that knows ``tryboot_a_b``."""

_MAX_PARTITION: Final = 255
_ANEW: Final = "see packaging/boot/README.md for how to make it anew"


@dataclass(frozen=True, slots=True)
class Autoboot:
    """Partition numbers: ``good`` of ``[all]``, ``tried`` of ``[tryboot]``."""

    good: int
    tried: int


def encode(autoboot: Autoboot) -> bytes:
    """One sector of text."""
    text = (
        f"[all]\ntryboot_a_b=1\nboot_partition={autoboot.good}\n[tryboot]\nboot_partition={autoboot.tried}\n"
    ).encode()
    return text.ljust(FILE_BYTES, b"\n")


def decode(content: bytes) -> Autoboot | None:
    """What the firmware would take from ``content``; None where an A/B boot is not what it says."""
    found: dict[tuple[str, str], int] = {}
    section = "all"
    for line in content.decode("latin-1").splitlines():
        word = line.strip().lower()
        if word.startswith("["):
            section = word.strip("[]")
        elif match := re.fullmatch(r"(boot_partition|tryboot_a_b)\s*=\s*(\d{1,3})", word):
            found[section, match[1]] = int(match[2])
    good = found.get(("all", "boot_partition"))
    if good is None or found.get(("all", "tryboot_a_b")) != 1:
        return None
    return Autoboot(good, found.get(("tryboot", "boot_partition"), good))


class TrybootSelector:
    """See ``agent.firmware.ports.BootSelector``. ``partitions``: number of the boot partition of each slot;
    ``pi``: how this system came up. ``min_eeprom_built_at_s`` 0: the EEPROM's age is not checked (models that
    have none). Without ``watchdog`` nothing may be tried."""

    reboot_argument: str | None = "0 tryboot"

    def __init__(
        self,
        storage: Storage,
        autoboot: Path,
        partitions: Mapping[str, int],
        pi: PiBoot,
        *,
        watchdog: Path = Path("/dev/watchdog"),
        min_eeprom_built_at_s: int = MIN_EEPROM_BUILT_AT_S,
    ) -> None:
        self._slots: Slots = rules.check_slots(partitions)
        if len(set(partitions.values())) != 2 or not all(1 <= each <= _MAX_PARTITION for each in partitions.values()):
            raise SlotFailed("boot partitions", f"{dict(partitions)} are not two different numbers from 1")
        self._storage = storage
        self._path = autoboot
        self._partitions = dict(partitions)
        self._booted = self._slot_of(pi.partition)
        self._pi = pi
        self._watchdog = watchdog
        self._min_eeprom_built_at_s = min_eeprom_built_at_s

    def check(self) -> None:
        """That this Raspberry Pi can try a slot and come back. Raises ``SlotFailed``."""
        built_at_s = self._pi.built_at_s
        if self._min_eeprom_built_at_s and (built_at_s is None or built_at_s < self._min_eeprom_built_at_s):
            raise SlotFailed(
                "boot loader EEPROM",
                f"it is {'of unknown age' if built_at_s is None else f'of {_day(built_at_s)}'}, and one before "
                f"{_day(self._min_eeprom_built_at_s)} does not know tryboot_a_b",
                "update it with rpi-eeprom-update",
            )
        if not self._watchdog.exists():
            raise SlotFailed(
                str(self._watchdog),
                "no hardware watchdog: a slot that hangs would never be left",
                "put dtparam=watchdog=on into config.txt and have init feed it",
            )

    def state(self) -> BootState:
        content = self._read()
        autoboot = decode(content) if content is not None and len(content) <= FILE_BYTES else None
        return rules.unreadable_state(self._booted, self._slots) if autoboot is None else self._state_of(autoboot)

    def block(self, slot: str) -> None:
        self.check()
        autoboot = self._demand()
        rules.demand_free(self._state_of(autoboot), slot)
        self._write(Autoboot(autoboot.good, autoboot.good))

    def activate(self, slot: str, tries: int) -> None:  # noqa: ARG002 - the port's
        """``tries`` is one, whatever is asked for: this boot loader cannot count."""
        self.check()
        autoboot = self._demand()
        rules.demand_free(self._state_of(autoboot), slot)
        self._write(Autoboot(autoboot.good, self._partitions[slot]))

    def confirm(self, slot: str) -> None:
        rules.demand_booted(self._state_of(self._demand()), slot)
        self._write(Autoboot(self._partitions[slot], self._partitions[slot]))

    def revert(self, slot: str) -> None:
        autoboot = self._demand()
        rules.demand_good(self._state_of(autoboot), slot)
        self._write(Autoboot(autoboot.good, autoboot.good))

    def repair(self) -> list[str]:
        """Two things happen to this file by hand or by fsck: an editor leaves it shorter, which padding heals and
        no cut in between can change what it says; or it is gone or says nothing, so the firmware falls back to
        the first partition it can boot, and any file is better than that."""
        content = self._read()
        if content is not None and len(content) > FILE_BYTES:
            raise self._unusable(content)
        if content is not None and decode(content) is not None:
            if len(content) == FILE_BYTES:
                self._demand()
                return []
            self._overwrite(content.ljust(FILE_BYTES, b"\n"))
            return [f"{self._path} had {len(content)} bytes and is padded to {FILE_BYTES}"]
        if self._booted is None:
            raise self._unusable(content)
        partition = self._partitions[self._booted]
        if content is None:
            self._create()
        self._overwrite(encode(Autoboot(partition, partition)))
        return [f"{self._path} named no partitions and is written anew for slot {self._booted}, which runs now"]

    # --------------------------------------------------------------------------------------- the file

    def _slot_of(self, partition: int | None) -> str | None:
        return next((slot for slot, number in self._partitions.items() if number == partition), None)

    def _state_of(self, autoboot: Autoboot) -> BootState:
        good, tried = self._slot_of(autoboot.good), self._slot_of(autoboot.tried)
        slots = (
            SlotState(slot, slot in (good, tried), slot == good, None if slot == good else int(slot == tried))
            for slot in self._slots
        )
        return rules.boot_state(self._booted, good, slots)

    def _demand(self) -> Autoboot:
        """What the file says, if it may be overwritten in place."""
        content = self._read()
        autoboot = decode(content) if content is not None and len(content) == FILE_BYTES else None
        if autoboot is None:
            raise self._unusable(content)
        if self._slot_of(autoboot.good) is None:
            raise SlotFailed(str(self._path), f"[all] names partition {autoboot.good}, which is no slot's", _ANEW)
        return autoboot

    def _unusable(self, content: bytes | None) -> SlotFailed:
        if content is None:
            return SlotFailed(str(self._path), "no such file", _ANEW)
        if len(content) != FILE_BYTES:
            why = f"it is {'shorter' if len(content) < FILE_BYTES else 'longer'} than one sector of {FILE_BYTES} bytes"
            return SlotFailed(str(self._path), f"{why} and cannot be overwritten safely", _ANEW)
        return SlotFailed(str(self._path), "it names no partitions for an A/B boot", _ANEW)

    def _read(self) -> bytes | None:
        with slot_faults(self._path):
            try:
                file = self._storage.open(self._path)
            except FileNotFoundError:
                return None
            with opened(file):
                return file.read(0, FILE_BYTES + 1)

    def _write(self, autoboot: Autoboot) -> None:
        """Durable when it returns, also where nothing changes: somebody who was killed may have left it unsynced."""
        self._overwrite(encode(autoboot))

    def _overwrite(self, content: bytes) -> None:
        with slot_faults(self._path), opened(self._storage.open(self._path, writable=True)) as file:
            if file.read(0, FILE_BYTES) != content:
                file.write(0, content)
            file.sync()

    def _create(self) -> None:
        with slot_faults(self._path):
            self._storage.create(self._path, 0o644).close()
            self._storage.sync_folder(self._path.parent)


def _day(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).date().isoformat()
