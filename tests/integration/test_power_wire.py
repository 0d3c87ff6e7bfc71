"""The Infypower driver on real descriptors: slcan over a pty, UDP multicast, and SocketCAN where there is one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from hal.ports import (
    Back,
    DeviceLost,
    LossKind,
    Lost,
    ModuleFault,
    ModuleFaults,
    PowerEvent,
    PowerLimits,
    PowerModule,
    PowerOutput,
)
from hal.power.can_bus import CanBus
from hal.power.can_frame import CanFrame
from hal.power.can_ports import CanBusConfig, SlcanPort
from hal.power.infypower import InfypowerModules
from hal.power.infypower_codec import Status
from hal.power.infypower_config import InfypowerConfig, Mode
from hal.sim.dc_bus import BatteryLoad
from hal.sim.faults import Fault
from hal.sim.infypower import SimInfypower
from hal.sim.pty import PtyLink
from hal.sim.slcan import SimSlcanAdapter

pytestmark = pytest.mark.wire

Event = TypeVar("Event")

_MULTICAST = "239.74.163.2"


def now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


async def until(condition: Callable[[], object], deadline_s: float = 5.0) -> None:
    async with asyncio.timeout(deadline_s):
        while not condition():
            await asyncio.sleep(0.005)


class Station:
    """The driver under test and what it told."""

    def __init__(self, bus: CanBus, sim: SimInfypower, mode: Mode = Mode.MODULES) -> None:
        addresses = (0, 1) if mode is Mode.MODULES else ()
        # Fast polls, so that a test takes little real time; the rules' own times are tested in virtual time.
        config = InfypowerConfig("dc", mode, addresses, poll_interval_ms=50, output_timeout_ms=400)
        self.bus = bus
        self.sim = sim
        self.events: list[PowerEvent] = []
        self.crashes: list[dict[str, Any]] = []
        self.driver: PowerModule = InfypowerModules(config, bus, now_ms)

    async def __aenter__(self) -> Station:
        # The loop would only log what a reader or a timer raises.
        asyncio.get_running_loop().set_exception_handler(lambda _, context: self.crashes.append(context))
        self.bus.start()
        self.sim.start(now_ms)
        self.driver.start(self.events.append)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.driver.close()
        await self.bus.close()
        self.sim.close()
        assert self.crashes == []

    def told(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def output(self) -> PowerOutput | None:
        outputs = self.told(PowerOutput)
        return outputs[-1] if outputs else None

    def delivers(self, current_ma: int) -> bool:
        return self.output is not None and self.output.on and self.output.current_ma == current_ma

    @property
    def stands_off(self) -> bool:
        return self.output is not None and not self.output.on and self.output.current_ma == 0


def modules() -> SimInfypower:
    return SimInfypower([0, 1], load=BatteryLoad(380_000, 200), soft_start_ms=100, bleed_ms=100, now_ms=now_ms())


class SlcanRig:
    def __init__(self, path: Path, sim: SimInfypower, bus_bitrate: int = 125_000) -> None:
        self.link = PtyLink(path / "can")
        self.adapter = SimSlcanAdapter(self.link, [sim], bitrate=bus_bitrate)
        self.bus = CanBus(CanBusConfig("dc bus", "slcan", self.link.path))


@contextlib.asynccontextmanager
async def slcan(path: Path, mode: Mode = Mode.MODULES) -> AsyncIterator[tuple[Station, SlcanRig]]:
    sim = modules()
    rig = SlcanRig(path, sim)
    rig.adapter.start()
    try:
        async with Station(rig.bus, sim, mode) as station:
            yield station, rig
    finally:
        rig.adapter.close()


async def charge_and_stop(station: Station) -> None:
    """Found, told, ramped up, steered, switched off."""
    await until(lambda: station.told(PowerLimits) and station.told(PowerLimits)[-1].modules == 2)
    assert station.told(PowerLimits)[-1] == PowerLimits(150_000, 1_000_000, 200_000, 60_000, 2)
    station.driver.set_output(400_000, 50_000)
    station.driver.switch(True)
    await until(lambda: station.delivers(50_000))
    assert [module.output.current_ma for module in station.sim.modules] == [25_000, 25_000]
    station.driver.set_output(382_000, 50_000)
    await until(lambda: station.delivers(10_000))
    station.driver.switch(False)
    await until(lambda: not any(module.delivering for module in station.sim.modules), 0.5)
    await until(lambda: station.stands_off)
    assert station.told(Lost) == []
    assert len(station.told(Back)) == 1
    assert station.sim.energy_nanojoule > 0


@pytest.mark.parametrize("mode", list(Mode))
def test_a_charge_over_slcan(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        async with slcan(tmp_path, mode) as (station, _):
            await charge_and_stop(station)

    asyncio.run(main())


def test_closing_switches_off(tmp_path: Path) -> None:
    async def main() -> None:
        async with slcan(tmp_path) as (station, _):
            station.driver.set_output(400_000, 50_000)
            station.driver.switch(True)
            await until(lambda: station.delivers(50_000))
            await station.driver.close()
            assert not any(module.delivering for module in station.sim.modules)

    asyncio.run(main())


def test_unplugging_the_adapter_is_lost_and_replugging_is_back_without_spinning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = 0
    read_port = SlcanPort.receive

    def counted(port: SlcanPort) -> list[CanFrame]:
        nonlocal reads
        reads += 1
        return read_port(port)

    monkeypatch.setattr(SlcanPort, "receive", counted)

    async def main() -> None:
        async with slcan(tmp_path) as (station, rig):
            station.driver.set_output(400_000, 50_000)
            station.driver.switch(True)
            await until(lambda: station.delivers(50_000))
            rig.adapter.faults.set(Fault.UNPLUG)
            await until(lambda: station.told(Lost))
            assert station.told(Lost)[-1].kind is LossKind.GONE
            at_hang_up = reads
            await asyncio.sleep(0.2)  # a reader left on a hung-up descriptor would run thousands of times
            assert reads <= at_hang_up + 1
            rig.adapter.faults.clear(Fault.UNPLUG)
            await until(lambda: len(station.told(Back)) == 2)
            await until(lambda: station.delivers(50_000))
            assert len(station.told(Lost)) == 1

    asyncio.run(main())


def test_a_port_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    async def main() -> None:
        sim = modules()
        rig = SlcanRig(tmp_path, sim)
        rig.adapter.start()
        rig.link.unplug()
        async with Station(rig.bus, sim) as station:
            assert [lost.kind for lost in station.told(Lost)] == [LossKind.GONE]
            rig.link.replug()
            await until(lambda: station.told(Back))
        rig.adapter.close()

    asyncio.run(main())


def test_silence_of_one_and_of_all_modules(tmp_path: Path) -> None:
    async def main() -> None:
        async with slcan(tmp_path) as (station, _):
            station.driver.set_output(400_000, 50_000)
            station.driver.switch(True)
            await until(lambda: station.delivers(50_000))
            station.sim.modules[1].faults.set(Fault.SILENT)
            await until(lambda: station.delivers(25_000))
            assert station.told(Lost) == []
            station.sim.modules[0].faults.set(Fault.SILENT)
            await until(lambda: station.told(Lost))
            assert station.told(Lost)[-1].kind is LossKind.SILENT
            for module in station.sim.modules:
                module.faults.clear()
            await until(lambda: station.delivers(50_000))
            assert len(station.told(Back)) == 2

    asyncio.run(main())


def test_noise_on_the_line_costs_frames_and_nothing_else(tmp_path: Path) -> None:
    async def main() -> None:
        async with slcan(tmp_path) as (station, rig):
            await until(lambda: station.told(Back))
            rig.adapter.faults.set(Fault.GARBAGE, count=20)
            station.sim.modules[1].alarms = Status.OVER_TEMPERATURE
            hot = ModuleFaults(frozenset({ModuleFault.OVER_TEMPERATURE}))
            await until(lambda: hot in station.told(ModuleFaults))
            await until(lambda: not rig.adapter.faults.is_on(Fault.GARBAGE))
            before = len(station.told(PowerOutput))
            await until(lambda: len(station.told(PowerOutput)) > before)
            assert station.told(Lost) == []

    asyncio.run(main())


def test_at_a_wrong_bit_rate_nothing_arrives(tmp_path: Path) -> None:
    async def main() -> None:
        sim = modules()
        rig = SlcanRig(tmp_path, sim, bus_bitrate=250_000)
        rig.adapter.start()
        async with Station(rig.bus, sim) as station:
            await until(lambda: station.told(Lost))
            assert station.told(Lost)[-1].kind is LossKind.SILENT
            assert station.told(Back) == []
        rig.adapter.close()

    asyncio.run(main())


def test_an_adapter_that_takes_nothing_does_not_hold_us_up(tmp_path: Path) -> None:
    """Nobody reads the other end: the tty fills, and every call still returns at once."""
    link = PtyLink(tmp_path / "can")
    port = SlcanPort(CanBusConfig("dc bus", "slcan", link.path))
    taken = 0
    while port.send(CanFrame(0x029A00F0, bytes(8))):
        taken += 1
        assert taken < 100_000
    assert not port.send(CanFrame(0x029A00F0, bytes(8)))
    wire = bytearray()
    while not port.flush():
        wire += os.read(link.master_fd, 65_536)
    with contextlib.suppress(BlockingIOError):
        while True:
            wire += os.read(link.master_fd, 65_536)
    frames = [line for line in bytes(wire).split(b"\r") if line.startswith(b"T")]
    assert set(frames) == {b"T029A00F080000000000000000"}  # none of them cut
    assert len(frames) == taken
    port.close()
    link.close()


def test_a_hang_up_that_reads_as_end_of_file_is_lost_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pty gives EIO; a USB serial port that was pulled gives an empty read, for ever."""
    link = PtyLink(tmp_path / "can")
    port = SlcanPort(CanBusConfig("dc bus", "slcan", link.path))
    monkeypatch.setattr("hal.power.can_ports.os.read", lambda fd, count: b"")
    with pytest.raises(DeviceLost, match="hang-up"):
        port.receive()
    port.close()
    link.close()


