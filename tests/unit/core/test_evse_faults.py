"""Faults of one EVSE from cause to outputs: alarms of modules, currents that must not be, and the person who clears."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.core.commands import ClearFaults, RemoteStop
from agent.core.contactor import ContactorState
from agent.core.effects import Effect, ResetBoard, SwitchOutput
from agent.core.events import Event, FromMeter, FromPower, LedgerLost, LimitSet
from agent.core.facts import StopReason, TxKind
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
    ModuleFault,
    ModuleFaults,
    PilotState,
    PowerOutput,
)
from tests.support.core_world import CoreWorld

AC = EvseHardware(evse=1, hard_limit_ma=32_000)
DC = EvseHardware(evse=1, hard_limit_ma=50_000, min_current_ma=1_000, dc=True, dc_bench=DcBench(400_000, 40_000))


def world(hardware: EvseHardware = AC, kind: type[CoreWorld] = CoreWorld) -> CoreWorld:
    made = kind(StationSettings(evses=(hardware,)))
    made.boot()
    return made


def faults(made: CoreWorld) -> tuple[FaultCode, ...]:
    return made.station.views()[0].faults


def clear(made: CoreWorld) -> Outcome:
    return made.answers(made.command(ClearFaults(1)))[0].outcome


# --------------------------------------------------------------------------------------- DC modules


def test_an_alarm_of_a_module_takes_power_and_goes_by_itself() -> None:
    made = world(DC)
    made.charge()
    effects = made.give(FromPower(1, ModuleFaults(frozenset({next(iter(ModuleFault))}))))
    assert SwitchOutput(1, False) in effects and not made.evses[1].power
    assert faults(made) == (FaultCode.POWER_MODULE,)
    made.give(FromPower(1, ModuleFaults(frozenset())))
    made.run(999)
    assert faults(made) == (FaultCode.POWER_MODULE,)
    made.run(3_000)
    assert faults(made) == () and made.evses[1].output_on, "the same transaction goes on"
    assert [fact.kind for fact in made.transactions()].count(TxKind.STARTED) == 1


def test_lost_modules_take_power_until_they_are_back() -> None:
    made = world(DC)
    made.charge()
    made.give(FromPower(1, Lost(LossKind.SILENT, "no frames")))
    assert faults(made) == (FaultCode.POWER_MODULE_LOST,) and not made.evses[1].power
    made.run(60_000)
    assert faults(made) == (FaultCode.POWER_MODULE_LOST,)
    made.give(FromPower(1, Back("modules")))
    made.run(3_000)
    assert faults(made) == () and made.evses[1].output_on


class SlowModules(CoreWorld):
    """Modules that need their time until no current flows any more."""

    def _switch_output(self, effect: SwitchOutput) -> list[Event]:
        self.evses[effect.evse].output_on = effect.on
        volts, amps = self.evses[effect.evse].output
        return [FromPower(effect.evse, PowerOutput(self.at_ms, volts, amps, effect.on))]


def stopping() -> CoreWorld:
    made = world(DC, SlowModules)
    made.charge()
    made.command(RemoteStop(made.transactions()[0].tx_id))
    assert not made.evses[1].output_on and made.evses[1].power
    return made


@pytest.mark.parametrize("current_ma, opens", [(1_000, False), (999, True), (0, True)])
def test_dc_contactors_open_without_load(current_ma: int, opens: bool) -> None:
    made = stopping()
    made.run(2_000)
    assert made.evses[1].power, "40 A flow still"
    made.give(FromPower(1, PowerOutput(made.at_ms, 400_000, current_ma, False)))
    assert made.evses[1].power is not opens


def test_dc_modules_that_are_lost_while_stopping_are_not_waited_for() -> None:
    made = stopping()
    made.give(FromPower(1, Lost(LossKind.SILENT, "no frames")))
    assert not made.evses[1].power


class MuteModules(CoreWorld):
    """Modules that obey and never tell what they put out."""

    def _switch_output(self, effect: SwitchOutput) -> list[Event]:
        self.evses[effect.evse].output_on = effect.on
        return []


def test_dc_modules_without_word_of_their_output_are_not_waited_for() -> None:
    made = world(DC, MuteModules)
    made.charge()
    made.command(RemoteStop(made.transactions()[0].tx_id))
    assert not made.evses[1].power


def test_what_modules_told_before_they_were_lost_is_forgotten() -> None:
    made = world(DC, MuteModules)
    made.charge()
    made.give(FromPower(1, PowerOutput(made.at_ms, 400_000, 40_000, True)))
    made.give(FromPower(1, Lost(LossKind.SILENT, "no frames")))
    made.give(FromPower(1, Back("modules")))
    made.run(5_000)
    assert made.evses[1].power
    made.command(RemoteStop(made.transactions()[0].tx_id))
    assert not made.evses[1].power


# ---------------------------------------------------------------------- currents that must not flow


@pytest.mark.parametrize("current_sign", [1, -1])
def test_over_current_counts_from_its_begin_and_must_last(current_sign: int) -> None:
    made = world()
    made.evses[1].current_sign = current_sign
    made.give(LimitSet(1, 10_000))
    made.charge(current_ma=(10_000 + 500) * 110 // 100)
    made.run(20_000)
    assert faults(made) == (), "on the bound is not over it"
    made.evses[1].current_ma += 1
    made.run(6_900)
    made.evses[1].current_ma -= 1
    made.run(2_000)
    made.evses[1].current_ma += 1
    made.run(7_000)
    assert faults(made) == ()
    made.run(1_100)
    assert FaultCode.OVER_CURRENT in faults(made)


def draw_late(made: CoreWorld, lowerings: dict[int, int], delay_s: int, for_s: int) -> int | None:
    """A vehicle that draws what was offered ``delay_s`` ago, and a limit that is lowered (second: mA). The second in
    which over-current is found."""
    offers = [made.station.views()[0].offered_ma] * (delay_s + 1)
    for second in range(for_s):
        if second in lowerings:
            made.give(LimitSet(1, lowerings[second]))
        offers.append(made.station.views()[0].offered_ma)
        made.evses[1].current_ma = offers[-1 - delay_s]
        made.run(1_000)
        if FaultCode.OVER_CURRENT in faults(made):
            return second + 1
    return None


@pytest.mark.parametrize(
    "lowerings",
    [
        {0: 16_000, 4: 10_600},
        {0: 28_000, 3: 24_000, 6: 20_000, 9: 16_000},
        {second: 31_000 - 1_000 * second for second in range(20)},
    ],
    ids=["load sharing", "a ramp", "every second"],
)
def test_a_vehicle_that_follows_each_lowering_in_time_draws_too_much_of_none(lowerings: dict[int, int]) -> None:
    made = world()
    made.charge(current_ma=32_000)
    made.run(60_000)
    assert draw_late(made, lowerings, delay_s=5, for_s=40) is None


def test_a_vehicle_that_follows_no_lowering_is_found_when_its_time_to_follow_is_over() -> None:
    made = world()
    made.charge(current_ma=20_000)
    made.run(60_000)
    made.give(LimitSet(1, 10_000))
    made.run(11_000)
    assert faults(made) == ()
    made.run(3_000)
    assert FaultCode.OVER_CURRENT in faults(made)


def test_over_current_goes_with_the_vehicle_also_where_nobody_reads_the_meter_any_more() -> None:
    made = world()
    made.give(LimitSet(1, 10_000))
    made.charge(current_ma=20_000)
    made.evses[1].contactor_follows = False  # it needs a moment to open, and the meter falls silent meanwhile
    while not faults(made):
        made.run(100)
    assert faults(made) == (FaultCode.OVER_CURRENT,)
    made.evses[1].meter_answers = made.evses[1].contactor = False
    made.pilot(1, Contactor(False))
    made.cp(1, CpState.A)
    made.run(8_000)
    assert faults(made) == () and made.state() is ConnectorState.AVAILABLE


@pytest.mark.parametrize("current_sign", [1, -1])
def test_current_through_an_open_contactor_is_a_weld_when_it_lasts(current_sign: int) -> None:
    made = world()
    made.evses[1].current_sign = current_sign
    made.evses[1].contactor_follows = False
    made.evses[1].cp = CpState.C  # the world lets current flow where contactor and pilot say so
    made.evses[1].contactor, made.evses[1].current_ma = True, 1_000
    made.run(10_000)
    assert faults(made) == (), "at the bound, as meters drift"
    made.evses[1].current_ma = 1_001
    made.run(2_900)
    made.evses[1].current_ma = 0
    made.run(1_000)
    made.evses[1].current_ma = 1_001
    made.run(1_000 - made.at_ms % 1_000)  # the first reading of it
    made.run(2_999)
    assert faults(made) == ()
    made.run(1)
    assert FaultCode.CONTACTOR_WELDED in faults(made)


def test_a_weld_is_seen_also_where_the_register_cannot_be() -> None:
    made = world()
    made.run(2_000)
    made.evses[1].energy_mwh = 1  # it fell, and is wrong until a restart
    made.evses[1].contactor_follows = False
    made.evses[1].cp = CpState.C
    made.evses[1].contactor, made.evses[1].current_ma = True, 10_000
    made.run(5_000)
    assert set(faults(made)) == {FaultCode.METER_IMPLAUSIBLE, FaultCode.CONTACTOR_WELDED}


def test_a_meter_that_tells_no_currents_is_no_reason_for_anything() -> None:
    made = world()
    made.charge()
    absent = (None, None, None)
    made.give(FromMeter(1, replace(made.reading(1), current_ma=absent, voltage_mv=absent)))
    assert faults(made) == () and made.evses[1].power


# --------------------------------------------------------------------------------- who clears what


def latched() -> CoreWorld:
    made = world()
    made.charge()
    made.evses[1].contactor_welded = True
    made.cp(1, CpState.A)
    made.run(2_000)
    assert FaultCode.CONTACTOR_WELDED in faults(made)
    assert made.station.evses[1].contactor.state is ContactorState.WELDED, "also without a vehicle"
    return made


def test_a_weld_found_by_current_holds_the_plug_until_a_person_clears_it() -> None:
    made = world(replace(AC, has_lock=True))
    made.charge()
    made.give(LimitSet(1, 0))
    made.run(8_000)
    assert not made.evses[1].contactor
    made.evses[1].contactor, made.evses[1].contactor_follows = True, False  # and its mirror contact says nothing
    made.run(60_000)
    assert FaultCode.CONTACTOR_WELDED in faults(made) and made.transactions()[-1].kind is TxKind.ENDED
    assert made.evses[1].locked and made.station.views()[0].contactor_closed
    made.evses[1].contactor = False
    made.run(60_000)
    assert made.evses[1].locked
    clear(made)
    assert not made.evses[1].locked


def test_a_person_clears_a_weld_and_the_contactor_must_prove_itself() -> None:
    made = latched()
    assert clear(made) is Outcome.ACCEPTED
    assert ResetBoard(1) in made.log
    made.run(1_000)
    assert faults(made) == (FaultCode.CONTACTOR_WELDED,), "its mirror contact still says closed"
    made.evses[1].contactor = False
    made.pilot(1, Contactor(False))
    assert clear(made) is Outcome.ACCEPTED
    made.run(1_000)
    assert faults(made) == () and made.state() is ConnectorState.AVAILABLE


def test_a_person_clears_a_stuck_contactor() -> None:
    made = world()
    made.evses[1].contactor_follows = False
    made.charge()
    made.run(3_000)
    assert faults(made) == (FaultCode.CONTACTOR_OPEN,)
    assert clear(made) is Outcome.ACCEPTED
    assert faults(made) == ()


def test_a_stuck_contactor_is_forgotten_when_the_vehicle_leaves() -> None:
    made = world()
    made.evses[1].contactor_follows = False
    made.charge()
    made.run(3_000)
    made.cp(1, CpState.A)
    made.run(3_000)
    assert faults(made) == () and made.state() is ConnectorState.AVAILABLE
    made.evses[1].contactor_follows = True
    made.charge()
    assert made.evses[1].power, "the next one may try"


def test_what_still_is_cannot_be_cleared() -> None:
    made = world()
    made.pilot(1, BoardFaults(frozenset({BoardFault.RESIDUAL_SELF_TEST})))
    assert clear(made) is Outcome.REJECTED
    assert faults(made) == (FaultCode.RESIDUAL_SELF_TEST,)
    made.pilot(1, BoardFaults(frozenset()))
    made.run(60_000)
    assert faults(made) == (FaultCode.RESIDUAL_SELF_TEST,)
    assert clear(made) is Outcome.ACCEPTED and faults(made) == ()


def test_clearing_in_mid_charge_does_not_touch_the_contactor() -> None:
    made = world()
    made.charge()
    assert clear(made) is Outcome.ACCEPTED
    made.run(1_000)
    assert made.evses[1].power and made.state() is ConnectorState.CHARGING


# ----------------------------------------------------------------------------- pilot and ledger


@pytest.mark.parametrize(
    "cp, code", [(CpState.E, FaultCode.PILOT_SHORT), (CpState.D, FaultCode.NO_VENTILATION)], ids=["E", "D"]
)
def test_what_the_pilot_says_is_a_fault_only_while_it_says_so(cp: CpState, code: FaultCode) -> None:
    made = world()
    made.charge()
    made.cp(1, cp)
    assert code in faults(made) and not made.evses[1].power
    made.cp(1, CpState.C)
    made.run(2_000)
    assert faults(made) == () and made.evses[1].power


def test_a_ledger_that_fails_ends_all_power_for_good() -> None:
    made = world()
    made.charge()
    made.give(LedgerLost())
    assert not made.evses[1].power and faults(made) == (FaultCode.LEDGER,)
    assert made.transactions()[-1].stopped_reason is StopReason.OTHER
    assert clear(made) is Outcome.REJECTED


def test_faults_of_a_board_go_with_the_board() -> None:
    made = world()
    made.pilot(1, BoardFaults(frozenset({BoardFault.DIODE})))
    made.pilot(1, Lost(LossKind.GONE, "unplugged"))
    assert set(faults(made)) == {FaultCode.DIODE, FaultCode.PILOT_LOST}
    made.run(2_000)
    assert faults(made) == (FaultCode.PILOT_LOST,)
    for event in (Back("again"), Contactor(False), PilotState(CpState.A)):
        made.pilot(1, event)
    made.run(2_000)
    assert faults(made) == () and made.state() is ConnectorState.AVAILABLE


def _only(effects: list[Effect], kind: type) -> list[Effect]:
    return [effect for effect in effects if isinstance(effect, kind)]


def test_clearing_resets_the_board_once() -> None:
    made = world()
    made.pilot(1, BoardFaults(frozenset({BoardFault.DIODE})))
    assert _only(made.command(ClearFaults(1)), ResetBoard) == [ResetBoard(1)]


def test_where_there_is_nothing_to_clear_a_charge_goes_on() -> None:
    made = world()
    made.charge()
    effects = made.command(ClearFaults(1))
    assert made.answers(effects)[0].outcome is Outcome.ACCEPTED
    assert _only(effects, ResetBoard) == [] and made.evses[1].power
