"""Models of the boot loaders: what each does at boot to the files that its boot selector writes.

Charter: for tests, the demo and the simulated charger. A model reads and writes the same ``Storage`` as the product,
so power can be cut inside it, and its ``boot`` names the slot that starts. It knows the loader's rules, not ours: the
formats are parsed here anew, except the U-Boot environment, whose codec is proved against U-Boot's own tools. What is
not modelled: loading and starting a kernel, menus, entries and variables that are not about slots.

Sources, each at its model. None of them is the real loader; packaging/boot/README.md says how to try that.
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.firmware.selectors.uboot_env import Environment, EnvironmentCopy, EnvironmentPair, Loaded
from agent.firmware.storage import Storage, opened, read_small, replace

_MAX_BYTES: Final = 64 * 1024
_BUILT_IN: Final = Environment((b"bootcmd=run distro_bootcmd",))


class FileLoader:
    """The loader of development, for ``selectors.file``. It is only this model: the primary slot boots while it is
    good or has tries, else a good one; with none left all slots that may boot get three tries back."""

    def __init__(self, storage: Storage, path: Path, slots: tuple[str, str]) -> None:
        self._storage = storage
        self._path = path
        self._slots = slots

    def boot(self) -> str:
        content = read_small(self._storage, self._path, _MAX_BYTES)
        try:
            record = json.loads(content or b"")
            slots: dict[str, dict[str, Any]] = {slot: record["slots"][slot] for slot in self._slots}
            order = sorted(self._slots, key=lambda slot: (slot != record["primary"], not slots[slot]["good"]))
        except (ValueError, LookupError, TypeError, RecursionError):
            return self._slots[0]
        bootable = [slot for slot in order if slots[slot]["bootable"]]
        for slot in bootable:
            if slots[slot]["good"]:
                return slot
            if slots[slot]["tries"]:
                slots[slot]["tries"] -= 1
                self._save(record)
                return slot
        for slot in bootable:
            slots[slot]["tries"] = 3
        self._save(record)
        return bootable[0] if bootable else order[0]

    def _save(self, record: object) -> None:
        replace(self._storage, self._path, json.dumps(record).encode())


class PiFirmware:
    """The Raspberry Pi's EEPROM boot loader, for ``selectors.tryboot``. The tryboot flag is volatile: it is set by the
    reboot and gone before anything is started, so it is an argument here. A file it cannot use means the first
    partition that can boot. Source: Raspberry Pi documentation, "autoboot.txt" and "Fail-safe OS updates"."""

    def __init__(self, storage: Storage, autoboot: Path, partitions: Mapping[str, int]) -> None:
        self._storage = storage
        self._path = autoboot
        self._slots = {number: slot for slot, number in partitions.items()}

    def boot(self, *, tryboot: bool = False) -> str:
        settings = self._settings(tryboot)
        if tryboot and settings.get("tryboot_a_b") != "1":
            return self.boot()  # it looks for tryboot.txt, finds none, and resets
        number = settings.get("boot_partition", "")
        return self._slots.get(int(number) if number.isdecimal() else 0, self._slots[min(self._slots)])

    def _settings(self, tryboot: bool) -> dict[str, str]:
        try:
            with opened(self._storage.open(self._path)) as file:
                content = file.read(0, file.size) if file.size <= 512 else b""
        except FileNotFoundError:
            content = b""
        settings = {}
        passes = True
        for line in content.partition(b"\0")[0].decode("latin-1").splitlines():
            word = line.strip().lower()
            if word.startswith("["):
                passes = word == "[all]" or (word == "[tryboot]" and tryboot)
            elif passes and "=" in word and not word.startswith("#"):
                key, _, value = word.partition("=")
                settings[key.strip()] = value.strip()
        return settings


def write_pi_device_tree(folder: Path, partition: int, *, tryboot: bool, built_at_s: int) -> None:
    """What that boot loader leaves for the kernel, as files in ``folder`` (``selectors.booted.read_pi_boot``)."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, cell in (("partition", partition), ("tryboot", int(tryboot)), ("build-timestamp", built_at_s)):
        (folder / name).write_bytes(cell.to_bytes(4, "big"))


class UbootScript:
    """U-Boot with the script packaging/boot/uboot.cmd, for ``selectors.uboot``. Saving goes to the older copy; without
    a valid copy U-Boot has its built-in variables, which name no slots. ``broken``: slots whose kernel cannot be
    loaded; there the script goes on to the next slot. Sources: the script itself; U-Boot ``env/common.c``."""

    def __init__(
        self,
        storage: Storage,
        copies: tuple[EnvironmentCopy, ...],
        size_bytes: int,
        slots: tuple[str, str],
        broken: frozenset[str] = frozenset(),
    ) -> None:
        self._pair = EnvironmentPair(storage, copies, size_bytes)
        self._names = {slot.upper(): slot for slot in slots}
        self._broken = broken

    def boot(self) -> str | None:
        """None: no slot can be started, also after all got their tries back; the real one goes on trying."""
        return self._attempt() or self._attempt()

    def _attempt(self) -> str | None:
        """From reset to a started kernel, or to the reset after the tries were given back."""
        loaded = self._pair.load() or Loaded(_BUILT_IN, 0, 1, damaged=True)
        variables = {name: loaded.environment.get(name) for name in self._variable_names()}
        order = [name for name in (variables["BOOT_ORDER"] or "").split() if name in self._names]
        if not order:
            order = sorted(self._names, key=lambda name: variables[f"BOOT_{name}_GOOD"] != "1")
            variables["BOOT_ORDER"] = " ".join(order)
        for name in self._names:
            variables[f"BOOT_{name}_LEFT"] = variables[f"BOOT_{name}_LEFT"] or "3"
        for name in order:
            if variables[f"BOOT_{name}_GOOD"] != "1":
                left = _leading_number(variables[f"BOOT_{name}_LEFT"] or "")
                if left <= 0:
                    continue
                variables[f"BOOT_{name}_LEFT"] = f"{left - 1:x}"
                loaded = self._save(loaded, variables)
            if self._names[name] not in self._broken:
                return self._names[name]
        for name in order:
            variables[f"BOOT_{name}_LEFT"] = "3"
        self._save(loaded, variables)
        return None

    def _variable_names(self) -> list[str]:
        return ["BOOT_ORDER", *(f"BOOT_{name}_{what}" for name in self._names for what in ("LEFT", "GOOD"))]

    def _save(self, loaded: Loaded, variables: Mapping[str, str | None]) -> Loaded:
        changes = {name: value for name, value in variables.items() if value is not None}
        self._pair.save(loaded, loaded.environment.having(changes))
        return self._pair.demand()


