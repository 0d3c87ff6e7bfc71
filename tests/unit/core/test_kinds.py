"""The other kinds of EVSE: autonomous board, DC with bench profile, board without mirror contact."""

from __future__ import annotations

import pytest

from agent.core.commands import RemoteStart, RemoteStop
from agent.core.effects import Answer, DisableBoard, OfferCurrent, StopOffer, SwitchOutput
from agent.core.events import DcDemand, LimitSet
from agent.core.facts import StopReason, Token, TxKind
from agent.core.session import SessionState
from agent.core.settings import DcBench, EvseHardware, StationSettings
from agent.core.status import ConnectorState, FaultCode, Outcome
from hal.ports import (
    Back,
    BoardFault,
    BoardFaults,
    Contactor,
    CpState,
    LossKind,
    Lost,
    PilotCapabilities,
    PilotState,
)
from tests.support.core_world import CoreWorld

AUTONOMOUS = EvseHardware(evse=1, hard_limit_ma=32_000, autonomous=True)
DC = EvseHardware(evse=1, hard_limit_ma=50_000, min_current_ma=1_000, dc=True, dc_bench=DcBench(400_000, 40_000))
BLIND = EvseHardware(evse=1, hard_limit_ma=32_000, has_contactor_feedback=False)


def world(*hardware: EvseHardware) -> CoreWorld:
    made = CoreWorld(StationSettings(evses=hardware))
    made.boot()
    return made


def test_autonomous_board_is_offered_current_only_inside_a_transaction() -> None:
    made = world(AUTONOMOUS)
    made.cp(1, CpState.B)
    assert made.evses[1].offer_ma == 0
    made.authorize(1)
    assert OfferCurrent(1, 32_000) in made.log and made.transactions()[0].kind is TxKind.STARTED
    made.evses[1].contactor = True
    made.pilot(1, PilotState(CpState.C))
    made.pilot(1, Contactor(True))
    assert made.state() is ConnectorState.CHARGING
    made.give(LimitSet(1, 16_000))
    assert made.log[-1] == OfferCurrent(1, 16_000) or OfferCurrent(1, 16_000) in made.log


def charging_autonomous() -> CoreWorld:
    made = world(AUTONOMOUS)
    made.cp(1, CpState.B)
    made.authorize(1)
    made.evses[1].contactor = True
    made.pilot(1, PilotState(CpState.C))
    made.evses[1].cp = CpState.C
    made.pilot(1, Contactor(True))
    made.run(1_000)
    return made


def test_autonomous_board_stops_gently_then_hard() -> None:
    made = charging_autonomous()
    made.evses[1].contactor_follows = False
    made.command(RemoteStop(made.transactions()[0].tx_id))
    assert made.log[-1] != DisableBoard(1) and StopOffer(1) in made.log
    made.run(6_100)
    assert DisableBoard(1) in made.log, "a vehicle that goes on drawing is cut off"
    made.evses[1].contactor_follows = True
    made.evses[1].contactor = False
    made.pilot(1, Contactor(False))
    made.run(500)
    assert made.transactions()[-1].kind is TxKind.ENDED


def test_autonomous_board_fault_disables_at_once() -> None:
    made = charging_autonomous()
    made.evses[1].contactor_follows = False
    effects = made.pilot(1, BoardFaults(frozenset({BoardFault.RESIDUAL_CURRENT})))
    assert effects[0] == DisableBoard(1)


def test_autonomous_board_closed_at_boot_is_opened() -> None:
    """The station died in mid-charge; the board went on at its fallback current."""
    made = CoreWorld(StationSettings(evses=(AUTONOMOUS,)))
    made.evses[1].cp, made.evses[1].contactor = CpState.C, True
    made.boot()
    assert DisableBoard(1) in made.log and not made.evses[1].contactor


