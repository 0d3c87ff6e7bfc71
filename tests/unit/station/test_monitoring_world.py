"""Monitors from end to end: the real station, gateway and dialect in a simulated world, from a device's fault and a
meter's reading to what the CSMS hears, over links that break and power that fails. And N09, N10 on a real ledger.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from agent.core.facts import EventFact, Token
from agent.ipc.monitors import CustomerRequest
from agent.ipc.port import TokenVerdict
from agent.ocpp import schema
from agent.ocpp.version import Version
from agent.sim.scenario import verbs
from agent.sim.scenario.listener import Listener
from agent.sim.scenario.quiet_world import QuietWorld
from agent.sim.scenario.world_rig import WorldRig, on_a_world_rig
from agent.sim.world.wire import Network, Wire
from agent.station.service import StationService

CARD = "04A1B2C3"
POWER = {"component": {"name": "EVSE", "evse": {"id": 1}}, "variable": {"name": "Power"}}


class _Ear(Listener):
    """Also writes down every event, and holds its message against the schema."""

    events: list[dict[str, Any]]

    def heard(self, wire: Wire, frame: bytes, sent_s: float) -> None:
        array = json.loads(frame)
        if array[0] == 2 and array[2] == "NotifyEvent":
            schema.check_request(Version.V201, "NotifyEvent", array[3])
            self.events += array[3]["eventData"]
        super().heard(wire, frame, sent_s)


class _World(QuietWorld):
    def __init__(self, version: str, folder: Path) -> None:
        super().__init__(version, folder)
        self.listener = ear = _Ear(self.office)
        ear.events = []
        self.network = Network(ear, self.chance("network"))


def service(rig: WorldRig) -> StationService:
    assert rig.world.life is not None
    return rig.world.life.station.service


def events(rig: WorldRig) -> list[dict[str, Any]]:
    assert isinstance(rig.world.listener, _Ear)
    return rig.world.listener.events


def told(rig: WorldRig) -> list[tuple[str, bool]]:
    """Codes and whether they are over, of EVSE 1."""
    return [
        (each["techCode"], each.get("cleared", False))
        for each in events(rig)
        if each["component"].get("evse", {}).get("id") == 1 and "techCode" in each
    ]


def play(story: Callable[[WorldRig], Awaitable[None]], version: str = "2.0.1") -> None:
    on_a_world_rig(version, story, _World)


@pytest.mark.parametrize(
    ("device", "name", "code"),
    [
        ("pilot", "silent", "pilot_lost"),
        ("meter", "silent", "meter_lost"),
        ("pilot", "short", "pilot_short"),
        ("residual", "current", "residual_current"),
    ],
)
def test_a_fault_of_a_device_is_told_and_taken_back(device: str, name: str, code: str) -> None:
    async def story(rig: WorldRig) -> None:
        await rig.do(verbs.Fault(device, name, evse=1))
        await rig.wait(30_000)
        assert (code, False) in told(rig)
        assert (code, True) not in told(rig)
        await rig.do(verbs.FaultGone(device, evse=1))
        await rig.wait(120_000)
        assert told(rig).count((code, True)) == 1
        assert told(rig)[-1][1]
        ids = [each["eventId"] for each in events(rig)]
        assert ids == sorted(set(ids))
        summary = await service(rig).report("SummaryInventory")
        assert summary is not None
        assert {row["variable"]["name"] for row in summary} == {"AvailabilityState"}

    play(story)


def test_summary_inventory_shows_the_problem_while_it_lasts() -> None:
    async def story(rig: WorldRig) -> None:
        await rig.do(verbs.Fault("meter", "silent", evse=1))
        await rig.wait(30_000)
        summary = await service(rig).report("SummaryInventory")
        assert summary is not None
        shown = {(row["component"]["name"], row["variable"]["name"]) for row in summary}
        assert ("FiscalMetering", "Problem") in shown
        assert ("ChargingStation", "Problem") in shown

    play(story)


def test_20_te_11_a_fault_without_a_link_is_told_once_when_it_is_back() -> None:
    async def story(rig: WorldRig) -> None:
        await rig.do(verbs.DropLink())
        await rig.wait(20_000)
        await rig.do(verbs.Fault("meter", "silent", evse=1))
        await rig.wait(60_000)
        assert events(rig) == []
        await rig.do(verbs.RestoreLink())
        await rig.wait(300_000)
        assert told(rig) == [("meter_lost", False)]

    play(story)


def test_n07_fr_14_a_fault_that_ends_with_a_power_cut_is_taken_back_after_it() -> None:
    async def story(rig: WorldRig) -> None:
        await rig.do(verbs.Fault("meter", "silent", evse=1))
        await rig.wait(30_000)
        await rig.do(verbs.CutPower())
        await rig.do(verbs.FaultGone("meter", evse=1))
        await rig.do(verbs.RestorePower())
        await rig.wait(300_000)
        assert told(rig) == [("meter_lost", False), ("meter_lost", True)]

    play(story)


def test_ocpp_16_hears_of_faults_by_status_alone() -> None:
    async def story(rig: WorldRig) -> None:
        await rig.do(verbs.Fault("meter", "silent", evse=1))
        await rig.wait(60_000)
        records = await service(rig).records(0, 500)
        assert not [record for record in records if isinstance(record.fact, EventFact)]
        assert events(rig) == []

    play(story, "1.6")


def test_n04_to_n07_a_threshold_of_the_csms_from_plug_to_event_and_over_a_power_cut() -> None:
    async def story(rig: WorldRig) -> None:
        async def monitors() -> list[int]:
            return [each.id for each in await service(rig).monitors() if each.id >= 100_000]

        wanted = POWER | {"type": "UpperThreshold", "value": 500, "severity": 4, "transaction": True}
        answer = await rig.world.office.call("SetVariableMonitoring", {"setMonitoringData": [wanted]})
        (result,) = answer.payload["setMonitoringResult"]
        assert result["status"] == "Accepted"
        again = await rig.world.office.call("SetVariableMonitoring", {"setMonitoringData": [wanted]})
        assert again.payload["setMonitoringResult"][0]["status"] == "Duplicate"
        await rig.do(verbs.CutPower())
        await rig.do(verbs.RestorePower())
        await rig.wait(200_000)
        assert await monitors() == [result["id"]]
        await rig.do(verbs.Plug(1))
        await rig.do(verbs.RemoteStart(CARD))
        await rig.wait(60_000)
        (event,) = events(rig)
        assert (event["variableMonitoringId"], event["eventNotificationType"]) == (result["id"], "CustomMonitor")
        assert event["transactionId"] == (await service(rig).status()).evses[0].tx_id
        assert int(event["actualValue"]) > 500
        cleared = await rig.world.office.call("ClearVariableMonitoring", {"id": [result["id"], 1]})
        assert [each["status"] for each in cleared.payload["clearMonitoringResult"]] == ["Accepted", "Rejected"]
        assert await monitors() == []

    play(story)


def test_n02_every_hard_wired_monitor_is_reported() -> None:
    async def story(rig: WorldRig) -> None:
        wired = await service(rig).monitors()
        assert len(wired) > 20
        report = await service(rig).report("FullInventory")
        assert report is not None
        known = {
            (row["component"]["name"], row["component"].get("evse", {}).get("id"), row["variable"]["name"])
            for row in report
            if row["variableCharacteristics"]["supportsMonitoring"]
        }
        assert {(each.name.component, each.name.evse, each.name.variable) for each in wired} <= known
        assert ("MonitoringCtrlr", None, "OfflineQueuingSeverity") in known

    play(story)


# -------------------------------------------------------------------------------------------- customers


def test_n09_n10_what_is_kept_of_a_customer_and_what_is_cleared() -> None:
    async def story(rig: WorldRig) -> None:
        station = service(rig)
        token = Token(CARD, "ISO14443")
        asked = CustomerRequest(report=True, clear=False, token=Token(CARD.lower(), "ISO14443"))
        assert await station.customer_information(CustomerRequest(True, True, token=Token("none"))) == ""
        assert await station.customer_information(CustomerRequest(True, True, certificate="42")) == ""
        await rig.do(verbs.Plug(1))
        await rig.do(verbs.RemoteStart(CARD))
        await rig.wait(60_000)
        await station.token_verdict(token, TokenVerdict("Accepted", "Fleet-7"))
        await station.told_price(token, "0.49 EUR per kWh")
        tx_id = (await station.status()).evses[0].tx_id
        words = await station.customer_information(asked)
        assert f"Transaction {tx_id} runs now on EVSE 1." in words
        assert "Authorization cache: token 04a1b2c3 is Accepted, group Fleet-7" in words
        assert "0.49 EUR per kWh" in words
        assert "Cleared" not in words
        await rig.do(verbs.RemoteStop(1))
        await rig.wait(60_000)
        words = await station.customer_information(CustomerRequest(True, True, identifier="FLEET-7"))
        assert "04a1b2c3" in words
        assert "Cleared: 1 entries of the authorization cache, 0 price texts." in words
        assert "kept by law and were not cleared" in words
        words = await station.customer_information(CustomerRequest(False, True, token=token))
        assert words.startswith("Cleared: 0 entries of the authorization cache, 1 price texts.")
        assert CARD not in words
        assert await station.customer_information(CustomerRequest(False, True, token=token)) == ""
        words = await station.customer_information(asked)
        assert words.splitlines()[0] == "Transactions in the ledger, kept by law: 1:"
        assert f"- {tx_id} on EVSE 1: " in words
        assert "kWh" in words
        await rig.do(verbs.CutPower())
        await rig.do(verbs.RestorePower())
        await rig.wait(200_000)
        assert "Authorization cache" not in await service(rig).customer_information(asked)

    play(story)