def _leading_number(text: str) -> int:
    """As ``test -gt`` of U-Boot reads one."""
    match = re.match(r"\d+", text)
    return int(match[0]) if match else 0


@dataclass(frozen=True, slots=True)
class _SdEntry:
    """One file of ``loader/entries``; ``left`` and ``done`` -1 where it is not counted."""

    file: str
    left: int
    done: int
    settings: dict[str, str]

    def next_name(self) -> str:
        stem = self.file[: self.file.rindex("+")]
        return f"{stem}+{max(self.left - 1, 0)}-{self.done + 1}.conf"


class SystemdBoot:
    """systemd-boot, for ``selectors.sdboot``. The counter is renamed, which on FAT is no single change, and flushed
    before the kernel starts. The slot is what the entry tells the kernel. Source: systemd ``src/boot/boot.c`` (252 to
    257): which files are entries, ``boot_entry_parse_tries``, ``boot_entry_compare``, ``boot_entry_bump_counters``."""

    def __init__(self, storage: Storage, folder: Path) -> None:
        self._storage = storage
        self._folder = folder

    def boot(self) -> str | None:
        """None: it has no entry, or the kernel does not know its slot; a person must come."""
        entries = sorted(self._entries(), key=functools.cmp_to_key(_compare))
        if not entries:
            return None
        chosen = entries[0]
        if chosen.left >= 0 and chosen.next_name() != chosen.file:
            with contextlib.suppress(OSError):  # "ignoring"
                self._storage.rename(self._folder / chosen.file, self._folder / chosen.next_name())
                self._storage.sync_folder(self._folder)
        match = re.search(r"(?:^|\s)evsed\.slot=(\S+)", chosen.settings.get("options", ""))
        return match[1] if match else None

    def _entries(self) -> list[_SdEntry]:
        found = []
        for file in self._storage.names(self._folder):
            if file.startswith((".", "auto-")) or not file.lower().endswith(".conf"):
                continue
            text = read_small(self._storage, self._folder / file, _MAX_BYTES) or b""
            settings = _settings(text.partition(b"\0")[0].decode("utf-8", "replace"))
            if "linux" in settings or "efi" in settings:
                counter = re.search(r"\+(\d+)(?:-(\d+))?\.conf$", file)
                left, done = (int(counter[1]), int(counter[2] or 0)) if counter else (-1, -1)
                found.append(_SdEntry(file, left, done, settings))
        return found


def _settings(text: str) -> dict[str, str]:
    settings: dict[str, str] = {}
    for line in text.splitlines():
        words = re.split(r"[ \t]+", line.strip(), maxsplit=1)
        if len(words) == 2 and not words[0].startswith("#"):
            key, value = words
            settings[key] = f"{settings[key]} {value}" if key == "options" and key in settings else value
    return settings


def _compare(a: _SdEntry, b: _SdEntry) -> int:
    """Negative: ``a`` comes first."""
    key_a, key_b = a.settings.get("sort-key"), b.settings.get("sort-key")
    order = (a.left == 0) - (b.left == 0) or (key_a is None) - (key_b is None)
    if not order and key_a is not None and key_b is not None:
        machine_a, machine_b = a.settings.get("machine-id", ""), b.settings.get("machine-id", "")
        order = (key_a > key_b) - (key_a < key_b) or (machine_a > machine_b) - (machine_a < machine_b)
        order = order or -compare_versions(a.settings.get("version", ""), b.settings.get("version", ""))
    order = order or -compare_versions(a.file.lower(), b.file.lower())
    return order or (b.left - a.left if min(a.left, b.left) >= 0 else 0) or a.done - b.done


def compare_versions(a: str, b: str) -> int:
    """Negative: ``a`` is older. Source: UAPI.10 Version Format Specification, without its ``~`` and ``^``."""
    pieces_a, pieces_b = (re.findall(r"\d+|[a-zA-Z]+|[-.]", each) for each in (a, b))
    for piece_a, piece_b in zip(pieces_a, pieces_b, strict=False):
        if piece_a == piece_b:
            continue
        rank_a, rank_b = _rank(piece_a), _rank(piece_b)
        if rank_a != rank_b:
            return rank_a - rank_b
        if piece_a.isdigit():
            if int(piece_a) != int(piece_b):
                return int(piece_a) - int(piece_b)
        else:
            return 1 if piece_a > piece_b else -1
    return len(pieces_a) - len(pieces_b)


def _rank(piece: str) -> int:
    if piece == "-":
        return 0
    if piece == ".":
        return 1
    return 3 if piece.isdigit() else 2