def test_the_adapter_answers_python_can_as_a_real_one_does(tmp_path: Path) -> None:
    """An implementation that is not ours, on our simulated adapter: open, version, serial, a frame each way."""
    import can

    class Echo:
        def attach(self, transmit: Callable[[CanFrame], None]) -> None:
            self.transmit = transmit

        def receive(self, frame: CanFrame) -> None:
            self.transmit(frame)

    def talk(path: str) -> tuple[object, object, object]:
        from can.interfaces.slcan import slcanBus

        bus = slcanBus(path, bitrate=125_000, sleep_after_open=0)
        try:
            sent = can.Message(arbitration_id=0x02A3F0F0, data=b"\x01\x02", is_extended_id=True)
            bus.send(sent, timeout=1)
            back = None
            while back is None:
                back = bus.recv(1)
            return bus.get_version(1), bus.get_serial_number(1), (back.arbitration_id, bytes(back.data))
        finally:
            bus.shutdown()

    async def main() -> None:
        link = PtyLink(tmp_path / "can")
        adapter = SimSlcanAdapter(link, [Echo()])
        adapter.start()
        async with asyncio.timeout(5):
            answers = await asyncio.to_thread(talk, link.path)
        assert answers == ((10, 13), "0001", (0x02A3F0F0, b"\x01\x02"))
        await until(lambda: not adapter.is_open)
        adapter.close()

    asyncio.run(main())


