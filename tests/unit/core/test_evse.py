"""One EVSE as a whole: lock, what waits for what, and when it wants to be woken."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.core.commands import ChangeAvailability, RemoteStop, Unlock
from agent.core.effects import AllowPower, OfferCurrent, SampleTaken, SetDuty, SetLock, SwitchOutput
from agent.core.events import (
    ClockSet,
    Commanded,
    Configured,
    Deauthorized,
    FromPower,
    GapKind,
    LedgerRoom,
    LimitSet,
    LinkChanged,
    Recovered,
    StopAuthorized,
)
from agent.core.facts import MeterFact, Sample, SampleContext, Trigger, TxKind
from agent.core.session import SessionState
from agent.core.settings import Behaviour, DcBench, EvseHardware, StationSettings, Timing
from agent.core.status import ConnectorState, FaultCode, Outcome
from hal.ports import (
    Back,
    BoardFault,
    BoardFaults,
    Cable,
    Contactor,
    CpState,
    Lock,
    LockPosition,
    LossKind,
    Lost,
    PilotState,
)
from tests.support.core_world import TOKEN, CoreWorld

AC = EvseHardware(evse=1, hard_limit_ma=32_000)
LOCKED = replace(AC, has_lock=True)
DC = EvseHardware(evse=1, hard_limit_ma=50_000, min_current_ma=1_000, dc=True, dc_bench=DcBench(400_000, 40_000))
TIMING = Timing()
MINUTE_MS = 60_000


def world(hardware: EvseHardware = AC, behaviour: Behaviour | None = None) -> CoreWorld:
    made = CoreWorld(StationSettings(evses=(hardware,), behaviour=behaviour or Behaviour()))
    made.boot()
    return made


def faults(made: CoreWorld) -> tuple[FaultCode, ...]:
    return made.station.views()[0].faults


# --------------------------------------------------------------------------------------------- lock


def test_the_cable_is_held_from_the_start_until_the_contactor_is_open() -> None:
    made = world(LOCKED)
    made.cp(1, CpState.B)
    assert not made.evses[1].locked
    made.authorize(1)
    assert made.evses[1].locked
    made.cp(1, CpState.C)
    made.run(1_000)
    effects = made.give(StopAuthorized(1, TOKEN)) + made.cp(1, CpState.B)
    kinds = [effect for effect in effects if effect == AllowPower(1, False) or isinstance(effect, SetLock)]
    assert kinds == [AllowPower(1, False), SetLock(1, False)]


@pytest.mark.parametrize("stops", [True, False])
def test_16_tx_17_unplugging_at_the_vehicle_gives_the_cable_back_where_it_ends_the_transaction(stops: bool) -> None:
    """Where it does not (16-TX-16), the cable waits for its vehicle."""
    made = world(replace(LOCKED, socket=True), Behaviour(stop_on_unplug=stops))
    made.pilot(1, Cable(32_000))
    made.charge()
    assert made.evses[1].locked
    made.cp(1, CpState.A)
    made.run(2_000)
    assert made.evses[1].locked is not stops and not made.evses[1].power
    assert (made.transactions()[-1].kind is TxKind.ENDED) is stops


@pytest.mark.parametrize("remote", [False, True])
def test_16_tx_17_a_cable_is_given_back_whoever_ends_it(remote: bool) -> None:
    made = world(replace(LOCKED, socket=True))
    made.pilot(1, Cable(32_000))
    made.charge()
    tx_id = made.transactions()[0].tx_id
    made.give(Commanded(7, RemoteStop(tx_id)) if remote else StopAuthorized(1, TOKEN))
    made.cp(1, CpState.B)
    made.run(2_000)
    assert made.transactions()[-1].kind is TxKind.ENDED and made.evses[1].locked is False


def test_the_lock_stays_while_the_contactor_says_closed_even_without_a_session() -> None:
    made = world(LOCKED)
    made.pilot(1, Contactor(True))
    assert made.evses[1].locked
    made.pilot(1, Contactor(False))
    made.run(1_000)
    assert not made.evses[1].locked


def test_a_shorted_pilot_frees_the_cable() -> None:
    """A plug that was torn off must not keep its remains."""
    made = world(LOCKED)
    made.charge()
    made.cp(1, CpState.E)
    made.run(1_000)
    assert not made.evses[1].power and not made.evses[1].locked


def test_a_forced_unlock_is_forgotten_with_the_session() -> None:
    made = world(LOCKED)
    made.cp(1, CpState.B)
    made.command(Unlock(1, end_transaction=True))
    made.authorize(1)
    assert made.evses[1].locked, "a new authorization locks again"
    made.command(Unlock(1, end_transaction=True))
    made.run(1_000)
    assert not made.evses[1].locked
    made.cp(1, CpState.A)
    assert not made.station.evses[1].force_unlock
    made.charge()
    assert made.evses[1].locked


def test_an_unlock_between_card_and_plug_keeps_nobody_from_charging() -> None:
    made = world(LOCKED)
    made.authorize(1)
    [answer] = made.answers(made.command(Unlock(1, end_transaction=True)) + made.run(1_000))
    assert answer.outcome is Outcome.UNLOCKED
    made.cp(1, CpState.C)
    made.run(2_000)
    assert made.evses[1].locked and made.state() is ConnectorState.CHARGING


def beginning(hardware: EvseHardware = LOCKED) -> CoreWorld:
    """The meter has not yet told the begin reading."""
    made = world(hardware)
    made.evses[1].meter_answers = False
    made.run(4_000)
    made.cp(1, CpState.B)
    made.authorize(1)
    assert made.station.evses[1].flow.state is SessionState.BEGIN_READING
    return made


def test_what_is_about_to_begin_is_a_transaction_to_an_unlock() -> None:
    made = beginning()
    [answer] = made.answers(made.command(Unlock(1, end_transaction=False)))
    assert answer.outcome is Outcome.ONGOING_TRANSACTION and made.evses[1].locked
    [answer] = made.answers(made.command(Unlock(1, end_transaction=True)) + made.run(1_000))
    assert answer.outcome is Outcome.UNLOCKED and not made.evses[1].locked
    made.evses[1].meter_answers = True
    made.cp(1, CpState.C)
    made.run(10_000)
    assert made.station.evses[1].flow.state is SessionState.PLUGGED and made.transactions() == []


@pytest.mark.parametrize("evse", [1, None])
def test_what_is_about_to_begin_is_not_cut_by_becoming_inoperative(evse: int | None) -> None:
    made = beginning()
    [answer] = made.answers(made.command(ChangeAvailability(False, evse)))
    assert answer.outcome is Outcome.SCHEDULED and made.state() is ConnectorState.PREPARING
    made.evses[1].meter_answers = True
    made.cp(1, CpState.C)
    made.run(2_000)
    assert made.state() is ConnectorState.CHARGING
    made.cp(1, CpState.A)
    made.run(2_000)
    assert made.state() is ConnectorState.UNAVAILABLE


def test_every_unlock_is_answered() -> None:
    made = world(LOCKED)
    made.charge()
    made.evses[1].lock_follows = False
    effects = made.command(Unlock(1, end_transaction=True), 101) + made.run(1_000)
    effects += made.command(Unlock(1, end_transaction=True), 102) + made.run(10_000)
    answers = [(answer.command_id, answer.outcome) for answer in made.answers(effects)]
    assert answers == [(101, Outcome.UNLOCK_FAILED), (102, Outcome.UNLOCK_FAILED)]


def test_a_lost_board_forgets_its_lock() -> None:
    made = world(LOCKED)
    made.charge()
    made.evses[1].lock_follows = False
    made.pilot(1, Lost(LossKind.GONE, "unplugged"))
    assert made.station.views()[0].locked is False
    made.pilot(1, Back("again"))
    made.pilot(1, Contactor(False))
    made.pilot(1, PilotState(CpState.C))
    made.run(2_000)
    assert not made.evses[1].power, "not before the lock has told its position"


@pytest.mark.parametrize("position", [LockPosition.UNLOCKED, LockPosition.UNKNOWN])
def test_a_bolt_that_opens_by_itself_in_mid_charge_takes_power_at_once(position: LockPosition) -> None:
    made = world(LOCKED)
    made.charge()
    made.evses[1].lock_follows = False
    made.pilot(1, Lock(position))
    assert not made.evses[1].power and not made.evses[1].contactor and faults(made) == ()
    made.pilot(1, Lock(LockPosition.LOCKED))
    made.run(1_000)
    assert made.evses[1].power and made.state() is ConnectorState.CHARGING


def test_a_jammed_lock_is_a_fault_until_it_moves() -> None:
    made = world(LOCKED)
    made.evses[1].lock_follows = False
    made.cp(1, CpState.B)
    made.authorize(1)
    made.run(8_900)
    assert faults(made) == ()
    made.run(200)
    assert faults(made) == (FaultCode.LOCK,)
    made.evses[1].locked = True
    made.pilot(1, Lock(LockPosition.LOCKED))
    made.run(2_000)
    assert faults(made) == () and made.state() is ConnectorState.PREPARING


# ------------------------------------------------------------------------------- what it depends on


def test_the_offer_goes_with_each_thing_it_depends_on() -> None:
    made = world()
    made.charge()
    made.give(LimitSet(1, 16_000))
    made.pilot(1, PilotState(CpState.B))
    assert made.evses[1].duty == 16_000 // 6 and not made.evses[1].power, "B keeps the offer, not the power"
    made.pilot(1, PilotState(CpState.A))
    assert made.evses[1].duty == 10_000


def test_a_board_that_reports_f_is_offered_nothing() -> None:
    made = world()
    made.charge()
    made.pilot(1, PilotState(CpState.F))
    assert made.evses[1].duty == 10_000 and not made.evses[1].power


def test_energy_that_the_csms_refused_is_not_offered_and_not_taken_at_leisure() -> None:
    made = world()
    made.charge()
    made.give(Deauthorized(made.transactions()[0].tx_id, stop=False))
    assert made.evses[1].duty == 10_000 and made.evses[1].power, "gently: the vehicle has its seconds"
    made.run(TIMING.release_ms)
    assert not made.evses[1].power


@pytest.mark.parametrize("stop_at_once", [True, False])
def test_a_stop_at_once_opens_at_once(stop_at_once: bool) -> None:
    made = world()
    made.charge()
    if stop_at_once:
        made.pilot(1, BoardFaults(frozenset({BoardFault.RESIDUAL_CURRENT})))
    else:
        made.give(StopAuthorized(1, TOKEN))
    assert made.evses[1].power is not stop_at_once


@pytest.mark.parametrize("enough", [True, False])
def test_a_full_ledger_starts_nothing_new(enough: bool) -> None:
    made = world()
    made.give(LedgerRoom(enough))
    made.charge()
    assert made.evses[1].power is enough


def test_while_room_is_scarce_starts_and_ends_are_written_and_no_readings() -> None:
    behaviour = Behaviour(sample_interval_ms=1_000, aligned_interval_ms=MINUTE_MS)
    made = world(behaviour=behaviour)
    made.give(ClockSet(1_795_507_200_000, "csms", trusted=True))
    made.give(LedgerRoom(True, scarce=True))
    made.run(5 * MINUTE_MS)
    made.charge()
    made.run(5 * MINUTE_MS)
    made.give(StopAuthorized(1, TOKEN))
    made.run(10_000)
    assert [fact for fact in made.facts if isinstance(fact, MeterFact)] == []
    rows = made.transactions()
    assert [fact.seq_no for fact in rows] == list(range(len(rows))) and rows[-1].kind is TxKind.ENDED
    assert {fact.trigger for fact in rows[1:-1]} == {Trigger.CHARGING_STATE_CHANGED}
    assert rows[-1].samples[-1].energy_import_mwh == made.evses[1].energy_mwh


def test_a_full_ledger_does_not_stop_what_runs() -> None:
    made = world()
    made.charge()
    made.give(LedgerRoom(False))
    made.run(5_000)
    assert made.evses[1].power


def test_a_dc_output_needs_a_demand_a_closed_contactor_and_an_offer() -> None:
    made = world(replace(DC, dc_bench=None))
    made.charge()
    assert made.evses[1].power and made.evses[1].duty == 500 and not made.evses[1].output_on
    made = world(DC)
    made.evses[1].contactor_follows = False
    made.charge()
    assert not made.evses[1].output_on
    made.pilot(1, Contactor(True))
    assert made.evses[1].output == (400_000, 40_000) and made.evses[1].output_on
    effects = made.give(LimitSet(1, 999))
    assert effects[0] == SwitchOutput(1, False) and made.evses[1].duty == 10_000


def test_the_offline_limit_holds_only_while_the_csms_is_away() -> None:
    made = world(behaviour=Behaviour(offline_limit_ma=8_000))
    made.give(LinkChanged(True))
    made.charge()
    assert made.evses[1].duty == 32_000 // 6
    made.give(LinkChanged(False))
    assert made.evses[1].duty == 8_000 // 6


def test_a_resting_contactor_closes_in_the_instant_in_which_it_has_rested() -> None:
    made = world()
    made.charge()
    for _ in range(4):
        made.cp(1, CpState.B)
        made.cp(1, CpState.C)
    rested_at_ms = made.station.evses[1].contactor.rests_until_ms
    assert rested_at_ms > made.at_ms and rested_at_ms in set(made.station.evses[1].deadlines())
    made.run(rested_at_ms - made.at_ms - 1)
    assert not made.evses[1].power
    made.run(1)
    assert made.evses[1].power


# ---------------------------------------------------------------------------------- state and waking


def test_it_wants_to_be_woken_for_each_of_its_machines_and_only_in_the_future() -> None:
    made = world(LOCKED)
    evse = made.station.evses[1]
    assert list(evse.deadlines()) == []
    made.pilot(1, PilotState(CpState.B))
    assert list(evse.deadlines()) == [made.at_ms + TIMING.pilot_debounce_ms]
    made.run(200)
    made.evses[1].lock_follows = False
    made.evses[1].meter_answers = False
    made.run(4_000)
    made.authorize(1)
    assert sorted(evse.deadlines()) == [made.at_ms + TIMING.lock_ms, made.at_ms + TIMING.begin_reading_ms]
    made.pilot(1, BoardFaults(frozenset({BoardFault.DIODE})))
    made.pilot(1, BoardFaults(frozenset()))
    assert made.at_ms + TIMING.fault_clear_ms in set(evse.deadlines())


def test_it_wants_to_be_woken_for_its_contactor_and_for_a_limit_that_may_rise() -> None:
    made = world()
    made.charge()
    evse = made.station.evses[1]
    made.give(LimitSet(1, 8_000))
    made.give(LimitSet(1, 16_000))
    assert list(evse.deadlines()) == [made.at_ms + TIMING.raise_limit_every_ms]
    made.give(StopAuthorized(1, TOKEN))
    assert made.at_ms + TIMING.release_ms in set(evse.deadlines())


def test_nothing_is_told_to_a_board_that_has_not_spoken_and_all_to_one_that_has() -> None:
    made = CoreWorld(StationSettings(evses=(AC,)))
    assert made.station.evses[1].told_duty_centipercent() is None
    made.pilot(1, Back("board"))
    made.pilot(1, Contactor(False))
    assert made.log == [effect for effect in made.log if not isinstance(effect, SetDuty | AllowPower)]
    effects = made.pilot(1, PilotState(CpState.A))
    assert effects[:2] == [AllowPower(1, False), SetDuty(1, 10_000)]
    assert made.station.evses[1].told_duty_centipercent() == 10_000


# ------------------------------------------------------------------------------------------- ending


def test_a_transaction_that_was_found_open_is_closed_before_a_new_one_begins() -> None:
    made = CoreWorld(StationSettings(evses=(AC,)))
    last = Sample(SampleContext.PERIODIC, 0, "M1", 1_000_000)
    made.give(Recovered(1, "old", 4, TOKEN, None, 900_000, last, GapKind.POWER, None))
    made.boot()
    made.run(1_000)
    made.charge()
    assert [(fact.tx_id, fact.kind) for fact in made.transactions()[:2]] == [
        ("old", TxKind.ENDED),
        ("tx-1", TxKind.STARTED),
    ]


def test_settings_may_change_while_it_runs() -> None:
    made = world()
    made.charge()
    made.give(Configured(Behaviour(stop_on_unplug=False)))
    made.cp(1, CpState.A)
    made.run(5_000)
    assert made.station.evses[1].flow.state is SessionState.ACTIVE and not made.evses[1].power
    made.charge()
    assert made.evses[1].power and len({fact.tx_id for fact in made.transactions()}) == 1


def test_events_of_a_power_module_that_say_nothing_new_change_nothing() -> None:
    made = world(DC)
    assert made.give(FromPower(1, Back("module"))) == []


def test_a_board_that_closes_by_itself_may_wait_for_its_vehicle() -> None:
    made = world(replace(AC, autonomous=True))
    made.cp(1, CpState.B)
    made.authorize(1)
    made.run(10 * MINUTE_MS)
    assert faults(made) == () and made.evses[1].offer_ma == 32_000
    assert made.log.count(OfferCurrent(1, 32_000)) == 1, "told once"


def test_nobody_is_told_a_sample_that_nobody_wanted() -> None:
    made = world()
    made.run(5_000)
    assert not any(isinstance(effect, SampleTaken) for effect in made.log)
