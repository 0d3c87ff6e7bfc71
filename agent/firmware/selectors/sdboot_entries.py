"""Entries of systemd-boot: their names, their text, and how one gets onto a FAT file system whole.

Charter: the format and the folder; which entry means what is ``sdboot``. The name carries the counter: ``evsed-a.conf``
is not counted, ``evsed-b+2-1.conf`` has 2 tries left after 1. The text is made from a template in which ``{slot}`` and
``{version}`` are replaced; all entries have the template's ``sort-key``, and ``version`` is a whole number.

Writing. A rename on FAT may leave both names (which then share clusters) or neither, so nothing here renames. A new
entry is first a file of line feeds, which the loader ignores since nothing in it says what to load; when that file and
its name are durable, its sectors are overwritten in place, the first one last. Only that one has the line that says
what to load (``EntryFolder.text`` sees to it), so the entry appears with the write of one sector.

Sources: UAPI.1 Boot Loader Specification ("Boot counting", "Sorting"); systemd ``src/boot/boot.c``; firmware reference
1.1, 1.3 item 12.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.firmware.errors import SlotFailed
from agent.firmware.faults import slot_faults
from agent.firmware.selectors.rules import Slots
from agent.firmware.storage import Storage, StoredFile, opened

MAX_ENTRY_BYTES: Final = 4096
_SECTOR_BYTES: Final = 512
_NAME: Final = re.compile(r"[a-z0-9]{1,16}")
_MAX_VERSION: Final = 999_999_999
_SEE: Final = "see packaging/boot/sdboot/entry.conf.in"


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of ours in the loader's folder. ``left``: tries, None where it is not counted. ``loads``: the text says
    what to load, else the loader ignores the file. ``sort_key`` and ``version`` as in the text; ``version`` None
    where it is no whole number."""

    file: str
    slot: str
    left: int | None
    loads: bool
    sort_key: str
    version: int | None
    text: bytes


def fields(text: bytes) -> dict[str, str]:
    """Keys and values; of several with one key, the last."""
    found = {}
    for line in text.decode("utf-8", "replace").splitlines():
        words = line.split(maxsplit=1)
        if len(words) == 2 and not words[0].startswith("#"):
            found[words[0]] = words[1].strip()
    return found


def _loads(text: bytes) -> bool:
    return bool({"linux", "efi"} & fields(text).keys())


class EntryFolder:
    """The entries of our slots in the loader's folder. Methods raise ``SlotFailed``."""

    def __init__(self, storage: Storage, folder: Path, name: str, slots: Slots, template: str) -> None:
        if not _NAME.fullmatch(name):
            raise SlotFailed("boot entries", f"{name!r} is not a word of at most 16 of a-z and 0-9")
        self._storage = storage
        self._folder = folder
        self._name = name
        self._template = template
        self.sort_key = fields(template.encode()).get("sort-key", "")
        if not self.sort_key or "{" in self.sort_key or "{slot}" not in template:
            raise SlotFailed("template of boot entries", "it lacks a sort-key or {slot}", _SEE)
        for slot in slots:  # a mistake is told at the start, not in an update
            self.text(slot, 1)
            self.text(slot, _MAX_VERSION)
        self._pattern = re.compile(rf"{name}-({'|'.join(slots)})(?:\+(\d{{1,9}})(?:-\d{{1,9}})?)?\.conf")

    def text(self, slot: str, version: int) -> bytes:
        """The text of an entry."""
        text = self._template.replace("{slot}", slot).replace("{version}", str(version)).encode()
        wrong = ""
        if fields(text).get("version") != str(version):
            wrong = "its version is not {version}"
        elif not _loads(text[:_SECTOR_BYTES]) or _loads(b"\n" * _SECTOR_BYTES + text[_SECTOR_BYTES:]):
            wrong = f"linux or efi must stand in its first {_SECTOR_BYTES} bytes, and only there"
        elif len(text) > MAX_ENTRY_BYTES:
            wrong = f"it is longer than {MAX_ENTRY_BYTES} bytes"
        if wrong:
            raise SlotFailed("template of boot entries", wrong, _SEE)
        return text

    def file_of(self, slot: str, left: int | None) -> str:
        return f"{self._name}-{slot}.conf" if left is None else f"{self._name}-{slot}+{left}.conf"

    def entries(self) -> list[Entry]:
        with self._failing(remedy="is the EFI system partition mounted there?"):
            names = self._storage.names(self._folder)
        return [self._entry(match) for match in map(self._pattern.fullmatch, names) if match]

    def demand_writable(self, file: str) -> None:
        """Fails on a read-only file system, without writing."""
        with self._failing(file):
            self._storage.open(self._folder / file, writable=True).close()

    def put(self, file: str, text: bytes) -> None:
        """``text`` under a new name, whole or (for the loader) not at all; durable when it returns."""
        blank = b"\n" * (-(-len(text) // _SECTOR_BYTES) * _SECTOR_BYTES)
        text = text.ljust(len(blank), b"\n")
        with self._failing(file), opened(self._storage.create(self._folder / file, 0o644)) as stored:
            self._write(stored, 0, blank)
            self._storage.sync_folder(self._folder)
            if len(text) > _SECTOR_BYTES:
                self._write(stored, _SECTOR_BYTES, text[_SECTOR_BYTES:])
            self._write(stored, 0, text[:_SECTOR_BYTES])

    def sync(self, file: str) -> None:
        """What is there becomes durable."""
        with self._failing(file), opened(self._storage.open(self._folder / file)) as stored:
            stored.sync()
            self._storage.sync_folder(self._folder)

    def remove(self, entries: list[Entry]) -> None:
        """Durable when it returns, also where there is nothing to remove."""
        for entry in entries:
            with self._failing(entry.file):
                self._storage.remove(self._folder / entry.file)
        with self._failing():
            self._storage.sync_folder(self._folder)

    def _entry(self, match: re.Match[str]) -> Entry:
        file, slot, left = match[0], match[1], match[2]
        with self._failing(file), opened(self._storage.open(self._folder / file)) as stored:
            text = stored.read(0, MAX_ENTRY_BYTES + 1)
        found = fields(text)
        version = found.get("version", "")
        return Entry(
            file,
            slot,
            None if left is None else int(left),
            _loads(text),
            found.get("sort-key", ""),
            int(version) if re.fullmatch(r"[0-9]{1,9}", version) else None,
            text,
        )

    @staticmethod
    def _write(stored: StoredFile, offset: int, data: bytes) -> None:
        stored.write(offset, data)
        stored.sync()

    @contextlib.contextmanager
    def _failing(self, file: str = "", remedy: str = "") -> Iterator[None]:
        with slot_faults(self._folder / file, remedy):
            yield