def test_dc_output_follows_contactor_and_goes_first() -> None:
    made = world(DC)
    made.cp(1, CpState.B)
    made.authorize(1)
    assert made.evses[1].duty == 500, "5 % duty"
    made.cp(1, CpState.C)
    assert made.evses[1].output_on and made.evses[1].output == (400_000, 40_000)
    effects = made.pilot(1, PilotState(CpState.B))
    assert effects[0] == SwitchOutput(1, False)
    assert not made.evses[1].power


def test_dc_limit_and_demand_bound_the_set_point() -> None:
    made = world(DC)
    made.charge()
    made.give(LimitSet(1, 25_000))
    assert made.evses[1].output == (400_000, 25_000)
    made.give(DcDemand(1, 380_000, 10_000))
    assert made.evses[1].output == (380_000, 10_000)


def test_dc_board_lost_switches_the_module_off() -> None:
    made = world(DC)
    made.charge()
    assert SwitchOutput(1, False) in made.pilot(1, Lost(LossKind.GONE, "unplugged"))


def test_weld_is_found_by_the_meter_where_no_mirror_contact_is() -> None:
    made = world(BLIND)
    made.charge()
    made.run(3_000)
    made.evses[1].contactor_welded = True
    made.evses[1].contactor_follows = False
    made.pilot(1, PilotState(CpState.B))
    made.run(10_000)
    assert FaultCode.CONTACTOR_WELDED in made.station.views()[0].faults


def can_do(max_current_ma: int) -> PilotCapabilities:
    return PilotCapabilities(
        autonomous=False,
        has_lock=False,
        has_contactor_feedback=True,
        can_signal_digital=True,
        max_current_ma=max_current_ma,
        supervision_ms=5_000,
    )


def test_a_board_is_never_asked_for_more_than_it_says_it_can() -> None:
    made = world(EvseHardware(evse=1, hard_limit_ma=32_000))
    made.pilot(1, can_do(16_000))
    made.charge()
    assert made.evses[1].duty == 2_666
    made.pilot(1, can_do(10_000))
    assert made.evses[1].duty == 1_666, "at once"
    made.pilot(1, can_do(63_000))
    made.run(6_000)
    assert made.evses[1].duty == 5_333, "the description still holds"


def test_a_dc_output_is_not_limited_by_what_the_pilot_board_says_for_ac() -> None:
    made = world(DC)
    made.pilot(1, can_do(32_000))
    made.charge()
    assert made.evses[1].output == (400_000, 40_000)


def test_weld_is_found_by_the_meter_where_a_board_tells_only_what_it_commands() -> None:
    made = charging_autonomous()
    made.evses[1].contactor_follows = False
    made.evses[1].current_ma = 10_000
    made.command(RemoteStop(made.transactions()[0].tx_id))
    made.pilot(1, Contactor(False))  # so it says, and the vehicle goes on drawing
    made.run(10_000)
    assert FaultCode.CONTACTOR_WELDED in made.station.views()[0].faults


def test_stuck_contactor_ends_the_session() -> None:
    made = world(EvseHardware(evse=1, hard_limit_ma=32_000))
    made.evses[1].contactor_follows = False
    made.charge()
    made.run(3_000)
    assert FaultCode.CONTACTOR_OPEN in made.station.views()[0].faults
    assert made.transactions()[-1].stopped_reason is StopReason.OTHER


def test_d_without_ventilation_gets_no_power_and_with_it_does() -> None:
    for ventilation in (False, True):
        made = world(EvseHardware(evse=1, hard_limit_ma=32_000, ventilation=ventilation))
        made.charge()
        made.cp(1, CpState.D)
        assert made.evses[1].power is ventilation
        made.run(10_000)
        assert made.evses[1].power is ventilation


