"""B11, G03, G04: resets with nobody there, and availability on its levels: the worst of station and EVSE holds."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from agent.core.commands import ChangeAvailability, RemoteStart, Reset
from agent.core.effects import Restart, SaveAvailability
from agent.core.settings import EvseHardware, StationSettings
from agent.core.status import ConnectorState as S
from agent.core.status import Outcome
from hal.ports import CpState
from tests.support.core_world import TOKEN, CoreWorld

AC = EvseHardware(evse=1, hard_limit_ma=32_000, has_lock=True)


def two_evses(settings: StationSettings | None = None) -> CoreWorld:
    made = CoreWorld(settings or StationSettings(evses=(AC, replace(AC, evse=2))))
    made.boot()
    return made


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("immediate", [False, True], ids=["OnIdle", "Immediate"])
@pytest.mark.parametrize("plugged", [False, True])
def test_b11_a_reset_without_a_transaction_is_done_at_once(immediate: bool, hard: bool, plugged: bool) -> None:
    """A vehicle that only stands there is none. The reason of the boot that follows is the CSMS's order."""
    made = two_evses()
    if plugged:
        made.cp(2, CpState.B)
    effects = made.command(Reset(immediate=immediate, hard=hard))
    assert [answer.outcome for answer in made.answers(effects)] == [Outcome.ACCEPTED]
    assert [effect for effect in effects if isinstance(effect, Restart)] == [Restart("RemoteReset")]
    assert made.facts == []


@pytest.mark.parametrize("immediate", [False, True], ids=["OnIdle", "Immediate"])
@pytest.mark.parametrize("busy", [False, True])
def test_b11_b12_an_evse_alone_is_not_reset(immediate: bool, busy: bool) -> None:
    """There is no AllowReset: Rejected, and nothing is stopped, here or next to it."""
    made = two_evses()
    if busy:
        made.charge()
    effects = made.command(Reset(immediate=immediate, hard=immediate, evse=1)) + made.run(30_000)
    assert [answer.outcome for answer in made.answers(effects)] == [Outcome.REJECTED]
    assert not any(isinstance(effect, Restart) for effect in effects)
    assert made.state() is (S.CHARGING if busy else S.AVAILABLE)
    assert made.station.accepts_start(2)


def test_b12_on_idle_waits_for_every_evse_and_the_one_that_becomes_free_takes_nobody() -> None:
    made = two_evses()
    made.charge(1)
    made.charge(2)
    assert made.answers(made.command(Reset(immediate=False)))[0].outcome is Outcome.SCHEDULED
    made.cp(1, CpState.A)
    made.run(5_000)
    assert not any(isinstance(effect, Restart) for effect in made.log)
    made.cp(1, CpState.B)
    made.authorize(1)
    assert made.answers(made.command(RemoteStart(TOKEN, 1)))[0].outcome is Outcome.REJECTED
    made.run(5_000)
    assert {fact.evse for fact in made.transactions() if fact.seq_no == 0} == {1, 2}
    assert len({fact.tx_id for fact in made.transactions()}) == 2
    made.cp(2, CpState.A)
    made.run(5_000)
    assert any(isinstance(effect, Restart) for effect in made.log)


@pytest.mark.parametrize(("station", "first", "second"), list(product([True, False], repeat=3)))
@pytest.mark.parametrize("restarted", [False, True])
def test_g03_g04_the_worst_of_station_and_evse_holds(station: bool, first: bool, second: bool, restarted: bool) -> None:
    """In whatever order they are told, and from what is kept after a restart."""
    made = two_evses()
    for evse, operative in ((1, first), (None, station), (2, second)):
        effects = made.command(ChangeAvailability(operative, evse))
        assert made.answers(effects)[0].outcome is Outcome.ACCEPTED
        assert SaveAvailability(evse, operative) in effects
    if restarted:
        kept = {effect.evse: effect.operative for effect in made.log if isinstance(effect, SaveAvailability)}
        inoperative = frozenset(evse for evse in (1, 2) if not kept[evse])
        settings = StationSettings((AC, replace(AC, evse=2)), operative=kept[None], inoperative_evses=inoperative)
        made = two_evses(settings)
    for evse, own in ((1, first), (2, second)):
        assert made.state(evse) is (S.AVAILABLE if station and own else S.UNAVAILABLE)
        assert made.station.accepts_start(evse) is (station and own)


def test_g03_g04_a_station_that_is_taken_into_service_again_leaves_an_evse_out_of_it() -> None:
    made = two_evses()
    made.command(ChangeAvailability(False, 1))
    made.command(ChangeAvailability(False))
    assert [made.state(evse) for evse in (1, 2)] == [S.UNAVAILABLE, S.UNAVAILABLE]
    made.command(ChangeAvailability(True))
    assert [made.state(evse) for evse in (1, 2)] == [S.UNAVAILABLE, S.AVAILABLE]
