"""Monitors at work: which troubles become events, who would hear of them, what is remembered over a restart."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from agent.config.variable import Key
from agent.core.events import LinkChanged
from agent.core.facts import EventTrigger, MonitorOrigin
from agent.health.catalogue import CATALOGUE
from agent.health.model import Condition
from agent.ipc.monitors import MonitorType
from agent.ipc.port import SettingsChanged
from agent.ledger.state import Namespace
from tests.unit.station.monitoring_bench import TROUBLES, Bench, on_a_bench

# ------------------------------------------------------------------------------------------ troubles


@pytest.mark.parametrize(("code", "evse"), TROUBLES)
def test_every_trouble_of_the_catalogue_is_told_and_taken_back(code: str, evse: int) -> None:
    async def story(bench: Bench) -> None:
        entry = CATALOGUE[code]
        bench.wrong(code, evse=evse)
        await asyncio.sleep(0.1)
        (raised,) = bench.facts
        assert (raised.name.component, raised.name.variable) == (entry.component, entry.variable)
        assert raised.name.evse == (evse or None)
        assert (raised.trigger, raised.origin) == (EventTrigger.ALERTING, MonitorOrigin.HARD_WIRED)
        assert (raised.severity, raised.tech_code, raised.value) == (entry.severity, code, "true")
        assert entry.text in raised.tech_info
        assert not raised.cleared
        bench.well(code, evse)
        await asyncio.sleep(0.1)
        assert bench.facts[1:] == [replace(raised, cleared=True, value="false", tech_info=f"over: {entry.text}")]

    on_a_bench(story)


def test_g05_a_lock_that_fails_is_a_problem_of_the_plugs_retention_lock() -> None:
    """By the standard's own name, whatever the catalogue says. No charging meanwhile: the core's tests."""

    async def story(bench: Bench) -> None:
        bench.wrong("lock", evse=1)
        await asyncio.sleep(0.1)
        (raised,) = bench.facts
        name = raised.name
        assert (name.component, name.variable, name.evse) == ("ConnectorPlugRetentionLock", "Problem", 1)
        assert (raised.trigger, raised.value) == (EventTrigger.ALERTING, "true")
        bench.monitoring.provide()
        assert bench.model.text(Key(name.component, "Problem", evse=1, connector=name.connector)) == "true"
        bench.well("lock", 1)
        await asyncio.sleep(0.1)
        assert [(fact.value, fact.cleared) for fact in bench.facts] == [("true", False), ("false", True)]

    on_a_bench(story)


def test_the_problem_variables_show_what_is_wrong() -> None:
    async def story(bench: Bench) -> None:
        def problem(component: str, evse: int | None = None) -> str:
            return bench.model.text(Key(component, "Problem", evse=evse))

        bench.wrong("meter_lost", evse=1)
        bench.monitoring.provide()
        assert [problem("FiscalMetering", evse) for evse in (1, 2)] == ["true", "false"]
        assert problem("ChargingStation") == "true"
        bench.well("meter_lost", 1)
        bench.monitoring.provide()
        assert problem("FiscalMetering", 1) == "false"

    on_a_bench(story)


def test_a_trouble_that_stays_is_told_once() -> None:
    async def story(bench: Bench) -> None:
        for _ in range(5):
            bench.wrong("meter_lost", evse=1)
            await asyncio.sleep(1)
        assert bench.codes == [("meter_lost", False)]

    on_a_bench(story)


def test_what_shares_a_monitor_with_a_trouble_that_ends_is_told_again() -> None:
    async def story(bench: Bench) -> None:
        bench.wrong("meter_lost", "meter_implausible", evse=1)
        await asyncio.sleep(0.1)
        bench.facts.clear()
        bench.wrong("meter_implausible", evse=1)
        await asyncio.sleep(0.1)
        assert bench.codes == [("meter_lost", True), ("meter_implausible", False)]
        assert {(fact.value, fact.monitor_id) for fact in bench.facts} == {("true", bench.facts[0].monitor_id)}

    on_a_bench(story)


def test_a_code_at_a_place_that_cannot_have_it_is_nobodys() -> None:
    async def story(bench: Bench) -> None:
        bench.wrong("meter_lost", evse=0)  # the gateway may say anything
        await asyncio.sleep(1)
        bench.monitoring.provide()
        assert bench.facts == []

    on_a_bench(story)


def test_n07_fr_14_what_was_told_before_a_restart_is_taken_back_when_health_knows() -> None:
    async def story(bench: Bench) -> None:
        bench.wrong("meter_lost", evse=1)
        await asyncio.sleep(0.1)
        bench.monitoring.close()
        bench.start()
        bench.monitoring.link("2.0.1")
        bench.well("meter_lost", 1, Condition.UNKNOWN)
        await asyncio.sleep(5)
        assert bench.codes == [("meter_lost", False)]
        bench.well("meter_lost", 1)
        await asyncio.sleep(0.1)
        assert bench.codes == [("meter_lost", False), ("meter_lost", True)]
        assert not [key for key in bench.kept[Namespace.MONITOR] if key.startswith("told")]

    on_a_bench(story)


# ------------------------------------------------------------------------------------- who would hear


def test_20_te_11_without_a_link_only_what_is_bad_enough_is_kept() -> None:
    async def story(bench: Bench) -> None:
        bench.wrong("meter_lost", evse=1)  # hardware failure
        bench.wrong("bus_garbled", evse=1)  # warning
        bench.wrong("csms_link_down")  # alert
        await asyncio.sleep(1)
        assert bench.codes == [("meter_lost", False)]
        bench.well("csms_link_down")
        bench.monitoring.link("2.0.1")
        await asyncio.sleep(0.1)
        # What still holds is told now; what came and went is not.
        assert bench.codes == [("meter_lost", False), ("bus_garbled", False)]

    on_a_bench(story, dialect=None)


def test_offline_queuing_severity_is_a_setting() -> None:
    async def story(bench: Bench) -> None:
        bench.model.set(Key("MonitoringCtrlr", "OfflineQueuingSeverity"), "9")
        bench.wrong("slot_on_trial")
        await asyncio.sleep(0.1)
        assert bench.codes == [("slot_on_trial", False)]

    on_a_bench(story, dialect=None)


def test_ocpp_16_hears_no_events_and_a_later_201_hears_what_holds_then() -> None:
    async def story(bench: Bench) -> None:
        await bench.set(MonitorType.PERIODIC, "1")
        bench.wrong("meter_lost", evse=1)
        await asyncio.sleep(30)
        assert bench.facts == []
        bench.monitoring.link(None)
        bench.monitoring.link("2.0.1")
        await asyncio.sleep(0.1)
        assert bench.codes == [("meter_lost", False)]

    on_a_bench(story, dialect="1.6")


def test_n05_level_limits_what_is_told_and_survives_a_restart() -> None:
    async def story(bench: Bench) -> None:
        assert [await bench.monitoring.set_level(severity) for severity in (-1, 10, 1)] == ["Rejected"] * 2 + [
            "Accepted"
        ]
        assert bench.news == [SettingsChanged({"MonitoringCtrlr.ActiveMonitoringLevel": "1"})]
        bench.monitoring.close()
        bench.start()
        bench.monitoring.link("2.0.1")
        bench.wrong("diode", evse=1)  # error
        bench.wrong("meter_lost", evse=1)  # hardware failure
        await asyncio.sleep(1)
        assert bench.codes == [("meter_lost", False)]
        await bench.monitoring.set_level(9)
        await asyncio.sleep(0.1)
        assert bench.codes == [("meter_lost", False), ("diode", False)]

    on_a_bench(story)


def test_monitoring_that_is_off_or_has_no_csms_writes_nothing() -> None:
    async def off(bench: Bench) -> None:
        bench.model.set(Key("MonitoringCtrlr", "Enabled"), "false")
        await nobody(bench)

    async def nobody(bench: Bench) -> None:
        bench.wrong("contactor_welded", evse=1)
        await bench.set(MonitorType.PERIODIC, "1")
        await asyncio.sleep(10)
        assert bench.facts == []

    on_a_bench(off)
    on_a_bench(nobody, dialect=None, csms=False)


def test_the_link_of_the_core_has_no_part_in_it() -> None:
    """The core is online from the boot's answer on; events follow the dialect that the gateway tells."""

    async def story(bench: Bench) -> None:
        bench.core.step(LinkChanged(True), bench.now_ms())
        bench.wrong("csms_link_down")
        await asyncio.sleep(1)
        assert bench.facts == []

    on_a_bench(story, dialect=None)
