"""16-AUTH-13, 16-CMD-04 at the whole station: a remote start, asked about or not, and where none can be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.config.money import Assignment
from agent.core.facts import LimitFact, TransactionFact
from agent.ipc.codec import decode_fact
from agent.ledger.reader import LedgerReader
from agent.sim.scenario.expectations import charging, online, preparing
from agent.sim.scenario.play import expect, play, scenario
from agent.sim.scenario.verbs import (
    CARD,
    ChangeAvailability,
    CsmsAnswers,
    CutPower,
    Message,
    Mood,
    RemoteStart,
    RestorePower,
    fault,
    plug,
    swipe,
)
from agent.sim.scenario.world_rig import WorldRig, on_a_world_rig
from tests.world.hearing import Frame, frames_heard

STRANGER = "04FFFFFFFFFFFF"
"""The site does not know this card, and the CSMS takes it unless it is told otherwise."""


def words(frames: list[Frame]) -> list[str]:
    """Actions, and "answer" for each answer to an order of the CSMS."""
    return [frame[2] if frame[0] == 2 else "answer" for frame in frames]


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
        frames = frames_heard(rig, monkeypatch)
        assert await rig.do(RemoteStart(card)) == "Accepted"
        await play(scenario("it charges", expect(charging())), rig)
        told = words(frames)
        assert told[:2] == ["answer", "StartTransaction"] and "Authorize" not in told

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
        frames = frames_heard(rig, monkeypatch)
        assert await rig.do(RemoteStart(card)) == "Accepted"
        await rig.wait(30_000)
        assert (await rig.look()).evses[0].state == state
        told = words(frames)
        assert told.count("Authorize") == asked and told[0] == "answer"
        assert ("StartTransaction" in told) is (state == "Charging")

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


@pytest.mark.parametrize(("version", "checked"), [("1.6", False), ("1.6", True), ("2.0.1", False)])
def test_a_remote_start_has_the_limits_and_the_price_of_its_card(version: str, checked: bool) -> None:
    """The site's list says of which group it is; what the site gives a group, it gives however its card starts."""

    async def story(rig: WorldRig) -> None:
        await rig.do(CutPower())
        config = rig.world._grounds.config
        ours = Assignment(group="household", max_energy_wh=50_000)
        tokens = tuple(replace(each, group="household") for each in config.token)
        config = replace(config, token=tokens, price=replace(config.price, assign=(ours,)))
        rig.world._grounds = replace(rig.world._grounds, config=config)
        await rig.do(RestorePower())
        await rig.wait(60_000)
        if checked:
            await a_car_waits(rig, checked=True)
        else:
            await play(scenario("a car comes", expect(online()), plug(), expect(preparing())), rig)
        assert await rig.do(RemoteStart(CARD)) == "Accepted"
        await play(scenario("it charges", expect(charging())), rig)
        await rig.wait(5_000)
        with LedgerReader(rig.world.disk.path) as reader:
            rows = [decode_fact(row.kind, row.body) for row in reader.rows(0, 1_000, kinds=["tx_started", "limit"])]
        start, limit = rows
        assert isinstance(start, TransactionFact) and isinstance(limit, LimitFact)
        assert (start.group, limit.max_energy_mwh) == ("household", 50_000_000)

    on_a_world_rig(version, story)


def test_c16_a_remote_start_with_a_master_pass_is_rejected() -> None:
    """It only stops."""

    async def story(rig: WorldRig) -> None:
        await play(scenario("a station", expect(online())), rig)
        office = rig.world.office
        variable = {"component": {"name": "AuthCtrlr"}, "variable": {"name": "MasterPassGroupId"}}
        await office.call("SetVariables", {"setVariableData": [{"attributeValue": "JANITORS", **variable}]})
        card = {"idToken": "04AABBCC", "type": "ISO14443"}
        order = {"remoteStartId": 7, "evseId": 1, "idToken": card}
        for group, status in (("JANITORS", "Rejected"), ("FAMILY", "Accepted")):
            payload = {**order, "groupIdToken": {"idToken": group, "type": "Central"}}
            assert (await office.call("RequestStartTransaction", payload)).status == status

    on_a_world_rig("2.0.1", story)
