"""A device with two slots on a disk in memory: the real installer with its native writer, any boot selector, and the
model of its boot loader. What the tests of the installer have in common.

Charter: ``Device`` restarts the installer or the machine, and shortens the usual ways through an update.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from agent.config.update import UpdateConfig
from agent.firmware.errors import Refusal, UpdateRefused
from agent.firmware.installer import Installer
from agent.firmware.installer_state import StateFile
from agent.firmware.native_writer import NativeWriter
from agent.firmware.policy import DevicePolicy
from agent.firmware.ports import Progress
from agent.firmware.setup import STATE_FILE
from agent.firmware.view import InstallOrder, Origin, StagedView
from tests.support.power_disk import PowerDisk
from tests.support.update_world import (
    FACTORY,
    NEW,
    NEXT,
    NOW_MS,
    OLD,
    STATE_DIR,
    TRIES,
    Release,
    World,
    config,
    release,
)
from tests.unit.firmware.bundle.making import BytesSource
from tests.unit.firmware.bundle.pki import SIGNER
from tests.unit.firmware.selectors.rigs import RIGS, slot_path

OCPP: Final = InstallOrder(Origin.OCPP)
ON_SITE: Final = InstallOrder(Origin.LOCAL)
STATE: Final = STATE_DIR / STATE_FILE
rigs = pytest.mark.parametrize("name", RIGS)


def nobody(progress: Progress) -> None:
    pass


def signed(what: Release, signature: str = "") -> InstallOrder:
    return InstallOrder(Origin.OCPP, SIGNER.certificate_pem, signature or what.signature)


class Device:
    """A delivered device that runs slot a. ``boot`` restarts it; ``start`` only the installer."""

    def __init__(self, folder: Path, name: str = "file", **settings: Any) -> None:
        self.config: UpdateConfig = dataclasses.replace(config(folder), **settings)
        self.rig = RIGS[name]
        releases = [release(*each) for each in (FACTORY, OLD, NEW, NEXT)]
        self.disk: PowerDisk = World(self.rig, self.config, releases).factory(releases[0])
        self.boots, self.asked = 0, False
        self.boot()

    def boot(self, *, asked: bool = False) -> str:
        """Restart; with what the boot selector wants to be said where ``asked``."""
        self.asked = asked
        self.boots += 1
        slot = self.rig.boot(self.disk, asked=asked)
        assert slot is not None
        self.slot = slot
        self.start()
        return slot

    def start(self) -> list[str]:
        policy = DevicePolicy(self.config, lambda: NOW_MS)
        self.selector = self.rig.selector(self.disk, self.slot, asked=self.asked)
        self.installer = Installer(
            NativeWriter(self.disk, self.config, policy, "1.0"),
            self.selector,
            "some loader",
            StateFile(self.disk, STATE),
            policy,
            tries=TRIES,
            boot_id=f"boot {self.boots}",
            wall_ms=lambda: NOW_MS,
        )
        return self.installer.recover()

    def install(self, what: Release) -> StagedView:
        return self.installer.install(BytesSource(what.bundle), signed(what), nobody)

    def try_out(self, what: Release) -> str:
        """Up to the boot of it."""
        self.installer.activate(self.install(what).digest)
        return self.boot(asked=True)

    def update(self, what: Release) -> None:
        self.try_out(what)
        self.installer.confirm()

    @property
    def staged(self) -> StagedView:
        staged = self.installer.status().staged
        assert staged is not None
        return staged

    @property
    def epoch(self) -> int:
        return self.installer.status().security_epoch

    def content(self, slot: str) -> bytes:
        return self.disk.content(slot_path(slot))


def refused(call: Callable[[], object]) -> UpdateRefused:
    with pytest.raises(UpdateRefused) as caught:
        call()
    return caught.value


def busy(call: Callable[[], object]) -> str:
    error = refused(call)
    assert error.refusal is Refusal.BUSY
    return error.why
