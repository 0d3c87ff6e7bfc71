"""Microcontroller firmware at the station's start: every controller gets what the running slot was built with.

Charter: before the pilot drivers open their ports, and before any transaction can be resumed, asks the installer what
belongs to the slot and writes it where another version runs. A rollback brings the old firmware back by the same rule.
A failure does not stop the station: the old application may still run, or the pilot is simply lost, which is safe; but
a slot on trial does not pass its self-test with it. Nor does an installer that is away, or says nothing: it is waited
for so long at most, once for all controllers, and no longer than until the station is to stop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from agent.config.update import McuTarget
from agent.firmware.client import InstallerAway
from agent.firmware.errors import SlotFailed, UpdateRefused
from agent.firmware.mcu import Failed, Written, bring_in_line
from agent.station.installer_talks import SocketTalks
from hal.firmware import ControllerFirmware

ANSWER_MAX_S: Final = 60.0  # it reads a small payload; on a slow card its own start takes most of this

log = structlog.get_logger("updates")


async def bring_controllers_in_line(
    installer_socket: Path, targets: Sequence[McuTarget], stopping: asyncio.Event
) -> list[str]:
    """What went wrong, in plain words; usually nothing. ``stopping``: nothing more is begun."""
    talks = SocketTalks(installer_socket, ANSWER_MAX_S)
    hang_up = asyncio.get_running_loop().create_task(_hang_up(talks, stopping))
    faults: list[str] = []
    try:
        for target in targets:
            if stopping.is_set():
                break
            faults += await _bring(talks, target)
    except InstallerAway as away:
        log.error("microcontrollers cannot be checked", why=str(away))
        faults.append(f"microcontrollers: {away}")
    finally:
        hang_up.cancel()
    return faults


async def _hang_up(talks: SocketTalks, stopping: asyncio.Event) -> None:
    await stopping.wait()
    talks.close()


async def _bring(talks: SocketTalks, target: McuTarget) -> list[str]:
    """Raises ``InstallerAway``."""
    try:
        staged = await talks.ask(lambda installer: installer.mcu(target.name))
    except (SlotFailed, UpdateRefused) as error:
        log.error("microcontroller cannot be checked", target=target.name, why=str(error))
        return [f"microcontroller {target.name}: {error}"]
    outcome = await bring_in_line(staged, _controller(target), partial(_progress, target.name))
    if isinstance(outcome, Failed):
        log.error("microcontroller has the wrong firmware", target=target.name, why=outcome.reason)
        return [f"microcontroller {target.name}: {outcome.reason}"]
    if isinstance(outcome, Written):
        log.warning("microcontroller written", target=target.name, before=outcome.before, version=outcome.version)
    return []


def _progress(target: str, done_bytes: int, total_bytes: int) -> None:
    log.debug("microcontroller", target=target, done_bytes=done_bytes, total_bytes=total_bytes)


def _controller(target: McuTarget) -> ControllerFirmware:
    """Imported only where a configuration names one."""
    from hal.firmware.mcu_pilot import BOOT_LOADER_REQUEST, heard_version
    from hal.firmware.stm32 import Stm32Firmware
    from hal.firmware.stm32_entry import BootEntry, ByLines, ByRequest, ControlLine

    entry: BootEntry = ByRequest(request=BOOT_LOADER_REQUEST)
    if target.boot0_line is not None:
        line = ControlLine(target.boot0_line.value)
        entry = ByLines(boot0=line, boot0_asserted=False, reset_asserted=False)
    if target.version_offset is None:
        return Stm32Firmware(target.settings(), entry, heard=partial(heard_version, target.port, baud=target.baud))
    return Stm32Firmware(target.settings(), entry)
