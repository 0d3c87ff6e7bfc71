"""The EM580's driver against its simulator over a pty: records whole and right, or a declared error and none."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import pytest

from hal.ports import (
    BadReply,
    DeviceLost,
    DeviceRefused,
    DeviceTimeout,
    HeldRecord,
    Lost,
    RecordRequest,
)
from hal.sim.em580 import NOT_READY, READY, RUNNING
from hal.sim.faults import Fault
from tests.integration.em580_rig import REQUEST, charge, driver, ended, failing, is_write, rig, verified
from tests.integration.meter_rig import run

pytestmark = pytest.mark.wire


# ------------------------------------------------------------------------------------ ordinary life


@pytest.mark.parametrize("curve", ["secp256r1", "brainpoolP384r1"])
def test_a_record_begins_charges_ends_and_is_confirmed(tmp_path: Path, curve: str) -> None:
    async def scenario() -> None:
        async with rig(tmp_path, curve=curve) as r:
            assert await r.meter.held_record() is HeldRecord.NOTHING
            await r.meter.begin_record(REQUEST)
            assert r.sim.state == RUNNING
            charge(r.sim, 2_250)
            record = await r.meter.end_record()
            content = verified(record)
            assert record.text == r.sim.file
            assert record.public_key == await r.meter.public_key()
            asked = (True, "TRUSTED", "ISO14443", "04A2B3C4D5E680", "T17 0.52 EUR/kWh", "EVSEID", "DE*EVS*E0001*1")
            assert tuple(content[key] for key in ("IS", "IL", "IT", "ID", "TT", "CT", "CI")) == asked
            assert content["IF"] == ["RFID_RELATED", "OCPP_AUTH_TLS", "ISO15118_NONE", "PLMN_NONE"]
            assert [(each["TX"], each["RV"]) for each in content["RD"]] == [("B", 1_000.0), ("E", 1_000.002)]
            assert await r.meter.held_record() is HeldRecord.FINISHED
            assert await r.meter.end_record() == record  # until confirmed, as often as wanted
            assert await r.meter.pending_record() == record
            await r.meter.confirm_record()
            assert (r.sim.state, r.sim.file) == (NOT_READY, b"")
            assert await r.meter.pending_record() is None
            await r.meter.confirm_record()  # nothing held: harmless
            await r.meter.begin_record(REQUEST)

    run(scenario)


def test_live_values_and_serial_come_by_the_map(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as r:
            r.sim.values.energy_import_mwh = 1_000_001_000
            r.sim.values.energy_export_mwh = 5_000_000_000_000
            r.sim.values.power_mw = -3_680_100
            r.sim.values.voltage_mv = (229_100, 230_200, 231_300)
            r.sim.values.current_ma = (16_001, -2, 70_000)
            await r.log.next_reading()
            reading = await r.log.next_reading()
            assert reading.serial == "BY0520010020L"
            assert reading.energy_import_mwh == r.sim.register_mwh() == 1_000_001_000
            assert reading.energy_export_mwh == 5_000_000_000_000
            assert reading.power_mw == -3_680_100
            assert reading.voltage_mv == (229_100, 230_200, 231_300)
            assert reading.current_ma == (16_001, -2, 70_000)
            assert reading.frequency_mhz == 50_000

    run(scenario)


def test_polling_goes_on_beside_the_record(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as r:
            count = len(r.log.readings)
            for _ in range(3):
                await r.meter.begin_record(REQUEST)
                verified(await r.meter.end_record())
                await r.meter.confirm_record()
            assert len(r.log.readings) > count + 3
            assert len(r.log.changes) == 1

    run(scenario)


def test_the_bytes_pass_through_untouched(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as r:
            await r.meter.begin_record(REQUEST)
            await r.meter.end_record()
            for text in (
                b'OCMF|{ "RV" : 1.50,\t"RV":1.5 }|{"SD":"00"}',  # nothing is parsed and written anew
                b'OCMF|{"x":"\xc3\xa4\\u00e4\xff"}|{"SD":"0"}',  # odd length, and not even UTF-8
                b'OCMF|{"x":"' + (bytes(range(1, 124)) * 33)[:4_038] + b'"}|{"SD":"0"}',  # the largest file
            ):
                r.sim.file = text
                assert (await r.meter.end_record()).text == text
            assert len(text) == 2 * 2_031

    run(scenario)


def test_the_longest_texts_fit_and_longer_ones_are_told_before_anything_is_written(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as r:
            longest = dataclasses.replace(REQUEST, id_data="i" * 39, point_id="p" * 39, tariff_text="t" * 251)
            await r.meter.begin_record(longest)
            content = verified(await r.meter.end_record())
            assert (content["ID"], content["CI"], content["TT"]) == ("i" * 39, "p" * 39, "t" * 251)
            await r.meter.confirm_record()
            await r.meter.begin_record(dataclasses.replace(REQUEST, id_data="", tariff_text=""))
            content = verified(await r.meter.end_record())
            assert (content["ID"], content["TT"]) == ("", "")  # nothing of the longer ones is left
            await r.meter.confirm_record()
            assert await failing(r.meter.begin_record(dataclasses.replace(longest, id_data="i" * 40))) == "text"
            assert r.sim.state == NOT_READY

    run(scenario)


# -------------------------------------------------------------------------------------- the clock


@pytest.mark.parametrize(("zone", "told"), [(120, "2026-06-21T02:00:0"), (-90, "2026-06-20T22:30:0")])
def test_the_meters_clock_is_set_to_the_stations(tmp_path: Path, zone: int, told: str) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as r:
            await r.meter.begin_record(dataclasses.replace(REQUEST, zone_minutes=zone))
            began = verified(await r.meter.end_record())["RD"][0]["TM"]
            assert began.startswith(told)
            assert began.endswith(f"{'-' if zone < 0 else '+'}{abs(zone) // 60:02d}{abs(zone) % 60:02d} S")

    run(scenario)


def test_without_a_clock_no_record_begins(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as r:
            unknown = dataclasses.replace(REQUEST, utc_ms=None)
            assert await failing(r.meter.begin_record(unknown)) == "clock_not_set"
            r.sim.faults.set(Fault.CLOCK_LOST)
            assert await failing(r.meter.begin_record(REQUEST)) == "clock_not_set"
            assert r.sim.state == NOT_READY
            r.sim.faults.clear()
            await r.meter.begin_record(REQUEST)
            verified(await r.meter.end_record())
            await r.meter.confirm_record()
            await r.meter.begin_record(unknown)  # the meter's own clock goes on

    run(scenario)


def test_a_power_cut_ends_the_record_and_the_clock_is_set_anew(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as r:
            await r.meter.begin_record(REQUEST)
            charge(r.sim, 2_000)
            r.sim.faults.set(Fault.RESET, count=1)
            content = verified(await r.meter.end_record())
            assert [(each["TX"], each["RV"]) for each in content["RD"]] == [("B", 1_000.0), ("P", 1_000.002)]
            await r.meter.confirm_record()
            r.sim.faults.clear()
            r.sim.power_cut()
            await r.meter.begin_record(REQUEST)  # the clock refuses for a while after the boot
            assert verified(await r.meter.end_record())["RD"][0]["TM"].endswith("S")
            await r.meter.confirm_record()
            r.sim.power_cut()
            r.sim.faults.set(Fault.CLOCK_LOST)
            assert await failing(r.meter.begin_record(REQUEST)) == "clock_not_set"

    run(scenario)


# --------------------------------------------------------------------------------------- restarts


def test_a_restart_in_the_middle_goes_on_or_fetches(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as r:
            await r.meter.begin_record(REQUEST)
            await r.meter.close()
            charge(r.sim, 2_000)
            async with driver(r.line.path) as (meter, _):
                assert await meter.held_record() is HeldRecord.RUNNING
                assert r.sim.state == RUNNING  # asking changed nothing
                assert await failing(meter.begin_record(REQUEST)) == "running"
                assert await failing(meter.confirm_record()) == "running"
                record = await meter.pending_record()
                assert record is not None
                assert [each["RV"] for each in verified(record)["RD"]] == [1_000.0, 1_000.002]
                await meter.confirm_record()
                await meter.begin_record(REQUEST)
            async with driver(r.line.path) as (meter, _):
                verified(await meter.end_record())

    run(scenario)


def test_a_finished_record_survives_a_restart_and_cannot_be_confirmed_unread(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as r:
            await r.meter.begin_record(REQUEST)
            before = await r.meter.end_record()
            await r.meter.close()
            async with driver(r.line.path) as (meter, _):
                assert await meter.held_record() is HeldRecord.FINISHED
                assert await failing(meter.confirm_record()) == "not_fetched"
                assert await failing(meter.begin_record(REQUEST)) == "unconfirmed"
                assert await failing(meter.abort_record()) == "unconfirmed"
                assert r.sim.state == READY
                assert await meter.pending_record() == before
                assert await failing(meter.begin_record(REQUEST)) == "unconfirmed"
                await meter.confirm_record()
                assert r.sim.state == NOT_READY

    run(scenario)


def test_after_a_loss_a_record_must_be_fetched_again_before_it_is_confirmed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as r:
            await r.meter.begin_record(REQUEST)
            before = await r.meter.end_record()
            r.sim.faults.set(Fault.UNPLUG)
            assert isinstance(await r.log.next_change(), Lost)
            with pytest.raises(DeviceLost):
                await r.meter.confirm_record()
            r.sim.faults.clear()
            await r.log.next_change()
            assert await failing(r.meter.confirm_record()) == "not_fetched"
            assert await r.meter.pending_record() == before
            await r.meter.confirm_record()

    run(scenario)


# ------------------------------------------------------------------------------ faults of the record


def test_a_corrupted_record_is_told_and_can_be_given_up(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as r:
            await r.meter.begin_record(REQUEST)
            r.sim.faults.set(Fault.RECORD_CORRUPTED, count=1)
            assert await failing(r.meter.end_record()) == "corrupted"
            assert await r.meter.held_record() is HeldRecord.CORRUPTED
            assert await failing(r.meter.pending_record()) == "corrupted"
            assert await failing(r.meter.begin_record(REQUEST)) == "corrupted"
            await r.meter.confirm_record()
            await r.meter.begin_record(REQUEST)

    run(scenario)


def test_a_record_that_is_never_ready_ends_in_time(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as r:
            await r.meter.begin_record(REQUEST)
            r.sim.faults.set(Fault.RECORD_NEVER_READY)
            async with asyncio.timeout(2):
                with pytest.raises(DeviceTimeout, match="while its record was ending"):
                    await r.meter.end_record()
            r.sim.faults.clear()
            verified(await r.meter.end_record())

    run(scenario)


@pytest.mark.parametrize("registers", [1, 125, 300])
def test_silence_in_the_middle_of_the_file_gives_no_record_until_it_ends(tmp_path: Path, registers: int) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as r:
            await r.meter.begin_record(REQUEST)
            r.sim.faults.set(Fault.RECORD_SILENT, param=registers)
            for _ in range(2):
                with pytest.raises(DeviceTimeout):
                    await r.meter.end_record()
            assert await failing(r.meter.confirm_record()) == "not_fetched"
            r.sim.faults.set(Fault.RECORD_SILENT, param=registers, count=2)
            verified(await r.meter.end_record())  # two lost pieces are asked again
            assert r.log.changes[1:] == []  # the live values were never missing for long

    run(scenario)


def test_a_wrong_file_size_never_gives_a_wrong_record(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as r:
            await ended(r)
            right = (len(r.sim.file) + 1) // 2
            for size in (0, 1, 7, right // 2, right - 30, right - 1):
                r.sim.faults.set(Fault.RECORD_SIZE, param=size)
                with pytest.raises(BadReply, match="not a whole record"):
                    await r.meter.end_record()
            r.sim.faults.set(Fault.RECORD_SIZE, param=2_032)
            assert await failing(r.meter.end_record()) == "too_large"
            r.sim.faults.set(Fault.RECORD_SIZE, param=2_031)  # zeros behind the text
            record = await r.meter.end_record()
            assert record.text == r.sim.file
            verified(record)

    run(scenario)


def test_a_meter_without_a_key_gives_no_record(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as r:
            r.sim.has_key = False
            assert await failing(r.meter.public_key()) == "no_key"
            await r.meter.begin_record(REQUEST)
            assert await failing(r.meter.end_record()) == "no_key"

    run(scenario)


def test_ending_and_aborting_without_a_record(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as r:
            assert await failing(r.meter.end_record()) == "not_running"
            await r.meter.abort_record()
            await r.meter.begin_record(REQUEST)
            await r.meter.abort_record()
            assert r.sim.state == NOT_READY
            assert await r.meter.pending_record() is None

    run(scenario)


def test_an_aborted_record_that_the_meter_keeps_is_fetched(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path, sim={"abort_keeps": True}) as r:
            await r.meter.begin_record(REQUEST)
            await r.meter.abort_record()
            record = await r.meter.pending_record()
            assert record is not None
            assert verified(record)["RD"][-1]["TX"] == "A"

    run(scenario)


def test_a_refused_start_is_told_and_leaves_no_record(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as r:
            r.sim.on_request = lambda request: (
                r.sim.faults.set(Fault.REFUSE, count=1) if is_write(request, 0x7040) else None
            )
            with pytest.raises(DeviceRefused, match="writing 7040"):
                await r.meter.begin_record(REQUEST)
            r.sim.on_request = None
            assert await r.meter.held_record() is HeldRecord.NOTHING
            await r.meter.begin_record(REQUEST)

    run(scenario)


def test_calls_are_carried_out_one_after_another(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as r:
            begun, held, record, none = await asyncio.gather(
                r.meter.begin_record(REQUEST), r.meter.held_record(), r.meter.end_record(), r.meter.confirm_record()
            )
            assert (begun, held, none) == (None, HeldRecord.RUNNING, None)
            verified(record)
            assert r.sim.state == NOT_READY

    run(scenario)


def test_a_request_is_told_as_the_meter_takes_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as r:
            await r.meter.begin_record(
                RecordRequest(False, "NONE", (), "NONE", "", "", "CBIDC", "CB-1 1", REQUEST.utc_ms, 0)
            )
            content = verified(await r.meter.end_record())
            assert (content["IS"], content["IL"], content["IT"], content["CT"]) == (False, "NONE", "NONE", "CBIDC")

    run(scenario)
