"""A vehicle that toggles between B and C neither wears the contactor out nor fills the ledger."""

from __future__ import annotations

import pytest

from agent.core.effects import AllowPower, OfferCurrent, StatusChanged
from agent.core.facts import ChargingState, TxKind
from agent.core.settings import EvseHardware, StationSettings
from agent.core.status import ConnectorState
from hal.ports import BoardFault, BoardFaults, Contactor, CpState, PilotState
from tests.support.core_world import CoreWorld


def world(*, autonomous: bool = False) -> CoreWorld:
    made = CoreWorld(StationSettings((EvseHardware(1, 16_000, autonomous=autonomous),)))
    made.boot()
    made.charge()
    turn(made, CpState.C)
    return made


def turn(made: CoreWorld, cp: CpState) -> None:
    """The vehicle turns to ``cp``; the relay of a board that closes by itself follows it."""
    made.cp(1, cp)
    around = made.evses[1]
    if around.hardware.autonomous:
        around.contactor = cp is CpState.C
        made.pilot(1, Contactor(around.contactor))


def chatter(made: CoreWorld, for_ms: int) -> int:
    """How often the contactor closes while the vehicle toggles every 700 ms."""
    before = len(made.log)
    end_ms = made.at_ms + for_ms
    while made.at_ms < end_ms:
        turn(made, CpState.B)
        made.run(500)
        turn(made, CpState.C)
        made.run(500)
    return sum(isinstance(each, AllowPower) and each.allowed for each in made.log[before:])


def test_ten_minutes_of_toggling_close_the_contactor_some_times_only() -> None:
    made = world()
    closures = chatter(made, 600_000)
    assert 4 <= closures <= 20
    assert sum(fact.kind is TxKind.UPDATED for fact in made.transactions()) <= 3 * closures + 20


def test_a_vehicle_that_makes_up_its_mind_is_served_within_a_minute() -> None:
    made = world()
    chatter(made, 600_000)
    made.cp(1, CpState.C)
    made.run(61_000)
    assert made.evses[1].power


def test_some_tries_are_free() -> None:
    made = world()
    assert chatter(made, 3_000) >= 2


def test_its_rest_is_our_pause_for_as_long_as_it_lasts_and_no_longer() -> None:
    made = world()
    chatter(made, 60_000)
    made.cp(1, CpState.C)
    seen = set()
    while not made.evses[1].power:
        seen.add(made.station.views()[0].charging_state)
        made.run(100)
    made.run(200)
    assert seen == {ChargingState.SUSPENDED_EVSE}
    assert made.station.views()[0].charging_state is ChargingState.CHARGING


def test_a_vehicle_that_wants_nothing_is_so_told_when_the_rest_is_over() -> None:
    made = world()
    chatter(made, 60_000)
    made.cp(1, CpState.B)
    made.run(61_000)
    assert made.transactions()[-1].charging_state is ChargingState.SUSPENDED_EV


def test_opening_never_waits() -> None:
    made = world()
    chatter(made, 120_000)
    made.cp(1, CpState.C)
    made.run(61_000)
    made.pilot(1, PilotState(CpState.B))
    assert not made.evses[1].power


def test_another_vehicle_starts_afresh() -> None:
    made = world()
    chatter(made, 600_000)
    made.cp(1, CpState.A)
    made.run(30_000)
    made.charge()
    assert made.evses[1].power


def test_a_board_that_closes_by_itself_writes_no_row_a_second_and_nobody_pays_for_idling() -> None:
    made = world(autonomous=True)
    before = len(made.transactions())
    chatter(made, 600_000)
    told = [
        fact.charging_state for fact in made.transactions()[before:] if fact.trigger.value == "ChargingStateChanged"
    ]
    assert len(told) <= 2 * (6 + 10) + 2
    assert told.count(ChargingState.SUSPENDED_EV) <= 16


def test_a_board_that_closes_by_itself_floods_nobody_with_statuses() -> None:
    made = world(autonomous=True)
    before = len(made.log)
    chatter(made, 600_000)
    told = [each.status.state for each in made.log[before:] if isinstance(each, StatusChanged)]
    assert set(told) == {ConnectorState.CHARGING, ConnectorState.SUSPENDED_EV}
    assert len(told) <= 2 * (6 + 10) + 2


def test_a_pause_that_lasts_is_told_within_a_minute() -> None:
    made = world(autonomous=True)
    chatter(made, 600_000)
    turn(made, CpState.B)
    made.run(61_000)
    assert made.transactions()[-1].charging_state is ChargingState.SUSPENDED_EV
    assert made.station.statuses()[1].state is ConnectorState.SUSPENDED_EV


@pytest.mark.parametrize("autonomous", [False, True])
def test_a_fault_that_comes_back_with_each_closing_closes_some_times_only(autonomous: bool) -> None:
    made = world(autonomous=autonomous)
    before, around = len(made.log), made.evses[1]
    for _ in range(600):
        around.contactor = around.offer_ma > 0 if autonomous else around.power
        made.pilot(1, Contactor(around.contactor))
        if around.contactor:
            made.pilot(1, BoardFaults(frozenset({BoardFault.DIODE})))
            around.contactor = False
            made.pilot(1, Contactor(False))
            made.pilot(1, BoardFaults(frozenset()))
        made.run(1_000)
    given = [each for each in made.log[before:] if isinstance(each, OfferCurrent | AllowPower)]
    assert 4 <= sum(isinstance(each, OfferCurrent) or each.allowed for each in given) <= 20
