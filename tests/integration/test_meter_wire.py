"""The meter driver against simulated meters, byte for byte over ptys: every fault, and recovery from it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hal.meters.modbus_line import LineConfig, ModbusLine
from hal.meters.modbus_meter import ModbusMeter, ModbusMeterConfig, meters_on_lines
from hal.meters.registers import RegisterMapError
from hal.ports import (
    Back,
    BadReply,
    DeviceError,
    DeviceLost,
    DeviceRefused,
    DeviceTimeout,
    LossKind,
    Lost,
    MeterEvent,
    MeterReading,
)
from hal.sim.faults import Fault
from hal.sim.meter import SimMeter, SimMeterLine
from hal.sim.pty import PtyLink

pytestmark = pytest.mark.wire

TIMEOUT_MS = 60
DRAIN_MS = 60
DEADLINE_S = 5.0  # only a failing test waits this long


def now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


@dataclass
class Log:
    """All events of one meter, and waiting for the one that matters."""

    events: list[MeterEvent] = field(default_factory=list)

    def __call__(self, event: MeterEvent) -> None:
        self.events.append(event)

    @property
    def readings(self) -> list[MeterReading]:
        return [event for event in self.events if isinstance(event, MeterReading)]

    @property
    def changes(self) -> list[Lost | Back]:
        return [event for event in self.events if isinstance(event, Lost | Back)]

    async def until(self, told: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not told():
                await asyncio.sleep(0.002)

    async def next_reading(self) -> MeterReading:
        count = len(self.readings)
        await self.until(lambda: len(self.readings) > count)
        return self.readings[-1]

    async def next_change(self) -> Lost | Back:
        count = len(self.changes)
        await self.until(lambda: len(self.changes) > count)
        return self.changes[-1]


@dataclass
class Rig:
    """One simulated meter, its driver, and what the driver told."""

    sim: SimMeter
    line: SimMeterLine
    meter: ModbusMeter
    log: Log


def config_for(path: str, unit_id: int = 1, **changes: Any) -> ModbusMeterConfig:
    usual: dict[str, Any] = {
        "map_name": "eastron_sdm630",
        "max_power_w": 50_000,
        "poll_ms": 20,
        "timeout_ms": TIMEOUT_MS,
        "gap_ms": 2,
        "drain_ms": DRAIN_MS,
        "lost_after_polls": 2,
    }
    return ModbusMeterConfig(port=path, unit_id=unit_id, **(usual | changes))


@asynccontextmanager
async def wire(tmp_path: Path, *sims: SimMeter, baud: int | None = None) -> AsyncIterator[SimMeterLine]:
    line = SimMeterLine(PtyLink(tmp_path / "rs485", baud=baud), sims)
    line.start()
    try:
        yield line
    finally:
        line.close()


@asynccontextmanager
async def rig(
    tmp_path: Path, *, sim: SimMeter | None = None, started: bool = True, **changes: Any
) -> AsyncIterator[Rig]:
    """A meter with 1000 kWh and its driver, running and past its first reading."""
    sim = sim or SimMeter()
    sim.values.energy_import_mwh = 1_000_000_000
    async with wire(tmp_path, sim) as line:
        [meter] = meters_on_lines([config_for(line.path, **changes)], now_ms)
        log = Log()
        meter.start(log)
        try:
            if started:
                await log.next_reading()
            yield Rig(sim, line, meter, log)
        finally:
            await meter.close()


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run, and let nothing crash unseen in a callback of the loop."""

    async def watched() -> None:
        crashes: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: crashes.append(context))
        await scenario()
        assert crashes == []

    asyncio.run(watched())


# ------------------------------------------------------------------------------------ ordinary life


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


