"""How a vehicle takes an offer, or sleeps: its time to get ready, the wake-up, and from when on it pauses by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from agent.core.commands import RemoteStop
from agent.core.effects import SetDuty
from agent.core.events import Event, FromPilot, GapKind, LimitSet, Recovered
from agent.core.facts import ChargingState, Sample, SampleContext, Trigger, TxKind
from agent.core.settings import DcBench, EvseHardware, StationSettings, Timing
from agent.core.status import ConnectorState
from hal.ports import DUTY_F, DUTY_X1, BoardFault, BoardFaults, CpState, PilotState
from tests.support.core_world import TOKEN, CoreWorld

AC = EvseHardware(evse=1, hard_limit_ma=32_000)
DC = EvseHardware(evse=1, hard_limit_ma=50_000, min_current_ma=1_000, dc=True, dc_bench=DcBench(400_000, 40_000))
TIMING = Timing()
NOBODY_IS_WOKEN = replace(TIMING, wake_up_f_ms=0)
WAKE_UP_MS = TIMING.wake_up_f_ms + TIMING.wake_up_x1_ms
OFFER = SetDuty(1, 16_000 // 6)
F, X1 = SetDuty(1, DUTY_F), SetDuty(1, DUTY_X1)
MINUTE_MS = 60_000


class TellsF(CoreWorld):
    """Its board sees state F while it makes it."""

    def _set_duty(self, effect: SetDuty) -> list[Event]:
        super()._set_duty(effect)
        cp = CpState.F if effect.duty_centipercent == DUTY_F else self.evses[effect.evse].cp
        return [FromPilot(effect.evse, PilotState(cp))]


def world(timing: Timing = TIMING, hardware: EvseHardware = AC) -> CoreWorld:
    made = TellsF(StationSettings(evses=(hardware,), timing=timing))
    made.boot()
    return made


def told(made: CoreWorld) -> ChargingState:
    state = made.station.views()[0].charging_state
    assert state is not None
    return state


def paused(timing: Timing = TIMING, hardware: EvseHardware = AC) -> CoreWorld:
    """It has charged, and sleeps since our pause; 16 A are offered again now."""
    made = world(timing, hardware)
    made.charge()
    made.run(MINUTE_MS)
    made.give(LimitSet(1, 0))
    made.run(1_000)
    made.cp(1, CpState.B)
    made.run(60 * MINUTE_MS)
    made.log.clear()
    made.give(LimitSet(1, 16_000))
    return made


def duties(made: CoreWorld) -> list[SetDuty]:
    return [effect for effect in made.log if isinstance(effect, SetDuty)]


def pauses(made: CoreWorld) -> int:
    """How often it was told that the vehicle pauses."""
    changes = [fact for fact in made.transactions() if fact.trigger is Trigger.CHARGING_STATE_CHANGED]
    return sum(fact.charging_state is ChargingState.SUSPENDED_EV for fact in changes)


# ---------------------------------------------------------------------------------- its time to get ready


def test_a_vehicle_that_does_not_take_the_offer_is_suspended_by_itself_after_half_a_minute() -> None:
    made = world(NOBODY_IS_WOKEN)
    made.cp(1, CpState.B)
    made.authorize(1)
    offered_at_ms = made.at_ms
    evse = made.station.evses[1]
    assert offered_at_ms + TIMING.vehicle_ready_ms in set(evse.deadlines())
    made.run(TIMING.vehicle_ready_ms - 1)
    assert made.state() is ConnectorState.PREPARING and not evse.vehicle_is_late()
    made.run(1)
    assert made.state() is ConnectorState.SUSPENDED_EV and evse.vehicle_is_late()
    made.cp(1, CpState.C)
    assert not evse.vehicle_is_late(), "it has taken it"
    made.cp(1, CpState.B)
    made.run(1_000)
    assert made.state() is ConnectorState.SUSPENDED_EV


def test_the_half_minute_begins_with_the_offer_and_not_with_the_transaction() -> None:
    made = world(NOBODY_IS_WOKEN)
    made.give(LimitSet(1, 0))
    made.cp(1, CpState.B)
    made.authorize(1)
    made.run(MINUTE_MS)
    assert made.state() is ConnectorState.SUSPENDED_EVSE
    made.give(LimitSet(1, 16_000))
    made.run(TIMING.vehicle_ready_ms - 1)
    assert told(made) is ChargingState.EV_CONNECTED
    made.run(1)
    assert told(made) is ChargingState.SUSPENDED_EV


def test_a_vehicle_that_sleeps_since_our_pause_has_its_time_again_and_nobody_pays_for_it() -> None:
    made = paused(NOBODY_IS_WOKEN)
    for _ in range(TIMING.vehicle_ready_ms // 100 - 1):
        made.run(100)
        assert told(made) is ChargingState.SUSPENDED_EVSE
    assert pauses(made) == 0
    made.run(100)
    assert told(made) is ChargingState.SUSPENDED_EV
    assert duties(made) == [OFFER]


def test_a_vehicle_that_takes_the_offer_after_our_pause_was_never_suspended_by_itself() -> None:
    made = paused()
    made.run(10_000)
    made.cp(1, CpState.C)
    made.run(MINUTE_MS)
    assert told(made) is ChargingState.CHARGING
    assert pauses(made) == 0 and duties(made) == [OFFER]


def test_a_fault_is_a_pause_of_ours() -> None:
    made = world(NOBODY_IS_WOKEN)
    made.charge()
    made.pilot(1, BoardFaults(frozenset({BoardFault.DIODE})))
    made.cp(1, CpState.B)
    made.pilot(1, BoardFaults(frozenset()))
    made.run(TIMING.fault_clear_ms)
    assert made.evses[1].duty != DUTY_X1
    made.run(TIMING.vehicle_ready_ms - 1_000)
    assert told(made) is ChargingState.SUSPENDED_EVSE
    made.run(1_000)
    assert told(made) is ChargingState.SUSPENDED_EV


def test_a_vehicle_that_goes_by_itself_has_no_time_again_however_slowly_the_contactor_opens() -> None:
    made = world()
    made.charge()
    made.evses[1].contactor_follows = False
    made.cp(1, CpState.B)
    made.run(200)
    made.evses[1].contactor_follows = True
    for event in made._move_contactor(1, False):
        made.give(event)
    made.log.clear()
    made.run(MINUTE_MS)
    assert told(made) is ChargingState.SUSPENDED_EV
    assert F not in made.log, "it sleeps of its own will"


def test_a_pilot_that_is_loose_for_a_moment_ends_no_pause_of_the_vehicle() -> None:
    made = world()
    made.charge()
    made.cp(1, CpState.B)
    rows = len(made.transactions())
    made.pilot(1, PilotState(CpState.A))
    made.run(50)
    made.pilot(1, PilotState(CpState.B))
    made.run(5_000)
    assert told(made) is ChargingState.SUSPENDED_EV and len(made.transactions()) == rows


# -------------------------------------------------------------------------------------------- the wake-up


def test_a_late_vehicle_is_woken_once_and_counts_as_pausing_only_when_that_did_not_help() -> None:
    made = paused()
    made.run(TIMING.vehicle_ready_ms - 1)
    assert duties(made) == [OFFER]
    made.run(1)
    assert duties(made) == [OFFER, F]
    made.run(TIMING.wake_up_f_ms - 1)
    assert duties(made) == [OFFER, F]
    made.run(1)
    assert duties(made) == [OFFER, F, X1]
    made.run(TIMING.wake_up_x1_ms - 1)
    assert duties(made) == [OFFER, F, X1]
    made.run(1)
    assert duties(made) == [OFFER, F, X1, OFFER]
    made.run(TIMING.wake_up_answer_ms - 1)
    assert told(made) is ChargingState.SUSPENDED_EVSE and pauses(made) == 0
    made.run(1)
    assert told(made) is ChargingState.SUSPENDED_EV
    made.run(60 * MINUTE_MS)
    assert duties(made) == [OFFER, F, X1, OFFER] and pauses(made) == 1


def test_a_vehicle_that_was_woken_charges_and_nobody_paid() -> None:
    made = paused()
    made.run(TIMING.vehicle_ready_ms + WAKE_UP_MS)
    made.cp(1, CpState.C)
    made.run(MINUTE_MS)
    assert made.evses[1].power and told(made) is ChargingState.CHARGING and pauses(made) == 0


def test_each_offer_wakes_once() -> None:
    made = paused()
    made.run(2 * MINUTE_MS)
    made.give(LimitSet(1, 0))
    made.run(MINUTE_MS)
    made.give(LimitSet(1, 16_000))
    made.run(2 * MINUTE_MS)
    assert duties(made) == [OFFER, F, X1, OFFER, X1, OFFER, F, X1, OFFER]


def test_state_f_of_a_wake_up_is_neither_fault_nor_unplugging_and_the_transaction_goes_on() -> None:
    made = paused()
    seen = set()
    for _ in range(MINUTE_MS // 100):
        made.run(100)
        view = made.station.views()[0]
        seen.add((view.cp, view.state, view.duty_centipercent))
        assert not view.faults and not made.evses[1].power
    assert ("F", ConnectorState.SUSPENDED_EVSE, DUTY_F) in seen
    assert ("B", ConnectorState.SUSPENDED_EVSE, DUTY_X1) in seen
    assert not any(fact.kind is TxKind.ENDED for fact in made.transactions())


def test_a_board_that_tells_f_late_is_believed_its_b_again() -> None:
    made = paused()
    made.run(TIMING.vehicle_ready_ms)
    made.pilot(1, PilotState(CpState.F))
    made.run(TIMING.wake_up_f_ms - 1)
    made.run(1)
    made.pilot(1, PilotState(CpState.F))
    made.run(TIMING.wake_up_x1_ms)
    made.pilot(1, PilotState(CpState.F))
    made.run(100)
    made.pilot(1, PilotState(CpState.B))
    made.run(MINUTE_MS)
    assert duties(made) == [OFFER, F, X1, OFFER] and pauses(made) == 1


def test_a_board_that_tells_f_without_being_told_so_is_offered_nothing() -> None:
    made = paused()
    made.run(2 * MINUTE_MS)
    made.log.clear()
    made.pilot(1, PilotState(CpState.F))
    assert duties(made) == [X1, OFFER], "and again when it tells B"


def lowered(made: CoreWorld) -> None:
    made.give(LimitSet(1, 9_600))


def withdrawn(made: CoreWorld) -> None:
    made.give(LimitSet(1, 0))


def stopped(made: CoreWorld) -> None:
    made.command(RemoteStop(made.transactions()[0].tx_id))


def faulty(made: CoreWorld) -> None:
    made.pilot(1, BoardFaults(frozenset({BoardFault.RESIDUAL_CURRENT})))


def unplugged(made: CoreWorld) -> None:
    made.cp(1, CpState.A)


def asks(made: CoreWorld) -> None:
    made.cp(1, CpState.C)


@pytest.mark.parametrize("after_ms", [1_000, TIMING.wake_up_f_ms + 100], ids=["in F", "in X1"])
@pytest.mark.parametrize(
    "what, then",
    [
        (lowered, SetDuty(1, 1_600)),
        (withdrawn, X1),
        (stopped, X1),
        (faulty, X1),
        (unplugged, X1),
        (asks, OFFER),
    ],
)
def test_whatever_else_is_to_be_said_ends_a_wake_up_at_once(
    what: Callable[[CoreWorld], None], then: SetDuty, after_ms: int
) -> None:
    made = paused()
    made.run(TIMING.vehicle_ready_ms + after_ms)
    before = duties(made)[-1]
    at_ms = made.at_ms
    what(made)
    assert made.at_ms - at_ms <= 200
    assert duties(made)[-1] == then and (duties(made).count(F), before in (F, X1)) == (1, True)
    made.run(2 * MINUTE_MS)
    assert duties(made).count(F) == 1, "not a second time for this offer"


def test_a_wake_up_that_was_cut_short_leaves_the_vehicle_its_time_to_answer() -> None:
    made = paused()
    made.run(TIMING.vehicle_ready_ms + 1_000)
    lowered(made)
    made.run(TIMING.wake_up_answer_ms - 1)
    assert told(made) is ChargingState.SUSPENDED_EVSE
    made.run(1)
    assert told(made) is ChargingState.SUSPENDED_EV


@pytest.mark.parametrize("hardware", [replace(AC, autonomous=True), DC], ids=["autonomous", "DC"])
def test_who_is_not_woken_is_late_after_half_a_minute(hardware: EvseHardware) -> None:
    made = paused(hardware=hardware)
    made.run(TIMING.vehicle_ready_ms)
    assert told(made) is ChargingState.SUSPENDED_EV
    made.run(MINUTE_MS)
    assert F not in made.log


def test_a_vehicle_that_never_began_is_woken_too() -> None:
    made = world()
    made.give(LimitSet(1, 16_000))
    made.cp(1, CpState.B)
    made.authorize(1)
    made.run(TIMING.vehicle_ready_ms)
    assert made.evses[1].duty == DUTY_F and told(made) is ChargingState.EV_CONNECTED
    made.run(WAKE_UP_MS + TIMING.wake_up_answer_ms)
    assert told(made) is ChargingState.SUSPENDED_EV


def test_a_transaction_that_goes_on_after_a_restart_gives_the_vehicle_its_time() -> None:
    made = TellsF(StationSettings(evses=(AC,), timing=NOBODY_IS_WOKEN))
    made.evses[1].cp = CpState.B
    last = Sample(SampleContext.PERIODIC, 0, "M1", 1_000_000)
    made.give(Recovered(1, "old", 4, TOKEN, None, 900_000, last, GapKind.POWER, 5_000))
    made.boot()
    made.run(TIMING.vehicle_ready_ms - 1_000)
    assert told(made) is ChargingState.SUSPENDED_EVSE
    made.run(2_000)
    assert told(made) is ChargingState.SUSPENDED_EV
