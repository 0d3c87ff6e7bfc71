"""16-SEC-14, A04: what the station itself must tell of its security, heard at the CSMS."""

from __future__ import annotations

from typing import Any

import pytest

from agent.sim.scenario.expectations import online
from agent.sim.scenario.play import expect, play, scenario
from agent.sim.scenario.verbs import StepClock
from agent.sim.scenario.world_rig import WorldRig, on_a_world_rig
from tests.world.hearing import Frame, frames_heard, payloads

MINUTE_MS = 60_000


def types(frames: list[Frame]) -> list[str]:
    return [payload["type"] for payload in payloads(frames, "SecurityEventNotification")]


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
@pytest.mark.parametrize(("step_s", "told"), [(3_600, ["SettingSystemTime"]), (10, [])])
def test_a_clock_that_the_csms_sets_is_told_above_the_threshold(
    version: str, step_s: int, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """2.0.1 ClockCtrlr.TimeAdjustmentReportingThreshold, 20 s if nobody sets it; 1.6 has the same."""

    async def story(rig: WorldRig) -> None:
        await play(scenario("a station", expect(online())), rig)
        frames = frames_heard(rig, monkeypatch)
        await rig.do(StepClock(step_s))
        await rig.wait(60 * MINUTE_MS)
        assert types(frames) == told

    on_a_world_rig(version, story)


@pytest.mark.parametrize(("version", "order"), [("1.6", {"type": "Hard"}), ("2.0.1", {"type": "Immediate"})])
def test_a_reset_is_told(version: str, order: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(rig: WorldRig) -> None:
        await play(scenario("a station", expect(online())), rig)
        frames = frames_heard(rig, monkeypatch)
        assert (await rig.world.office.call("Reset", order)).status == "Accepted"
        await rig.wait(5 * MINUTE_MS)
        assert types(frames) == ["StartupOfTheDevice", "ResetOrReboot"]

    on_a_world_rig(version, story)


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
def test_a_new_password_is_told(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    password = "a password of twenty chars"
    variable = {"component": {"name": "SecurityCtrlr"}, "variable": {"name": "BasicAuthPassword"}}
    orders: dict[str, tuple[str, dict[str, Any]]] = {
        "1.6": ("ChangeConfiguration", {"key": "AuthorizationKey", "value": password}),
        "2.0.1": ("SetVariables", {"setVariableData": [{"attributeValue": password, **variable}]}),
    }

    async def story(rig: WorldRig) -> None:
        await play(scenario("a station", expect(online())), rig)
        frames = frames_heard(rig, monkeypatch)
        await rig.world.office.call(*orders[version])
        await rig.wait(5 * MINUTE_MS)
        assert types(frames) == ["ReconfigurationOfSecurityParameters"]

    on_a_world_rig(version, story)
