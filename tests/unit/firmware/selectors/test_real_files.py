"""The same on the machine's own files: an update by each selector, with the real storage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agent.firmware.ports import BootSelector
from agent.firmware.selectors.booted import read_pi_boot
from agent.firmware.selectors.file import FileSelector
from agent.firmware.selectors.sdboot import SdbootSelector
from agent.firmware.selectors.tryboot import MIN_EEPROM_BUILT_AT_S, Autoboot, TrybootSelector, encode
from agent.firmware.selectors.uboot import UbootSelector
from agent.firmware.selectors.uboot_env import Environment, EnvironmentCopy
from agent.firmware.selectors.uboot_env import encode as encode_environment
from agent.firmware.storage import FileStorage
from agent.sim.bootloaders import FileLoader, PiFirmware, SystemdBoot, UbootScript, write_pi_device_tree
from tests.unit.firmware.selectors.rigs import PARTITIONS, SLOTS, TEMPLATE, WATCHDOG

Made = tuple[Callable[[str, bool], BootSelector], Callable[[bool], str | None]]


def make_file(folder: Path) -> Made:
    path = folder / "boot.json"
    return (
        lambda booted, asked: FileSelector(FileStorage(), path, SLOTS, booted),
        lambda asked: FileLoader(FileStorage(), path, SLOTS).boot(),
    )


def make_tryboot(folder: Path) -> Made:
    path, tree = folder / "autoboot.txt", folder / "bootloader"
    path.write_bytes(encode(Autoboot(PARTITIONS["a"], PARTITIONS["a"])))

    def selector(booted: str, asked: bool) -> BootSelector:
        write_pi_device_tree(tree, PARTITIONS[booted], tryboot=asked, built_at_s=MIN_EEPROM_BUILT_AT_S)
        return TrybootSelector(FileStorage(), path, PARTITIONS, read_pi_boot(tree), watchdog=WATCHDOG)

    return selector, lambda asked: PiFirmware(FileStorage(), path, PARTITIONS).boot(tryboot=asked)


def make_uboot(folder: Path) -> Made:
    copies = (EnvironmentCopy(folder / "uboot.env"), EnvironmentCopy(folder / "uboot-redund.env"))
    for copy in copies:
        copy.path.write_bytes(encode_environment(Environment((b"BOOT_A_GOOD=1",)), 0, 512))
    return (
        lambda booted, asked: UbootSelector(FileStorage(), copies, 512, SLOTS, booted),
        lambda asked: UbootScript(FileStorage(), copies, 512, SLOTS).boot(),
    )


def make_sdboot(folder: Path) -> Made:
    (folder / "evsed-a.conf").write_text(TEMPLATE.format(slot="a", version=1))
    return (
        lambda booted, asked: SdbootSelector(FileStorage(), folder, "evsed", TEMPLATE, SLOTS, booted),
        lambda asked: SystemdBoot(FileStorage(), folder).boot(),
    )


@pytest.mark.parametrize("make", [make_file, make_tryboot, make_uboot, make_sdboot])
def test_updates_there_and_back(make: Callable[[Path], Made], tmp_path: Path) -> None:
    selector, boot = make(tmp_path)
    booted = boot(False)
    assert booted == "a"
    for target in ("b", "a", "b"):
        here = selector(booted, False)
        assert here.repair() == []
        here.block(target)
        here.activate(target, 3)
        assert boot(True) == target
        assert selector(target, True).state().on_trial
        selector(target, True).confirm(target)
        booted = target
    assert [boot(False) for _ in range(3)] == ["b"] * 3
