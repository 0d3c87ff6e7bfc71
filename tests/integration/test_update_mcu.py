"""The pilot's microcontroller follows the slot: real installer process, real bundle, its boot loader on a pty.

Forward with an update, back with a rollback, by the same rule at every start of the station; and nothing goes forward
that could not come back.
"""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from agent.config.load import load
from agent.config.update import McuTarget
from agent.firmware.bundle.make import Description, PayloadPlan, create
from agent.firmware.bundle.sign import sign
from agent.firmware.errors import Refusal, UpdateRefused
from agent.firmware.manifest import Compression, PayloadType, Requires
from agent.firmware.storage import FileStorage, opened
from agent.firmware.view import InstallOrder, Origin
from agent.sim.signer import COMPATIBLE
from agent.station import controllers
from agent.station.controllers import bring_controllers_in_line
from hal.firmware.mcu_pilot import BOOT_LOADER_REQUEST
from hal.sim.stm32_bootloader import CHIP_ID, SimFlash, SimStm32, SimStm32Port
from tests.support.update_kit import UpdateKit
from tests.unit.hal.stm32_bench import image

pytestmark = pytest.mark.wire
UPDATES = Path(__file__).parents[2] / "docs" / "updates.md"
PAGES = (2048,) * 8
FACTORY, FIRST, SECOND = (image(version, 7_000) for version in ("1.0", "1.1", "1.2"))


class Device(UpdateKit):
    """With a microcontroller, whose flash survives everything here."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.flash = SimFlash(PAGES)
        self.flash.content[: len(FACTORY)] = FACTORY
        self.config.write_text(
            self.config.read_text()
            + f'\n[[update.mcu]]\nname = "pilot"\nport = "{folder}/controller"\nchip_id = {CHIP_ID}\n'
            + f"page_bytes = {PAGES[0]}\npages = {len(PAGES)}\nversion_offset = 72\n"
        )

    @property
    def targets(self) -> tuple[McuTarget, ...]:
        update = load(self.config).update
        assert update is not None
        return update.mcu

    def bundle_with(self, version: str, controller: bytes, controller_version: str, requires_mcu: str = "") -> Path:
        (self.folder / "image").write_bytes(version.encode().ljust(40_000, b"."))
        (self.folder / "controller.bin").write_bytes(controller)
        plans = (
            PayloadPlan("rootfs", PayloadType.SLOT_IMAGE, "rootfs", self.folder / "image", 16_384, Compression.NONE),
            PayloadPlan(
                *("pilot", PayloadType.MCU_FIRMWARE, "pilot", self.folder / "controller.bin", 4_096),
                version=controller_version,
            ),
        )
        out, requires = self.folder / f"{version}.bundle", Requires(mcu=requires_mcu)
        create(Description((COMPATIBLE,), 0, 9, version, 1, 1_796_000_000_000, plans, requires), out)
        key = self.maker.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        sign(out, key, self.maker.certificate_pem.encode())
        return out

    def seed(self, slot: str) -> None:
        """As the factory does, or a technician: the very lines of docs/updates.md."""
        (self.folder / "pilot.bin").write_bytes(FACTORY)
        (lines,) = re.findall(r"```sh\n(cd /var/lib/evsed-installer\n.*?)```", UPDATES.read_text(), re.DOTALL)
        state = self.folder / "state"
        state.mkdir(exist_ok=True)
        lines = lines.replace("/var/lib/evsed-installer", str(state)).replace("/mnt/", f"{self.folder}/")
        subprocess.run(["sh", "-ec", lines.replace("mcu-pilot-a", f"mcu-pilot-{slot}")], check=True, timeout=20)

    def update(self, bundle: Path) -> str:
        """Install and boot the bundle; returns the slot, on trial."""
        with self.installer() as installer, opened(FileStorage().open(bundle)) as source:
            staged = installer.install(source, InstallOrder(Origin.LOCAL), lambda _: None)
            installer.activate(staged.digest)
        return self.boot()

    def start(self, stopping: Callable[[asyncio.Event], None] = lambda _: None) -> list[str]:
        """The station's first act; returns its faults. ``stopping`` may let the station be told to stop."""

        async def run() -> list[str]:
            stop = asyncio.Event()
            stopping(stop)
            controller = SimStm32(self.flash, request=BOOT_LOADER_REQUEST, empty_check=True)
            port = SimStm32Port(controller, self.folder / "controller")
            port.start(asyncio.get_running_loop())
            try:
                return await bring_controllers_in_line(self.socket, self.targets, stop)
            finally:
                port.close()

        return asyncio.run(run())

    def runs(self, content: bytes) -> bool:
        return self.flash.content.startswith(content)


