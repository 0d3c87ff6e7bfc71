"""E10, 16-TX-16 at the whole station: where unplugging ends nothing, a vehicle comes back in time, or the transaction
ends. And that the world would see it if it did not."""

from __future__ import annotations

import pytest

from agent.core.absence import Absence
from agent.sim.scenario.expectations import all_told, available, charging, online, preparing
from agent.sim.scenario.play import expect, play, scenario
from agent.sim.scenario.rig import RigTrouble
from agent.sim.scenario.verbs import CARD, STATION, Plug, Unplug, kill, plug, swipe, unplug
from agent.sim.scenario.world_rig import WorldRig, on_a_world_rig
from agent.sim.world.parties import Parties

WAIT_MS = 120_000


async def charges(rig: WorldRig, version: str) -> str:
    """A car, where unplugging ends nothing; returns its transaction."""
    if version == "1.6":
        key = {"key": "StopTransactionOnEVSideDisconnect", "value": "false"}
        answer = await rig.world.office.call("ChangeConfiguration", key)
        assert answer.status == "Accepted"
    else:
        where = {"component": {"name": "TxCtrlr"}, "variable": {"name": "StopTxOnEVSideDisconnect"}}
        answer = await rig.world.office.call("SetVariables", {"setVariableData": [where | {"attributeValue": "false"}]})
        assert answer.payload["setVariableResult"][0]["attributeStatus"] == "Accepted"
    await play(scenario("a car", plug(), expect(preparing()), swipe(CARD), expect(charging())), rig)
    await rig.wait(300_000)  # until the world takes the station to know its devices
    return rig.world.mirror.open[1].tx_id


@pytest.mark.parametrize(("version", "reason"), [("1.6", "EVDisconnected"), ("2.0.1", "Timeout")])
def test_e10_it_ends_after_the_time_out_and_the_next_car_needs_a_card(version: str, reason: str) -> None:
    async def story(rig: WorldRig) -> None:
        await play(scenario("the link", expect(online())), rig)
        await charges(rig, version)
        await rig.do(Unplug(1))
        await rig.wait(WAIT_MS + 60_000)
        assert (await rig.look()).evses[0].state == "Available"
        await rig.do(Plug(1))
        await rig.wait(300_000)
        seen = (await rig.look()).evses[0]
        assert (seen.state, seen.contactor_closed) == ("Preparing", False)
        await play(scenario("it is told", expect(all_told())), rig)
        [booked] = rig.world.listener.accounts()
        assert booked.reason == reason
        await play(scenario("it pays for itself", swipe(CARD), expect(charging())), rig)

    on_a_world_rig(version, story)


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
def test_e10_a_replug_in_time_resumes(version: str) -> None:
    async def story(rig: WorldRig) -> None:
        await play(scenario("the link", expect(online())), rig)
        tx_id = await charges(rig, version)
        for _ in range(2):
            await rig.do(Unplug(1))
            await rig.wait(WAIT_MS - 10_000)
            await play(scenario("back again", plug(), expect(charging())), rig)
            await rig.wait(300_000)
        assert rig.world.mirror.open[1].tx_id == tx_id

    on_a_world_rig(version, story)


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
def test_after_a_restart_while_nobody_is_there_it_ends_at_once(version: str) -> None:
    async def story(rig: WorldRig) -> None:
        await play(scenario("the link", expect(online())), rig)
        await charges(rig, version)
        await play(scenario("it leaves, and the station is killed", unplug(), kill(STATION), expect(available())), rig)
        assert rig.world.mirror.open == {}

    on_a_world_rig(version, story)


def test_b12_a_reset_on_idle_waits_no_longer_than_that() -> None:
    async def story(rig: WorldRig) -> None:
        await play(scenario("the link", expect(online())), rig)
        await charges(rig, "2.0.1")
        await rig.do(Unplug(1))
        boots = (await rig.look()).boots
        assert (await rig.world.office.call("Reset", {"type": "OnIdle"})).status == "Scheduled"
        await rig.wait(WAIT_MS + 60_000)
        assert (await rig.look()).boots == boots + 1

    on_a_world_rig("2.0.1", story)


@pytest.mark.parametrize(
    ("next_car", "said"), [(False, "the time is over in which a car"), (True, "another car charges on")]
)
def test_the_world_sees_a_transaction_that_waits_for_ever(
    monkeypatch: pytest.MonkeyPatch, next_car: bool, said: str
) -> None:
    monkeypatch.setattr(Absence, "since_ms", None)
    if next_car:
        monkeypatch.setattr(Parties, "left", lambda *_: None)

    async def story(rig: WorldRig) -> None:
        await play(scenario("the link", expect(online())), rig)
        await charges(rig, "2.0.1")
        await rig.do(Unplug(1))
        if next_car:
            await rig.wait(1_800_000)
            await rig.do(Plug(1))
        await rig.wait(300_000)
        await rig.look()

    with pytest.raises(RigTrouble, match=said):
        on_a_world_rig("2.0.1", story)
