"""16-ST-01, 16-ST-02, 16-ST-06: what a connector shows when two things are true at once, and after a fault."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from agent.core.commands import ChangeAvailability, RemoteStop
from agent.core.effects import SaveAvailability
from agent.core.events import LimitSet
from agent.core.settings import EvseHardware, StationSettings
from agent.core.status import ConnectorState as S
from hal.ports import BoardFault, BoardFaults, CpState
from tests.support.core_world import CoreWorld

AC = EvseHardware(evse=1, hard_limit_ma=32_000, has_lock=True)
TWO = (AC, replace(AC, evse=2))
SECOND_MS, MINUTE_MS = 1_000, 60_000


def world(settings: StationSettings | None = None) -> CoreWorld:
    made = CoreWorld(settings or StationSettings(evses=(AC,)))
    made.boot()
    return made


def plugged(made: CoreWorld) -> None:
    made.cp(1, CpState.B)


def paused_by_the_vehicle(made: CoreWorld) -> None:
    made.charge()
    made.cp(1, CpState.B)
    made.run(MINUTE_MS)


def paused_by_us(made: CoreWorld) -> None:
    made.charge()
    made.give(LimitSet(1, 0))
    made.run(10 * SECOND_MS)


def stopped(made: CoreWorld) -> None:
    made.charge()
    made.command(RemoteStop(made.transactions()[0].tx_id))
    made.run(10 * SECOND_MS)


def out_of_service(made: CoreWorld) -> None:
    made.command(ChangeAvailability(False, 1))


# ------------------------------------------------------------------------------------ two that pause


def test_a_pause_of_ours_hides_that_of_the_vehicle() -> None:
    """16-ST-01: the vehicle pauses first."""
    made = world()
    paused_by_the_vehicle(made)
    assert made.state() is S.SUSPENDED_EV
    made.give(LimitSet(1, 0))
    made.run(SECOND_MS)
    assert made.state() is S.SUSPENDED_EVSE
    assert made.statuses[1][-2:] == [S.SUSPENDED_EV, S.SUSPENDED_EVSE]


def test_a_vehicle_that_pauses_too_does_not_hide_our_pause() -> None:
    """16-ST-01: we pause first."""
    made = world()
    paused_by_us(made)
    assert made.state() is S.SUSPENDED_EVSE
    told = len(made.statuses[1])
    made.cp(1, CpState.B)
    made.run(MINUTE_MS)
    assert made.state() is S.SUSPENDED_EVSE and len(made.statuses[1]) == told


# --------------------------------------------------------------------------------------- after a fault


@pytest.mark.parametrize(
    ("come_to", "state", "by_way_of"),
    [
        (lambda _: None, S.AVAILABLE, []),
        (plugged, S.PREPARING, []),
        (CoreWorld.charge, S.CHARGING, [S.SUSPENDED_EVSE]),
        (paused_by_the_vehicle, S.SUSPENDED_EV, [S.SUSPENDED_EVSE]),
        (paused_by_us, S.SUSPENDED_EVSE, []),
        (stopped, S.FINISHING, []),
        (out_of_service, S.UNAVAILABLE, []),
    ],
)
def test_after_a_fault_the_status_is_that_of_before(
    come_to: Callable[[CoreWorld], None], state: S, by_way_of: list[S]
) -> None:
    """16-ST-02. Where the fault took power away, our pause ends first: the contactor has to close, and a vehicle that
    paused is asked once more whether it wants to charge."""
    made = world()
    come_to(made)
    assert made.state() is state
    made.statuses[1] = []
    made.pilot(1, BoardFaults(frozenset({BoardFault.NO_GROUND})))
    made.run(3 * SECOND_MS)
    made.pilot(1, BoardFaults(frozenset()))
    made.run(MINUTE_MS)
    assert made.statuses[1] == [S.FAULTED, *by_way_of, state]


# ------------------------------------------------------------------------------ station and connectors


@pytest.mark.parametrize("evse", [1, 2])
def test_the_station_is_available_whatever_its_connectors_are(evse: int) -> None:
    """16-ST-06: connector 0 tells of the station alone."""
    made = world(StationSettings(evses=TWO))
    made.command(ChangeAvailability(False, evse))
    assert SaveAvailability(evse, False) in made.log
    made.pilot(3 - evse, BoardFaults(frozenset({BoardFault.NO_GROUND})))
    made.run(SECOND_MS)
    assert [made.state(evse), made.state(3 - evse)] == [S.UNAVAILABLE, S.FAULTED]
    assert made.statuses[0] == [S.AVAILABLE]


@pytest.mark.parametrize(
    ("operative", "inoperative", "shown"),
    [
        (True, {2}, [S.AVAILABLE, S.AVAILABLE, S.UNAVAILABLE]),
        (False, set(), [S.UNAVAILABLE, S.UNAVAILABLE, S.UNAVAILABLE]),
    ],
)
def test_a_start_shows_what_was_out_of_service_before_it(
    operative: bool, inoperative: set[int], shown: list[S]
) -> None:
    """16-ST-06: and never Available in between."""
    settings = StationSettings(evses=TWO, operative=operative, inoperative_evses=frozenset(inoperative))
    made = world(settings)
    made.run(MINUTE_MS)
    assert [made.statuses[each][-1] for each in range(3)] == shown
    for each in range(3):
        assert shown[each] is S.AVAILABLE or S.AVAILABLE not in made.statuses[each]
