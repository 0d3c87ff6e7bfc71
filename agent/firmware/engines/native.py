"""The native engine: streams a verified bundle into the slot that is not running.

Charter: knows which device, folder or controller each payload goes to, and lets the writer of each type do it, in
file order. Whoever calls has judged the manifest, has blocked the slot in the boot selector and keeps the record of
the update. No daemon, no kernel module, no temporary copy; memory does not grow with the image. After any
interruption the same call again completes.

Not here: who may update (``agent.firmware.bundle``), when (``agent.firmware.machine``), which slot boots
(``agent.firmware.selectors``).
Source: firmware reference 1.5. Why it is built so: ``docs/adr/0017-native-engine.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from agent.firmware.engines.native_files import read_back_files, write_files
from agent.firmware.engines.native_image import ImageWriter, read_back_image
from agent.firmware.engines.native_mcu import (
    MCU_BYTES_MAX,
    carry_mcu,
    read_back_mcu,
    staged_mcu,
    write_mcu,
)
from agent.firmware.engines.native_stream import BundleStream, HashOverFile, Tally
from agent.firmware.engines.slot_file import open_to_read
from agent.firmware.engines.slot_index import OtherSlot
from agent.firmware.errors import Refusal, UpdateRefused
from agent.firmware.faults import slot_faults
from agent.firmware.manifest import Manifest, Payload, PayloadType
from agent.firmware.mcu import Staged
from agent.firmware.ports import OnProgress, Source
from agent.firmware.storage import Storage

__all__ = ["HashOverFile", "NativeEngine"]


class NativeEngine:
    """Where the payloads of this device go. Everything blocks."""

    def __init__(
        self,
        storage: Storage,
        slots: Mapping[str, Mapping[str, Path]],
        files: Mapping[str, Path],
        mcu: Mapping[str, Path],
        index_folder: Path,
    ) -> None:
        """``slots``: by target, then by slot, its device or file, which must not be a symbolic link. ``files``: by
        target, the folder with one folder per slot. ``mcu``: by target, the beginning of its files' paths.
        ``index_folder`` holds a small file per slot, and survives updates. Raises ``ValueError`` for two slots in
        one place."""
        for target, places in slots.items():
            if len(set(places.values())) != len(places):
                raise ValueError(f"{target}: two slots are in the same place")
        self._storage: Final = storage
        self._slots, self._files, self._mcu = slots, files, mcu
        self._index_folder: Final = index_folder

    def targets(self) -> dict[tuple[PayloadType, str], int | None]:
        """What a bundle may bring, and how many bytes of it at most (None: as the file system has room). Raises
        ``SlotFailed``."""
        room: dict[tuple[PayloadType, str], int | None] = {}
        for target, places in self._slots.items():
            room[PayloadType.SLOT_IMAGE, target] = min(self._size(path) for path in places.values())
        room.update({(PayloadType.FILES, target): None for target in self._files})
        room.update({(PayloadType.MCU_FIRMWARE, target): MCU_BYTES_MAX for target in self._mcu})
        return room

    def write(
        self,
        manifest: Manifest,
        source: Source,
        target_slot: str,
        active_slot: str,
        *,
        whole_file: HashOverFile | None,
        on_progress: OnProgress,
    ) -> None:
        """The bundle is in ``target_slot``, durably, when it returns; targets that it does not bring stay as they
        are, but controllers keep the firmware of ``active_slot``. ``whole_file`` has then seen every byte of the file.

        Raises ``UpdateRefused`` (no such target, too large, a file of another size, corrupt bytes), ``SourceLost``,
        ``SlotFailed``, and what ``on_progress`` raises. The slot is then not whole, or as it was.
        """
        if target_slot == active_slot:
            raise ValueError(f"slot {active_slot} is running")
        self._check_targets(manifest, target_slot)
        tally = Tally(sum(payload.size for payload in manifest.payloads), on_progress)
        bundle = BundleStream(manifest, source, whole_file, tally)
        with slot_faults(self._index_folder):
            self._storage.make_folder(self._index_folder)
        for target in self._mcu.keys() - {each.target for each in self._of_type(manifest, PayloadType.MCU_FIRMWARE)}:
            carry_mcu(self._storage, self._mcu[target], target_slot, active_slot)
        for payload in bundle.payloads:
            self._write_payload(payload, bundle, tally, target_slot, active_slot)
        bundle.finish()
        tally.tell()

    def read_back(self, manifest: Manifest, target_slot: str, *, on_progress: OnProgress) -> None:
        """Everything that ``write`` wrote is on the medium, by its hashes. Raises ``SlotFailed`` for the first thing
        that is not, and what ``on_progress`` raises."""
        self._check_targets(manifest, target_slot)
        tally = Tally(sum(payload.size for payload in manifest.payloads), on_progress)
        for payload in manifest.payloads:
            match payload.type:
                case PayloadType.SLOT_IMAGE:
                    read_back_image(self._storage, payload, self._slots[payload.target][target_slot], tally)
                case PayloadType.FILES:
                    read_back_files(self._storage, payload, self._files[payload.target] / target_slot, tally)
                case PayloadType.MCU_FIRMWARE:
                    read_back_mcu(self._storage, payload, self._mcu[payload.target], target_slot, tally)

    def staged_mcu(self, target: str, slot: str) -> Staged | None:
        """The controller's firmware that belongs to a slot; None: none does. Raises ``SlotFailed``."""
        return staged_mcu(self._storage, self._mcu[target], slot)

    def _write_payload(
        self, payload: Payload, bundle: BundleStream, tally: Tally, target_slot: str, active_slot: str
    ) -> None:
        match payload.type:
            case PayloadType.SLOT_IMAGE:
                places = self._slots[payload.target]
                other = None
                if active_slot in places:
                    index = self._index(payload.target, active_slot)
                    other = OtherSlot(self._storage, places[active_slot], index, payload)
                index = self._index(payload.target, target_slot)
                ImageWriter(self._storage, payload, bundle, tally, places[target_slot], index, other).write()
            case PayloadType.FILES:
                folder = self._files[payload.target]
                write_files(self._storage, payload, bundle, tally, folder / target_slot, folder / active_slot)
            case PayloadType.MCU_FIRMWARE:
                path = self._mcu[payload.target]
                write_mcu(self._storage, payload, bundle, tally, path, target_slot, active_slot)

    def _check_targets(self, manifest: Manifest, target_slot: str) -> None:
        known = {(PayloadType.FILES, target) for target in self._files}
        known |= {(PayloadType.MCU_FIRMWARE, target) for target in self._mcu}
        known |= {(PayloadType.SLOT_IMAGE, target) for target, places in self._slots.items() if target_slot in places}
        for payload in manifest.payloads:
            if (payload.type, payload.target) not in known:
                why = f"no place is configured for {payload.type} {payload.target} in slot {target_slot}"
                raise UpdateRefused(Refusal.UNSUPPORTED, f"payload {payload.name}", why)

    def _of_type(self, manifest: Manifest, kind: PayloadType) -> list[Payload]:
        return [payload for payload in manifest.payloads if payload.type is kind]

    def _index(self, target: str, slot: str) -> Path:
        return self._index_folder / f"{target}-{slot}.index"

    def _size(self, path: Path) -> int:
        with open_to_read(self._storage, path) as slot:
            return slot.size
