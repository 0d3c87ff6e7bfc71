"""Field fault 15: settings that a power cut zeroed or lost.

A simulated station is told a new limit, a new availability and a new setting at once, and loses its power at a random
moment: before, within or after the commits, whose sectors may be torn. Afterwards each is as it was or as it was told,
never anything else; and what was accepted before the cut is as it was told. Upgrades and downgrades of stored settings
are ``tests/unit/config``'s and ``tests/unit/ledger``'s.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

import pytest

from agent.ipc.port import SettingWrite
from agent.sim.scenario.verbs import change_availability, cut_power, limit, restore_power
from agent.sim.scenario.world_rig import WorldRig, on_a_world_rig

CUTS = 25
LATEST_CUT_MS = 400  # an order travels, a commit takes up to 40 ms, the answer travels


@dataclass(frozen=True, slots=True)
class Kept:
    """What must outlive the cut."""

    limit_ma: int
    operative: bool
    sample_s: str


async def tell(rig: WorldRig, wanted: Kept) -> list[asyncio.Task[str]]:
    loop = asyncio.get_running_loop()
    return [
        loop.create_task(rig.do(limit(wanted.limit_ma // 1_000))),
        loop.create_task(rig.do(change_availability(wanted.operative, evse=2))),
        loop.create_task(set_sample(rig, wanted.sample_s)),
    ]


async def set_sample(rig: WorldRig, value: str) -> str:
    if rig.name.endswith("1.6"):
        answer = await rig.world.office.call("ChangeConfiguration", {"key": "MeterValueSampleInterval", "value": value})
        return answer.status
    where = {"component": {"name": "SampledDataCtrlr"}, "variable": {"name": "TxUpdatedInterval"}}
    answer = await rig.world.office.call("SetVariables", {"setVariableData": [where | {"attributeValue": value}]})
    results = answer.payload.get("setVariableResult", [{"attributeStatus": ""}])
    return str(results[0]["attributeStatus"])


async def found(rig: WorldRig) -> Kept:
    seen = await rig.look()
    assert rig.world.life is not None
    asked = SettingWrite("SampledDataCtrlr", "TxUpdatedInterval", "")
    ((_, value),) = await rig.world.life.station.service.read_settings([asked])
    assert value is not None
    limit_ma = seen.evse(1).limit_ma
    assert limit_ma is not None
    return Kept(limit_ma, seen.evse(2).state != "Unavailable", value)


async def online(rig: WorldRig) -> None:
    for _ in range(1_200):
        if (await rig.look()).online:
            return
        await rig.wait(100)
    raise AssertionError("not online again")


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
def test_field_fault_15_power_is_cut_while_settings_are_written(version: str) -> None:
    async def story(rig: WorldRig) -> set[tuple[bool, ...]]:
        chance = random.Random(version)
        before, outcomes = await found(rig), set()
        for number in range(CUTS):
            amperes = 6 + (before.limit_ma // 1_000 + 1) % 20
            told = Kept(amperes * 1_000, not before.operative, str(10 + number))
            tasks = await tell(rig, told)
            await rig.wait(chance.randrange(LATEST_CUT_MS))
            answered = [task.done() and task.result() == "Accepted" for task in tasks]
            await rig.do(cut_power())
            await rig.wait(1_000)
            await rig.do(restore_power())
            await online(rig)
            await asyncio.gather(*tasks)
            after = await found(rig)
            pairs = [
                (after.limit_ma, before.limit_ma, told.limit_ma),
                (after.operative, before.operative, told.operative),
                (after.sample_s, before.sample_s, told.sample_s),
            ]
            for is_answered, (now, was, wanted) in zip(answered, pairs, strict=True):
                assert now == wanted or (now == was and not is_answered), (number, after, before, told, answered)
            outcomes.add(tuple(now == wanted for now, _, wanted in pairs))
            before = after
        return outcomes

    outcomes = on_a_world_rig(version, story)
    assert {(False, False, False), (True, True, True)} <= outcomes, "cuts before and after the commits"
