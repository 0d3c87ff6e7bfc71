"""A board that charges by itself and whose line is dead still takes its least from the supply, for as long as that
lasts. And that the world would see it if it were given to others."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.sim.scenario import quiet_world
from agent.sim.scenario.rig import RigTrouble
from agent.sim.scenario.verbs import CARD, OTHER_CARD, STATION, Fault, FaultGone, Kill, Limit, Plug, Swipe
from agent.sim.scenario.world_rig import WorldRig, on_a_world_rig
from agent.station.logic import Logic
from tests.support.autonomous_site import make_autonomous

SUPPLY_MA = 16_000


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two autonomous boards of 32 A, and a resume window of a minute."""
    make_autonomous(monkeypatch)


@pytest.fixture
def tight_site(monkeypatch: pytest.MonkeyPatch, site: None) -> None:
    roomy = quiet_world._plain_site

    def of_little(file: Path) -> Path:
        text = roomy(file).read_text()
        file.write_text(text.replace("supply_current_ma = 32000", f"supply_current_ma = {SUPPLY_MA}"))
        return file

    monkeypatch.setattr(quiet_world, "_plain_site", of_little)


async def offers(rig: WorldRig, after_s: int) -> list[int]:
    await rig.wait(after_s * 1_000)
    return [round(each.signalled_ma, -3) for each in (await rig.look()).evses]


async def both_charge(rig: WorldRig) -> None:
    for evse, card in ((1, CARD), (2, OTHER_CARD)):
        await rig.do(Plug(evse))
        await rig.wait(1_000)
        await rig.do(Swipe(card, evse))
    assert await offers(rig, 120) == [8_000, 8_000]


async def line_dies(rig: WorldRig) -> None:
    await both_charge(rig)
    await rig.do(Fault("pilot", "silent", evse=1))
    assert await offers(rig, 30) == [6_000, 8_000], "its transaction may still go on"
    assert await offers(rig, 90) == [6_000, 10_000]
    assert await offers(rig, 3_600) == [6_000, 10_000]
    await rig.do(Kill(STATION))
    assert await offers(rig, 120) == [6_000, 10_000], "also where this run has never seen it"
    await rig.do(FaultGone("pilot", 1))
    assert await offers(rig, 60) == [0, 16_000]


@pytest.mark.usefixtures("tight_site")
@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
def test_the_supply_bounds_what_a_lost_board_takes_and_the_others_get(version: str) -> None:
    on_a_world_rig(version, line_dies)


@pytest.mark.usefixtures("site")
def test_so_does_a_limit_of_the_csms() -> None:
    async def story(rig: WorldRig) -> None:
        assert await rig.do(Limit(16)) == "Accepted"
        await line_dies(rig)

    on_a_world_rig("1.6", story)


@pytest.mark.usefixtures("tight_site")
def test_the_world_sees_a_share_that_is_given_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Logic, "_unseen_now", lambda _: set())

    async def story(rig: WorldRig) -> None:
        await both_charge(rig)
        await rig.do(Fault("pilot", "silent", evse=1))
        await offers(rig, 300)

    with pytest.raises(RigTrouble, match="more than the supply gives"):
        on_a_world_rig("1.6", story)