def test_two_evses_do_not_touch_each_other() -> None:
    first, second = (EvseHardware(evse=n, hard_limit_ma=32_000) for n in (1, 2))
    made = world(first, second)
    made.charge(1)
    made.pilot(2, BoardFaults(frozenset({BoardFault.DIODE})))
    assert made.evses[1].power and made.state(2) is ConnectorState.FAULTED
    made.pilot(2, BoardFaults(frozenset()))
    made.run(2_000)
    made.cp(2, CpState.B)
    effects = made.command(RemoteStart(Token("ABCD", "Central"), None))
    assert made.answers(effects) == [Answer(7, Outcome.ACCEPTED)]
    assert made.transactions()[-1].evse == 2


def test_a_remote_start_is_answered_before_it_does_anything() -> None:
    """16-CMD-04."""
    made = world(EvseHardware(evse=1, hard_limit_ma=32_000, has_lock=True))
    made.cp(1, CpState.B)
    effects = made.command(RemoteStart(Token("ABCD", "Central"), 1))
    assert effects[0] == Answer(7, Outcome.ACCEPTED)
    assert made.transactions()[-1].kind is TxKind.STARTED and made.evses[1].locked


A, B, C = CpState.A, CpState.B, CpState.C
DONE, STAYED, HIDDEN = "done", "there since before the start", "out of sight for long in mid-charge"


@pytest.mark.parametrize(
    "standing, chosen",
    [
        ((STAYED, A), None),
        ((STAYED, B), None),
        ((STAYED, C), None),
        ((STAYED, STAYED), None),
        ((STAYED,), 1),
        ((HIDDEN, A), 2),
        ((HIDDEN, B), 2),
        ((HIDDEN, C), None),
        ((HIDDEN, HIDDEN), None),
        ((DONE, A), 2),
        ((DONE, B), 2),
        ((DONE, DONE), None),
        ((DONE, C), None),
        ((A, C), 1),
        ((A, B), 2),
        ((B, A), 1),
        ((A, A), None),
        ((B, B), None),
        ((DONE,), 1),
        ((A,), 1),
    ],
)
def test_a_remote_start_that_names_no_evse_begins_where_only_one_can_be_meant(
    standing: tuple[CpState | str, ...], chosen: int | None
) -> None:
    """16-CMD-04. A vehicle that is done, or that nobody saw come, may be anybody's; where there is one EVSE only, it is
    meant."""
    made = CoreWorld(StationSettings(tuple(EvseHardware(n, 32_000) for n, _ in enumerate(standing, 1))))
    for evse, how in enumerate(standing, 1):
        made.evses[evse].cp = C if how is STAYED else A
    made.boot()
    for evse, how in enumerate(standing, 1):
        if how in (C, DONE, HIDDEN):
            made.charge(evse)
        elif isinstance(how, CpState):
            made.cp(evse, how)
        if how is DONE:
            made.command(RemoteStop(made.transactions()[-1].tx_id))
            made.run(10_000)
        elif how is HIDDEN:
            made.pilot(evse, Lost(LossKind.SILENT, "no keep-alive"))
            made.evses[evse].contactor = False
            made.run(90_000)
            for event in (Back("again"), Contactor(False), PilotState(C)):
                made.pilot(evse, event)
    free = [n for n, evse in made.station.evses.items() if not evse.flow.engaged]
    [answer] = made.answers(made.command(RemoteStart(Token("ABCD", "Central"), None)))
    assert answer.outcome is (Outcome.REJECTED if chosen is None else Outcome.ACCEPTED)
    flows = {n: made.station.evses[n].flow for n in free}
    begun = [n for n, flow in flows.items() if flow.engaged or flow.state is SessionState.WAITING]
    assert begun == ([] if chosen is None else [chosen])


def test_a_remote_start_that_names_no_evse_does_not_begin_where_a_vehicle_may_be() -> None:
    """Its board has not spoken since the start."""
    made = CoreWorld(StationSettings((EvseHardware(1, 32_000), EvseHardware(2, 32_000))))
    for event in (Back("board"), Contactor(False), PilotState(C)):
        made.pilot(1, event)
    [answer] = made.answers(made.command(RemoteStart(Token("ABCD", "Central"), None)))
    assert answer.outcome is Outcome.REJECTED
