"""16-AUTH-13, 16-CMD-04 at the whole station: a remote start, asked about or not, and where none can be."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.sim.scenario.expectations import charging, online, preparing
from agent.sim.scenario.play import expect, play, scenario
from agent.sim.scenario.verbs import (
    CARD,
    ChangeAvailability,
    CsmsAnswers,
    Message,
    Mood,
    RemoteStart,
    fault,
    plug,
    swipe,
)
from agent.sim.scenario.world_rig import WorldRig, on_a_world_rig
from agent.sim.world.wire import Wire

STRANGER = "04FFFFFFFFFFFF"
"""The site does not know this card, and the CSMS takes it unless it is told otherwise."""


def heard_frames(rig: WorldRig, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the CSMS hears from now on: actions, and "answer" for each answer to an order of its own."""
    frames: list[str] = []
    listen = rig.world.listener.heard

    def note(wire: Wire, frame: bytes, sent_s: float) -> None:
        array: list[Any] = json.loads(frame)
        frames.append(array[2] if array[0] == 2 else "answer")
        listen(wire, frame, sent_s)

    monkeypatch.setattr(rig.world.listener, "heard", note)
    return frames


async def a_car_waits(rig: WorldRig, *, checked: bool) -> None:
    await play(scenario("a car comes", expect(online()), plug(), expect(preparing())), rig)
    setting = {"key": "AuthorizeRemoteTxRequests", "value": "true" if checked else "false"}
    assert (await rig.world.office.call("ChangeConfiguration", setting)).status == "Accepted"
    await rig.wait(5_000)


@pytest.mark.parametrize("card", [CARD, STRANGER], ids=["known here", "known to nobody here"])
def test_16_auth_13_an_unchecked_remote_start_begins_at_once(card: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """16-CMD-04: and the answer goes before anything that follows from it."""

    async def story(rig: WorldRig) -> None:
        await a_car_waits(rig, checked=False)
        await rig.do(CsmsAnswers(Message.AUTHORIZE, Mood.REFUSE))
        frames = heard_frames(rig, monkeypatch)
        assert await rig.do(RemoteStart(card)) == "Accepted"
        await play(scenario("it charges", expect(charging())), rig)
        assert frames[:2] == ["answer", "StartTransaction"] and "Authorize" not in frames

    on_a_world_rig("1.6", story)


@pytest.mark.parametrize(
    ("card", "refused", "asked", "state"),
    [
        (CARD, True, False, "Charging"),  # as with a card at the reader: the site's list is asked first
        (STRANGER, False, True, "Charging"),
        (STRANGER, True, True, "Preparing"),
    ],
)
def test_16_auth_13_a_checked_remote_start_is_a_card_that_is_shown_here(
    card: str, refused: bool, asked: bool, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(rig: WorldRig) -> None:
        await a_car_waits(rig, checked=True)
        if refused:
            await rig.do(CsmsAnswers(Message.AUTHORIZE, Mood.REFUSE))
        frames = heard_frames(rig, monkeypatch)
        assert await rig.do(RemoteStart(card)) == "Accepted"
        await rig.wait(30_000)
        assert (await rig.look()).evses[0].state == state
        assert frames.count("Authorize") == asked and frames[0] == "answer"
        assert ("StartTransaction" in frames) is (state == "Charging")

    on_a_world_rig("1.6", story)


@pytest.mark.parametrize("checked", [False, True])
@pytest.mark.parametrize("why", ["charges", "unavailable", "faulted"])
def test_16_cmd_04_a_remote_start_on_a_connector_that_cannot_is_rejected(why: str, checked: bool) -> None:
    async def story(rig: WorldRig) -> None:
        await a_car_waits(rig, checked=checked)
        if why == "charges":
            await play(scenario("somebody charges", swipe(CARD), expect(charging())), rig)
        elif why == "unavailable":
            assert await rig.do(ChangeAvailability(operative=False, evse=1)) == "Accepted"
        else:
            await rig.do(fault("meter", "silent"))
            await rig.wait(60_000)
            assert (await rig.look()).evses[0].state == "Faulted"
        before = (await rig.look()).evses[0].tx_id
        assert await rig.do(RemoteStart(STRANGER)) == "Rejected"
        await rig.wait(10_000)
        assert (await rig.look()).evses[0].tx_id == before

    on_a_world_rig("1.6", story)
