"""The installer of a device, put together from its configuration.

Charter: the one place that knows all engines and boot selectors; each is imported only when the configuration names it.
Raises ``SlotFailed`` where the device is not what the configuration says.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from agent.config.update import EngineKind, SelectorKind, UpdateConfig
from agent.firmware.boot_id import read_boot_id
from agent.firmware.errors import SlotFailed
from agent.firmware.installer import SLOTS, Installer, Writer
from agent.firmware.installer_state import StateFile
from agent.firmware.policy import DevicePolicy
from agent.firmware.ports import BootSelector
from agent.firmware.selectors.booted import PI_BOOTLOADER, read_pi_boot, slot_of_command_line
from agent.firmware.storage import Storage

STATE_FILE: Final = "installer.json"


def make_installer(
    config: UpdateConfig,
    storage: Storage,
    *,
    agent_version: str,
    wall_ms: Callable[[], int],
) -> Installer:
    """An installer whose ``recover`` has not been called yet."""
    policy = DevicePolicy(config, wall_ms)
    selector, name = _selector(config, storage)
    return Installer(
        _writer(config, storage, policy, agent_version),
        selector,
        name,
        StateFile(storage, config.state_dir / STATE_FILE),
        policy,
        tries=config.tries,
        boot_id=read_boot_id(config.boot_id_file),
        wall_ms=wall_ms,
    )


def _writer(config: UpdateConfig, storage: Storage, policy: DevicePolicy, agent_version: str) -> Writer:
    if config.engine is EngineKind.RAUC:
        from agent.firmware.engines.rauc_bus import RaucBus
        from agent.firmware.rauc_writer import RaucWriter

        return RaucWriter(storage, config, RaucBus())
    from agent.firmware.native_writer import NativeWriter

    return NativeWriter(storage, config, policy, agent_version)


def _selector(config: UpdateConfig, storage: Storage) -> tuple[BootSelector, str]:
    """The boot selector, and its name for people."""
    if config.engine is EngineKind.RAUC:
        from agent.firmware.engines.rauc_bus import RaucBus
        from agent.firmware.engines.rauc_selector import RaucSelector

        return RaucSelector(RaucBus(), SLOTS, storage, config.state_dir / "rauc.json"), "rauc"
    kind = config.selector
    if kind is SelectorKind.TRYBOOT:
        return _tryboot(config, storage), kind.value
    booted = slot_of_command_line(config.command_line_file, SLOTS)
    if kind is SelectorKind.UBOOT:
        return _uboot(config, storage, booted), kind.value
    if kind is SelectorKind.SYSTEMD_BOOT:
        from agent.firmware.selectors.sdboot import SdbootSelector

        table = config.systemd_boot
        return SdbootSelector(
            storage, table.entries_dir, table.name, _template(table.template_file), SLOTS, booted
        ), kind.value
    from agent.firmware.selectors.file import FileSelector

    return FileSelector(storage, config.state_dir / "boot.json", SLOTS, booted), kind.value


def _template(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SlotFailed(str(file), str(error), "put the template of boot entries there") from error


def _tryboot(config: UpdateConfig, storage: Storage) -> BootSelector:
    from agent.firmware.selectors.tryboot import TrybootSelector

    table = config.tryboot
    assert table is not None, "checked with the configuration"
    partitions = {"a": table.partition_a, "b": table.partition_b}
    selector = TrybootSelector(storage, table.autoboot_file, partitions, read_pi_boot(PI_BOOTLOADER))
    selector.check()
    return selector


def _uboot(config: UpdateConfig, storage: Storage, booted: str | None) -> BootSelector:
    from agent.firmware.selectors.uboot import UbootSelector
    from agent.firmware.selectors.uboot_env import EnvironmentCopy

    table = config.uboot
    assert table is not None, "checked with the configuration"
    copies = (
        EnvironmentCopy(table.environment, table.offset_bytes),
        EnvironmentCopy(table.environment_copy or table.environment, table.offset_copy_bytes),
    )
    return UbootSelector(storage, copies, table.size_bytes, SLOTS, booted)
