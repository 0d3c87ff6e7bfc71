"""Each boot selector on a disk of its own, with the model of its boot loader: what the tests here and the power-cut
tests have in common.

Charter: a rig makes the disk as a device leaves the factory (slot a good, slot b empty), a selector for a given boot,
and one boot of the loader. Slots are two block devices whose content says whether they are whole.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Final, Protocol

from agent.firmware.ports import BootSelector
from agent.firmware.selectors.booted import PiBoot
from agent.firmware.selectors.file import FileSelector
from agent.firmware.selectors.sdboot import SdbootSelector
from agent.firmware.selectors.tryboot import MIN_EEPROM_BUILT_AT_S, Autoboot, TrybootSelector, encode
from agent.firmware.selectors.uboot import UbootSelector
from agent.firmware.selectors.uboot_env import Environment, EnvironmentCopy, EnvironmentPair
from agent.firmware.selectors.uboot_env import encode as encode_environment
from agent.firmware.storage import Storage, opened
from agent.sim.bootloaders import FileLoader, PiFirmware, SystemdBoot, UbootScript
from tests.support.power_disk import Fate, PowerDisk

SLOTS: Final = ("a", "b")
SLOT_BYTES: Final = 1024
WATCHDOG: Final = Path("/dev/null")  # exists everywhere

RECORD: Final = Path("/data/boot.json")
AUTOBOOT: Final = Path("/boot/autoboot.txt")
PARTITIONS: Final = {"a": 3, "b": 2}  # without a file the firmware takes the first: at the factory, an empty one
ENVIRONMENT: Final = (EnvironmentCopy(Path("/dev/env"), 512), EnvironmentCopy(Path("/dev/env"), 2048))
ENVIRONMENT_BYTES: Final = 1024
# So long that the CRC lies in another sector than what changes: half a write is not valid.
BOARD_VARIABLE: Final = b"bootcmd=" + b"x" * 520
ENTRIES: Final = Path("/esp/loader/entries")
FOREIGN_ENTRY: Final = ENTRIES / "zz-memtest.conf"
# Long enough that an entry takes two sectors.
TEMPLATE: Final = (
    "title evsed {slot}\nsort-key evsed\nversion {version}\nlinux /{slot}/vmlinuz\ninitrd /{slot}/initrd.img\n"
    f"options quiet {'x' * 600}\noptions root=PARTLABEL=evsed-{{slot}} evsed.slot={{slot}}\n"
)


def slot_path(slot: str) -> Path:
    return Path(f"/dev/slot-{slot}")


def write_image(storage: Storage, slot: str, letter: bytes) -> None:
    """An engine at work: between its first write and its last sync the slot is torn."""
    with opened(storage.open(slot_path(slot), writable=True)) as file:
        for offset in range(0, SLOT_BYTES, 512):
            file.write(offset, letter * 512)
            file.sync()


def image(disk: PowerDisk, slot: str) -> bytes:
    """The letter that fills a slot; empty where it is torn."""
    letters = set(disk.content(slot_path(slot)))
    return bytes(letters) if len(letters) == 1 else b""


def clone(disk: PowerDisk) -> PowerDisk:
    """The same content, everything durable, steps counted from 0."""
    return disk.after_cut(Fate.KEPT, random.Random(0))


def _disk(fat: Path | None = None) -> PowerDisk:
    disk = PowerDisk((fat,) if fat else ())
    disk.put(slot_path("a"), b"o" * SLOT_BYTES, device=True)
    disk.put(slot_path("b"), b"-+" * (SLOT_BYTES // 2), device=True)  # torn: nothing was ever written whole
    return disk


class Rig(Protocol):
    """``asked``: the reboot was given the selector's argument. ``keeps``: what belongs to others is still there."""

    def factory(self) -> PowerDisk: ...

    def selector(self, storage: Storage, booted: str | None, *, asked: bool = False) -> BootSelector: ...

    def boot(self, storage: Storage, *, asked: bool = False) -> str | None: ...

    def keeps(self, disk: PowerDisk) -> bool: ...


