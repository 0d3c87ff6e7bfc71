"""16-CMD-04 at the whole station: a remote start that names no connector begins with no car that may be anybody's. And
that the world would see it if it did."""

from __future__ import annotations

from typing import Any

import pytest

from agent.core.vehicle import Vehicle
from agent.sim.scenario.expectations import charging, finished, online, preparing
from agent.sim.scenario.play import expect, play, scenario
from agent.sim.scenario.rig import RigTrouble
from agent.sim.scenario.verbs import CARD, OTHER_CARD, STATION, kill, plug, swipe
from agent.sim.scenario.world_rig import WorldRig, on_a_world_rig


async def start_without_connector(rig: WorldRig) -> str:
    """A car is done at EVSE 1 and stays there, the station restarts, and somebody who is about to plug in at EVSE 2
    starts by his app."""
    charges = expect(online()), plug(), expect(preparing()), swipe(CARD), expect(charging())
    await play(scenario("a car is done", *charges, swipe(CARD), expect(finished()), kill(STATION)), rig)
    await play(scenario("it is still there", expect(online()), expect(preparing())), rig)
    answer = await rig.world.office.call("RemoteStartTransaction", {"idTag": OTHER_CARD})
    await rig.wait(10_000)
    return answer.status


def test_after_a_restart_it_is_refused_while_a_car_stands_there_that_may_be_meant() -> None:
    """Were it to wait at the free EVSE, and the car that stands there his, whoever plugs in there would charge on his
    card."""

    async def story(rig: WorldRig) -> None:
        assert await start_without_connector(rig) == "Rejected"
        await play(scenario("somebody plugs in", plug(2), expect(preparing(2))), rig)
        assert rig.world.mirror.open == {}

    on_a_world_rig("1.6", story)


def test_the_world_sees_one_that_begins_with_the_car_that_stayed(monkeypatch: pytest.MonkeyPatch) -> None:
    settle = Vehicle.settle

    def credulous(vehicle: Vehicle, at_ms: int, **others: Any) -> None:
        settle(vehicle, at_ms, **others)
        vehicle.has_come = vehicle.connected is True

    monkeypatch.setattr(Vehicle, "settle", credulous)

    async def story(rig: WorldRig) -> None:
        await start_without_connector(rig)
        await rig.look()

    with pytest.raises(RigTrouble, match="ordered for no outlet, with a car that has charged here before"):
        on_a_world_rig("1.6", story)