# ---------------------------------------------------------------------------- python-can's own buses


async def charge_over(config: CanBusConfig) -> None:
    sim = modules()
    far = CanBus(config)
    line = far.attach(lambda _: True, sim.receive, lambda up, why: None)
    sim.attach(line.send)
    far.start()
    assert far.up, far.why_down
    async with Station(CanBus(config), sim) as station:
        await charge_and_stop(station)
    await far.close()


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def multicast_works(port: int) -> bool:
    import can

    try:
        with (
            can.Bus(interface="udp_multicast", channel=_MULTICAST, hop_limit=0, port=port) as one,
            can.Bus(interface="udp_multicast", channel=_MULTICAST, hop_limit=0, port=port) as other,
        ):
            one.send(can.Message(arbitration_id=1), timeout=1)
            return other.recv(1) is not None
    except (can.CanError, OSError):
        return False


def test_a_charge_over_udp_multicast() -> None:
    port = free_udp_port()
    if not multicast_works(port):
        pytest.skip("no multicast on this machine")
    config = CanBusConfig("dc bus", "udp_multicast", _MULTICAST, options={"hop_limit": 0, "port": port})
    asyncio.run(charge_over(config))


def test_a_charge_over_socketcan() -> None:
    if not hasattr(socket, "AF_CAN"):
        pytest.skip("this Python has no AF_CAN")
    try:
        with socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW) as probe:
            probe.bind(("vcan0",))
    except OSError as error:
        pytest.skip(f"no vcan0 on this machine: {error}")
    asyncio.run(charge_over(CanBusConfig("dc bus", "socketcan", "vcan0")))
