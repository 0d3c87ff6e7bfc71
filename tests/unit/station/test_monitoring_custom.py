"""Monitors that the CSMS sets: when they speak, what outlives a restart, and how much they may say."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from agent.config.variable import Key
from agent.core.events import LedgerRoom
from agent.core.facts import EventTrigger, MonitorOrigin, VariableName
from agent.ipc.monitors import ClearMonitorStatus, MonitorType, MonitorWrite, SetMonitorStatus
from agent.ledger.state import Namespace
from agent.monitoring.book import CUSTOM_MAX, FIRST_CUSTOM_ID
from agent.station.monitoring import BURST, BURST_OF_ALL, REFILL_MS, REFILL_OF_ALL_MS, UNTOLD_MAX
from tests.unit.station.monitoring_bench import CLEAR_S, POWER, STATE, Bench, on_a_bench

# ------------------------------------------------------------------------------------ what the CSMS sets


def test_n07_a_threshold_is_told_when_passed_and_when_back_for_long_enough() -> None:
    async def story(bench: Bench) -> None:
        monitor_id = await bench.set(MonitorType.UPPER_THRESHOLD, "1000")
        await bench.put(1_000, 3)
        assert bench.said == []  # on it is not beyond it
        await bench.put(1_001, 3)
        await bench.put(900, 3)
        await bench.put(1_100, 3)  # back too soon
        assert bench.said == [("1001", False)]
        await bench.put(900, CLEAR_S)
        assert bench.said == [("1001", False), ("900", True)]
        assert {(fact.monitor_id, fact.origin, fact.name) for fact in bench.facts} == {
            (monitor_id, MonitorOrigin.CUSTOM, POWER)
        }

    on_a_bench(story)


def test_n07_fr_18_fr_19_delta_of_numbers_and_of_words() -> None:
    async def story(bench: Bench) -> None:
        await bench.put(500)
        await bench.set(MonitorType.DELTA, "100")
        await bench.set(MonitorType.DELTA, "1", STATE)
        await bench.put(600, 2)
        await bench.put(601, 2)
        await bench.put(501, 2)
        bench.model.put(Key("EVSE", "AvailabilityState", evse=1), "Occupied")
        await asyncio.sleep(2)
        assert bench.said == [("601", False), ("Occupied", False)]
        assert {fact.trigger for fact in bench.facts} == {EventTrigger.DELTA}

    on_a_bench(story)


def test_n08_periodic_and_clock_aligned() -> None:
    async def story(bench: Bench) -> None:
        await asyncio.sleep(7)
        start_s = bench.now_ms() / 1_000
        await bench.set(MonitorType.PERIODIC, "60")
        await asyncio.sleep(185)
        assert len(bench.facts) == 3
        await bench.monitoring.clear([FIRST_CUSTOM_ID])
        bench.facts.clear()
        await bench.set(MonitorType.PERIODIC_CLOCK_ALIGNED, "900")
        await asyncio.sleep(3 * 900 - (bench.now_ms() / 1_000) % 900 - 5)  # the wall clock was at a full hour at 0
        assert len(bench.facts) == 2
        await asyncio.sleep(7)
        assert len(bench.facts) == 3
        assert start_s == 7

    on_a_bench(story)


def test_a_transaction_monitor_rests_without_a_transaction() -> None:
    async def story(bench: Bench) -> None:
        await bench.set(MonitorType.UPPER_THRESHOLD, "100", transaction=True)
        await bench.set(MonitorType.PERIODIC, "1", transaction=True, severity=6)
        await bench.put(5_000, 10)
        assert bench.facts == []

    on_a_bench(story)


def test_n07_fr_11_a_changed_threshold_is_held_against_the_value_at_once() -> None:
    async def story(bench: Bench) -> None:
        monitor_id = await bench.set(MonitorType.UPPER_THRESHOLD, "1000")
        await bench.put(2_000, 2)
        await bench.set(MonitorType.UPPER_THRESHOLD, "1500", id=monitor_id)
        await bench.put(2_000, 10)
        assert bench.said == [("2000", False)]  # it alerts as before
        await bench.set(MonitorType.UPPER_THRESHOLD, "3000", id=monitor_id)
        await bench.put(2_000, CLEAR_S)
        assert bench.said == [("2000", False), ("2000", True)]
        await bench.set(MonitorType.UPPER_THRESHOLD, "500", id=monitor_id)
        assert bench.said[2:] == [("2000", False)]

    on_a_bench(story)


def test_n07_fr_12_a_cleared_monitor_goes_without_a_word() -> None:
    async def story(bench: Bench) -> None:
        monitor_id = await bench.set(MonitorType.UPPER_THRESHOLD, "1000")
        await bench.put(2_000, 2)
        statuses = await bench.monitoring.clear([monitor_id, monitor_id, 1])
        assert statuses == [ClearMonitorStatus.ACCEPTED, ClearMonitorStatus.NOT_FOUND, ClearMonitorStatus.REJECTED]
        await bench.put(0, CLEAR_S)
        assert bench.said == [("2000", False)]
        assert set(bench.kept[Namespace.MONITOR]) == {"next"}

    on_a_bench(story)


def test_n04_n07_fr_14_monitors_and_their_alerts_outlive_a_restart() -> None:
    async def story(bench: Bench) -> None:
        monitor_id = await bench.set(MonitorType.UPPER_THRESHOLD, "1000")
        await bench.put(2_000, 2)
        before = bench.monitoring.monitors()
        bench.monitoring.close()
        bench.start()
        bench.monitoring.link("2.0.1")
        assert bench.monitoring.monitors() == before
        await bench.put(100, CLEAR_S)
        assert bench.said == [("2000", False), ("100", True)]
        await bench.monitoring.clear([monitor_id])
        bench.monitoring.close()
        bench.start()
        assert await bench.set(MonitorType.DELTA, "1") == monitor_id + 1, "an id is never given twice"

    on_a_bench(story)


def test_a_kept_monitor_with_more_in_it_than_is_known_holds() -> None:
    """After a rollback from a newer release (ADR 29)."""

    async def story(bench: Bench) -> None:
        monitor_id = await bench.set(MonitorType.DELTA, "1")
        bench.kept[Namespace.MONITOR][f"custom {monitor_id}"] = (
            bench.kept[Namespace.MONITOR][f"custom {monitor_id}"].rstrip("}") + ',"colour":"red"}'
        )
        bench.monitoring.close()
        bench.start()
        custom = [each.id for each in bench.monitoring.monitors() if each.origin is MonitorOrigin.CUSTOM]
        assert custom == [monitor_id]

    on_a_bench(story)


def test_a_kept_monitor_that_cannot_be_read_or_has_no_variable_any_more_is_left_out() -> None:
    async def story(bench: Bench) -> None:
        await bench.set(MonitorType.DELTA, "1")
        kept = bench.kept[Namespace.MONITOR]
        gone = kept[f"custom {FIRST_CUSTOM_ID}"].replace('"Power"', '"Colour"').replace("100000", "100007")
        kept |= {"custom 100007": gone, "custom 8": "{", "custom 9": "{}"}
        bench.monitoring.close()
        bench.start()
        custom = [each.id for each in bench.monitoring.monitors() if each.origin is MonitorOrigin.CUSTOM]
        assert custom == [FIRST_CUSTOM_ID]

    on_a_bench(story)


@pytest.mark.parametrize(("base", "left"), [("All", 1), ("FactoryDefault", 0), ("HardWiredOnly", 0)])
def test_n03_bases(base: str, left: int) -> None:
    """Factory default: what is hard-wired; the station is delivered with no other monitors."""

    async def story(bench: Bench) -> None:
        await bench.set(MonitorType.DELTA, "1")
        assert await bench.monitoring.set_base(base) == "Accepted"
        bench.monitoring.close()
        bench.start()
        custom = [each for each in bench.monitoring.monitors() if each.origin is MonitorOrigin.CUSTOM]
        assert len(custom) == left
        assert bench.model.text(Key("MonitoringCtrlr", "ActiveMonitoringBase")) == base
        assert await bench.monitoring.set_base("Some") == "NotSupported"

    on_a_bench(story)


def test_nothing_looks_while_there_is_nothing_to_look_at() -> None:
    async def story(bench: Bench) -> None:
        bench.wrong("meter_lost", evse=1)
        await asyncio.sleep(60)
        assert bench.refreshed == 0
        monitor_id = await bench.set(MonitorType.DELTA, "1")
        await asyncio.sleep(60)
        assert 55 <= bench.refreshed <= 65
        await bench.monitoring.clear([monitor_id])
        await asyncio.sleep(60)
        assert bench.refreshed <= 66

    on_a_bench(story)


# --------------------------------------------------------------------------------------------- limits


def test_a_monitor_that_speaks_all_the_time_is_held_back_and_says_how_much_it_left_out() -> None:
    async def story(bench: Bench) -> None:
        await bench.set(MonitorType.PERIODIC, "1")
        await asyncio.sleep(100)
        assert len(bench.facts) == pytest.approx(BURST + 100_000 // REFILL_MS, abs=1)
        left_out = [int(fact.tech_info.split()[0]) for fact in bench.facts if fact.tech_info]
        assert len(bench.facts) + sum(left_out) == pytest.approx(100, abs=10)

    on_a_bench(story)


def test_an_alert_that_is_held_back_comes_right_in_the_end() -> None:
    async def story(bench: Bench) -> None:
        await bench.set(MonitorType.UPPER_THRESHOLD, "1000")
        for _ in range(BURST):
            await bench.put(2_000, CLEAR_S)
            await bench.put(0, CLEAR_S)
        await bench.put(2_000, 60)
        values = [cleared for _, cleared in bench.said]
        assert values == [number % 2 == 1 for number in range(len(values))], "raised and cleared take turns"
        assert not values[-1]

    on_a_bench(story)


def test_all_that_the_csms_has_set_share_a_limit_that_leaves_troubles_alone() -> None:
    async def story(bench: Bench) -> None:
        for severity in range(10):
            await bench.set(MonitorType.PERIODIC, "1", severity=severity)
            await bench.set(MonitorType.PERIODIC, "1", STATE, severity=severity)
            await bench.set(MonitorType.PERIODIC, "1", VariableName("EVSE", "Power", evse=2), severity=severity)
        hour_ms = 3_600_000
        bench.told = 10**6  # the CSMS keeps up
        await asyncio.sleep(hour_ms / 1_000)
        assert len(bench.facts) <= BURST_OF_ALL + hour_ms // REFILL_OF_ALL_MS
        bench.wrong("meter_lost", evse=1)
        await asyncio.sleep(0.1)
        assert bench.codes[-1] == ("meter_lost", False)

    on_a_bench(story)


def test_without_a_link_the_rows_that_wait_have_a_limit_and_go_on_when_it_is_back() -> None:
    async def story(bench: Bench) -> None:
        await bench.set(MonitorType.PERIODIC, "20", severity=0)
        await asyncio.sleep(20 * 2 * UNTOLD_MAX[MonitorOrigin.CUSTOM])
        assert len(bench.facts) == UNTOLD_MAX[MonitorOrigin.CUSTOM]
        bench.wrong("meter_lost", evse=1)
        await asyncio.sleep(0.1)
        assert bench.codes[-1] == ("meter_lost", False)
        count = bench.told = len(bench.facts)
        await asyncio.sleep(21)
        assert len(bench.facts) == count + 1
        assert bench.facts[-1].tech_info.endswith("left out")

    on_a_bench(story, dialect=None)


@pytest.mark.parametrize("room", [LedgerRoom(False, scarce=True), LedgerRoom(True, scarce=True)])
def test_a_disk_without_room_takes_troubles_only(room: LedgerRoom) -> None:
    async def story(bench: Bench) -> None:
        await bench.set(MonitorType.PERIODIC, "5")
        bench.core.step(room, bench.now_ms())
        bench.wrong("disk_full")
        await asyncio.sleep(30)
        assert bench.codes == [("disk_full", False)]
        bench.core.step(LedgerRoom(True), bench.now_ms())
        await asyncio.sleep(10)
        assert len(bench.facts) > 1

    on_a_bench(story)


def test_no_more_monitors_than_there_is_room_for() -> None:
    async def story(bench: Bench) -> None:
        writes = [MonitorWrite(POWER, kind, "60", severity) for kind in MonitorType for severity in range(10)]
        writes += [replace(each, name=VariableName("EVSE", "Power", evse=2)) for each in writes]
        answers = await bench.monitoring.set(writes)
        accepted = [each for each in answers if each.status is SetMonitorStatus.ACCEPTED]
        assert len(accepted) == CUSTOM_MAX
        assert len({each.id for each in accepted}) == CUSTOM_MAX

    on_a_bench(story)
