"""A vehicle that nobody can see (its board is lost, its pilot is shorted or in state F) is believed to be there, for a
while."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.core.facts import StopReason, Token, TransactionFact, Trigger, TxKind
from agent.core.settings import Behaviour, EvseHardware, StationSettings
from agent.core.status import ConnectorState, FaultCode
from hal.ports import DUTY_F, Back, Contactor, CpState, LossKind, Lost, PilotState
from tests.support.core_world import CoreWorld

AC = EvseHardware(1, 32_000)
MODULUS_MWH = 1_000_000_000_000
NEXT = Token("NEXT")
MINUTE_MS = 60_000
PILOT = {"short": CpState.E, "error": CpState.F}


def charging(hardware: EvseHardware = AC, window_ms: int = MINUTE_MS) -> CoreWorld:
    made = CoreWorld(StationSettings(evses=(hardware,), behaviour=Behaviour(resume_window_ms=window_ms)))
    made.boot()
    made.charge()
    return made


def hide(made: CoreWorld, how: str) -> None:
    if how in PILOT:
        made.cp(1, PILOT[how])
    else:
        made.pilot(1, Lost(LossKind.SILENT, "no keep-alive"))
        made.evses[1].contactor = False  # it opens by itself


def show(made: CoreWorld, how: str, cp: CpState = CpState.C) -> None:
    """Some vehicle is there, and wants power."""
    if how == "lost":
        made.evses[1].cp = cp
        for event in (Back("again"), Contactor(made.evses[1].contactor), PilotState(cp)):
            made.pilot(1, event)
    else:
        made.cp(1, cp)
    made.run(5_000)


def ends(made: CoreWorld) -> list[TransactionFact]:
    return [fact for fact in made.transactions() if fact.kind is TxKind.ENDED]


@pytest.mark.parametrize("how", ["lost", *PILOT])
@pytest.mark.parametrize("autonomous", [False, True])
def test_after_a_long_time_out_of_sight_it_is_another_vehicle(how: str, autonomous: bool) -> None:
    made = charging(replace(AC, autonomous=autonomous))
    hide(made, how)
    made.run(MINUTE_MS + 25_000)
    [end] = ends(made)
    assert (end.trigger, end.stopped_reason) == (Trigger.ABNORMAL_CONDITION, StopReason.OTHER)
    made.run(20 * MINUTE_MS)
    show(made, how)
    assert made.state() is ConnectorState.PREPARING and not made.evses[1].contactor
    made.authorize(1, NEXT)
    made.run(2_000)
    assert made.transactions()[-1].tx_id == "tx-2" and made.state() is ConnectorState.CHARGING
    assert len(ends(made)) == 1


@pytest.mark.parametrize("how", ["lost", *PILOT])
@pytest.mark.parametrize(("window_ms", "away_ms"), [(MINUTE_MS, 59_000), (0, 29_000), (10 * MINUTE_MS, 599_000)])
def test_after_a_short_time_it_is_the_same_one(how: str, window_ms: int, away_ms: int) -> None:
    made = charging(window_ms=window_ms)
    hide(made, how)
    made.run(away_ms)
    show(made, how)
    assert made.state() is ConnectorState.CHARGING and ends(made) == []
    made.run(20 * MINUTE_MS)
    assert made.state() is ConnectorState.CHARGING and ends(made) == []


def test_a_process_that_stood_still_meanwhile_ends_it_when_the_board_is_back() -> None:
    made = charging()
    hide(made, "lost")
    made.at_ms += 20 * MINUTE_MS
    show(made, "lost")
    assert len(ends(made)) == 1 and not made.evses[1].contactor


def test_what_goes_on_after_a_register_that_began_anew_ends_all_the_same() -> None:
    made = charging(replace(AC, meter_rollover_mwh=MODULUS_MWH))
    made.cp(1, CpState.A)
    made.evses[1].energy_mwh = MODULUS_MWH - 1_000
    made.run(2_000)
    made.charge()
    hide(made, "lost")
    made.run(MINUTE_MS - 5_000)
    made.evses[1].energy_mwh = 1_000
    made.run(MINUTE_MS)
    assert len({fact.tx_id for fact in made.transactions()}) == len(ends(made))
    show(made, "lost")
    assert made.state() is ConnectorState.PREPARING


def test_it_ends_without_a_meter_and_without_a_word_of_the_contactor() -> None:
    made = charging()
    hide(made, "lost")
    made.evses[1].meter_answers = False
    made.run(2 * MINUTE_MS)
    assert [end.samples[-1].substituted for end in ends(made)] == [True]
    assert FaultCode.PILOT_LOST in made.station.evses[1].faults.active


def test_a_vehicle_that_we_wake_with_state_f_is_in_sight() -> None:
    made = CoreWorld(StationSettings(evses=(AC,)))
    made.boot()
    made.cp(1, CpState.B)
    made.authorize(1)
    seen = made.station.evses[1].vehicle
    while made.evses[1].duty != DUTY_F:
        made.run(1_000)
    made.pilot(1, PilotState(CpState.F))
    while made.evses[1].duty == DUTY_F:
        made.run(1_000)
    assert seen.departures == 0 and seen.unseen_since_ms is None
    made.cp(1, CpState.C)
    assert made.state() is ConnectorState.CHARGING and seen.departures == 0
