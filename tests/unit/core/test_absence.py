"""E10: a vehicle that leaves a transaction which unplugging does not end comes back in time, or it ends."""

from __future__ import annotations

import pytest

from agent.core.absence import BACK_AFTER_MS, Absence
from agent.core.commands import Reset
from agent.core.effects import Answer, Restart
from agent.core.events import Configured, GapKind, Recovered
from agent.core.facts import ChargingState, Sample, SampleContext, StopReason, Trigger, TxKind
from agent.core.session import SessionState
from agent.core.settings import Behaviour, EvseHardware, StationSettings, Timing
from agent.core.status import ConnectorState, Outcome
from hal.ports import CpState, LossKind, Lost
from tests.support.core_world import TOKEN, CoreWorld

TIMING = Timing()
WAIT_MS = 60_000
SUSPENDS = Behaviour(connect_timeout_ms=WAIT_MS, stop_on_unplug=False, sample_interval_ms=0)
DEBOUNCE_MS = 100


def charging(behaviour: Behaviour = SUSPENDS, hardware: EvseHardware | None = None) -> CoreWorld:
    made = CoreWorld(StationSettings(evses=(hardware or EvseHardware(1, 32_000),), behaviour=behaviour))
    made.boot()
    made.run(1_000)
    made.charge()
    assert made.state() is ConnectorState.CHARGING
    return made


def ended(made: CoreWorld) -> bool:
    return made.transactions()[-1].kind is TxKind.ENDED


def plug(made: CoreWorld, cp: CpState, ms: int) -> None:
    made.cp(1, cp)
    made.run(ms - 200)


def test_it_ends_after_the_time_out_with_the_energy_up_to_the_leaving() -> None:
    made = charging()
    made.run(60_000)
    register_mwh = made.evses[1].energy_mwh
    plug(made, CpState.A, WAIT_MS)
    assert made.station.evses[1].flow.active and made.transactions()[-1].charging_state is ChargingState.IDLE
    made.run(1_000)
    end = made.transactions()[-1]
    assert (end.kind, end.trigger, end.stopped_reason) == (TxKind.ENDED, Trigger.EV_CONNECT_TIMEOUT, StopReason.TIMEOUT)
    assert end.samples[-1].energy_import_mwh == register_mwh and not end.samples[-1].substituted
    assert made.state() is ConnectorState.AVAILABLE


def test_whoever_plugs_in_after_it_needs_a_card() -> None:
    made = charging()
    plug(made, CpState.A, WAIT_MS + 1_000)
    made.cp(1, CpState.C)
    made.run(60_000)
    assert not made.evses[1].power and made.state() is ConnectorState.PREPARING
    made.authorize(1)
    made.run(1_000)
    assert made.evses[1].power and {fact.tx_id for fact in made.transactions()} == {"tx-1", "tx-2"}


def test_a_replug_in_time_resumes_and_the_time_begins_anew_with_the_next_leaving() -> None:
    made = charging()
    for _ in range(3):
        plug(made, CpState.A, WAIT_MS - 1_000)
        plug(made, CpState.C, BACK_AFTER_MS + 1_000)
        assert made.evses[1].power and made.state() is ConnectorState.CHARGING
    made.run(3 * WAIT_MS)
    assert made.evses[1].power, "back for good"


def test_a_plug_that_is_only_tried_gives_no_new_time() -> None:
    made = charging()
    for _ in range(100):
        plug(made, CpState.A, 2_000)
        plug(made, CpState.B, 1_000)
        if ended(made):
            break
    assert ended(made) and made.transactions()[-1].stopped_reason is StopReason.TIMEOUT


def test_one_that_stays_is_back_although_its_time_ended_meanwhile() -> None:
    made = charging()
    plug(made, CpState.A, WAIT_MS - 1_000)
    plug(made, CpState.B, 10 * WAIT_MS)
    assert made.station.evses[1].flow.active
    made.cp(1, CpState.A)
    assert made.station.evses[1].flow.active