def test_the_controller_goes_forward_and_back_with_the_slot(tmp_path: Path) -> None:
    device = Device(tmp_path)
    device.seed("a")
    assert device.update(device.bundle_with("2.0.0", FIRST, "1.1")) == "b"
    with device.installer() as installer:
        assert device.start() == []
        assert device.runs(FIRST)
        installer.confirm()
    assert device.update(device.bundle_with("3.0.0", SECOND, "1.2", requires_mcu="1.1")) == "a"
    with device.installer() as installer:
        assert device.start() == []
        assert device.runs(SECOND)
        installer.revert()
    assert device.boot() == "b"
    with device.installer():
        assert device.start() == []
        assert device.runs(FIRST), "the old image gets the firmware that it was built with"


@pytest.mark.parametrize("release_between", [False, True])
def test_the_first_firmware_comes_only_where_the_way_back_is_staged(tmp_path: Path, release_between: bool) -> None:
    device = Device(tmp_path)
    slot, first = "a", device.bundle_with("2.0.0", FIRST, "1.1")
    with pytest.raises(UpdateRefused, match=r"microcontroller pilot: slot a has no firmware staged") as refused:
        device.update(first)
    assert refused.value.refusal is Refusal.REQUIREMENT
    assert "mcu-pilot-a.bin and .json" in str(refused.value)
    device.seed("a")
    if release_between:  # it brings none, and must not lose what the factory staged
        slot = device.update(device.bundle("1.5.0", epoch=1))
        with device.installer() as installer:
            assert device.start() == []
            installer.confirm()
    assert device.update(first) != slot
    with device.installer() as installer:
        assert device.start() == []
        assert device.runs(FIRST)
        installer.revert()
    assert device.boot() == slot
    with device.installer():
        assert device.start() == []
        assert device.runs(FACTORY)


def test_a_way_back_that_could_not_be_written_is_none(tmp_path: Path) -> None:
    device = Device(tmp_path)
    device.seed("a")
    (tmp_path / "state" / "mcu-pilot-a.bin").write_bytes(SECOND)
    with pytest.raises(UpdateRefused, match=r"slot a has staged for it does not have its hash"):
        device.update(device.bundle_with("2.0.0", FIRST, "1.1"))


def test_a_note_that_was_cut_off_keeps_out_only_what_could_not_come_back(tmp_path: Path) -> None:
    """Until it is written anew, as the refusal says."""
    device = Device(tmp_path)
    device.seed("a")
    (tmp_path / "state" / "mcu-pilot-a.json").write_text("")
    with pytest.raises(UpdateRefused, match=r"slot a has no firmware staged.*mcu-pilot-a\.bin and \.json in"):
        device.update(device.bundle_with("2.0.0", FIRST, "1.1"))
    device.seed("a")
    (tmp_path / "state" / "mcu-pilot-a.json").write_text('{"version": "1.0')
    assert device.update(device.bundle("1.5.0", epoch=1)) == "b"
    with device.installer() as installer:
        assert device.start() == []
        assert device.runs(FACTORY)
        installer.confirm()
    device.seed("b")
    assert device.update(device.bundle_with("2.0.0", FIRST, "1.1")) == "a"


def test_what_the_running_slot_brought_is_asked_for_by_the_next(tmp_path: Path) -> None:
    device = Device(tmp_path)
    with (
        device.installer() as installer,
        opened(FileStorage().open(device.bundle_with("2.0.0", FIRST, "1.1", requires_mcu="1.0"))) as source,
    ):
        with pytest.raises(UpdateRefused) as refused:  # nobody knows what the factory put there
            installer.install(source, InstallOrder(Origin.LOCAL), lambda _: None)
        assert refused.value.refusal is Refusal.REQUIREMENT


def test_without_an_installer_the_start_says_so(tmp_path: Path) -> None:
    device = Device(tmp_path)
    (fault,) = device.start()
    assert fault.startswith("microcontrollers: ")
    assert "does not answer" in fault
    assert device.runs(FACTORY)


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[tuple[Device, socket.socket]]:
    """A device with an installer that takes connections and says nothing."""
    device = Device(tmp_path)
    device.socket.parent.mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(device.socket))
        listener.listen(8)
        listener.setblocking(False)
        yield device, listener


def test_an_installer_that_says_nothing_is_waited_for_once(
    silent: tuple[Device, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    device, listener = silent
    monkeypatch.setattr(controllers, "ANSWER_MAX_S", 0.2)
    targets = device.targets * 2
    monkeypatch.setattr(Device, "targets", targets)
    assert device.start() == ["microcontrollers: the installer went away: timed out"]
    listener.accept()[0].close()
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_and_no_longer_than_until_the_station_is_to_stop(silent: tuple[Device, socket.socket]) -> None:
    device, listener = silent

    def when_it_asks(stop: asyncio.Event) -> None:
        asyncio.get_running_loop().add_reader(listener, stop.set)

    (fault,) = device.start(when_it_asks)
    assert "timed out" not in fault
    assert device.runs(FACTORY)
