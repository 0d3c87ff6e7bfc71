"""A station whose CSMS is gone for good: what that had ordered, a technician at the machine takes back."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from agent.core.commands import ChangeAvailability
from agent.core.facts import LogEntry, LogFact
from agent.ipc.codec import decode_fact
from agent.ipc.profiles import ProfileOutcome
from agent.ledger.reader import LedgerReader
from agent.sim.scenario import verbs
from agent.sim.scenario.verbs import STATION
from agent.sim.scenario.world_rig import WorldRig, on_a_world_rig
from agent.sim.world.site import LOCAL_TOKEN
from agent.station.service import StationService

BY = ("by", "technician as root, command line")


def service(rig: WorldRig) -> StationService:
    assert rig.world.life is not None
    return rig.world.life.station.service


async def end_of_the_contract(rig: WorldRig) -> None:
    """No ``[csms]`` any more, from the next start on. Then somebody comes whose card the site knows."""
    await rig.do(verbs.CutPower())
    grounds = rig.world._grounds
    rig.world._grounds = replace(grounds, config=replace(grounds.config, csms=None))
    rig.world.link_down(silently=False)
    await rig.do(verbs.RestorePower())
    await rig.wait(120_000)
    await rig.do(verbs.Plug(1))
    await rig.wait(30_000)
    await rig.do(verbs.Swipe(LOCAL_TOKEN, 1))
    await rig.wait(30_000)


async def charges_before_and_after_a_restart(rig: WorldRig) -> None:
    await rig.wait(30_000)
    assert (await rig.look()).evses[0].state == "Charging"
    await rig.do(verbs.Kill(STATION))
    await rig.wait(60_000)
    assert (await rig.look()).evses[0].state == "Charging"


def logged(rig: WorldRig) -> list[LogFact]:
    with LedgerReader(rig.world.disk.path) as reader:
        facts = [decode_fact(row.kind, row.body) for row in reader.rows(0, 1_000, kinds=["log"])]
    return [fact for fact in facts if isinstance(fact, LogFact) and BY in fact.details]


@pytest.mark.parametrize("evse", [None, 1])
def test_out_of_service_is_undone_for_good(evse: int | None) -> None:
    async def story(rig: WorldRig) -> None:
        assert await rig.do(verbs.ChangeAvailability(operative=False, evse=evse or 0)) == "Accepted"
        await end_of_the_contract(rig)
        assert (await rig.look()).evses[0].state == "Unavailable"
        await service(rig).command(ChangeAvailability(operative=True, evse=evse, who=BY[1]))
        await rig.do(verbs.Swipe(LOCAL_TOKEN, 1))
        await charges_before_and_after_a_restart(rig)
        assert logged(rig) == [LogFact(LogEntry.AVAILABILITY_CHANGED, evse, (("operative", "yes"), BY))]

    on_a_world_rig("1.6", story)


def test_a_limit_is_undone_for_good() -> None:
    async def story(rig: WorldRig) -> None:
        assert await rig.do(verbs.Limit(0)) == "Accepted"
        await end_of_the_contract(rig)
        assert (await rig.look()).evses[0].state == "SuspendedEVSE"
        assert (await service(rig).clear_profiles({}, BY[1])).outcome is ProfileOutcome.ACCEPTED
        await charges_before_and_after_a_restart(rig)
        assert (await service(rig).clear_profiles({}, BY[1])).outcome is ProfileOutcome.UNKNOWN
        assert logged(rig) == [LogFact(LogEntry.PROFILES_CLEARED, None, (BY,))]

    on_a_world_rig("1.6", story)


def test_a_default_tariff_prices_nobody_any_more_and_can_be_removed() -> None:
    async def story(rig: WorldRig) -> None:
        old = {"tariffId": "of-the-csms", "currency": "EUR", "energy": {"prices": [{"priceKwh": 0.79}]}}
        assert await service(rig).set_default_tariff(0, json.dumps(old)) == "Accepted"
        assert (await service(rig).status()).prices[0].tariff_id == "of-the-csms"
        await end_of_the_contract(rig)
        status = await service(rig).status()
        assert status.evses[0].state == "Charging" and status.prices[0].tariff_id != "of-the-csms"
        assert await service(rig).clear_tariffs([], None, BY[1]) == [("of-the-csms", "Accepted")]
        assert await service(rig).clear_tariffs([], None, BY[1]) == []
        await charges_before_and_after_a_restart(rig)
        assert await service(rig).tariffs(0) == []
        assert logged(rig) == [LogFact(LogEntry.TARIFFS_CLEARED, None, (BY,))]

    on_a_world_rig("1.6", story)
