"""A session of a station that knows no time is told with the right one as soon as the CSMS tells it (field fault 6)."""

from __future__ import annotations

import pytest

from agent.sim.scenario.expectations import available, charging, online, preparing
from agent.sim.scenario.play import expect, play, scenario
from agent.sim.scenario.verbs import CARD, DropLink, RestoreLink, RestorePower, cut_power, plug, swipe, unplug
from agent.sim.scenario.world_rig import WorldRig, on_a_world_rig
from tests.world.hearing import frames_heard, payloads

BILLED = ("StartTransaction", "StopTransaction", "MeterValues", "TransactionEvent")


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
@pytest.mark.parametrize("lasts_s", [2, 20])
def test_no_message_tells_the_year_1970(version: str, lasts_s: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first page of the queue must not go out before the clock's own row is on disk."""

    async def story(rig: WorldRig) -> None:
        await play(scenario("a station", expect(online())), rig)
        await rig.do(DropLink())
        await rig.do(cut_power())
        await rig.wait(2_000)
        await rig.do(RestorePower(clock_lost=True))
        await rig.wait(60_000)
        frames = frames_heard(rig, monkeypatch)
        await play(scenario("begins", plug(), expect(preparing()), swipe(CARD), expect(charging())), rig)
        await rig.wait(lasts_s * 1_000)
        await play(scenario("ends", unplug(), expect(available())), rig)
        await rig.do(RestoreLink())
        await rig.wait(200_000)
        messages = payloads(frames, *BILLED)
        told = [each.get("timestamp") or each["meterValue"][0]["timestamp"] for each in messages]
        assert len(told) >= 4
        assert [each for each in told if each.startswith("1970")] == []

    on_a_world_rig(version, story)
