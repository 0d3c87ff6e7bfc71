"""The station goes to another CSMS while transactions are open that the one before knows: what does each hear of them?

By another address in the configuration file, so in 1.6, too; the office is one, at different addresses.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from agent.ledger.state import Namespace
from agent.sim.scenario.expectations import available, charging, finished, online, preparing
from agent.sim.scenario.play import draw, expect, play, scenario
from agent.sim.scenario.verbs import CARD, cut_power, drop_link, plug, restore_link, restore_power, swipe, unplug
from agent.sim.scenario.world_rig import WorldRig, on_a_world_rig
from tests.world.hearing import Frame, frames_heard, payloads
from tests.world.test_network_profiles import A_WHILE_MS, NEW, Moving, moving, order, profile, restart

BEGINS = scenario(
    "a charge begins",
    expect(online()),
    plug(),
    expect(preparing()),
    swipe(CARD),
    expect(charging()),
    draw(wh=1, for_ms=5_000),  # meanwhile its start is told
)
ENDS = scenario("the car leaves", swipe(CARD), expect(finished()), unplug(), expect(available()))


async def begin_and_end_unheard(rig: WorldRig) -> None:
    await play(BEGINS, rig)
    await rig.do(drop_link())
    await rig.wait(60_000)
    await play(ENDS, rig)


async def start_at(rig: WorldRig, url: str, *up: str) -> None:
    """After a power cut, with this CSMS in the file; those at ``up`` can be reached, or this one."""
    await rig.do(cut_power())
    moving(rig).name_in_file(url)
    moving(rig).up = {*up} or {url}
    moving(rig).reached.clear()
    await rig.do(restore_link())
    await rig.do(restore_power())
    await rig.wait(120_000)


def told(frames: list[Frame]) -> list[dict[str, Any]]:
    """What has come of transactions in either version, readings left out."""
    calls = payloads(frames, "StartTransaction", "StopTransaction", "TransactionEvent")
    return [each for each in calls if each.get("eventType") != "Updated"]


def number_given(rig: WorldRig) -> int:
    """By the office, which has booked one transaction."""
    assert moving(rig).life is not None
    (tx,) = moving(rig).life.station.service._archive.progress().csms_txs  # type: ignore[union-attr]
    return tx.csms_id


def test_16_tx_06_another_csms_does_not_hear_the_number_of_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """There it may be another customer's transaction."""

    async def story(rig: WorldRig) -> None:
        await begin_and_end_unheard(rig)
        frames = frames_heard(rig, monkeypatch)
        await start_at(rig, NEW)
        assert moving(rig).reached == [NEW]
        assert [each["transactionId"] for each in told(frames)] == [-1]
        assert {each["transactionId"] for each in payloads(frames, "MeterValues")} <= {-1}

    on_a_world_rig("1.6", story, Moving)


@pytest.mark.parametrize("change", [lambda url: f"{url}/", lambda url: url.replace("csms", "CSMS")])
def test_16_tx_06_the_same_csms_written_otherwise_hears_its_number(
    change: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(rig: WorldRig) -> None:
        await play(BEGINS, rig)
        number = number_given(rig)
        await rig.do(drop_link())
        await play(ENDS, rig)
        frames = frames_heard(rig, monkeypatch)
        await start_at(rig, change(moving(rig).old))
        assert [each["transactionId"] for each in told(frames)] == [number]

    on_a_world_rig("1.6", story, Moving)


def test_20_te_06_another_csms_is_told_where_a_transaction_is_that_it_never_heard_the_start_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story(rig: WorldRig) -> None:
        await begin_and_end_unheard(rig)
        frames = frames_heard(rig, monkeypatch)
        await start_at(rig, NEW)
        assert moving(rig).reached == [NEW]
        events = payloads(frames, "TransactionEvent")
        assert [each["eventType"] for each in events][-1] == "Ended"
        assert {each["evse"]["id"] for each in events} == {1}

    on_a_world_rig("2.0.1", story, Moving)


def test_16_tx_06_the_number_outlives_a_csms_that_does_not_accept_the_station(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slip in the file, put right again."""

    async def story(rig: WorldRig) -> None:
        world = moving(rig)
        await play(BEGINS, rig)
        number = number_given(rig)
        await rig.do(drop_link())
        await play(ENDS, rig)
        world.strange = {NEW}
        frames = frames_heard(rig, monkeypatch)
        await start_at(rig, NEW)
        world.network.cut()
        await rig.wait(60_000)
        assert world.reached == [NEW, NEW]
        assert told(frames) == []
        await start_at(rig, world.old)
        assert [each["transactionId"] for each in told(frames)] == [number]

    on_a_world_rig("1.6", story, Moving)


def test_16_tx_06_what_began_at_the_new_csms_has_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """And keeps it over a restart there; also what began before, when nobody had heard of it."""

    async def story(rig: WorldRig) -> None:
        await rig.do(drop_link())
        await play(scenario("unheard", plug(), expect(preparing()), swipe(CARD), expect(charging())), rig)
        await start_at(rig, NEW)
        number = number_given(rig)
        frames = frames_heard(rig, monkeypatch)
        await start_at(rig, NEW)
        await play(ENDS, rig)
        await rig.wait(10_000)
        assert [each["transactionId"] for each in told(frames)] == [number]

    on_a_world_rig("1.6", story, Moving)


def test_20_te_06_a_network_profile_that_falls_back_gives_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The new CSMS is never reached; what the old one knows it hears the end of as ever."""

    async def story(rig: WorldRig) -> None:
        world = moving(rig)
        assert await profile(rig, 2, NEW) == "Accepted"
        assert await order(rig, "2") == "RebootRequired"
        await play(BEGINS, rig)
        frames = frames_heard(rig, monkeypatch)
        await restart(rig, world.old, wait_ms=2 * A_WHILE_MS)
        assert world.reached == [world.old]
        (ended,) = told(frames)
        assert ended["eventType"] == "Ended"
        assert "evse" not in ended

    on_a_world_rig("2.0.1", story, Moving)


def test_the_csms_that_accepts_last_is_the_one_that_is_kept() -> None:
    """Though the disk is still busy with the one before when it does."""

    async def story(rig: WorldRig) -> None:
        await play(scenario("accepted", expect(online())), rig)
        world = moving(rig)
        assert world.life is not None
        service = world.life.station.service
        assert service is not None
        await asyncio.gather(*(service.link_state(True, "1.6", url) for url in (NEW, world.old)))
        assert service._archive.state(Namespace.CURSOR)["accepted by"] == world.old

    on_a_world_rig("1.6", story, Moving)
