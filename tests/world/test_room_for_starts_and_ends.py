"""20-TE-12, 16-TX-19 at the whole station: readings do not take the room that starts and ends need."""

from __future__ import annotations

from typing import Any

import pytest

from agent.ipc.port import SettingWrite
from agent.ledger.space import FLOOR_BYTES
from agent.sim.scenario.expectations import all_told, available, charging, finished, online, preparing
from agent.sim.scenario.play import expect, play, scenario
from agent.sim.scenario.verbs import CARD, plug, swipe, unplug
from agent.sim.scenario.world_rig import WorldRig, on_a_world_rig
from agent.sim.world.disk import FreeSpace
from agent.station.upkeep import Upkeep

ABOVE_MARK_BYTES = 64 * 1024
SESSION = (plug(), expect(preparing()), swipe(CARD), expect(charging()))
END = (swipe(CARD), expect(finished()), unplug(), expect(available()))


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
def test_a_disk_that_fills_with_readings_takes_sessions_all_the_same(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(rig: WorldRig) -> None:
        path = rig.world.disk.path
        capacity_bytes = 2 * FLOOR_BYTES + ABOVE_MARK_BYTES + path.stat().st_size

        def look(_: object) -> FreeSpace:
            return FreeSpace(capacity_bytes - path.stat().st_size)

        assert rig.world.life is not None
        upkeep: Upkeep = rig.world.life.station.upkeep
        monkeypatch.setattr(upkeep, "_look", look)
        await play(scenario("a car", expect(online()), *SESSION), rig)
        await rig.wait(1_200_000)  # with a reading every other second
        assert rig.world.life.station.logic.core.ctx.ledger_scarce
        assert [each.code for each in upkeep.troubles()] == ["disk_scarce"]
        rows = rig.world.mirror.head_seq
        await rig.wait(1_200_000)
        assert rig.world.mirror.head_seq - rows < 5, "a checkpoint or two, and what the CSMS is told of it"
        await play(scenario("it ends, and others come", *END, *SESSION, *END, *SESSION, *END, expect(all_told())), rig)
        seen = await rig.look()
        assert len(seen.csms) == 3 and all(each.begin_mwh is not None for each in seen.csms)
        monkeypatch.setattr(upkeep, "_look", lambda _: FreeSpace(10 * FLOOR_BYTES))
        rows = rig.world.mirror.head_seq
        await play(scenario("there is room again", *SESSION), rig)
        await rig.wait(120_000)
        assert rig.world.mirror.head_seq - rows > 60 and list(upkeep.troubles()) == []

    on_a_world_rig(version, story)


def setting(version: str, name: str, value: str) -> tuple[str, dict[str, Any]]:
    """To set it, in the words of the version."""
    if version == "1.6":
        key = {"TxUpdatedInterval": "MeterValueSampleInterval", "BasicAuthPassword": "AuthorizationKey"}[name]
        return "ChangeConfiguration", {"key": key, "value": value}
    component = {"TxUpdatedInterval": "SampledDataCtrlr", "BasicAuthPassword": "SecurityCtrlr"}[name]
    of = {"component": {"name": component}, "variable": {"name": name}, "attributeValue": value}
    return "SetVariables", {"setVariableData": [of]}


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
def test_a_csms_does_not_take_the_room_that_ends_need(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the floor readings are told without a row, and no setting is changed but the password."""

    async def story(rig: WorldRig) -> None:
        async def wrote(name: str, value: str) -> bool:
            answer = (await rig.world.office.call(*setting(version, name, value))).payload
            return "Accepted" in (answer if version == "1.6" else answer["setVariableResult"][0]).values()

        async def interval_s() -> str | None:
            assert rig.world.life is not None
            read = SettingWrite("SampledDataCtrlr", "TxUpdatedInterval", "")
            [(_, value)] = await rig.world.life.station.service.read_settings([read])
            return value

        await play(scenario("a car", expect(online()), *SESSION), rig)
        assert await wrote("TxUpdatedInterval", "60")
        assert rig.world.life is not None
        upkeep: Upkeep = rig.world.life.station.upkeep
        monkeypatch.setattr(upkeep, "_look", lambda _: FreeSpace(FLOOR_BYTES // 2))
        await rig.wait(120_000)
        assert [each.code for each in upkeep.troubles()] == ["disk_full"]
        rows, heard = rig.world.mirror.head_seq, rig.world.office.counts["MeterValues"]
        for number in range(60):
            trigger = {"requestedMessage": "MeterValues"}
            assert (await rig.world.office.call("TriggerMessage", trigger)).status == "Accepted"
            assert not await wrote("TxUpdatedInterval", str(61 + number))
            assert await wrote("TxUpdatedInterval", "60"), "as it is already"
            await rig.wait(5_000)
        assert rig.world.mirror.head_seq - rows < 5, "checkpoints"
        assert rig.world.office.counts["MeterValues"] - heard >= 60 and await interval_s() == "60"
        assert await wrote("BasicAuthPassword", "a-new-password-of-16")
        await rig.wait(120_000)
        await play(scenario("it ends", expect(online()), swipe(CARD), expect(all_told()), unplug()), rig)
        monkeypatch.setattr(upkeep, "_look", lambda _: FreeSpace(10 * FLOOR_BYTES))
        await play(scenario("there is room again", expect(available())), rig)
        assert await wrote("TxUpdatedInterval", "30") and await interval_s() == "30"

    on_a_world_rig(version, story)
