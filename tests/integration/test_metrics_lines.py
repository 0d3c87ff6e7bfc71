"""What real drivers count at the wire, fault by fault, against simulated devices on ptys."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hal.bus_counters import BusCounters
from hal.meters.modbus_line import LineConfig, ModbusLine
from hal.pilots.mcu import McuConfig, McuPilot
from hal.pilots.openevse import OpenEvseConfig, OpenEvsePilot
from hal.ports import Back, DeviceError, DeviceLost, LossKind, Lost
from hal.sim.faults import Fault
from hal.sim.mcu_board import SimMcu
from hal.sim.meter import SimMeter
from hal.sim.rapi_board import SimOpenEvse
from tests.integration.meter_rig import DRAIN_MS, TIMEOUT_MS, run, wire
from tests.integration.pilot_rig import Told, until

pytestmark = pytest.mark.wire

METER_FAULTS = {
    Fault.DROP: LossKind.SILENT,
    Fault.CORRUPT: LossKind.GARBAGE,
    Fault.SHORT: LossKind.GARBAGE,
    Fault.WRONG_UNIT: LossKind.GARBAGE,
    Fault.REFUSE: LossKind.REFUSED,
}


def failures(counters: BusCounters) -> dict[LossKind, int]:
    """Those that came."""
    return {kind: times for kind, times in counters.failures.items() if times}


@pytest.mark.parametrize(("fault", "kind"), METER_FAULTS.items(), ids=lambda each: str(each))
def test_meter_line(tmp_path: Path, fault: Fault, kind: LossKind) -> None:
    async def scenario() -> None:
        sim = SimMeter()
        async with wire(tmp_path, sim) as sim_line:
            line = ModbusLine(LineConfig(sim_line.path, timeout_ms=TIMEOUT_MS, gap_ms=2, drain_ms=DRAIN_MS))
            line.attach()
            await line.read("m", 1, 4, 0x0048, 2)
            assert line.counters.timed == line.counters.exchanges == 1
            assert 0 < line.counters.latency_max_us == line.counters.latency_sum_us <= TIMEOUT_MS * 1_000
            sim.faults.set(fault, count=1)
            with pytest.raises(DeviceError):
                await line.read("m", 1, 4, 0x0048, 2)
            await line.read("m", 1, 4, 0x0048, 2)
            assert failures(line.counters) == {kind: 1}
            assert (line.counters.exchanges, line.counters.timed) == (3, 2)
            await line.detach()

    run(scenario)


def test_meter_line_without_a_port(tmp_path: Path) -> None:
    async def scenario() -> None:
        line = ModbusLine(LineConfig(str(tmp_path / "none")))
        line.attach()
        with pytest.raises(DeviceLost):
            await line.read("m", 1, 4, 0, 2)
        assert failures(line.counters) == {LossKind.GONE: 1}
        await line.detach()

    run(scenario)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [(Fault.SILENT, LossKind.SILENT), (Fault.CORRUPT, LossKind.GARBAGE), (Fault.UNPLUG, LossKind.GONE)],
)
def test_mcu(tmp_path: Path, fault: Fault, kind: LossKind) -> None:
    async def scenario() -> None:
        sim = SimMcu(tmp_path / "mcu", supervision_ms=200, keep_alive_ms=20, boot_ms=5, lock_ms=10)
        sim.start(asyncio.get_running_loop())
        config = McuConfig(sim.path, keep_alive_ms=20, silence_ms=300, link_timeout_ms=300, reset_wait_ms=60)
        pilot, told = McuPilot(config), Told()
        try:
            pilot.start(told)
            await told.until_back()
            heard = pilot.counters.exchanges
            await until(lambda: pilot.counters.exchanges > heard, "messages are counted")
            assert failures(pilot.counters) == {}
            sim.faults.set(fault)
            await until(lambda: failures(pilot.counters).keys() == {kind}, f"{kind} and nothing else")
            assert pilot.counters.timed == 0
        finally:
            await pilot.close()
            sim.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("fault", "kind"),
    [(Fault.SILENT, LossKind.SILENT), (Fault.CORRUPT, LossKind.GARBAGE), (Fault.UNPLUG, LossKind.GONE)],
)
def test_openevse(tmp_path: Path, fault: Fault, kind: LossKind) -> None:
    async def scenario() -> None:
        sim = SimOpenEvse(tmp_path / "evse", heartbeat=(5, 6))
        sim.start(asyncio.get_running_loop())
        config = OpenEvseConfig(sim.path, poll_ms=20, reply_timeout_ms=100, boot_ms=500, close_ms=10)
        pilot, told = OpenEvsePilot(config), Told()
        try:
            pilot.start(told)
            await told.until_back()
            await until(lambda: pilot.temperatures() == {"DS3231": 23_000}, "the one thermometer that is fitted")
            assert failures(pilot.counters) == {}
            assert pilot.counters.timed == pilot.counters.exchanges > 0
            assert pilot.counters.latency_max_us <= 100_000
            sim.faults.set(fault)
            await told.until_lost(kind)
            assert failures(pilot.counters).keys() == {kind}
            assert pilot.temperatures() == {}
        finally:
            await pilot.close()
            sim.close()

    asyncio.run(scenario())


class _WithoutThermometer(SimOpenEvse):
    """A board whose firmware does not know ``$GP``."""

    def _get(self, command: str) -> str | None:
        return None if command == "GP" else super()._get(command)


def test_an_openevse_board_that_tells_no_temperature_is_as_good_as_another(tmp_path: Path) -> None:
    async def scenario() -> None:
        sim = _WithoutThermometer(tmp_path / "evse", heartbeat=(5, 6))
        sim.start(asyncio.get_running_loop())
        config = OpenEvseConfig(sim.path, poll_ms=20, reply_timeout_ms=100, boot_ms=500, close_ms=10)
        pilot, told = OpenEvsePilot(config), Told()
        try:
            pilot.start(told)
            await until(lambda: sim.heard.count("GP") >= 3, "the question, again and again")
            assert (told.count(Back), told.count(Lost)) == (1, 0)
            assert pilot.temperatures() == {}
        finally:
            await pilot.close()
            sim.close()

    asyncio.run(scenario())
