"""The EM580's driver on a bad line: replies lost, late, damaged or foreign, and records right all the same."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from hal.meters.modbus_line import LineConfig, ModbusLine
from hal.ports import BadReply, DeviceLost, DeviceTimeout, LossKind, Lost
from hal.sim.em580 import CORRUPTED, READY
from hal.sim.faults import Fault
from tests.integration.em580_rig import REQUEST, Rig, charge, driver, ended, failing, is_write, rig, verified
from tests.integration.meter_rig import run

pytestmark = pytest.mark.wire


@pytest.mark.parametrize("fault", [Fault.DROP, Fault.CORRUPT, Fault.DUPLICATE, Fault.WRONG_UNIT, Fault.GARBAGE])
def test_one_bad_exchange_anywhere_does_not_spoil_the_record(tmp_path: Path, fault: Fault) -> None:
    """Every request of a record's life in turn is lost, or its reply is: commands, texts, clock, file, key."""

    async def scenario() -> None:
        async with rig(tmp_path) as r:
            place = stride = 5

            def meddle(request: bytes) -> None:
                nonlocal place
                if request[1] == 16 or int.from_bytes(request[2:4]) in (0x7060, 0x7100, 0x24FF, 0x2600, 0x7110, 0x718D):
                    if place % stride == 0:
                        r.sim.faults.set(fault, count=1)
                    place += 1

            for offset in range(stride):
                place, r.sim.on_request = offset, meddle
                await r.meter.begin_record(REQUEST)
                charge(r.sim, 1_000)
                record = await r.meter.end_record()
                assert [each["TX"] for each in verified(record)["RD"]] == ["B", "E"]
                await r.meter.confirm_record()
                assert place > 20
                r.sim.on_request = None
                r.sim.faults.clear()

    run(scenario)


class LateReplies:
    """From the request that ``first`` recognises on, each reply is late by the next number; None loses it."""

    def __init__(self, r: Rig, first: Callable[[bytes], bool], *late_ms: int | None) -> None:
        self._r, self._first, self._late_ms, self._begun = r, first, list(late_ms), False
        r.sim.on_request = self

    def __call__(self, request: bytes) -> None:
        if int.from_bytes(request[2:4]) < 0x600:
            return  # a poll of live values in between
        self._begun = self._begun or self._first(request)
        if self._begun and self._late_ms:
            late_ms = self._late_ms.pop(0)
            if late_ms is None:
                self._r.sim.faults.set(Fault.DROP, count=1)
            else:
                self._r.sim.faults.set(Fault.DELAY, count=1, param=late_ms)


# Timeout and drain are over after 120 ms: the first reply meets the repeated request, the reply to which meets the
# one after that, while its own reply is late or lost.
AFTER_THE_DRAIN_MS = range(122, 138, 2)


def test_a_late_piece_is_never_taken_for_the_next(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as r:
            await ended(r)
            await r.meter.close()
            async with driver(r.line.path, poll_ms_of_values=60_000) as (meter, _):
                for late_ms in AFTER_THE_DRAIN_MS:
                    LateReplies(r, lambda request: int.from_bytes(request[2:4]) == 0x7110, late_ms, 25, 40)
                    verified(await meter.end_record())

    run(scenario)


def test_a_late_answer_to_one_write_is_never_taken_for_anothers(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as r:
            await r.meter.close()
            patient = {"command_ms": 6_000, "sign_ms": 6_000, "fetch_ms": 12_000}  # how late a reply is, is what counts
            async with driver(r.line.path, poll_ms_of_values=60_000, **patient) as (meter, _):
                for late_ms in AFTER_THE_DRAIN_MS:
                    await meter.begin_record(dataclasses.replace(REQUEST, id_level="NONE"))
                    await meter.abort_record()
                    LateReplies(r, lambda request: is_write(request, 0x7000), late_ms, 25, None)
                    await meter.begin_record(REQUEST)
                    assert verified(await meter.end_record())["IL"] == "TRUSTED"
                    await meter.confirm_record()

    run(scenario)


def test_a_write_may_take_longer_than_a_read(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as r:
            await r.meter.close()
            line = ModbusLine(LineConfig(r.line.path, timeout_ms=60, gap_ms=2, drain_ms=60, write_timeout_ms=400))
            r.sim.faults.set(Fault.DELAY, param=120)
            await line.write("meter", 1, 0x7036, [0])
            with pytest.raises(DeviceTimeout, match="no reply within 60 ms"):
                await line.read("meter", 1, 4, 0x7036, 1)
            with pytest.raises(ValueError, match="124 registers in one write"):
                await line.write("meter", 1, 0x7036, [0] * 124)

    run(scenario)


def test_a_command_sent_twice_to_a_slow_meter_is_not_a_refusal(tmp_path: Path) -> None:
    """The reply is damaged, the state has not moved yet, and the second command is refused: it was heard."""

    async def scenario() -> None:
        async with rig(tmp_path, sim={"follow_ms": 250, "sign_ms": 250}) as r:
            damaged: list[bytes] = []

            def meddle(request: bytes) -> None:
                if is_write(request, 0x7040) and request not in damaged:
                    damaged.append(request)
                    r.sim.faults.set(Fault.CORRUPT, count=1)

            r.sim.on_request = meddle
            await r.meter.begin_record(REQUEST)
            verified(await r.meter.end_record())
            assert len(damaged) == 2

    run(scenario)


def test_a_record_that_changes_while_it_is_fetched_is_none(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as r:
            await ended(r)

            def meddle(request: bytes) -> None:
                if int.from_bytes(request[2:4]) == 0x2600:
                    r.sim.state = CORRUPTED

            r.sim.on_request = meddle
            with pytest.raises(BadReply, match="changed while it was fetched"):
                await r.meter.end_record()
            r.sim.on_request, r.sim.state = None, READY
            assert await failing(r.meter.confirm_record()) == "not_fetched"

    run(scenario)


def test_a_begin_that_cannot_be_writes_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as r:
            await r.meter.begin_record(REQUEST)
            written: list[bytes] = []
            r.sim.on_request = lambda request: written.append(request) if request[1] == 16 else None
            assert await failing(r.meter.begin_record(dataclasses.replace(REQUEST, id_data="X"))) == "running"
            assert written == []

    run(scenario)


def test_a_dead_meter_ends_every_call(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as r:
            r.sim.faults.set(Fault.SILENT)
            for call in (r.meter.held_record, r.meter.end_record, r.meter.confirm_record, r.meter.public_key):
                with pytest.raises(DeviceTimeout):
                    await call()
            await r.log.until(lambda: r.log.changes[1:] == [Lost(LossKind.SILENT, "no reply within 60 ms")])

    run(scenario)


def test_closing_ends_a_call_and_leaves_no_task(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path, sign_ms=60_000) as r:
            await r.meter.begin_record(REQUEST)
            r.sim.faults.set(Fault.RECORD_NEVER_READY)
            call = asyncio.create_task(r.meter.end_record())
            heard = r.sim.requests
            await r.log.until(lambda: r.sim.requests > heard + 10)
            async with asyncio.timeout(1):
                await r.meter.close()
            with pytest.raises(DeviceLost):
                await call
            with pytest.raises(DeviceLost):
                await r.meter.held_record()
            assert asyncio.all_tasks() == {asyncio.current_task()}

    run(scenario)
