"""Tokens at the station, on the real core: what the site allows by itself is not the CSMS's to stop."""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.auth.policy import Source
from agent.config.catalogue import key
from agent.config.load import load
from agent.config.station_model import build_device_model
from agent.core.commands import RemoteStart, Unlock
from agent.core.events import Authorized, Commanded, Event
from agent.core.facts import StopReason, Token, TxKind
from agent.core.session import SessionState
from agent.core.settings import EvseHardware, StationSettings
from agent.core.status import ConnectorState, Outcome
from agent.ipc.port import News, TokenVerdict
from agent.ledger.state import Put, StateChange
from agent.station.tokens import FREE, Tokens
from hal.ports import Back, Cable, CpState, LossKind, Lost, PilotState
from tests.support.core_world import CoreWorld

EXAMPLE = Path(__file__).parents[3] / "packaging" / "evsed.example.toml"
SITE_TOKEN = Token(tomllib.loads(EXAMPLE.read_text())["token"][0]["id"])
SOCKET = EvseHardware(1, 32_000, has_lock=True, socket=True)
ANNA = Token("CARD-OF-ANNA")


class Shell:
    """Carries out at once."""

    def __init__(self, world: CoreWorld) -> None:
        self._world = world

    def give(self, event: Event) -> None:
        self._world.give(event)

    def publish(self, news: News) -> None: ...

    def save_lazily(self, changes: Sequence[StateChange]) -> None: ...

    async def save(self, changes: Sequence[StateChange]) -> None: ...


def station(place: Path, *, free: bool = False) -> tuple[CoreWorld, Tokens]:
    """A vehicle stands there, and the CSMS can be asked."""
    text = EXAMPLE.read_text()
    assert "free = false" in text
    file = place / "evsed.toml"
    file.write_text(text.replace("free = false", f"free = {str(free).lower()}"))
    config = load(file)
    world = CoreWorld(StationSettings(evses=(SOCKET,)))
    world.boot()
    world.pilot(1, Cable(32_000))
    tokens = Tokens(config, build_device_model(config), world.station, Shell(world), {})
    tokens.link(True, "1.6")
    world.cp(1, CpState.B)
    return world, tokens


def state(world: CoreWorld) -> SessionState:
    return world.station.evses[1].flow.state


def refuse(world: CoreWorld, tokens: Tokens, token: Token) -> None:
    """The answer to StartTransaction."""
    world.cp(1, CpState.C)
    world.run(2_000)
    assert world.state() is ConnectorState.CHARGING
    tokens.verdict(token, TokenVerdict("Invalid"), request_id=None, tx_id=world.transactions()[0].tx_id)
    world.run(20_000)


@pytest.mark.parametrize("free", [False, True], ids=["token of the site", "free for all"])
def test_what_the_site_allows_goes_on_whatever_the_csms_says(free: bool, tmp_path: Path) -> None:
    world, tokens = station(tmp_path, free=free)
    if free:
        tokens.start_free_vehicles()
    else:
        assert tokens.present(SITE_TOKEN, 1) == "accepted"
    refuse(world, tokens, FREE if free else SITE_TOKEN)
    assert world.state() is ConnectorState.CHARGING and world.evses[1].power


@pytest.mark.parametrize("source", [Source.CSMS, Source.LIST, Source.CACHE, "remote"])
def test_any_other_start_the_csms_may_refuse(source: str, tmp_path: Path) -> None:
    """E05."""
    world, tokens = station(tmp_path)
    card = Token("CARD")
    world.give(Authorized(1, card, None, source=str(source)))
    refuse(world, tokens, card)
    end = world.transactions()[-1]
    assert (end.kind, end.stopped_reason) == (TxKind.ENDED, StopReason.DE_AUTHORIZED)


@pytest.mark.parametrize("by", ["nobody", "list of the site", "free for all"])
def test_a_station_that_no_csms_has_ever_accepted_starts_only_what_its_site_allows(by: str, tmp_path: Path) -> None:
    """16-BOOT-08, its first half: charging before registration is an option of the configuration, off by default."""
    world, tokens = station(tmp_path, free=by == "free for all")
    tokens.link(False, None)
    tokens.start_free_vehicles()
    said = tokens.present(SITE_TOKEN if by == "list of the site" else Token("CARD"), 1)
    world.run(2_000)
    kinds = [fact.kind for fact in world.transactions()]
    assert kinds[:1] == ([] if by == "nobody" else [TxKind.STARTED])
    assert by != "nobody" or said.startswith("refused")