class FileRig:
    def factory(self) -> PowerDisk:
        disk = _disk()
        disk.put(RECORD.with_name("other"), b"")
        return disk

    def selector(self, storage: Storage, booted: str | None, *, asked: bool = False) -> BootSelector:
        return FileSelector(storage, RECORD, SLOTS, booted)

    def boot(self, storage: Storage, *, asked: bool = False) -> str | None:
        return FileLoader(storage, RECORD, SLOTS).boot()

    def keeps(self, disk: PowerDisk) -> bool:
        return True


class TrybootRig:
    def factory(self) -> PowerDisk:
        disk = _disk(fat=AUTOBOOT.parent)
        disk.put(AUTOBOOT, encode(Autoboot(3, 3)))
        return disk

    def selector(self, storage: Storage, booted: str | None, *, asked: bool = False) -> BootSelector:
        pi = PiBoot(PARTITIONS.get(booted or ""), asked, MIN_EEPROM_BUILT_AT_S)
        return TrybootSelector(storage, AUTOBOOT, PARTITIONS, pi, watchdog=WATCHDOG)

    def boot(self, storage: Storage, *, asked: bool = False) -> str | None:
        return PiFirmware(storage, AUTOBOOT, PARTITIONS).boot(tryboot=asked)

    def keeps(self, disk: PowerDisk) -> bool:
        return True


class UbootRig:
    """``broken``: slots whose kernel cannot be loaded."""

    def __init__(self, broken: frozenset[str] = frozenset()) -> None:
        self._broken = broken

    def factory(self) -> PowerDisk:
        disk = _disk()
        settings = (BOARD_VARIABLE, b"BOOT_ORDER=A", b"BOOT_A_GOOD=1", b"BOOT_B_LEFT=0")
        device = bytearray(b"\xff" * 4096)
        for copy, flag in zip(ENVIRONMENT, (7, 6), strict=True):
            data = encode_environment(Environment(settings), flag, ENVIRONMENT_BYTES)
            device[copy.offset : copy.offset + len(data)] = data
        disk.put(ENVIRONMENT[0].path, bytes(device), device=True)
        return disk

    def selector(self, storage: Storage, booted: str | None, *, asked: bool = False) -> BootSelector:
        return UbootSelector(storage, ENVIRONMENT, ENVIRONMENT_BYTES, SLOTS, booted)

    def boot(self, storage: Storage, *, asked: bool = False) -> str | None:
        return UbootScript(storage, ENVIRONMENT, ENVIRONMENT_BYTES, SLOTS, self._broken).boot()

    def keeps(self, disk: PowerDisk) -> bool:
        loaded = EnvironmentPair(disk, ENVIRONMENT, ENVIRONMENT_BYTES).load()
        return loaded is not None and BOARD_VARIABLE in loaded.environment.entries


class SdbootRig:
    def factory(self) -> PowerDisk:
        disk = _disk(fat=Path("/esp"))
        disk.put(FOREIGN_ENTRY, b"title memtest\nsort-key zz\nefi /memtest.efi\n")
        disk.put(ENTRIES / "evsed-a.conf", TEMPLATE.format(slot="a", version=1).encode())
        return disk

    def selector(self, storage: Storage, booted: str | None, *, asked: bool = False) -> BootSelector:
        return SdbootSelector(storage, ENTRIES, "evsed", TEMPLATE, SLOTS, booted)

    def boot(self, storage: Storage, *, asked: bool = False) -> str | None:
        return SystemdBoot(storage, ENTRIES).boot()

    def keeps(self, disk: PowerDisk) -> bool:
        return FOREIGN_ENTRY in disk.paths()


RIGS: Final[dict[str, Rig]] = {
    "file": FileRig(),
    "tryboot": TrybootRig(),
    "uboot": UbootRig(),
    "sdboot": SdbootRig(),
}
