"""Is this bundle meant for this device: product, revision, epoch, minimum versions, places, sizes.

Charter: a trusted manifest against what the device knows of itself. Pure. Sizes are bytes.
Source: firmware reference 1.5; ``docs/bundle-format.md``, "What a device asks".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent.firmware.bundle.versions import version_key
from agent.firmware.errors import Refusal, UpdateRefused
from agent.firmware.manifest import Manifest, Payload, PayloadType


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """What a bundle is judged against. ``epoch``: the lowest security epoch that may still be installed. Versions:
    empty where unknown. ``targets``: the places that can be written, with their sizes; None where a place has no fixed
    size."""

    compatible: str
    hardware_revision: int
    epoch: int
    agent_version: str
    bootloader_version: str
    mcu_version: str
    targets: Mapping[tuple[PayloadType, str], int | None]


def check_device(manifest: Manifest, device: DeviceFacts) -> None:
    """Raises ``UpdateRefused``: product, downgrade, requirement, unsupported, too large."""
    check_compatible(manifest, device.compatible)
    check_hardware(manifest, device.hardware_revision)
    check_epoch(manifest, device.epoch)
    _check_requirements(manifest, device)
    for index, payload in enumerate(manifest.payloads):
        _check_place(payload, device.targets, f"manifest: payloads[{index}]")


def check_compatible(manifest: Manifest, compatible: str) -> None:
    if compatible not in manifest.compatible:
        why = f"made for {', '.join(manifest.compatible)}; this is {compatible}"
        raise UpdateRefused(Refusal.PRODUCT, "manifest: product.compatible", why)


def check_hardware(manifest: Manifest, revision: int) -> None:
    if not manifest.hardware_min <= revision <= manifest.hardware_max:
        why = f"made for revisions {manifest.hardware_min} to {manifest.hardware_max}; this is {revision}"
        raise UpdateRefused(Refusal.PRODUCT, "manifest: product.hardware", why)


def check_epoch(manifest: Manifest, epoch: int) -> None:
    if manifest.security_epoch < epoch:
        why = f"{manifest.security_epoch} is below this device's {epoch}"
        raise UpdateRefused(Refusal.DOWNGRADE, "manifest: security_epoch", why, "install a newer release")


def _check_requirements(manifest: Manifest, device: DeviceFacts) -> None:
    asked = (
        ("agent", manifest.requires.agent, device.agent_version),
        ("bootloader", manifest.requires.bootloader, device.bootloader_version),
        ("mcu", manifest.requires.mcu, device.mcu_version),
    )
    for name, least, present in asked:
        if not least:
            continue
        where, wanted, found = f"manifest: requires.{name}", version_key(least), version_key(present)
        if wanted is None or found is None:
            why = f"{least} or newer; the version on this device ({present or 'unknown'}) cannot be compared"
            raise UpdateRefused(Refusal.REQUIREMENT, where, why)
        if found < wanted:
            why = f"{least} or newer; this device has {present}"
            raise UpdateRefused(Refusal.REQUIREMENT, where, why, "install an update in between first")


def _check_place(payload: Payload, targets: Mapping[tuple[PayloadType, str], int | None], where: str) -> None:
    place = payload.type, payload.target
    if place not in targets:
        raise UpdateRefused(Refusal.UNSUPPORTED, where, f"this device has no {payload.target} for a {payload.type}")
    size = targets[place]
    if size is not None and payload.size > size:
        why = f"{payload.size} bytes, {payload.target} has {size}"
        raise UpdateRefused(Refusal.TOO_LARGE, f"{where}.size", why)
