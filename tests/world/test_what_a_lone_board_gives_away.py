"""What an autonomous board charges while no station runs: nobody is billed for it, and the next receipt shows it. And
that the world would see it if somebody were."""

from __future__ import annotations

import pytest

from agent.billing import read
from agent.core.flow import Flow
from agent.sim.scenario.expectations import available, charging, finished, online, preparing
from agent.sim.scenario.play import expect, play, scenario
from agent.sim.scenario.rig import RigTrouble
from agent.sim.scenario.verbs import CARD, plug, swipe, unplug
from agent.sim.scenario.world_rig import WorldRig, on_a_world_rig
from agent.station.archive import Archive
from tests.support.autonomous_site import make_autonomous

MINUTE_MS = 60_000
CHARGING = scenario("a car charges", expect(online()), plug(), expect(preparing()), swipe(CARD), expect(charging()))
NEXT = scenario("the next car", unplug(), expect(available()), *CHARGING.steps)
END = scenario("it ends", swipe(CARD), expect(finished()))


@pytest.fixture(autouse=True)
def site(monkeypatch: pytest.MonkeyPatch) -> None:
    """Autonomous boards, and a resume window of a minute."""
    make_autonomous(monkeypatch)


async def station_dies(rig: WorldRig, away_ms: int) -> tuple[str, int]:
    """In mid-charge, and nothing makes the board safe: the driver leaves, another charges. The transaction, and what
    its driver has drawn."""
    await play(CHARGING, rig)
    world, outlet = rig.world, rig.world.outlets[1]
    tx_id, before_mwh = world.mirror.open[1].tx_id, outlet.drawn_mwh
    await rig.wait(10 * MINUTE_MS)
    world._end_life()
    await rig.wait(5_000)
    await rig.do(unplug())
    drawn_mwh = outlet.drawn_mwh - before_mwh
    await rig.do(plug())
    await rig.wait(away_ms)
    world._start_station()
    await rig.wait(2 * MINUTE_MS)
    assert world.mirror.open == {} and not outlet.contactor_closed
    return tx_id, drawn_mwh


def receipt(rig: WorldRig, tx_id: str) -> read.Receipt:
    archive = Archive(rig.world.disk.path)
    try:
        sealed = archive.receipt(tx_id)
    finally:
        archive.close()
    assert sealed is not None
    return read.parse(sealed)


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
def test_nobody_pays_for_what_a_board_gives_away_while_no_station_runs(version: str) -> None:
    async def story(rig: WorldRig) -> None:
        tx_id, drawn_mwh = await station_dies(rig, 180 * MINUTE_MS)
        first = receipt(rig, tx_id)
        assert first.energy_mwh is not None and first.facts.end_mwh is not None
        assert drawn_mwh // 2 < first.energy_mwh <= drawn_mwh
        assert first.facts.flags.substituted_reading and not first.facts.flags.not_billable
        given_away_mwh = rig.world.outlets[1].register_mwh - first.facts.end_mwh
        assert given_away_mwh > 5 * first.energy_mwh
        await play(NEXT, rig)
        next_tx_id = rig.world.mirror.open[1].tx_id
        await play(END, rig)
        await rig.wait(30_000)
        later = receipt(rig, next_tx_id)
        assert later.facts.unassigned_before_mwh == given_away_mwh

    on_a_world_rig(version, story)


def test_the_world_sees_it_in_a_bill(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Flow, "_state_after", lambda *_, **__: "G")

    async def story(rig: WorldRig) -> None:
        await station_dies(rig, 10 * MINUTE_MS)
        await rig.look()

    with pytest.raises(RigTrouble, match=r"mWh billed, \d+ mWh drawn"):
        on_a_world_rig("1.6", story)
