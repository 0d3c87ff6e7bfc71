"""Tokens at the station, on the real core: what the site allows by itself is not the CSMS's to stop."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.auth.policy import Source
from agent.config.load import load
from agent.config.station_model import build_device_model
from agent.core.commands import Unlock
from agent.core.events import Authorized, Event
from agent.core.facts import StopReason, Token, TxKind
from agent.core.session import SessionState
from agent.core.settings import EvseHardware, StationSettings
from agent.core.status import ConnectorState
from agent.ipc.port import News, TokenVerdict
from agent.ledger.state import StateChange
from agent.station.tokens import FREE, Tokens
from hal.ports import Cable, CpState
from tests.support.core_world import CoreWorld

EXAMPLE = Path(__file__).parents[3] / "packaging" / "evsed.example.toml"
SITE_TOKEN = Token(tomllib.loads(EXAMPLE.read_text())["token"][0]["id"])
SOCKET = EvseHardware(1, 32_000, has_lock=True, socket=True)


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


def test_a_cable_that_was_unlocked_is_not_locked_again_by_free_charging(tmp_path: Path) -> None:
    world, tokens = station(tmp_path, free=True)
    world.evses[1].meter_answers = False
    world.run(10_000)
    tokens.start_free_vehicles()
    assert state(world) is SessionState.BEGIN_READING
    world.command(Unlock(1, end_transaction=True))
    tokens.start_free_vehicles()
    assert state(world) is SessionState.PLUGGED and not world.evses[1].locked
