"""The table ``[update]`` of the configuration: slots, boot loader, trust and policies of firmware updates.

Charter: plain data with a rule at each field, as ``agent.config.model``. Without the table the station takes no
updates. The installer reads the same file by itself: nothing here is told to it by the gateway. Source: firmware
reference 1.5.
"""

# ruff: noqa: RUF009 - ``ruled`` makes a dataclass field; it is not a default value.
from __future__ import annotations

import enum
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from agent.config.fields import (
    Rule,
    Unfit,
    choice_rule,
    choices_rule,
    file_rule,
    flag_rule,
    integer_rule,
    path_rule,
    ruled,
    show,
    text_rule,
)

if TYPE_CHECKING:
    from hal.firmware.stm32_image import Stm32Settings


class EngineKind(enum.StrEnum):
    NATIVE = "native"  # our bundles, written by ourselves
    RAUC = "rauc"  # RAUC's bundles, by the RAUC service; it also picks the slot


class SelectorKind(enum.StrEnum):
    """What the boot loader is."""

    TRYBOOT = "tryboot"  # Raspberry Pi
    UBOOT = "uboot"
    SYSTEMD_BOOT = "systemd-boot"
    FILE = "file"  # development: one file, read by a simulated boot loader


class ControlLineName(enum.StrEnum):
    DTR = "dtr"
    RTS = "rts"


class SourcePolicy(enum.StrEnum):
    """What an update must bring when nobody signed the order itself."""

    BUNDLE = "bundle"  # the bundle's own signatures are enough
    REFUSE = "refuse"


class Scheme(enum.StrEnum):
    """Where the CSMS may send the gateway for a file."""

    HTTPS = "https"
    HTTP = "http"
    FTPS = "ftps"
    FTP = "ftp"
    FILE = "file"


def command_rule(example: tuple[str, ...]) -> Rule:
    """A program and its arguments, run without a shell."""
    expected = "a list of 1 to 16 texts: a program and its arguments"
    shown = "[" + ", ".join(f'"{each}"' for each in example) + "]"

    def convert(value: object, _base: Path) -> object:
        if not isinstance(value, list) or not 1 <= len(value) <= 16:
            raise Unfit(expected, show(value), shown)
        if not all(isinstance(each, str) and each and "\0" not in each for each in value):
            raise Unfit(expected, show(value), shown)
        return tuple(value)

    return Rule(expected, shown, convert)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotTarget:
    """``[[update.slot]]``: a pair of block devices (or files), one for each slot. A slot has as many as ``target``s:
    kernel and device tree belong to the slot as the root file system does."""

    target: str = ruled(text_rule(32, "rootfs"), "rootfs")
    a: Path = ruled(path_rule("/dev/mmcblk0p5"))
    b: Path = ruled(path_rule("/dev/mmcblk0p6"))


@dataclass(frozen=True, slots=True, kw_only=True)
class TrybootConfig:
    """``[update.tryboot]``: where the Raspberry Pi's firmware reads which partition to boot."""

    autoboot_file: Path = ruled(path_rule("/boot/autoboot/autoboot.txt"))
    partition_a: int = ruled(integer_rule(1, 63, 2))
    partition_b: int = ruled(integer_rule(1, 63, 3))


@dataclass(frozen=True, slots=True, kw_only=True)
class UbootConfig:
    """``[update.uboot]``: both copies of the redundant environment; one device with two offsets, or two files."""

    environment: Path = ruled(path_rule("/dev/mmcblk0"))
    environment_copy: Path | None = ruled(path_rule("/boot/uboot-redund.env"), None)  # left out: the same file
    offset_bytes: int = ruled(integer_rule(0, 2**40, 4_194_304), 0)
    offset_copy_bytes: int = ruled(integer_rule(0, 2**40, 4_325_376), 0)
    size_bytes: int = ruled(integer_rule(256, 1_048_576, 16_384), 16_384)


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemdBootConfig:
    """``[update.systemd_boot]``: the folder of entries, the word their names begin with, and what an entry says."""

    entries_dir: Path = ruled(path_rule("/boot/efi/loader/entries"), Path("/boot/efi/loader/entries"))
    name: str = ruled(text_rule(16, "evsed", forbidden="/+-."), "evsed")
    template_file: Path = ruled(path_rule("/etc/evsed/boot-entry.conf"), Path("/etc/evsed/boot-entry.conf"))


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesTarget:
    """``[[update.files]]``: a folder for files that belong to a slot: below it one folder for each slot."""

    name: str = ruled(text_rule(32, "maps"))
    folder: Path = ruled(path_rule("/var/lib/evsed-files/maps"))


