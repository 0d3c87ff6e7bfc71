"""RPC-03, RPC-11: the whole station and a CSMS that writes null for no value, or answers what nobody can read.

A card is judged by the CSMS's last word, readable or not; and what was booked is not sent again.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.sim.scenario.expectations import all_told, available, charging, finished, offline, online, preparing
from agent.sim.scenario.play import expect, play, scenario
from agent.sim.scenario.verbs import drop_link, plug, swipe, unplug
from agent.sim.scenario.world_rig import WorldRig, on_a_world_rig
from agent.sim.world.manners import Manner
from tests.world.hearing import Frame, frames_heard, payloads

CARD = "04FFFFFFFFFFFF"  # not on the site's own list

PLUGGED = scenario("a car comes", expect(online()), plug(), expect(preparing()))
CHARGED = scenario(
    "it is charged",
    *(swipe(CARD), expect(charging()), swipe(CARD), expect(finished()), unplug(), expect(available())),
    expect(all_told()),
)
BOTH = pytest.mark.parametrize("version", ["1.6", "2.0.1"])


async def swipe_in_vain(rig: WorldRig, *, asks: int, heard: list[Frame]) -> None:
    await play(scenario("the card once more", swipe(CARD)), rig)
    await rig.wait(300_000)
    assert (await rig.look()).evses[0].state == "Preparing"
    assert len(payloads(heard, "Authorize")) == asks
    assert len(rig.world.office.book.transactions) == 1


def write_nulls(rig: WorldRig) -> None:
    mind = rig.world.office.mind
    mind.manners = replace(mind.manners, nulls=1.0)


@BOTH
def test_a_card_that_is_blocked_with_nulls_is_blocked(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache knows it from better days."""

    async def story(rig: WorldRig) -> None:
        await play(PLUGGED, rig)
        await play(CHARGED, rig)
        await play(PLUGGED, rig)
        write_nulls(rig)
        rig.world.office.mind.default_status = "Blocked"
        heard = frames_heard(rig, monkeypatch)
        await swipe_in_vain(rig, asks=1, heard=heard)

    on_a_world_rig(version, story)


@BOTH
def test_an_answer_that_nobody_can_read_starts_no_card_of_the_cache(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have been a refusal. Not when the link is lost right after it, either; the next readable one is good."""

    async def story(rig: WorldRig) -> None:
        await play(PLUGGED, rig)
        await play(CHARGED, rig)
        await play(PLUGGED, rig)
        heard = frames_heard(rig, monkeypatch)
        rig.world.office.script("Authorize", Manner.MALFORMED)
        await swipe_in_vain(rig, asks=1, heard=heard)
        await play(scenario("the link is lost", drop_link(), expect(offline())), rig)
        await swipe_in_vain(rig, asks=1, heard=heard)
        rig.world.link_up()
        await play(scenario("it is back", expect(online())), rig)
        await play(CHARGED, rig)

    on_a_world_rig(version, story)


@BOTH
def test_what_was_answered_with_nulls_is_booked_and_not_sent_again(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(rig: WorldRig) -> None:
        write_nulls(rig)
        heard = frames_heard(rig, monkeypatch)
        await play(PLUGGED, rig)
        await play(CHARGED, rig)
        [booked] = rig.world.office.book.transactions.values()
        assert not (booked.is_running or booked.repeats or booked.excused or rig.world.office.book.orphans)
        assert len(payloads(heard, "StartTransaction")) == (version == "1.6")
        events = [payload["seqNo"] for payload in payloads(heard, "TransactionEvent")]
        assert events == list(range(len(events)))

    on_a_world_rig(version, story)