def test_a_board_that_falls_silent_while_nobody_is_there_keeps_nothing_open() -> None:
    made = charging()
    plug(made, CpState.A, WAIT_MS - 10_000)
    made.pilot(1, Lost(LossKind.SILENT, "test"))
    made.run(10_000 + 1_000)
    made.evses[1].cp = CpState.C  # who comes while it ends has nothing to do with it
    made.boot_without_meter()
    made.run(TIMING.end_release_ms)
    assert made.transactions()[-1].stopped_reason is StopReason.TIMEOUT
    assert made.state() is ConnectorState.PREPARING and not made.evses[1].power


def test_a_shorter_time_holds_at_once_and_none_at_all_ends_it_with_the_leaving() -> None:
    made = charging()
    plug(made, CpState.A, 20_000)
    made.give(Configured(Behaviour(connect_timeout_ms=10_000, stop_on_unplug=False)))
    made.run(1_000)
    assert ended(made)
    made = charging(Behaviour(connect_timeout_ms=0, stop_on_unplug=False))
    plug(made, CpState.A, 2_000)
    assert ended(made)


def test_a_reset_on_idle_waits_for_nothing_longer_than_that() -> None:
    made = charging()
    made.cp(1, CpState.A)
    assert Answer(7, Outcome.SCHEDULED, None) in made.command(Reset(immediate=False, hard=True))
    assert any(isinstance(effect, Restart) for effect in made.run(WAIT_MS + 1_000))


def test_the_cable_of_a_socket_stays_locked_until_then() -> None:
    made = charging(hardware=EvseHardware(1, 32_000, has_lock=True))
    plug(made, CpState.A, WAIT_MS - 1_000)
    assert made.evses[1].locked
    made.run(5_000)
    assert not made.evses[1].locked


@pytest.mark.parametrize("away_ms", [0, 30_000])
def test_after_a_restart_without_a_vehicle_nothing_is_waited_for(away_ms: int) -> None:
    last = Sample(SampleContext.PERIODIC, 0, "M1", 1_000_000)
    made = CoreWorld(StationSettings(evses=(EvseHardware(1, 32_000),), behaviour=SUSPENDS))
    made.give(Recovered(1, "old", 4, TOKEN, None, 900_000, last, GapKind.PROCESS, away_ms))
    made.boot()
    made.run(5_000)
    end = made.transactions()[-1]
    assert (end.tx_id, end.kind, end.stopped_reason) == ("old", TxKind.ENDED, StopReason.EV_DISCONNECTED)


def test_a_vehicle_that_is_there_after_a_restart_and_leaves_has_its_time() -> None:
    last = Sample(SampleContext.PERIODIC, 0, "M1", 1_000_000)
    made = CoreWorld(StationSettings(evses=(EvseHardware(1, 32_000),), behaviour=SUSPENDS))
    made.evses[1].cp = CpState.C
    made.give(Recovered(1, "old", 4, TOKEN, None, 900_000, last, GapKind.PROCESS, 5_000))
    made.boot()
    made.run(5_000)
    assert made.station.evses[1].flow.state is SessionState.ACTIVE
    plug(made, CpState.A, WAIT_MS + 1_000)
    assert made.transactions()[-1].stopped_reason is StopReason.TIMEOUT


@pytest.mark.parametrize(
    ("seen", "since_ms"),
    [
        ([(True, 0)], None),
        ([(False, 10)], 10),
        ([(False, 10), (False, 20), (None, 30)], 10),
        ([(False, 10), (True, 20)], None),
        ([(False, 10), (True, 20), (None, 30)], None),
        ([(False, 10), (True, 20), (False, 20 + BACK_AFTER_MS - 1)], 10),
        ([(False, 10), (True, 20), (True, 30), (False, 20 + BACK_AFTER_MS)], 20 + BACK_AFTER_MS),
    ],
)
def test_since_when_a_vehicle_is_away(seen: list[tuple[bool | None, int]], since_ms: int | None) -> None:
    absence = Absence()
    for connected, at_ms in seen:
        absence.see(connected, at_ms)
    assert absence.since_ms == since_ms