@dataclass(frozen=True, slots=True, kw_only=True)
class McuTarget:
    """``[[update.mcu]]``: an STM32 behind a control pilot, whose ROM boot loader takes firmware at ``port``.

    Its flash has ``pages`` of ``page_bytes``. Its version stands at ``version_offset`` of the flash; left out: it is
    heard in what the protobuf board says. ``boot0_line``: control line of the port that BOOT0 hangs on, RESET being
    the other (both must be released while the station drives the board); left out: the application is asked."""

    name: str = ruled(text_rule(32, "pilot"))
    port: str = ruled(text_rule(255, "/dev/ttyS1"))
    baud: int = ruled(integer_rule(1_200, 115_200, 115_200), 115_200)
    chip_id: int = ruled(integer_rule(0, 65_535, 0x468))
    page_bytes: int = ruled(integer_rule(256, 262_144, 2_048))
    pages: int = ruled(integer_rule(1, 1_024, 64))
    version_offset: int | None = ruled(integer_rule(8, 4_194_304, 512), None)
    boot0_line: ControlLineName | None = ruled(choice_rule(ControlLineName, ControlLineName.DTR), None)

    def settings(self) -> Stm32Settings:
        """Raises ``ValueError`` where no controller can be so."""
        from hal.firmware.stm32_image import Stm32Settings  # only where a configuration names one

        return Stm32Settings(
            port=self.port,
            baud=self.baud,
            chip_id=self.chip_id,
            page_sizes=(self.page_bytes,) * self.pages,
            version_offset=self.version_offset,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateConfig:
    """``[update]``. ``roots``: certificates that bundles are signed under; ``manufacturer_roots``: those of OCPP's
    signing certificates, left out: the same. ``plain``: an OCPP order without signature. ``tries``: boots of a new
    image without its being marked good. ``image_version_file``: where the running image says its version."""

    engine: EngineKind = ruled(choice_rule(EngineKind, EngineKind.NATIVE), EngineKind.NATIVE)
    selector: SelectorKind = ruled(choice_rule(SelectorKind, SelectorKind.TRYBOOT), SelectorKind.FILE)
    state_dir: Path = ruled(path_rule("/var/lib/evsed-installer"))
    compatible: str = ruled(text_rule(64, "example-wallbox-11"))
    hardware_revision: int = ruled(integer_rule(0, 65_535, 1), 0)
    bootloader_version: str = ruled(text_rule(32, "2024.01"), "")
    roots: Path = ruled(file_rule("/etc/evsed/update-roots.pem"))
    manufacturer_roots: Path | None = ruled(file_rule("/etc/evsed/manufacturer-roots.pem"), None)
    revoked: Path | None = ruled(file_rule("/etc/evsed/update-revoked.txt"), None)
    threshold: int = ruled(integer_rule(1, 8, 1), 1)
    allow_pkcs1: bool = ruled(flag_rule(False), False)
    allow_expired_signers: bool = ruled(flag_rule(True), True)  # valid when they signed: a device is never stranded
    plain: SourcePolicy = ruled(choice_rule(SourcePolicy, SourcePolicy.REFUSE), SourcePolicy.REFUSE)
    local: SourcePolicy = ruled(choice_rule(SourcePolicy, SourcePolicy.BUNDLE), SourcePolicy.BUNDLE)
    schemes: tuple[Scheme, ...] = ruled(
        choices_rule(Scheme, (Scheme.HTTPS, Scheme.HTTP)), (Scheme.HTTPS, Scheme.HTTP, Scheme.FTPS, Scheme.FTP)
    )
    ca_file: Path | None = ruled(file_rule("/etc/evsed/download-ca.pem"), None)
    rate_limit_kib_s: int = ruled(integer_rule(0, 1_000_000, 1_024), 0)  # 0: none
    max_bundle_mib: int = ruled(integer_rule(1, 65_536, 4_096), 4_096)
    tries: int = ruled(integer_rule(1, 9, 3), 3)
    self_test_s: int = ruled(integer_rule(5, 900, 90), 90)
    image_version_file: Path | None = ruled(path_rule("/etc/evsed/image-version"), None)
    reboot_command: tuple[str, ...] = ruled(
        command_rule(("systemctl", "--no-block", "reboot")), ("systemctl", "--no-block", "reboot")
    )
    command_line_file: Path = ruled(path_rule("/proc/cmdline"), Path("/proc/cmdline"))  # holds evsed.slot=
    boot_id_file: Path = ruled(path_rule("/proc/sys/kernel/random/boot_id"), Path("/proc/sys/kernel/random/boot_id"))
    slot: tuple[SlotTarget, ...] = ()  # RAUC knows its own
    tryboot: TrybootConfig | None = None
    uboot: UbootConfig | None = None
    systemd_boot: SystemdBootConfig = field(default_factory=SystemdBootConfig)
    files: tuple[FilesTarget, ...] = ()
    mcu: tuple[McuTarget, ...] = ()
