"""Microcontroller firmware over real ptys: the STM32 driver against its simulator, and the version that is heard.

Every wait is for an answer. Only where none is to come, its time limit is shortened by the driver's settings.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.firmware.mcu import Failed, Same, Staged, Written, bring_in_line
from hal.firmware import FirmwareFailed
from hal.firmware.mcu_pilot import BOOT_LOADER_REQUEST, heard_version
from hal.firmware.stm32 import Stm32Firmware
from hal.firmware.stm32_entry import BootEntry, ByLines, ByRequest, ControlLine
from hal.firmware.stm32_image import Stm32Settings
from hal.firmware.wire import SerialWire
from hal.pilots.serial_line import SerialLine
from hal.sim.faults import Fault
from hal.sim.mcu_board import SimMcu
from hal.sim.pty import PtyLink
from hal.sim.stm32_bootloader import CHIP_ID, Mode, SimFlash, SimStm32, SimStm32Port
from tests.unit.hal.stm32_bench import image

pytestmark = pytest.mark.wire

PAGES = (2048,) * 8
OLD, NEW = image("1.0", 7_000), image("1.1", 9_001)
LINES = ByLines(boot0=ControlLine.RTS, boot0_asserted=False, reset_asserted=False, pulse_ms=1, settle_ms=1)
ASKED = ByRequest(request=BOOT_LOADER_REQUEST, settle_ms=20)
IMPATIENT: dict[str, Any] = {"sync_ms": 50, "reply_ms": 250, "write_ms": 250, "erase_ms": 250}


class Rig:
    """A controller on a pty. A pty has no control lines: those of the port are told to the controller directly."""

    def __init__(self, link: Path, entry: BootEntry) -> None:
        self.flash = SimFlash(PAGES)
        self.flash.content[: len(OLD)] = OLD
        by_request = isinstance(entry, ByRequest)
        self.sim = SimStm32(self.flash, request=BOOT_LOADER_REQUEST if by_request else b"", empty_check=by_request)
        self.port = SimStm32Port(self.sim, link)
        self.port.start(asyncio.get_running_loop())
        # Before it asks an application, the driver waits three times in vain for a boot loader.
        self.settings = Stm32Settings(
            port=self.port.path,
            chip_id=CHIP_ID,
            page_sizes=PAGES,
            version_offset=72,
            sync_ms=50 if by_request else 1_000,
        )
        self._entry = entry
        self._open_wire = SerialWire if by_request else self._wire_with_lines
        self.firmware = self._driver()

    def be_patient(self, patient: bool) -> None:
        self.firmware = self._driver(**({} if patient else IMPATIENT))

    def _driver(self, **limits: Any) -> Stm32Firmware:
        return Stm32Firmware(replace(self.settings, **limits), self._entry, open_wire=self._open_wire)

    def _wire_with_lines(self, path: str, baud: int) -> SerialWire:
        sim = self.sim

        class WithLines(SerialWire):
            def set_lines(self, *, dtr: bool, rts: bool) -> None:
                sim.set_pins(boot0=not rts, reset=not dtr)

        return WithLines(path, baud)

    async def write(self, content: bytes = NEW) -> None:
        await self.firmware.write(content, lambda done, total: None)

    async def fails_to_write(self, why: str) -> None:
        with pytest.raises(FirmwareFailed, match=why):
            await self.write()

    def runs(self, content: bytes) -> bool:
        return self.sim.mode is Mode.APPLICATION and self.flash.content.startswith(content)


def run(tmp_path: Path, test: Callable[[Rig], Coroutine[Any, Any, None]], entry: BootEntry = LINES) -> None:
    async def main() -> None:
        rig = Rig(tmp_path / "controller", entry)
        try:
            await test(rig)
        finally:
            rig.port.close()

    asyncio.run(main())


@pytest.fixture(params=[LINES, ASKED], ids=["lines", "request"])
def entry(request: pytest.FixtureRequest) -> BootEntry:
    chosen: BootEntry = request.param
    return chosen


def test_version_write_and_version(tmp_path: Path, entry: BootEntry) -> None:
    async def test(rig: Rig) -> None:
        assert await rig.firmware.version() == "1.0"
        assert rig.runs(OLD)
        await rig.write()
        assert rig.runs(NEW)
        assert await rig.firmware.version() == "1.1"
        assert [flash.startswith((OLD, NEW)) for flash in rig.sim.starts] == [True] * len(rig.sim.starts)

    run(tmp_path, test, entry)


@pytest.mark.parametrize(
    ("fault", "how", "why"),
    [
        (Fault.SILENT, {}, "does not answer"),
        (Fault.REFUSE, {"count": 1, "param": 5}, r"refuses writing 256 bytes at 0x8000b00"),
        (Fault.CORRUPT, {"count": 1}, "its first page is not erased"),
        (Fault.GARBAGE, {}, r"cannot be made out: a5 came"),
    ],
)
def test_a_fault_is_told_and_the_next_write_succeeds(
    tmp_path: Path, fault: Fault, how: dict[str, int], why: str
) -> None:
    async def test(rig: Rig) -> None:
        rig.sim.faults.set(fault, **how)
        rig.be_patient(fault is not Fault.SILENT)
        await rig.fails_to_write(why)
        rig.be_patient(True)
        rig.sim.faults.clear()
        await rig.write()
        assert rig.runs(NEW)

    run(tmp_path, test)


@pytest.mark.parametrize("steps", [0, 100, 257, 1_300, 2_600])
def test_power_is_lost_in_the_middle(tmp_path: Path, steps: int) -> None:
    async def test(rig: Rig) -> None:
        rig.flash.cut_after(steps)
        rig.be_patient(False)
        await rig.fails_to_write("no answer")
        assert rig.sim.mode is Mode.OFF
        rig.be_patient(True)
        rig.sim.power_on()
        await rig.write()
        assert rig.runs(NEW)
        assert all(flash.startswith((OLD, NEW)) for flash in rig.sim.starts)

    run(tmp_path, test)


def test_the_station_is_stopped_in_the_middle(tmp_path: Path, entry: BootEntry) -> None:
    async def test(rig: Rig) -> None:
        at_half = asyncio.Event()

        def told(done: int, total: int) -> None:
            if 2 * done >= total:
                at_half.set()

        writing = asyncio.ensure_future(rig.firmware.write(NEW, told))
        await at_half.wait()
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        assert rig.sim.mode is not Mode.APPLICATION
        await rig.write()
        assert rig.runs(NEW)

    run(tmp_path, test, entry)


def test_the_adapter_is_unplugged_in_the_middle(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        def told(done: int, total: int) -> None:
            if 2 * done >= total:
                rig.sim.faults.set(Fault.UNPLUG)

        with pytest.raises(FirmwareFailed, match="the line is gone"):
            await rig.firmware.write(NEW, told)
        await rig.fails_to_write("cannot be opened")
        rig.sim.faults.clear()
        await rig.write()
        assert rig.runs(NEW)

    run(tmp_path, test)


def test_a_port_that_the_pilot_driver_still_holds(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        pilot = SerialLine(
            rig.port.path, baud=115_200, on_open=lambda: None, on_bytes=lambda _: None, on_lost=lambda _: None
        )
        pilot.start()
        await rig.fails_to_write(r"cannot be opened.*no pilot driver holds it")
        await pilot.close()
        await rig.write()

    run(tmp_path, test)


def test_a_port_without_control_lines(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        with pytest.raises(FirmwareFailed, match=r"control lines cannot be set.*DTR and RTS"):
            await Stm32Firmware(rig.settings, LINES).version()

    run(tmp_path, test)


def test_a_chattering_line_costs_bounded_memory(tmp_path: Path) -> None:
    async def main() -> None:
        link = PtyLink(tmp_path / "line")
        link.start(asyncio.get_running_loop(), lambda _: None)
        wire = SerialWire(link.path, 115_200)
        try:
            for _ in range(20):
                link.write(b"\xa5" * 1_000)
                await asyncio.sleep(0)
            assert await wire.receive(4_097, 500) == b"\xa5" * 4_096
            wire.discard()
            link.write(b"\x79")
            assert await wire.receive(1, 5_000) == b"\x79"
        finally:
            wire.close()
            link.close()

    asyncio.run(main())


# ------------------------------------------------------------------------------------------- the slot's rule


def staged(content: bytes, version: str) -> Staged:
    return Staged(version, content, hashlib.sha256(content).digest())


def test_an_update_and_its_rollback(tmp_path: Path, entry: BootEntry) -> None:
    async def test(rig: Rig) -> None:
        def nothing(done: int, total: int) -> None: ...

        assert await bring_in_line(staged(OLD, "1.0"), rig.firmware, nothing) == Same("1.0")
        assert rig.flash.steps == 0
        assert await bring_in_line(staged(NEW, "1.1"), rig.firmware, nothing) == Written("1.0", "1.1", 1)
        assert await bring_in_line(staged(NEW, "1.1"), rig.firmware, nothing) == Same("1.1")
        assert await bring_in_line(staged(OLD, "1.0"), rig.firmware, nothing) == Written("1.1", "1.0", 1)
        assert rig.runs(OLD)

    run(tmp_path, test, entry)


def test_a_boot_after_a_power_cut_finishes_the_update(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        rig.flash.cut_after(1_000)
        rig.be_patient(False)
        first = await bring_in_line(staged(NEW, "1.1"), rig.firmware, lambda done, total: None, attempts=2)
        assert isinstance(first, Failed)
        rig.be_patient(True)
        rig.sim.power_on()
        second = await bring_in_line(staged(NEW, "1.1"), rig.firmware, lambda done, total: None)
        assert second == Written(None, "1.1", 1)
        assert rig.runs(NEW)

    run(tmp_path, test)


# -------------------------------------------------------------------------------------- the version that is heard


def test_the_pilot_controller_tells_its_version(tmp_path: Path) -> None:
    async def main() -> None:
        mcu = SimMcu(tmp_path / "mcu", keep_alive_ms=10)
        mcu.start(asyncio.get_running_loop())
        try:
            mcu.faults.set(Fault.GARBAGE, count=3)
            assert await heard_version(mcu.path) == "sim-1.0"
            assert mcu.heard == []  # it was only listened to
            mcu.faults.set(Fault.SILENT)
            assert await heard_version(mcu.path, timeout_ms=50) is None
        finally:
            mcu.close()
        with pytest.raises(FirmwareFailed, match="the line is gone"):
            await heard_version(str(tmp_path / "mcu"))

    asyncio.run(main())


def test_a_boot_loader_tells_no_version_and_is_not_disturbed(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        async def heard() -> str | None:
            return await heard_version(rig.port.path, timeout_ms=20)

        firmware = Stm32Firmware(replace(rig.settings, version_offset=None), ASKED, heard=heard)
        rig.flash.content[:] = b"\xff" * len(rig.flash.content)
        rig.sim.power_on()
        assert await firmware.version() is None
        await firmware.write(NEW, lambda done, total: None)
        assert rig.runs(NEW)

    run(tmp_path, test, ASKED)
