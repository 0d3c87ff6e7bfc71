"""Faults over a restart: those that a driver or a technician must end are kept, and end by their own rule only."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.core.commands import ClearFaults
from agent.core.contactor import ContactorState
from agent.core.effects import AllowPower, SaveFaults
from agent.core.events import GapKind, LedgerLost, Recovered
from agent.core.facts import Sample, SampleContext, StopReason, TxKind
from agent.core.faults import LASTING, SPECS, Clears
from agent.core.settings import EvseHardware, StationSettings
from agent.core.status import ConnectorState, FaultCode, Outcome
from hal.ports import BoardFault, BoardFaults, CpState
from tests.support.core_world import TOKEN, CoreWorld

AC = EvseHardware(evse=1, hard_limit_ma=32_000)
F = FaultCode


def world(*kept: FaultCode, cp: CpState = CpState.A, hardware: EvseHardware = AC) -> CoreWorld:
    """A station that starts with these faults of before."""
    made = CoreWorld(StationSettings(evses=(hardware,), lasting_faults={1: kept}))
    made.evses[1].cp = cp
    made.boot()
    made.run(3_000)
    return made


def faults(made: CoreWorld) -> tuple[FaultCode, ...]:
    return made.station.views()[0].faults


def saved(made: CoreWorld) -> list[tuple[FaultCode, ...]]:
    return [effect.faults for effect in made.log if isinstance(effect, SaveFaults)]


def clear(made: CoreWorld) -> Outcome:
    return made.answers(made.command(ClearFaults(1)))[0].outcome


def test_what_lasts_is_what_does_not_end_by_itself_but_a_lost_ledger() -> None:
    assert {code for code, spec in SPECS.items() if spec.clears is not Clears.SELF} == {*LASTING, F.LEDGER}


def test_a_lasting_fault_is_kept_when_it_comes_and_forgotten_when_it_ends() -> None:
    made = world()
    made.charge()
    made.pilot(1, BoardFaults(frozenset({BoardFault.RESIDUAL_CURRENT, BoardFault.DIODE})))
    made.run(1_000)
    assert saved(made) == [(F.RESIDUAL_CURRENT,)], "the diode's ends by itself"
    made.pilot(1, BoardFaults(frozenset()))
    made.run(60_000)
    assert len(saved(made)) == 1
    made.cp(1, CpState.A)
    made.run(3_000)
    assert saved(made) == [(F.RESIDUAL_CURRENT,), ()] and faults(made) == ()


def test_a_fault_that_comes_beside_another_is_kept_with_it() -> None:
    made = world(F.OVER_CURRENT, cp=CpState.B)
    made.pilot(1, BoardFaults(frozenset({BoardFault.RESIDUAL_SELF_TEST})))
    assert saved(made) == [(F.OVER_CURRENT, F.RESIDUAL_SELF_TEST)]


def test_a_lost_ledger_is_the_one_latched_fault_that_a_restart_ends() -> None:
    made = world()
    made.give(LedgerLost())
    assert faults(made) == (F.LEDGER,) and saved(made) == []


@pytest.mark.parametrize("code", sorted(code for code in LASTING if SPECS[code].clears is Clears.UNPLUG))
def test_after_a_restart_unplugging_still_ends_what_it_ends(code: FaultCode) -> None:
    made = world(code, cp=CpState.C)
    made.run(60_000)
    assert faults(made) == (code,) and made.statuses[1] == [ConnectorState.FAULTED], "from the first moment on"
    made.authorize(1)
    made.run(10_000)
    assert not any(effect == AllowPower(1, True) for effect in made.log) and saved(made) == []
    made.cp(1, CpState.A)
    made.run(3_000)
    assert faults(made) == () and saved(made) == [()]
    made.charge()
    assert made.evses[1].power


def test_a_car_that_left_while_no_station_ran_has_ended_it() -> None:
    made = world(F.OVER_CURRENT, cp=CpState.A)
    assert faults(made) == () and saved(made) == [()]


@pytest.mark.parametrize("code", sorted(code for code in LASTING if SPECS[code].clears is Clears.ACTION))
def test_after_a_restart_a_latched_fault_waits_for_a_technician(code: FaultCode) -> None:
    made = world(code)
    made.cp(1, CpState.B)
    made.cp(1, CpState.A)
    made.run(60_000)
    assert faults(made) == (code,) and saved(made) == []
    assert clear(made) is Outcome.ACCEPTED
    made.run(2_000)
    assert faults(made) == () and saved(made) == [()]
    made.charge()
    assert made.evses[1].power, "a cleared fault leaves nothing behind"


def test_a_technician_may_clear_what_unplugging_would_end_after_a_restart_too() -> None:
    made = world(F.RESIDUAL_CURRENT, cp=CpState.B)
    assert clear(made) is Outcome.ACCEPTED and faults(made) == () and saved(made) == [()]


@pytest.mark.parametrize("has_feedback", [True, False], ids=["mirror", "no mirror"])
def test_a_weld_is_one_after_a_restart_whatever_the_mirror_says(has_feedback: bool) -> None:
    made = world(F.CONTACTOR_WELDED, hardware=replace(AC, has_contactor_feedback=has_feedback))
    contactor = made.station.evses[1].contactor
    states = [contactor.state]
    assert clear(made) is Outcome.ACCEPTED
    made.run(2_000)
    assert [*states, contactor.state] == [ContactorState.WELDED, ContactorState.OPEN] and faults(made) == ()


def test_a_weld_that_is_still_there_comes_back_at_once() -> None:
    made = CoreWorld(StationSettings(evses=(AC,), lasting_faults={1: (F.CONTACTOR_WELDED,)}))
    made.evses[1].contactor = made.evses[1].contactor_welded = True
    made.boot()
    clear(made)
    made.run(2_000)
    assert faults(made) == (F.CONTACTOR_WELDED,)


def test_a_transaction_found_open_behind_a_weld_ends_with_what_the_register_says() -> None:
    made = CoreWorld(StationSettings(evses=(AC,), lasting_faults={1: (F.CONTACTOR_WELDED,)}))
    made.evses[1].cp, made.evses[1].energy_mwh = CpState.C, 1_000_500
    last = Sample(SampleContext.PERIODIC, 0, "M1", 1_000_000)
    made.give(Recovered(1, "old", 4, TOKEN, None, 900_000, last, GapKind.PROCESS, 5_000))
    made.boot()
    made.run(60_000)
    end = made.transactions()[-1]
    assert end.kind is TxKind.ENDED and end.stopped_reason is StopReason.EMERGENCY_STOP
    assert end.samples[-1].energy_import_mwh == 1_000_500 and not end.samples[-1].substituted
    assert not any(effect == AllowPower(1, True) for effect in made.log)
