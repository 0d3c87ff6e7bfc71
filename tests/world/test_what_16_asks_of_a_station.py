"""Rows of OCPP 1.6 that only the whole station can show: a clock that is set back in mid-charge, Reset, TriggerMessage.

What the CSMS hears is looked at word by word.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.ocpp.frames import Payload
from agent.sim.scenario.expectations import all_told, available, charging, finished, online, preparing
from agent.sim.scenario.play import expect, play, scenario
from agent.sim.scenario.verbs import CARD, plug, swipe, unplug
from agent.sim.scenario.world_rig import WorldRig, on_a_world_rig
from agent.sim.world.manners import Manner
from tests.world.hearing import frames_heard, payloads

CHARGING = scenario("a car charges", expect(online()), plug(), expect(preparing()), swipe(CARD), expect(charging()))


def test_16_boot_02_a_clock_that_is_set_back_in_mid_charge_sets_no_transaction_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By an hour, in a charge of some minutes: it would end before it began. The next one has the new time, and the
    correction is a row."""

    async def story(rig: WorldRig) -> None:
        heard = frames_heard(rig, monkeypatch)
        await play(CHARGING, rig)
        await rig.wait(120_000)
        rig.world.step_csms_clock(-3_600_000)
        assert (await rig.world.office.call("TriggerMessage", {"requestedMessage": "Heartbeat"})).status == "Accepted"
        await rig.wait(120_000)
        await play(scenario("it ends", swipe(CARD), expect(finished()), unplug(), expect(available())), rig)
        await rig.wait(20_000)
        first = payloads(heard, "StartTransaction", "StopTransaction")
        times = [payload["timestamp"] for payload in first]
        for payload in payloads(heard, "StopTransaction", "MeterValues"):
            readings: list[Payload] = payload["meterValue" if "meterValue" in payload else "transactionData"]
            times += [value["timestamp"] for value in readings]
        assert times[0] == min(times) and max(times) <= times[1]
        await play(CHARGING, rig)
        await play(scenario("it is told", expect(all_told())), rig)
        assert payloads(heard, "StartTransaction")[1]["timestamp"] < times[0]
        assert rig.world.life is not None
        before_ms = rig.world.life.station.logic.core.ctx.wall_ms
        rig.world.step_csms_clock(3_600_000)
        await rig.world.office.call("TriggerMessage", {"requestedMessage": "Heartbeat"})
        await rig.wait(5_000)
        assert rig.world.life.station.logic.core.ctx.wall_ms - before_ms > 3_600_000, "and it goes on again"

    on_a_world_rig("1.6", story)


def test_16_tx_09_a_car_charges_on_where_the_csms_calls_its_own_transaction_concurrent() -> None:
    """It books the start, the link ends before the answer, and it allows one transaction per card."""

    async def story(rig: WorldRig) -> None:
        office = rig.world.office
        office.mind.manners = replace(office.mind.manners, booked_anyway=1.0)
        office.book.next_number = 1
        office.script("StartTransaction", Manner.CLOSE)
        begin = (expect(online()), plug(), expect(preparing()), swipe("04FFFFFFFFFFFF"), expect(charging()))
        await play(scenario("a car charges on a card that only the CSMS knows", *begin), rig)
        await rig.wait(180_000)
        (booked,) = office.book.transactions.values()
        assert booked.repeats == 1, "and was answered with ConcurrentTx"
        await play(scenario("it charges on", expect(charging())), rig)

    on_a_world_rig("1.6", story)


@pytest.mark.parametrize(("kind", "reason"), [("Soft", "SoftReset"), ("Hard", "HardReset")])
def test_16_cmd_07_what_a_reset_ends_is_told_with_its_reason_and_the_queue_outlives_it(
    kind: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(rig: WorldRig) -> None:
        heard = frames_heard(rig, monkeypatch)
        await play(CHARGING, rig)
        rig.world.link_down(silently=False)
        await play(scenario("one ends offline", swipe(CARD), expect(finished()), unplug(), expect(available())), rig)
        rig.world.link_up()
        await play(CHARGING, rig)
        boots = (await rig.look()).boots
        assert (await rig.world.office.call("Reset", {"type": kind})).status == "Accepted"
        await rig.wait(120_000)
        assert (await rig.look()).boots == boots + 1
        await play(scenario("all is told", expect(all_told())), rig)
        assert [payload["reason"] for payload in payloads(heard, "StopTransaction")] == ["Local", reason]

    on_a_world_rig("1.6", story)


def test_16_cmd_08_triggered_readings_come_of_all_connectors_with_all_that_is_configured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One connector charges: its reading is one of the transaction."""
    wanted = ["Energy.Active.Import.Register", "Voltage", "Power.Active.Import"]

    async def story(rig: WorldRig) -> None:
        heard = frames_heard(rig, monkeypatch)
        await play(CHARGING, rig)
        for key, value in (("MeterValueSampleInterval", "0"), ("MeterValuesSampledData", ",".join(wanted))):
            assert (await rig.world.office.call("ChangeConfiguration", {"key": key, "value": value})).status
        await rig.wait(10_000)
        del heard[:]
        answer = await rig.world.office.call("TriggerMessage", {"requestedMessage": "MeterValues"})
        assert answer.status == "Accepted"
        await rig.wait(10_000)
        told = {payload["connectorId"]: payload for payload in payloads(heard, "MeterValues")}
        assert told.keys() == {1, 2} and len(payloads(heard, "MeterValues")) == 2
        assert "transactionId" in told[1] and "transactionId" not in told[2]
        for payload in told.values():
            [value] = payload["meterValue"]
            assert {each["context"] for each in value["sampledValue"]} == {"Trigger"}
            assert list(dict.fromkeys(each["measurand"] for each in value["sampledValue"])) == wanted

    on_a_world_rig("1.6", story)