def test_noise_before_a_good_reply_is_skipped(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with wire(tmp_path) as line:
            client = ModbusLine(LineConfig(line.path, timeout_ms=TIMEOUT_MS, gap_ms=2, drain_ms=DRAIN_MS))
            client.attach()
            sim = SimMeter()
            loop = asyncio.get_running_loop()
            line.link.start(loop, lambda request: line.link.write(b"\x00\xff" + sim.hear(request)[0].data))
            assert await client.read("m", 1, 3, 0xFC00, 2) == [0x00BC, 0x614E]
            await client.detach()

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


def test_a_port_that_refuses_its_settings_or_is_taken_is_gone_with_the_reason(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as r:  # holds the port
            for parity, reason in (("E", "refuses 9600 baud, parity E|in use"), ("N", "in use")):
                line = ModbusLine(LineConfig(r.line.path, parity=parity))
                line.attach()
                with pytest.raises(DeviceLost, match=f"cannot open .*({reason})"):
                    await line.read("m", 1, 4, 0, 2)
                with pytest.raises(DeviceLost, match="not open yet"):
                    await line.read("m", 1, 4, 0, 2)
                await line.detach()

    run(scenario)


def test_a_pty_refuses_parity(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with wire(tmp_path, SimMeter()) as sim_line:
            line = ModbusLine(LineConfig(sim_line.path, parity="E"))
            line.attach()
            with pytest.raises(DeviceLost, match="refuses 9600 baud, parity E"):
                await line.read("m", 1, 4, 0, 2)
            await line.detach()

    run(scenario)


def test_the_line_tells_each_failure_as_its_own_error(tmp_path: Path) -> None:
    async def scenario() -> None:
        sim = SimMeter()
        async with wire(tmp_path, sim) as sim_line:
            line = ModbusLine(LineConfig(sim_line.path, timeout_ms=TIMEOUT_MS, gap_ms=2, drain_ms=DRAIN_MS))
            line.attach()
            expected: list[tuple[Fault, type[DeviceError]]] = [
                (Fault.DROP, DeviceTimeout),
                (Fault.CORRUPT, BadReply),
                (Fault.SHORT, BadReply),
                (Fault.WRONG_UNIT, BadReply),
                (Fault.REFUSE, DeviceRefused),
            ]
            for fault, error in expected:
                sim.faults.set(fault, count=1)
                with pytest.raises(error) as caught:
                    await line.read("the meter", 1, 4, 0x0048, 2)
                assert type(caught.value) is error
                assert caught.value.device == "the meter"
                assert len(await line.read("the meter", 1, 4, 0x0048, 2)) == 2
            with pytest.raises(DeviceTimeout):
                await line.read("nobody", 9, 4, 0x0048, 2)
            await line.detach()

    run(scenario)


def test_a_line_that_is_never_silent_is_told_and_used_again_when_it_is(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with wire(tmp_path, SimMeter()) as sim_line:
            line = ModbusLine(LineConfig(sim_line.path, timeout_ms=TIMEOUT_MS, gap_ms=100, drain_ms=DRAIN_MS))
            line.attach()
            await line.read("m", 1, 4, 0x0048, 2)
            chatter = asyncio.create_task(_chatter(sim_line.link))
            with pytest.raises(BadReply, match="is never silent"):
                await line.read("m", 1, 4, 0x0048, 2)
            chatter.cancel()
            await line.read("m", 1, 4, 0x0048, 2)
            await line.detach()

    run(scenario)


async def _chatter(link: PtyLink) -> None:
    while True:
        link.write(b"\xa5")
        await asyncio.sleep(0.001)


# ---------------------------------------------------------------- register and identity of the meter


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


# --------------------------------------------------------------------------------- shared line


def test_two_meters_on_one_line_fail_and_recover_each_for_itself(tmp_path: Path) -> None:
    async def scenario() -> None:
        first, second = SimMeter(1, serial_number=111), SimMeter(2, map_name="eastron_sdm72", serial_number=222)
        first.values.energy_import_mwh, second.values.energy_import_mwh = 1_000_000, 2_000_000
        async with wire(tmp_path, first, second) as line:
            configs = [config_for(line.path, 1), config_for(line.path, 2, map_name="eastron_sdm72")]
            meters = meters_on_lines(configs, now_ms)
            logs = [Log(), Log()]
            for meter, log in zip(meters, logs, strict=True):
                meter.start(log)
            for log in logs:
                await log.next_reading()
            second.faults.set(Fault.SILENT)
            assert (await logs[1].next_change()).__class__ is Lost
            for _ in range(3):
                assert (await logs[0].next_reading()).serial == "111"
            second.faults.clear()
            assert isinstance(await logs[1].next_change(), Back)
            first.faults.set(Fault.DELAY, count=1, param=TIMEOUT_MS + 10)  # late into the other's turn
            await logs[0].until(lambda: not first.faults.is_on(Fault.DELAY))
            await logs[0].next_reading()
            await logs[1].next_reading()
            assert {reading.energy_import_mwh for reading in logs[0].readings} == {1_000_000}
            assert {reading.energy_import_mwh for reading in logs[1].readings} == {2_000_000}
            assert len(logs[0].changes) == 1
            await meters[0].close()  # the other goes on alone
            await logs[1].next_reading()
            await meters[1].close()

    run(scenario)


def test_meters_on_one_line_must_agree(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="disagree"):
        meters_on_lines([config_for("p", 1), config_for("p", 2, baudrate=19_200)], now_ms)
    with pytest.raises(ValueError, match="unit id 1 is used twice"):
        meters_on_lines([config_for("p", 1), config_for("p", 1)], now_ms)
    with pytest.raises(RegisterMapError, match="no register map"):
        meters_on_lines([config_for("p", map_name="acme")], now_ms)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"unit_id": 0}, "unit_id must be 1 to 247"),
        ({"unit_id": 248}, "unit_id must be 1 to 247"),
        ({"max_power_w": 0}, "max_power_w must be"),
        ({"poll_ms": 1}, "poll_ms must be"),
        ({"lost_after_polls": 0}, "lost_after_polls must be"),
        ({"serial": ""}, "serial must not be empty"),
        ({"parity": "X"}, "parity must be N, E or O"),
        ({"baudrate": 9_601}, "baudrate 9601 is not one of"),
        ({"timeout_ms": 0}, "timeout_ms must be"),
        ({"port": ""}, "port: missing"),
    ],
)
def test_impossible_configurations_are_refused(change: dict[str, Any], told: str) -> None:
    usual: dict[str, Any] = {"port": "p", "map_name": "eastron_sdm630", "max_power_w": 22_000}
    with pytest.raises(ValueError, match=told):
        ModbusMeterConfig(**(usual | change))