@pytest.mark.parametrize(
    ("versions", "longest"),
    [('["2.0.1", "1.6"]', 20), ('["1.6"]', 20), ('["2.0.1"]', 36)],
    ids=["either", "1.6", "2.x"],
)
def test_16_auth_11_what_1_6_cuts_off_starts_nothing_before_a_link_says_the_version(
    versions: str, longest: int, tmp_path: Path
) -> None:
    """The first 20 characters of a longer token may be another customer's."""
    world, _ = station(tmp_path)
    file = tmp_path / "evsed.toml"
    file.write_text(file.read_text().replace('["2.0.1", "1.6"] ', versions))
    model = build_device_model(load(file))
    model.set(key("AuthCtrlr.OfflineTxForUnknownIdEnabled"), "true")
    alone = Tokens(load(file), model, world.station, Shell(world), {})
    assert alone.present(Token("A" * (longest + 1)), 1) == "refused: Invalid"
    assert alone.present(Token("A" * longest), 1) == "accepted"


def test_a_cable_that_was_unlocked_is_not_locked_again_by_free_charging(tmp_path: Path) -> None:
    world, tokens = station(tmp_path, free=True)
    world.evses[1].meter_answers = False
    world.run(10_000)
    tokens.start_free_vehicles()
    assert state(world) is SessionState.BEGIN_READING
    world.command(Unlock(1, end_transaction=True))
    tokens.start_free_vehicles()
    assert state(world) is SessionState.PLUGGED and not world.evses[1].locked


def test_16_tx_09_the_same_tag_gives_the_cable_back_and_starts_nothing(tmp_path: Path) -> None:
    world, tokens = station(tmp_path)
    world.give(Authorized(1, Token("AABB"), None, source=str(Source.CSMS)))
    refuse(world, tokens, Token("AABB"))
    assert world.evses[1].locked and state(world) is SessionState.FINISHED
    assert tokens.present(Token("aabb"), 1) == "cable released"
    world.run(2_000)
    assert not world.evses[1].locked and len({fact.tx_id for fact in world.transactions()}) == 1


