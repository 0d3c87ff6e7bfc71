"""What the installer remembers: one small JSON file, replaced whole at every step.

Charter: the record of what was done, in the order of the safe writes; the boot selector has the last word on what
boots. A file that cannot be read (a person's edit, a broken disk) is an error with a remedy, not a reason to forget the
security epoch. Source: firmware reference 1.5 (order of writes).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from agent.firmware.errors import SlotFailed
from agent.firmware.faults import slot_faults
from agent.firmware.storage import Storage, read_small
from agent.firmware.storage import replace as replace_file
from agent.firmware.view import StagedView
from agent.ipc.codec import CodecError, from_json, from_stored, to_json, to_plain

_MAX_BYTES: Final = 64 * 1024
_FORMAT: Final = 1
_REMEDY: Final = "restore it, or remove it and set the epoch anew"


@dataclass(frozen=True, slots=True)
class SlotRecord:
    """What was installed into a slot."""

    version: str
    digest: str
    security_epoch: int
    built_wall_ms: int
    installed_wall_ms: int


@dataclass(frozen=True, slots=True)
class InstallerState:
    """``security_epoch``: the highest of all images that were marked good; never falls. ``trusted_wall_ms``: a time
    that is surely past, since a good image was built then. ``activated_boot_id``: the boot in which the boot loader was
    told to take the other slot next."""

    format: int = _FORMAT
    security_epoch: int = 0
    trusted_wall_ms: int = 0
    slots: dict[str, SlotRecord] = field(default_factory=dict)
    staged: StagedView | None = None
    activated_boot_id: str = ""

    def with_good(self, slot: str) -> InstallerState:
        """``slot`` was marked good: its epoch is the least from now on, its build time has passed."""
        record = self.slots.get(slot)
        staged = None if self.staged is not None and self.staged.slot == slot else self.staged
        if record is None:
            return replace(self, staged=staged)
        return replace(
            self,
            security_epoch=max(self.security_epoch, record.security_epoch),
            trusted_wall_ms=max(self.trusted_wall_ms, record.built_wall_ms),
            staged=staged,
        )


class StateFile:
    """The record on disk. Raises ``SlotFailed``."""

    def __init__(self, storage: Storage, path: Path) -> None:
        self._storage = storage
        self._path = path

    def load(self) -> InstallerState:
        """What is there; the beginning of everything where nothing is."""
        try:
            data = read_small(self._storage, self._path, _MAX_BYTES)
            if data is None:
                return InstallerState()
            plain = from_json(data)
            state = from_stored(plain, InstallerState)
        except (OSError, CodecError) as error:
            raise SlotFailed(str(self._path), str(error), _REMEDY) from error
        if not isinstance(state, InstallerState) or state.format != _FORMAT:
            raise SlotFailed(str(self._path), "written by a newer installer", "boot the newer image")
        if "security_epoch" not in plain:  # every installer wrote it: what else is there, a person wrote
            raise SlotFailed(str(self._path), "names no security_epoch", _REMEDY)
        return state

    def save(self, state: InstallerState) -> None:
        with slot_faults(self._path):
            replace_file(self._storage, self._path, to_json(to_plain(state)) + b"\n")
