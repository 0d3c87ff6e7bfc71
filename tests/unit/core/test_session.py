"""Sessions of an AC EVSE with a board that obeys, walked through the pure core."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.core.commands import ChangeAvailability, RemoteStart, RemoteStop, Reset, Unlock
from agent.core.effects import AllowPower, Append, Restart, SaveAvailability, SetDuty
from agent.core.events import Deauthorized, FromMeter, LimitSet, LinkChanged
from agent.core.facts import StopReason, Trigger, TxKind
from agent.core.session import SessionState
from agent.core.settings import Behaviour, EvseHardware, StationSettings
from agent.core.status import ConnectorState, FaultCode, Outcome
from hal.ports import Back, BoardFault, BoardFaults, Contactor, CpState, LossKind, Lost, PilotState
from tests.support.core_world import TOKEN, CoreWorld, cable

S = ConnectorState
AC = EvseHardware(evse=1, hard_limit_ma=32_000, has_lock=True)


def world(hardware: EvseHardware = AC, behaviour: Behaviour | None = None) -> CoreWorld:
    made = CoreWorld(StationSettings(evses=(hardware,), behaviour=behaviour or Behaviour()))
    made.boot()
    return made


def kinds(made: CoreWorld) -> list[TxKind]:
    return [fact.kind for fact in made.transactions()]


def test_plug_authorize_charge_unplug_is_one_transaction_with_whole_readings() -> None:
    made = world()
    begin_mwh = made.evses[1].energy_mwh
    made.charge()
    made.run(30_000)
    made.cp(1, CpState.B)
    made.cp(1, CpState.A)
    made.run(1_000)
    facts = made.transactions()
    assert facts[0].kind is TxKind.STARTED and facts[0].token == TOKEN
    assert facts[0].samples[-1].energy_import_mwh == begin_mwh
    assert facts[-1].kind is TxKind.ENDED and facts[-1].stopped_reason is StopReason.EV_DISCONNECTED
    assert facts[-1].samples[-1].energy_import_mwh == made.evses[1].energy_mwh > begin_mwh
    assert [fact.seq_no for fact in facts] == list(range(len(facts)))
    assert made.statuses[1] == [S.AVAILABLE, S.PREPARING, S.CHARGING, S.SUSPENDED_EV, S.FINISHING, S.AVAILABLE]


def test_no_pwm_and_no_power_before_the_start_row_is_durable() -> None:
    made = world()
    made.ledger_answers = False
    made.cp(1, CpState.B)
    made.authorize(1)
    made.cp(1, CpState.C)
    made.run(60_000)
    assert made.evses[1].duty == 10_000 and not made.evses[1].power
    made.ledger_answers = True
    made.write()
    made.run(200)
    assert made.evses[1].power and made.evses[1].duty == 32_000 // 6


def test_power_goes_in_the_same_step_in_which_the_vehicle_leaves_c() -> None:
    made = world()
    made.charge()
    effects = made.pilot(1, PilotState(CpState.B))
    assert effects[0] == AllowPower(1, False)


def test_token_before_plug_waits_and_times_out() -> None:
    """E03, 16-AUTH-14."""
    made = world()
    made.authorize(1)
    assert made.state() is S.PREPARING
    made.run(119_000)
    assert made.state() is S.PREPARING
    made.run(2_000)
    assert made.state() is S.AVAILABLE and made.facts == []


def test_token_before_plug_starts_at_plug() -> None:
    made = world()
    made.authorize(1)
    made.cp(1, CpState.B)
    assert kinds(made) == [TxKind.STARTED]
    assert made.transactions()[0].trigger is Trigger.CABLE_PLUGGED_IN


def test_normal_stop_takes_pwm_first_and_opens_when_the_vehicle_has_stopped() -> None:
    made = world()
    made.charge()
    tx_id = made.transactions()[0].tx_id
    effects = made.command(RemoteStop(tx_id))
    assert made.answers(effects)[0].outcome is Outcome.ACCEPTED
    assert made.evses[1].duty == 10_000 and made.evses[1].power, "PWM goes first, the contactor waits"
    made.cp(1, CpState.B)
    made.run(1_000)
    assert not made.evses[1].power
    assert made.transactions()[-1].stopped_reason is StopReason.REMOTE
    assert made.state() is S.FINISHING and not made.evses[1].locked


def test_vehicle_that_ignores_the_missing_pwm_is_cut_off_after_six_seconds() -> None:
    made = world()
    made.charge()
    made.command(RemoteStop(made.transactions()[0].tx_id))
    made.run(5_900)
    assert made.evses[1].power
    made.run(200)
    assert not made.evses[1].power
    assert made.transactions()[-1].kind is TxKind.ENDED


def test_end_reading_is_taken_after_the_contactor_opened() -> None:
    """Field fault 12."""
    made = world()
    made.charge()
    made.evses[1].contactor_follows = False
    made.cp(1, CpState.B)
    made.cp(1, CpState.A)
    assert made.station.evses[1].flow.state is SessionState.RELEASING
    made.evses[1].energy_mwh += 5_000  # flows until the contactor is really open
    made.pilot(1, Contactor(False))
    made.run(100)
    assert made.transactions()[-1].samples[-1].energy_import_mwh == made.evses[1].energy_mwh


def test_mute_meter_at_the_end_gives_the_last_good_value_marked() -> None:
    made = world()
    made.charge()
    last_mwh = made.station.evses[1].reading
    made.evses[1].meter_answers = False
    made.cp(1, CpState.A)
    made.run(6_000)
    end = made.transactions()[-1].samples[-1]
    assert last_mwh is not None and end.energy_import_mwh == last_mwh.energy_import_mwh and end.substituted


def test_mute_meter_at_the_start_means_no_transaction() -> None:
    made = world()
    made.evses[1].meter_answers = False
    made.run(4_000)
    made.cp(1, CpState.B)
    made.authorize(1)
    made.run(6_000)
    assert made.facts == [] and made.state() is S.PREPARING
    made.evses[1].meter_answers = True
    made.authorize(1)
    assert kinds(made) == [TxKind.STARTED]


def test_unplug_while_the_start_row_is_being_written_ends_it_at_once() -> None:
    made = world()
    made.ledger_answers = False
    made.cp(1, CpState.B)
    made.authorize(1)
    made.cp(1, CpState.A)
    made.ledger_answers = True
    made.write()
    made.run(500)
    assert kinds(made) == [TxKind.STARTED, TxKind.ENDED]
    assert made.state() is S.AVAILABLE


@pytest.mark.parametrize("limit_ma, duty", [(16_000, 2_666), (6_000, 1_000), (5_999, 10_000), (0, 10_000)])
def test_limit_lowers_at_once_and_below_six_ampere_suspends(limit_ma: int, duty: int) -> None:
    """16-SC-12; field fault 10."""
    made = world()
    made.charge()
    made.give(LimitSet(1, limit_ma))
    assert made.evses[1].duty == duty
    assert (made.state() is S.SUSPENDED_EVSE) == (limit_ma < 6_000)


def test_limit_sixteen_zero_eight() -> None:
    """Field fault 10: after 0 A the new limit holds, not the old one."""
    made = world()
    made.give(LimitSet(1, 16_000))
    made.charge()
    made.give(LimitSet(1, 0))
    made.cp(1, CpState.B)
    assert not made.evses[1].power
    made.give(LimitSet(1, 8_000))
    assert made.evses[1].duty == 8_000 // 6
    made.cp(1, CpState.C)
    assert made.evses[1].power


def test_raising_the_limit_waits_five_seconds_after_the_last_change() -> None:
    made = world()
    made.give(LimitSet(1, 10_000))
    made.charge()
    made.run(10_000)
    made.give(LimitSet(1, 8_000))
    made.give(LimitSet(1, 32_000))
    assert made.evses[1].duty == 8_000 // 6
    made.run(5_000)
    assert made.evses[1].duty == 32_000 // 6


def test_a_limit_that_ends_while_the_csms_is_away_gives_way_to_the_offline_limit() -> None:
    """Field fault 9."""
    made = world(behaviour=Behaviour(offline_limit_ma=8_000))
    made.give(LinkChanged(True))
    made.give(LimitSet(1, 16_000))
    made.charge()
    made.give(LinkChanged(False))
    assert made.evses[1].duty == 16_000 // 6, "a valid limit holds over the loss of the link"
    made.give(LimitSet(1, None))
    assert made.evses[1].duty == 8_000 // 6


@pytest.mark.parametrize("rating_ma", [13_000, 20_000, 32_000])
def test_socket_offers_no_more_than_the_cable(rating_ma: int) -> None:
    made = world(replace(AC, socket=True))
    made.pilot(1, cable(rating_ma))
    made.charge()
    assert made.evses[1].duty == rating_ma // 6


def test_socket_without_a_valid_cable_offers_nothing() -> None:
    made = world(replace(AC, socket=True))
    made.charge()
    assert made.evses[1].duty == 10_000 and made.state() is S.SUSPENDED_EVSE


def test_unlocked_connector_gets_no_power() -> None:
    """G05."""
    made = world()
    made.evses[1].lock_follows = False
    made.charge()
    assert made.evses[1].duty == 10_000 and not made.evses[1].power
    made.run(10_000)
    assert FaultCode.LOCK in made.station.views()[0].faults


def test_lock_never_opens_while_the_contactor_is_closed() -> None:
    made = world()
    made.charge()
    made.evses[1].contactor_welded = True
    made.cp(1, CpState.A)
    made.run(30_000)
    assert made.evses[1].locked
    assert FaultCode.CONTACTOR_WELDED in made.station.views()[0].faults


def test_welded_contactor_is_latched() -> None:
    made = world()
    made.charge()
    made.evses[1].contactor_welded = True
    made.cp(1, CpState.A)
    made.run(2_000)
    made.pilot(1, Contactor(False))
    made.run(60_000)
    assert made.state() is S.FAULTED
    made.authorize(1)
    assert made.station.evses[1].flow.state is not SessionState.WAITING


def test_over_current_ends_the_session() -> None:
    made = world()
    made.give(LimitSet(1, 10_000))
    made.charge(current_ma=12_000)
    made.run(9_000)
    assert made.transactions()[-1].stopped_reason is StopReason.OVERCURRENT_FAULT
    assert not made.evses[1].power
    made.evses[1].current_ma = 0
    made.run(5_000)
    assert made.state() is S.FAULTED, "stays until the vehicle has left"
    made.cp(1, CpState.A)
    made.run(2_000)
    assert made.state() is S.AVAILABLE


@pytest.mark.parametrize("fault", list(BoardFault))
def test_every_board_fault_takes_power_at_once(fault: BoardFault) -> None:
    made = world()
    made.charge()
    effects = made.pilot(1, BoardFaults(frozenset({fault})))
    assert AllowPower(1, False) in effects
    assert made.state() is S.FAULTED


def test_self_clearing_fault_resumes_the_same_transaction() -> None:
    made = world()
    made.charge()
    made.pilot(1, BoardFaults(frozenset({BoardFault.NO_GROUND})))
    made.run(3_000)
    made.pilot(1, BoardFaults(frozenset()))
    made.run(3_000)
    assert made.evses[1].power and TxKind.ENDED not in kinds(made)


def test_lost_board_takes_power_and_the_transaction_waits() -> None:
    made = world()
    made.charge()
    effects = made.pilot(1, Lost(LossKind.SILENT, "no keep-alive"))
    assert AllowPower(1, False) in effects
    made.run(5_000)
    made.evses[1].contactor = False
    made.pilot(1, Back("again"))
    made.pilot(1, Contactor(False))
    made.pilot(1, PilotState(CpState.C))
    made.run(4_000)
    assert made.evses[1].power, "the same transaction goes on"
    assert kinds(made).count(TxKind.STARTED) == 1 and TxKind.ENDED not in kinds(made)


def test_register_that_falls_is_not_billed() -> None:
    """Field fault 11."""
    made = world()
    made.charge()
    made.run(10_000)
    good_mwh = made.evses[1].energy_mwh
    made.evses[1].energy_mwh = 0
    made.run(2_000)
    assert made.state() is S.FAULTED
    made.evses[1].energy_mwh = good_mwh + 100
    made.run(3_000)
    made.cp(1, CpState.A)
    made.run(1_000)
    ends = made.transactions()[-1].samples[-1]
    assert ends.energy_import_mwh >= good_mwh


def test_exchanged_meter_ends_the_transaction_at_the_last_good_value() -> None:
    made = world()
    made.charge()
    last = made.station.evses[1].reading
    made.evses[1].serial, made.evses[1].energy_mwh = "M2", 5
    made.run(10_000)
    end = made.transactions()[-1]
    assert last is not None and end.kind is TxKind.ENDED
    assert end.samples[-1].energy_import_mwh <= made.transactions()[-1].samples[-1].energy_import_mwh
    assert end.samples[-1].meter_serial == "M1" and end.samples[-1].substituted


def test_deauthorized_stop_keeps_the_cable() -> None:
    """16-TX-09."""
    made = world()
    made.charge()
    made.give(Deauthorized(made.transactions()[0].tx_id, stop=True))
    made.cp(1, CpState.B)
    made.run(2_000)
    assert made.transactions()[-1].stopped_reason is StopReason.DE_AUTHORIZED
    assert made.evses[1].locked
    made.command(Unlock(1, end_transaction=True))
    made.run(500)
    assert not made.evses[1].locked


def test_deauthorized_without_stop_only_blocks_energy() -> None:
    """E05."""
    made = world()
    made.charge()
    made.give(Deauthorized(made.transactions()[0].tx_id, stop=False))
    made.cp(1, CpState.B)
    assert made.state() is S.SUSPENDED_EVSE and TxKind.ENDED not in kinds(made)


def test_availability_waits_for_the_transaction() -> None:
    """16-CMD-01, G03."""
    made = world()
    made.charge()
    assert made.answers(made.command(ChangeAvailability(False, 1)))[0].outcome is Outcome.SCHEDULED
    assert made.state() is S.CHARGING
    made.cp(1, CpState.A)
    made.run(1_000)
    assert made.state() is S.UNAVAILABLE
    assert SaveAvailability(1, False) in made.log
    assert made.answers(made.command(RemoteStart(TOKEN, 1)))[0].outcome is Outcome.REJECTED
    made.command(ChangeAvailability(True, 1))
    assert made.state() is S.AVAILABLE


def test_unlock_answers_when_the_lock_has_moved() -> None:
    made = world()
    made.charge()
    effects = made.command(Unlock(1, end_transaction=True))
    effects += made.run(1_000)
    assert [a.outcome for a in made.answers(effects)] == [Outcome.UNLOCKED]
    assert made.transactions()[-1].stopped_reason is StopReason.UNLOCK


def test_unlock_answers_when_no_restart_can_forget_the_stop() -> None:
    made = world()
    made.charge()
    made.ledger_answers = False
    effects = made.command(Unlock(1, end_transaction=True)) + made.run(1_000)
    assert made.evses[1].locked is False and made.answers(effects) == []
    made.write()
    made.run(10)
    assert [a.outcome for a in made.answers(made.log)] == [Outcome.UNLOCKED]


def test_unlock_that_jams_fails_in_time() -> None:
    made = world()
    made.charge()
    made.cp(1, CpState.B)
    made.evses[1].lock_follows = False
    effects = made.command(Unlock(1, end_transaction=True)) + made.run(5_000)
    assert [a.outcome for a in made.answers(effects)] == [Outcome.UNLOCK_FAILED]


def test_reset_ends_transactions_first() -> None:
    """16-CMD-07."""
    made = world()
    made.charge()
    effects = made.command(Reset(immediate=True)) + made.run(2_000)
    kinds_then = [type(e) for e in effects]
    last_append = max(i for i, e in enumerate(effects) if isinstance(e, Append))
    assert kinds_then.index(Restart) > last_append
    assert made.transactions()[-1].stopped_reason is StopReason.REBOOT


def test_reset_on_idle_waits_and_admits_nobody() -> None:
    """B12."""
    made = world()
    made.charge()
    effects = made.command(Reset(immediate=False))
    assert made.answers(effects)[0].outcome is Outcome.SCHEDULED
    assert not any(isinstance(e, Restart) for e in made.run(30_000))
    made.cp(1, CpState.A)
    assert any(isinstance(e, Restart) for e in made.log)


def test_duty_is_told_once_per_change() -> None:
    made = world()
    made.charge()
    made.run(60_000)
    assert len([e for e in made.log if isinstance(e, SetDuty)]) == 2, "X1 at boot, then the offer"


def test_board_that_was_away_is_told_everything_again() -> None:
    made = world()
    made.cp(1, CpState.B)
    made.pilot(1, Lost(LossKind.GONE, "unplugged"))
    made.pilot(1, Back("again"))
    made.pilot(1, Contactor(False))
    effects = made.pilot(1, PilotState(CpState.B))
    assert SetDuty(1, 10_000) in effects and AllowPower(1, False) in effects


def test_contactor_that_never_opens_does_not_keep_the_session_open() -> None:
    made = world()
    made.charge()
    made.evses[1].contactor_welded = True
    made.cp(1, CpState.A)
    made.run(19_000)
    assert TxKind.ENDED not in kinds(made)
    made.run(2_000)
    assert made.transactions()[-1].kind is TxKind.ENDED


def test_reading_since_the_contactor_opened_begins_at_once() -> None:
    made = world()
    made.run(2_000)
    made.cp(1, CpState.B)
    made.evses[1].meter_answers = False  # nobody has to wait for the meter's line
    made.authorize(1)
    assert kinds(made) == [TxKind.STARTED]


def test_reading_from_before_the_contactor_opened_does_not_begin_a_transaction() -> None:
    """Field fault 12: the next session must not begin with the last one's value."""
    made = world()
    made.charge()
    made.evses[1].meter_answers = False
    made.cp(1, CpState.B)
    made.command(RemoteStop(made.transactions()[0].tx_id))
    made.run(1_000)  # the contactor has opened, nobody has read the meter since
    made.station.evses[1].flow.state = SessionState.FINISHED
    made.station.evses[1].flow.tx = None
    made.authorize(1)
    assert [kind for kind in kinds(made) if kind is TxKind.STARTED] == [TxKind.STARTED]


def test_old_reading_does_not_begin_a_transaction() -> None:
    made = world()
    made.evses[1].meter_answers = False
    stale = made.reading(1)
    made.run(4_000)
    made.cp(1, CpState.B)
    made.authorize(1)
    made.give(FromMeter(1, stale))
    assert made.facts == []
