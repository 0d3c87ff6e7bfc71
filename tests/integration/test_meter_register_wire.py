"""What the meter driver tells when the import register or the meter itself is not the same any more."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hal.meters.modbus_meter import meters_on_lines
from hal.ports import Back, LossKind, Lost
from hal.sim.faults import Fault
from hal.sim.meter import SimMeter
from tests.integration.meter_rig import Log, config_for, now_ms, rig, run, wire

pytestmark = pytest.mark.wire


@pytest.mark.parametrize("glitch_mwh", [0, 1_000_000, 900_000_000_000, None])
def test_a_glitch_of_the_register_is_never_a_reading(tmp_path: Path, glitch_mwh: int | None) -> None:
    async def scenario() -> None:
        async with rig(tmp_path, lost_after_polls=50) as r:
            heard = r.sim.requests
            r.sim.values.energy_import_mwh = glitch_mwh
            await r.log.until(lambda: r.sim.requests >= heard + 3)
            r.sim.values.energy_import_mwh = 1_000_010_000
            await r.log.next_reading()
            await r.log.next_reading()
            told = {reading.energy_import_mwh for reading in r.log.readings}
            assert told == {1_000_000_000, r.sim.register_mwh()}

    run(scenario)


def test_a_register_that_fell_for_good_is_garbage_until_restart(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as r:
            r.sim.values.energy_import_mwh = 5_000_000
            lost = await r.log.next_change()
            assert isinstance(lost, Lost)
            assert lost.kind is LossKind.GARBAGE
            assert lost.detail == "import register fell from 1000000000 to 5000000 mWh"
            heard = r.sim.requests
            await r.log.until(lambda: r.sim.requests > heard + 40)  # by then it is settled
            r.sim.values.energy_import_mwh = 1_000_000_000
            told = len(r.log.events)
            await asyncio.sleep(0.1)
            assert len(r.log.events) == told
            await r.meter.close()
            r.sim.values.energy_import_mwh = 6_000_000
            r.meter.start(r.log)
            assert (await r.log.next_reading()).energy_import_mwh == 6_000_000

    run(scenario)


def test_a_jump_that_stays_is_a_loss_and_then_a_fact(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as r:
            r.sim.values.energy_import_mwh = 1_500_000_000
            lost = await r.log.next_change()
            assert isinstance(lost, Lost)
            assert (lost.kind, "jumped" in lost.detail) == (LossKind.GARBAGE, True)
            assert isinstance(await r.log.next_change(), Back)
            assert (await r.log.next_reading()).energy_import_mwh == 1_500_000_000

    run(scenario)


def test_an_exchanged_meter_is_not_taken_for_the_first_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as r:
            r.sim.faults.set(Fault.SILENT)
            await r.log.next_change()
            r.sim.serial_number = 99
            r.sim.faults.clear()
            told, heard = len(r.log.events), r.sim.requests
            await r.log.until(lambda: r.sim.requests > heard + 5)
            assert len(r.log.events) == told
            await r.meter.close()
            r.meter.start(r.log)
            assert (await r.log.next_reading()).serial == "99"

    run(scenario)


def test_without_a_serial_register_the_configured_number_is_used(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path, sim=SimMeter(serial_number=None), serial="A-77") as r:
            assert r.log.events[0] == Back("Eastron SDM630 V2, serial A-77")
            assert r.log.readings[0].serial == "A-77"

    run(scenario)


def test_a_meter_without_any_serial_number_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path, sim=SimMeter(serial_number=None), started=False) as r:
            assert await r.log.next_change() == Lost(LossKind.REFUSED, "tells no serial number, and none is configured")

    run(scenario)


def test_a_meter_that_ignores_the_serial_request_uses_the_configured_number(tmp_path: Path) -> None:
    async def scenario() -> None:
        sim = SimMeter()
        async with wire(tmp_path, sim) as sim_line:
            loop = asyncio.get_running_loop()

            def hear(request: bytes) -> None:
                if request[1] == 4:
                    for reply in sim.hear(request):
                        sim_line.link.write(reply.data)

            sim_line.link.start(loop, hear)
            [meter] = meters_on_lines([config_for(sim_line.path, serial="A-77")], now_ms)
            log = Log()
            meter.start(log)
            assert (await log.next_reading()).serial == "A-77"
            assert [type(change) for change in log.changes] == [Back]
            await meter.close()

    run(scenario)
