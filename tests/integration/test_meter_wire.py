"""The meter driver against a simulated meter, byte for byte over a pty: every fault, and recovery from it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hal.meters.modbus_line import ModbusLine
from hal.meters.modbus_meter import ModbusMeter, meters_on_lines
from hal.ports import Back, DeviceTimeout, LossKind, Lost
from hal.sim.faults import Fault
from hal.sim.meter import Reply, SimMeter
from tests.integration.meter_rig import DEADLINE_S, DRAIN_MS, TIMEOUT_MS, Log, config_for, now_ms, rig, run, wire

pytestmark = pytest.mark.wire


# ------------------------------------------------------------------------------------ ordinary life


def test_a_meter_that_is_exchanged_while_it_is_lost_is_not_taken_for_the_old_one(tmp_path: Path) -> None:
    """Before that the old one answers once more, to the read of its serial number alone."""

    async def scenario() -> None:
        async with rig(tmp_path) as r:
            r.sim.faults.set(Fault.SILENT)
            assert isinstance(await r.log.next_change(), Lost)
            hear, asked, exchanged = r.sim.hear, list[bytes](), False

            def only_its_number(request: bytes) -> list[Reply]:
                asked.append(request)
                return hear(request) if request[1] == 3 or exchanged else []

            r.sim.hear = only_its_number  # type: ignore[method-assign]
            r.sim.faults.clear(Fault.SILENT)
            await r.log.until(lambda: any(request[1] != 3 for request in asked))
            r.sim.serial_number, exchanged = 99_999_999, True
            events, requests = len(r.log.events), len(asked)
            await r.log.until(lambda: len(asked) > requests + 10)
            assert r.log.events[events:] == []

    run(scenario)


def test_it_comes_back_with_its_identity_and_then_reads(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as r:
            r.sim.values.energy_import_mwh = 1_000_010_000
            r.sim.values.energy_export_mwh = 5_000_000
            r.sim.values.power_mw = 3_680_000
            r.sim.values.voltage_mv = (229_000, 230_000, None)
            r.sim.values.current_ma = (16_000, 0, None)
            await r.log.next_reading()
            before = now_ms()
            reading = await r.log.next_reading()
            assert r.log.events[0] == Back("Eastron SDM630 V2, serial 12345678")
            assert len(r.log.changes) == 1
            assert reading.energy_import_mwh == r.sim.register_mwh() != 1_000_010_000
            assert reading.energy_export_mwh == 5_000_000
            assert reading.power_mw == 3_680_000
            assert reading.voltage_mv == (229_000, 230_000, None)
            assert reading.current_ma == (16_000, 0, None)
            assert reading.frequency_mhz == 50_000
            assert reading.serial == "12345678"
            assert before - 20 <= reading.at_ms <= now_ms()

    run(scenario)


def test_read_soon_does_not_wait_for_the_poll(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path, poll_ms=60_000) as r:
            count = len(r.log.readings)
            r.sim.values.energy_import_mwh = 1_000_010_000
            r.meter.read_soon()
            reading = await r.log.next_reading()
            assert (len(r.log.readings), count) == (2, 1)
            assert reading.energy_import_mwh == r.sim.register_mwh() > 1_000_000_000
            heard = r.sim.requests
            await asyncio.sleep(0.05)
            assert r.sim.requests == heard  # once, not from now on

    run(scenario)


def test_read_soon_during_a_poll_reads_once_more(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path, poll_ms=60_000) as r:
            r.sim.faults.set(Fault.DELAY, count=1, param=20)
            heard = r.sim.requests
            r.meter.read_soon()
            await r.log.until(lambda: r.sim.requests > heard)
            r.meter.read_soon()  # the request is out; its answer may be older than this call
            await r.log.until(lambda: len(r.log.readings) == 3)

    run(scenario)


def test_a_paced_line_at_9600_baud(tmp_path: Path) -> None:
    async def scenario() -> None:
        sim = SimMeter()
        async with wire(tmp_path, sim, baud=9_600) as line:
            [meter] = meters_on_lines([config_for(line.path, timeout_ms=300)], now_ms)
            log = Log()
            meter.start(log)
            await log.next_reading()
            await meter.close()
            assert isinstance(log.changes[0], Back)

    run(scenario)


def test_nothing_more_is_told_or_asked_after_close(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as r:
            await r.meter.close()
            told, heard = len(r.log.events), r.sim.requests
            await asyncio.sleep(0.06)
            assert (len(r.log.events), r.sim.requests) == (told, heard)
            r.meter.start(r.log)
            await r.log.next_reading()
            assert len(r.log.changes) == 2

    run(scenario)


def test_close_ends_even_where_a_cancellation_is_lost_on_the_way() -> None:
    class DeafLine(ModbusLine):
        """Loses the first cancellation, as a reply in the same turn of the loop can."""

        lost = False

        async def read(self, device: str, unit_id: int, function: int, address: int, count: int) -> list[int]:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if self.lost:
                    raise
                self.lost = True
            return [1] * count

    async def scenario() -> None:
        config = config_for("nowhere")
        line = DeafLine(config.line)
        meter = ModbusMeter(config, line, now_ms)
        meter.start(Log())
        await asyncio.sleep(0.01)
        async with asyncio.timeout(DEADLINE_S):
            await meter.close()
        assert line.lost
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(scenario)


def test_the_loop_is_never_blocked(tmp_path: Path) -> None:
    """While a silent meter is waited for, an unrelated task gets its turns."""

    async def scenario() -> None:
        async with rig(tmp_path) as r:
            r.sim.faults.set(Fault.SILENT)
            turns = 0
            lost = asyncio.create_task(r.log.next_change())
            while not lost.done():
                await asyncio.sleep(0.001)
                turns += 1
            # Two polls with timeout and drain last at least 180 ms; a blocked loop gives a handful of turns.
            assert turns > 30

    run(scenario)


# ---------------------------------------------------------------------------- faults and recovery


@pytest.mark.parametrize(
    ("fault", "kind", "detail"),
    [
        (Fault.DROP, LossKind.SILENT, "no reply within 60 ms"),
        (Fault.SILENT, LossKind.SILENT, "no reply within 60 ms"),
        (Fault.CORRUPT, LossKind.GARBAGE, "no valid reply"),
        (Fault.GARBAGE, LossKind.GARBAGE, "no valid reply"),
        (Fault.WRONG_UNIT, LossKind.GARBAGE, "no valid reply"),
        (Fault.SHORT, LossKind.GARBAGE, "registers came instead of"),
        (Fault.REFUSE, LossKind.REFUSED, "exception 4 (server device failure) reading"),
        (Fault.UNPLUG, LossKind.GONE, "hung up"),
    ],
)
def test_each_fault_is_one_loss_of_its_kind_and_one_return(
    tmp_path: Path, fault: Fault, kind: LossKind, detail: str
) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as r:
            r.sim.faults.set(fault)
            lost = await r.log.next_change()
            assert isinstance(lost, Lost)
            assert lost.kind is kind
            assert detail in lost.detail
            told = len(r.log.readings)
            await asyncio.sleep(0.15)
            assert len(r.log.readings) == told
            assert len(r.log.changes) == 2
            r.sim.faults.clear()
            assert isinstance(await r.log.next_change(), Back)
            await r.log.next_reading()
            assert len(r.log.changes) == 3

    run(scenario)


@pytest.mark.parametrize(
    "fault", [Fault.DROP, Fault.CORRUPT, Fault.GARBAGE, Fault.WRONG_UNIT, Fault.SHORT, Fault.REFUSE]
)
def test_a_single_bad_poll_is_no_loss(tmp_path: Path, fault: Fault) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as r:
            for _ in range(2):
                r.sim.faults.set(fault, count=1)
                await r.log.until(lambda: not r.sim.faults.is_on(fault))
                await r.log.next_reading()
            assert len(r.log.changes) == 1

    run(scenario)


@pytest.mark.parametrize("late_ms", [TIMEOUT_MS + 20, TIMEOUT_MS + DRAIN_MS + 30, 2 * (TIMEOUT_MS + DRAIN_MS)])
def test_a_late_reply_is_never_taken_for_another_requests(tmp_path: Path, late_ms: int) -> None:
    """Whether it comes into the drain, the next request or the one after: readings stay true or absent."""

    async def scenario() -> None:
        async with rig(tmp_path, lost_after_polls=50) as r:
            r.sim.values.power_mw = 5_000_000
            await r.log.next_reading()
            await r.log.next_reading()
            before = len(r.log.readings)
            for _ in range(2):
                r.sim.faults.set(Fault.DELAY, count=1, param=late_ms)
                await r.log.until(lambda: not r.sim.faults.is_on(Fault.DELAY))
                await r.log.next_reading()
            await asyncio.sleep(late_ms / 1000)
            await r.log.next_reading()
            for reading in r.log.readings[before:]:
                assert reading.energy_import_mwh == 1_000_000_000
                assert reading.power_mw == 5_000_000
                assert reading.voltage_mv == (230_000,) * 3

    run(scenario)


def test_a_meter_that_answers_everything_late_never_gives_an_old_value_as_new(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as r:
            r.sim.faults.set(Fault.DELAY, param=TIMEOUT_MS + 20)
            lost = await r.log.next_change()
            assert isinstance(lost, Lost)
            assert lost.kind is LossKind.SILENT
            told = len(r.log.readings)
            await asyncio.sleep(0.3)
            assert len(r.log.readings) == told
            r.sim.faults.clear()
            assert isinstance(await r.log.next_change(), Back)

    run(scenario)


def test_after_a_failed_block_the_next_poll_begins_with_the_other() -> None:
    """A reply later than every wait must not meet its own request, asked again."""
    asked: list[int] = []

    class Line(ModbusLine):
        async def read(self, device: str, unit_id: int, function: int, address: int, count: int) -> list[int]:
            asked.append(address)
            if address == 0:
                raise DeviceTimeout(device, "late")
            return [1] * count

    async def scenario() -> None:
        config = config_for("nowhere")
        meter = ModbusMeter(config, Line(config.line), now_ms)
        log = Log()
        meter.start(log)
        await log.until(lambda: len(asked) >= 4)
        await meter.close()
        assert asked[:4] == [0xFC00, 0x0000, 0x0034, 0x0000]

    run(scenario)


def test_duplicated_replies_do_no_harm(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as r:
            r.sim.faults.set(Fault.DUPLICATE)
            for _ in range(5):
                assert (await r.log.next_reading()).energy_import_mwh == 1_000_000_000
            assert len(r.log.changes) == 1

    run(scenario)


def test_a_stuck_meter_is_told_as_it_is(tmp_path: Path) -> None:
    """Frozen values are still what the meter says; each carries the time of its own reply."""

    async def scenario() -> None:
        async with rig(tmp_path) as r:
            r.sim.faults.set(Fault.STUCK)
            r.sim.values.energy_import_mwh = 1_000_020_000
            first, second = await r.log.next_reading(), await r.log.next_reading()
            assert first.energy_import_mwh == second.energy_import_mwh == 1_000_000_000
            assert first.at_ms < second.at_ms

    run(scenario)


def test_unplugged_from_the_start_then_plugged_in(tmp_path: Path) -> None:
    async def scenario() -> None:
        sim = SimMeter()
        async with wire(tmp_path, sim) as line:
            path = line.path
            sim.faults.set(Fault.UNPLUG)
            [meter] = meters_on_lines([config_for(path)], now_ms)
            log = Log()
            meter.start(log)
            assert await log.next_change() == Lost(LossKind.GONE, f"cannot open {path}: no such port")
            sim.faults.clear()
            assert isinstance(await log.next_change(), Back)
            await meter.close()

    run(scenario)


def test_a_short_unplug_between_two_polls_is_still_told(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path, poll_ms=100) as r:
            await r.log.next_reading()
            r.sim.faults.set(Fault.UNPLUG)
            r.sim.faults.clear()
            assert await r.log.next_change() == Lost(LossKind.GONE, f"{r.line.path} hung up")
            assert isinstance(await r.log.next_change(), Back)

    run(scenario)
