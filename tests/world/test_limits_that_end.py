"""A limit of the CSMS that ends, and nothing more is said: the configured offline limit holds (field fault 9)."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.sim.scenario import quiet_world
from agent.sim.scenario.expectations import available, charging, offers, online, preparing
from agent.sim.scenario.play import expect, play, scenario
from agent.sim.scenario.verbs import CARD, cut_power, drop_link, plug, restore_power, swipe, unplug
from agent.sim.scenario.world_rig import WorldRig, on_a_world_rig


@pytest.fixture(autouse=True)
def site(monkeypatch: pytest.MonkeyPatch) -> None:
    """The quiet world's station, with an offline limit."""
    plain = quiet_world._plain_site

    def of_8_a(file: Path) -> Path:
        file.write_text(plain(file).read_text().replace("[limits]\n", "[limits]\noffline_current_ma = 8_000\n"))
        return file

    monkeypatch.setattr(quiet_world, "_plain_site", of_8_a)


async def ten_amperes(rig: WorldRig, version: str, **lasts: int) -> None:
    """The CSMS's TxDefaultProfile for the whole station."""
    schedule = {
        "startSchedule": rig.world.csms_time(),
        "chargingRateUnit": "A",
        "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 10}],
        **lasts,
    }
    profile = {"stackLevel": 0, "chargingProfilePurpose": "TxDefaultProfile", "chargingProfileKind": "Absolute"}
    of_16 = {"connectorId": 0, "csChargingProfiles": profile | {"chargingProfileId": 1, "chargingSchedule": schedule}}
    of_201 = {"evseId": 0, "chargingProfile": profile | {"id": 1, "chargingSchedule": [schedule | {"id": 1}]}}
    answer = await rig.world.office.call("SetChargingProfile", of_16 if version == "1.6" else of_201)
    assert answer.status == "Accepted"


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
def test_the_offline_limit_holds_with_the_link_up_and_down_and_after_a_power_cut(version: str) -> None:
    async def story(rig: WorldRig) -> None:
        await play(
            scenario("a car", expect(online()), plug(), expect(preparing()), swipe(CARD), expect(charging())), rig
        )
        await ten_amperes(rig, version, duration=120)
        await play(scenario("while it lasts", expect(offers(10))), rig)
        await rig.wait(120_000)
        await play(scenario("it has ended", expect(offers(8), within_ms=1_000)), rig)
        await rig.do(drop_link())
        await rig.wait(60_000)
        await play(scenario("without a link", expect(offers(8), within_ms=1_000)), rig)
        await rig.do(cut_power())
        await rig.do(restore_power())
        await play(scenario("after a power cut", expect(charging()), expect(offers(8))), rig)

    on_a_world_rig(version, story)


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
def test_k06_k07_a_default_holds_without_a_link_for_what_runs_and_for_what_begins(version: str) -> None:
    async def story(rig: WorldRig) -> None:
        car = (plug(), expect(preparing()), swipe(CARD), expect(charging()))
        await play(scenario("a car", expect(online()), *car), rig)
        await ten_amperes(rig, version)
        await play(scenario("with a link", expect(offers(10)), drop_link()), rig)
        await rig.wait(60_000)
        await play(scenario("without", expect(offers(10), within_ms=1_000), unplug(), expect(available())), rig)
        await play(scenario("another car", *car, expect(offers(10))), rig)

    on_a_world_rig(version, story)
