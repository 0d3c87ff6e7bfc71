"""The RS-485 line under the meters: typed errors, noise, settings, and meters that share it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from hal.meters import modbus_line
from hal.meters.modbus_line import LineConfig, ModbusLine
from hal.meters.modbus_meter import ModbusMeterConfig, meters_on_lines
from hal.meters.registers import RegisterMapError
from hal.ports import Back, BadReply, DeviceError, DeviceLost, DeviceRefused, DeviceTimeout, Lost
from hal.sim.faults import Fault
from hal.sim.meter import SimMeter
from hal.sim.pty import PtyLink
from tests.integration.meter_rig import DRAIN_MS, TIMEOUT_MS, Log, config_for, now_ms, rig, run, wire
from tests.support.serial_calls import note_calls

pytestmark = pytest.mark.wire


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


def test_a_port_that_stays_silent_is_opened_anew_and_the_meter_is_heard_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The adapter's reading has stopped: it takes requests, gives nothing, and does not hang up."""
    monkeypatch.setattr(modbus_line, "_SILENCE_REOPEN_S", 0.3)
    opened = note_calls(monkeypatch, "open")

    async def scenario() -> None:
        async with rig(tmp_path) as r:
            give = r.line.link.write
            monkeypatch.setattr(r.line.link, "write", lambda data: give(data) if len(opened) > 1 else None)
            assert isinstance(await r.log.next_change(), Lost)
            assert isinstance(await r.log.next_change(), Back)
            assert len(opened) == 2

    run(scenario)


def test_what_a_dead_adapter_has_not_taken_does_not_hold_up_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tty waits up to 30 s in close() for it. A pty does not: the order is looked at."""
    done = note_calls(monkeypatch, "reset_output_buffer", "close")

    async def scenario() -> None:
        async with rig(tmp_path) as r:
            done.clear()
            await r.meter.close()
            assert done[:2] == ["reset_output_buffer", "close"]

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
