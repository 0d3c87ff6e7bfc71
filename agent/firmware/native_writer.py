"""Our own bundles: gate B, then the native engine. An ``agent.firmware.installer.Writer``.

Charter: judges a bundle's head, checks that it brings all that makes a slot, and lets the engine write. Keeps the head
of what it wrote, so that a slot can be read back after any restart without the bundle. Imports what judges and writes
when there is something to judge or write.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent.config.update import UpdateConfig
from agent.firmware.errors import Refusal, SlotFailed, UpdateRefused
from agent.firmware.faults import slot_faults
from agent.firmware.installer import Candidate, CheckFile
from agent.firmware.installer_state import InstallerState
from agent.firmware.mcu import Staged
from agent.firmware.policy import DevicePolicy
from agent.firmware.ports import OnProgress, Progress, Source
from agent.firmware.storage import Storage, read_small, replace

if TYPE_CHECKING:
    from agent.firmware.engines.native import NativeEngine
    from agent.firmware.manifest import Manifest

_HEAD_MAX_BYTES: Final = 9 * 1024 * 1024


class NativeWriter:
    """See the module. ``state_dir`` holds heads and the engine's indexes."""

    name = "native"

    def __init__(self, storage: Storage, config: UpdateConfig, policy: DevicePolicy, agent_version: str) -> None:
        self._storage = storage
        self._config = config
        self._policy = policy
        self._agent_version = agent_version
        self._judged: tuple[Manifest, bytes] | None = None

    def judge(
        self,
        source: Source,
        state: InstallerState,
        active: str,
        on_progress: OnProgress,  # noqa: ARG002 - a head is read at once
    ) -> Candidate:
        from agent.firmware.bundle.device import DeviceFacts, check_device
        from agent.firmware.bundle.head import judge, read_head

        head = read_head(source)
        manifest = judge(head, self._policy.of_bundles(), self._policy.time(state.trusted_wall_ms))
        config = self._config
        device = DeviceFacts(
            compatible=config.compatible,
            hardware_revision=config.hardware_revision,
            epoch=state.security_epoch,
            agent_version=self._agent_version,
            bootloader_version=config.bootloader_version,
            mcu_version=self._mcu_version(active),
            targets=self._engine().targets(),
        )
        check_device(manifest, device)
        self._check_whole(manifest)
        self._check_way_back(manifest, active)
        self._judged = manifest, head.header.encode() + head.manifest_bytes
        return Candidate(manifest.version, manifest.digest.hex(), manifest.security_epoch, manifest.built_ms)

    def _mcu_version(self, active: str) -> str:
        """What the running slot brought the pilot's microcontroller; empty where there is none, or more than one."""
        if len(self._config.mcu) != 1:
            return ""
        staged = self._engine().staged_mcu(self._config.mcu[0].name, active)
        return "" if staged is None else staged.version

    def _check_whole(self, manifest: Manifest) -> None:
        """A slot is replaced as a whole: kernel and root file system of two releases do not fit each other, and what is
        left out would stay as it was two releases ago. Only controllers' firmware is taken over from the running slot.
        """
        from agent.firmware.manifest import PayloadType

        brought = {(each.type, each.target) for each in manifest.payloads}
        images = [each.target for each in self._config.slot if (PayloadType.SLOT_IMAGE, each.target) not in brought]
        files = [each.name for each in self._config.files if (PayloadType.FILES, each.name) not in brought]
        missing = [
            f"no {what} for {', '.join(them)}" for what, them in (("slot image", images), ("files", files)) if them
        ]
        if missing:
            why, remedy = "; ".join(missing), "bring every part of the slot"
            raise UpdateRefused(Refusal.UNSUPPORTED, "manifest: payloads", why, remedy)

    def _check_way_back(self, manifest: Manifest, active: str) -> None:
        """A controller may get other firmware only where a rollback can bring back what it runs now."""
        from agent.firmware.manifest import PayloadType

        for payload in manifest.payloads:
            if payload.type is not PayloadType.MCU_FIRMWARE:
                continue
            staged = self._engine().staged_mcu(payload.target, active)
            if staged is None:
                why = f"slot {active} has no firmware staged for it, so a rollback could not bring back what runs now"
            elif hashlib.sha256(staged.image).digest() != staged.sha256:
                why = f"what slot {active} has staged for it does not have its hash, so a rollback could not write it"
            else:
                continue
            files = f"mcu-{payload.target}-{active}.bin and .json in {self._config.state_dir}"
            remedy = f"stage what runs now as {files} (docs/updates.md, Preparing a charger)"
            raise UpdateRefused(Refusal.REQUIREMENT, f"microcontroller {payload.target}", why, remedy)

    def write(
        self, source: Source, target: str, active: str, check_file: CheckFile | None, on_progress: OnProgress
    ) -> None:
        assert self._judged is not None
        (manifest, head), self._judged = self._judged, None
        self._keep(target, head)
        from agent.firmware.engines.native import HashOverFile

        whole = None if check_file is None else HashOverFile()
        self._engine().write(manifest, source, target, active, whole_file=whole, on_progress=on_progress)
        if check_file is not None and whole is not None:
            check_file(whole.digest())

    def staged_mcu(self, target: str, slot: str) -> Staged | None:
        if target not in {each.name for each in self._config.mcu}:
            raise UpdateRefused(Refusal.UNSUPPORTED, "microcontroller", f"{target[:40]!r} is not configured")
        return self._engine().staged_mcu(target, slot)

    def read_back(self, slot: str, digest: str) -> None:
        manifest = self._kept(slot, digest)
        try:
            self._engine().read_back(manifest, slot, on_progress=_no_progress)
        except SlotFailed as failed:
            raise UpdateRefused(Refusal.CORRUPT, failed.what, failed.why, failed.remedy) from failed

    def _engine(self) -> NativeEngine:
        from agent.firmware.engines.native import NativeEngine

        config = self._config
        return NativeEngine(
            self._storage,
            # The names below /dev/disk are links; the configuration is root's, so they may be followed here.
            {each.target: {"a": each.a.resolve(), "b": each.b.resolve()} for each in config.slot},
            {each.name: each.folder for each in config.files},
            {each.name: config.state_dir / f"mcu-{each.name}" for each in config.mcu},
            config.state_dir,
        )

    # ----------------------------------------------------------------------------------------- heads

    def _head_file(self, slot: str) -> Path:
        return self._config.state_dir / f"head-{slot}.bin"

    def _keep(self, slot: str, head: bytes) -> None:
        with slot_faults(self._head_file(slot)):
            replace(self._storage, self._head_file(slot), head)

    def _kept(self, slot: str, digest: str) -> Manifest:
        """The manifest of what was written; its own hash says whether it is the right one."""
        from agent.firmware.bundle.layout import HEADER_BYTES, parse_header
        from agent.firmware.bundle.parse import parse_manifest

        file = self._head_file(slot)
        with slot_faults(file, "install the bundle again"):
            data = read_small(self._storage, file, _HEAD_MAX_BYTES)
        if data is None or hashlib.sha256(data[HEADER_BYTES:]).hexdigest() != digest:
            raise UpdateRefused(Refusal.CORRUPT, str(file), "not the head of what is staged", "install it again")
        return parse_manifest(data[HEADER_BYTES:], parse_header(data[:HEADER_BYTES], None))


def _no_progress(_progress: Progress) -> None:
    pass