@pytest.mark.parametrize("to_start", [True, False], ids=["StartTransaction", "StopTransaction"])
@pytest.mark.parametrize("status", ["Accepted", "Blocked"])
def test_16_auth_08_16_tx_14_the_cache_learns_from_the_answers_to_both_ends_of_a_transaction(
    status: str, to_start: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer to an end undoes no transaction of the same card that runs by then. Both are known after a restart."""
    saved: dict[str, str] = {}
    keep = {Put: lambda change: saved.update({change.key: change.value})}
    monkeypatch.setattr(Shell, "save_lazily", lambda _, changes: [keep[type(change)](change) for change in changes])
    world, tokens = station(tmp_path)
    card = Token("CARD")
    world.give(Authorized(1, card, None, source=str(Source.CSMS)))
    world.cp(1, CpState.C)
    world.run(2_000)
    tx_id = world.transactions()[0].tx_id if to_start else None
    tokens.verdict(card, TokenVerdict(status, "FAMILY"), request_id=None, tx_id=tx_id)
    world.run(20_000)
    ended = world.transactions()[-1].kind is TxKind.ENDED
    assert ended == (to_start and status == "Blocked")
    _, again = station(tmp_path)
    again = Tokens(again._config, again._model, world.station, Shell(world), saved)
    [row] = again.cached(lambda _id, _group: True)
    assert (row["id"], row["status"], row["group"]) == ("card", status, "FAMILY")


def ask(tokens: Tokens, how: str) -> None:
    """Whether Anna may charge: the CSMS is slow to say so. It is the first thing that it is asked."""
    if how == "remote start":
        tokens._model.set(key("AuthCtrlr.AuthorizeRemoteStart"), "true")
        asyncio.run(remote_start(tokens))
    else:
        tokens.verdict(ANNA, TokenVerdict("Accepted"), request_id=None, tx_id=None)
        assert tokens.present(ANNA, 1) == "asking the CSMS"


async def remote_start(tokens: Tokens) -> None:
    assert tokens.remote_start(RemoteStart(ANNA, 1, 7)).outcome is Outcome.ACCEPTED
    await asyncio.sleep(0)


def answer(world: CoreWorld, tokens: Tokens, how: str) -> None:
    if how == "link lost":
        tokens.link(False, None)  # the cache knows her
    else:
        tokens.verdict(ANNA, TokenVerdict("Accepted"), request_id=1, tx_id=None)
    world.run(1_000)


def move(world: CoreWorld, how: str) -> None:
    """One vehicle comes or goes; where nobody can see it, one goes and another comes."""
    if how == "unseen":
        world.pilot(1, Lost(LossKind.SILENT, "no keep-alive"))
        world.run(5_000)
        world.pilot(1, Back("again"))
        world.pilot(1, PilotState(CpState.B))
        world.run(30_000)
    else:
        world.pilot(1, Cable(32_000 if how == "plug" else None))
        world.cp(1, CpState.B if how == "plug" else CpState.A)


def come_back(world: CoreWorld) -> None:
    """The board is seen again, and some vehicle at it."""
    world.evses[1].cp = CpState.B
    world.boot_without_meter()
    world.pilot(1, Cable(32_000))
    world.run(30_000)


def charges_on(world: CoreWorld) -> Token | None:
    """Whose card whoever is there charges on."""
    world.run(1_000)
    world.cp(1, CpState.C)
    world.run(10_000)
    [token] = {fact.token for fact in world.transactions() if fact.kind is TxKind.STARTED} or {None}
    assert (token is not None) == (world.state() is ConnectorState.CHARGING)
    return token


@pytest.mark.parametrize("how", ["card", "link lost", "remote start"])
@pytest.mark.parametrize(
    ("before", "meanwhile", "afterwards"),
    [
        ("plug", "pull", "plug"),
        ("plug", "pull plug", ""),
        ("", "plug pull", "plug"),
        ("", "plug pull plug", ""),
        ("plug", "unseen", ""),
    ],
)
def test_a_start_is_not_for_the_next_vehicle_when_its_own_has_left_before_the_answer(
    how: str, before: str, meanwhile: str, afterwards: str, tmp_path: Path
) -> None:
    """C01, 16-AUTH-13: Anna has left by the time the CSMS says that she may charge, and Bob has plugged in."""
    world, tokens = station(tmp_path)
    move(world, before or "pull")
    ask(tokens, how)
    for each in meanwhile.split():
        move(world, each)
    answer(world, tokens, how)
    assert state(world) is (SessionState.IDLE if afterwards else SessionState.PLUGGED)
    if afterwards:
        move(world, afterwards)
    assert charges_on(world) is None
    [known] = tokens.cached(lambda _id, _group: True)
    assert known["status"] == "Accepted", "a late answer is worth knowing all the same"


@pytest.mark.parametrize("how", ["card", "link lost", "remote start"])
@pytest.mark.parametrize("answered", ["before the plug", "after it"])
def test_a_card_that_is_held_up_before_the_plug_is_good_for_the_vehicle_that_comes(
    answered: str, how: str, tmp_path: Path
) -> None:
    world, tokens = station(tmp_path)
    move(world, "pull")
    ask(tokens, how)
    world.run(100_000)
    if answered == "before the plug":
        answer(world, tokens, how)
    move(world, "plug")
    world.run(20_000)
    if answered == "after it":
        answer(world, tokens, how)
    assert charges_on(world) == ANNA


def test_a_late_answer_is_good_for_a_vehicle_that_waited_for_it(tmp_path: Path) -> None:
    """A contact that chatters is no vehicle that leaves."""
    world, tokens = station(tmp_path)
    ask(tokens, "card")
    world.run(300_000)
    for cp in (CpState.A, CpState.B):
        world.pilot(1, PilotState(cp))
        world.run(50)
    answer(world, tokens, "card")
    assert charges_on(world) == ANNA


@pytest.mark.parametrize(("before", "lost_ms"), [("plug", 50), ("plug", 1_500), ("pull", 50), ("pull", 60_000)])
@pytest.mark.parametrize("how", ["card", "link lost", "remote start"])
def test_a_board_that_is_lost_for_a_moment_or_with_nobody_there_drops_no_answer(
    before: str, lost_ms: int, how: str, tmp_path: Path
) -> None:
    """A damaged frame is no vehicle that leaves, and where nobody is, nobody leaves."""
    world, tokens = station(tmp_path)
    move(world, before)
    ask(tokens, how)
    world.pilot(1, Lost(LossKind.GARBAGE, "a damaged frame"))
    world.run(lost_ms)
    come_back(world)
    answer(world, tokens, how)
    assert charges_on(world) == ANNA


def test_an_answer_starts_nothing_while_nobody_sees_whether_its_vehicle_is_there(tmp_path: Path) -> None:
    """Nor for whoever is there once the board is back."""
    world, tokens = station(tmp_path)
    ask(tokens, "card")
    world.pilot(1, Lost(LossKind.SILENT, "no keep-alive"))
    world.run(5_000)
    answer(world, tokens, "card")
    come_back(world)
    assert charges_on(world) is None


def test_a_card_is_good_that_was_held_up_before_the_board_had_spoken(tmp_path: Path) -> None:
    """Whoever stands there while the station starts."""
    _, booted = station(tmp_path)
    world = CoreWorld(StationSettings(evses=(SOCKET,)))
    tokens = Tokens(booted._config, booted._model, world.station, Shell(world), {})
    tokens.link(True, "1.6")
    ask(tokens, "card")
    world.boot()
    move(world, "plug")
    answer(world, tokens, "card")
    assert charges_on(world) == ANNA


def test_a_card_that_waits_at_the_wrong_side_is_taken_back_by_showing_it_again(tmp_path: Path) -> None:
    """Anna took the wrong side first. Whoever plugs in there next, and shows no card, charges on nobody's."""
    station(tmp_path)
    config = load(tmp_path / "evsed.toml")
    world = CoreWorld(StationSettings(evses=(EvseHardware(1, 32_000), EvseHardware(2, 32_000))))
    world.boot()
    tokens = Tokens(config, build_device_model(config), world.station, Shell(world), {})
    assert tokens.present(SITE_TOKEN, 1) == "accepted"
    world.run(2_000)
    assert tokens.present(SITE_TOKEN, 1) == "waiting for the vehicle", "a reader may tell a card twice"
    world.run(3_000)
    assert tokens.present(ANNA, 1) == "not available now", "nobody else takes it back"
    assert world.state(1) is ConnectorState.PREPARING
    assert tokens.present(Token(SITE_TOKEN.id_token.lower()), 1) == "taken back: nothing starts here"
    world.run(1_000)
    assert (state(world), world.state(1)) == (SessionState.IDLE, ConnectorState.AVAILABLE)
    assert tokens.present(SITE_TOKEN, 2) == "accepted"
    for evse in (2, 1):
        world.cp(evse, CpState.C)
        world.run(5_000)
    assert (world.state(1), world.state(2)) == (ConnectorState.PREPARING, ConnectorState.CHARGING)
    assert tokens.present(SITE_TOKEN, 1) == "accepted", "and it may be shown once more"
    world.run(5_000)
    assert world.state(1) is ConnectorState.CHARGING


@pytest.mark.parametrize("checked", [False, True])
def test_a_card_does_not_take_a_remote_start_back(checked: bool, tmp_path: Path) -> None:
    """The hotline starts with the customer's number, and he holds up his card before he plugs in."""
    station(tmp_path)
    config = load(tmp_path / "evsed.toml")
    world = CoreWorld(StationSettings(evses=(EvseHardware(1, 32_000),)))
    world.boot()
    tokens = Tokens(config, build_device_model(config), world.station, Shell(world), {})
    order = RemoteStart(evse=1, token=SITE_TOKEN, remote_start_id=7)
    if checked:
        assert tokens.remote_start(order).outcome is Outcome.ACCEPTED
    else:
        world.give(Commanded(1, order))
    world.run(5_000)
    assert tokens.present(SITE_TOKEN, 1) == "waiting for the vehicle"
    world.cp(1, CpState.C)
    world.run(5_000)
    assert world.state(1) is ConnectorState.CHARGING
