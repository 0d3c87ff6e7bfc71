"""The process stood still, and what devices said meanwhile waits to be read: no verdict falls before it is heard.

The loop reads whatever has come before it lets a timer fire; only between two callbacks that were both ready can news
be missed. So here a stall ends with another event, then comes what waited, then the timer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from agent.core.commands import Reset
from agent.core.contactor import ContactorState
from agent.core.effects import SaveFaults
from agent.core.events import Configured, Durable, Event, FromMeter, LimitSet, Stalled, Tick
from agent.core.facts import TxKind
from agent.core.settings import Behaviour, EvseHardware, StationSettings, Timing
from agent.core.status import ConnectorState, FaultCode
from hal.ports import Back, Contactor, CpState, PilotState
from tests.support.core_world import CoreWorld

AC = EvseHardware(evse=1, hard_limit_ma=32_000, has_lock=True)
TIMING = Timing()
STALLS_MS = (TIMING.contactor_open_ms, TIMING.contactor_open_ms + 1, 600, 60_000)


def world(hardware: EvseHardware = AC) -> CoreWorld:
    made = CoreWorld(StationSettings(evses=(hardware,)))
    made.boot()
    return made


def opening(hardware: EvseHardware = AC) -> CoreWorld:
    """It was commanded to open just now, and the board has not yet said that it did."""
    made = world(hardware)
    made.charge()
    made.evses[1].contactor_follows = False
    made.evses[1].contactor = True  # an autonomous board closes by itself
    made.pilot(1, Contactor(True))
    made.command(Reset(immediate=True))
    assert state(made) is ContactorState.OPENING
    return made


def state(made: CoreWorld) -> ContactorState:
    return made.station.evses[1].contactor.state


def faults(made: CoreWorld) -> tuple[FaultCode, ...]:
    return made.station.views()[0].faults


def kept(made: CoreWorld) -> list[SaveFaults]:
    return [effect for effect in made.log if isinstance(effect, SaveFaults)]


def ended(made: CoreWorld) -> bool:
    return any(fact.kind is TxKind.ENDED for fact in made.transactions())


FIRST: dict[str, Callable[[CoreWorld], Event]] = {
    "a row is durable": lambda made: Durable(10**6),
    "the meter answers": lambda made: FromMeter(1, made.reading(1)),
    "a setting changes": lambda made: Configured(Behaviour()),
    "a late timer": lambda made: Tick(),
}


@pytest.mark.parametrize(("ran_ms", "stall_ms"), [(TIMING.contactor_open_ms - 50, 60), *((0, ms) for ms in STALLS_MS)])
@pytest.mark.parametrize("first", [name for name in FIRST if name != "a late timer"])
def test_news_that_waited_behind_a_stall_is_heard_before_the_verdict(first: str, ran_ms: int, stall_ms: int) -> None:
    made = opening()
    made.run(ran_ms)
    made.at_ms += stall_ms
    made.give(FIRST[first](made))
    assert state(made) is ContactorState.OPENING
    deadline_ms = made.station.deadline_ms()
    assert deadline_ms is not None and deadline_ms <= made.at_ms + 100, "it is looked at again soon"
    made.evses[1].contactor = False
    made.pilot(1, Contactor(False))
    made.give(Tick())
    made.run(10_000)
    assert state(made) is ContactorState.OPEN and not faults(made) and not kept(made)


@pytest.mark.parametrize("hardware", [AC, replace(AC, autonomous=True)])
def test_a_board_that_is_polled_is_asked_again_after_a_stall(hardware: EvseHardware) -> None:
    """Nothing waits to be read where the question was not asked; the timer comes late, or in time for its deadline."""
    for stall_ms in (TIMING.contactor_open_ms, TIMING.board_open_ms, TIMING.board_open_ms + 1, 60_000):
        made = opening(hardware)
        made.at_ms += stall_ms
        made.give(Tick())
        made.run(300)
        assert state(made) is ContactorState.OPENING
        made.evses[1].contactor = False
        made.pilot(1, Contactor(False))
        made.run(10_000)
        assert state(made) is ContactorState.OPEN and not kept(made)


@pytest.mark.parametrize("first", list(FIRST))
@pytest.mark.parametrize("stall_ms", [0, *STALLS_MS])
def test_a_weld_is_found_also_after_a_stall(first: str, stall_ms: int) -> None:
    """The time in which nothing ran does not count, and no more than that."""
    made = opening()
    made.at_ms += stall_ms
    made.give(FIRST[first](made))
    made.run(TIMING.contactor_open_ms + 1)
    assert state(made) is ContactorState.WELDED and FaultCode.CONTACTOR_WELDED in faults(made) and kept(made)


def test_a_weld_is_found_where_the_process_stands_still_again_and_again() -> None:
    made = opening()
    for _ in range(6):
        made.at_ms += 700
        made.give(Tick())
    assert state(made) is ContactorState.WELDED


def test_a_weld_without_stall_is_found_at_the_documented_time() -> None:
    made = opening()
    made.run(TIMING.contactor_open_ms - 1)
    assert state(made) is ContactorState.OPENING
    made.run(1)
    assert state(made) is ContactorState.WELDED


def test_a_contactor_that_closed_during_a_stall_ends_no_session() -> None:
    made = world()
    made.cp(1, CpState.B)
    made.authorize(1)
    made.run(1_000)
    made.evses[1].contactor_follows = False
    made.evses[1].cp = CpState.C
    made.pilot(1, PilotState(CpState.C))
    assert state(made) is ContactorState.CLOSING
    made.at_ms += TIMING.contactor_close_ms + 500
    made.give(Durable(10**6))
    made.evses[1].contactor = True
    made.pilot(1, Contactor(True))
    made.run(10_000)
    assert made.state() is ConnectorState.CHARGING and not faults(made)


def test_a_pilot_that_bounced_before_a_stall_ends_no_session() -> None:
    made = world()
    made.charge()
    made.pilot(1, PilotState(CpState.A))
    made.at_ms += TIMING.pilot_debounce_ms + 400
    made.give(Durable(10**6))
    made.pilot(1, PilotState(CpState.C))
    made.run(10_000)
    assert made.state() is ConnectorState.CHARGING and not ended(made)


def test_a_vehicle_that_left_before_a_stall_has_left() -> None:
    made = world()
    made.charge()
    made.evses[1].cp = CpState.A
    made.pilot(1, PilotState(CpState.A))
    made.at_ms += TIMING.pilot_debounce_ms
    made.give(Durable(10**6))
    assert made.station.deadline_ms() == made.at_ms + 1
    made.run(1)
    assert made.station.evses[1].vehicle.connected is False


def swapped(made: CoreWorld) -> None:
    """All that the board told meanwhile is read at once: another vehicle is there, and asks for power."""
    for cp in (CpState.B, CpState.A, CpState.B, CpState.C):
        made.evses[1].cp = cp
        made.pilot(1, PilotState(cp))


@pytest.mark.parametrize("tick_first", [False, True])
def test_a_vehicle_that_left_during_a_stall_has_left_though_another_is_there(tick_first: bool) -> None:
    made = world()
    made.charge()
    made.at_ms += 8_000
    made.give(Stalled())
    if tick_first:
        made.give(Tick())
    swapped(made)
    made.run(10_000)
    assert ended(made) and not made.evses[1].power and made.state() is ConnectorState.PREPARING


def test_a_vehicle_that_left_just_before_a_stall_has_left_though_another_is_there() -> None:
    made = world()
    made.charge()
    made.evses[1].cp = CpState.A
    made.pilot(1, PilotState(CpState.A))
    made.at_ms += 8_000
    made.give(Stalled())
    for cp in (CpState.B, CpState.C):
        made.evses[1].cp = cp
        made.pilot(1, PilotState(cp))
    made.run(10_000)
    assert ended(made) and not made.evses[1].power and made.state() is ConnectorState.PREPARING


def test_a_pilot_that_bounces_without_a_stall_or_well_after_one_ends_no_session() -> None:
    made = world()
    made.charge()
    swapped(made)
    made.run(1_000)
    made.give(Stalled())
    made.run(TIMING.pilot_debounce_ms)
    swapped(made)
    made.run(10_000)
    assert made.state() is ConnectorState.CHARGING and not ended(made)


def told(made: CoreWorld, current_ma: int) -> None:
    made.give(FromMeter(1, replace(made.reading(1), current_ma=(current_ma, None, None))))


def test_a_reading_from_before_a_stall_proves_no_weld() -> None:
    """Meters renew their currents about once a second, and the end reading is asked for as soon as it is open."""
    made = world()
    made.charge()
    made.cp(1, CpState.B)
    assert state(made) is ContactorState.OPEN
    made.evses[1].meter_answers = False
    told(made, 10_000)
    made.at_ms += TIMING.weld_current_ms + 200
    told(made, 10_000)
    made.evses[1].meter_answers = True
    made.run(10_000)
    assert state(made) is ContactorState.OPEN and not faults(made)


def test_current_that_flows_from_the_first_reading_on_must_last_as_long() -> None:
    made = CoreWorld(StationSettings(evses=(AC,)), at_ms=10**6)
    made.pilot(1, Back("board"))
    made.pilot(1, Contactor(False))
    made.evses[1].meter_answers = False
    welded = []
    for _ in range(5):
        told(made, TIMING.weld_current_ma + 1)
        welded.append(state(made) is ContactorState.WELDED)
        made.at_ms += 1_000
    assert welded == [False, False, False, True, True]


def test_a_reading_from_before_a_stall_proves_no_over_current() -> None:
    made = world()
    made.charge(current_ma=16_000)
    made.give(LimitSet(1, 6_000))
    told(made, 16_000)
    made.at_ms += TIMING.over_current_ms
    told(made, 16_000)
    made.evses[1].current_ma = 6_000
    made.run(10_000)
    assert made.state() is ConnectorState.CHARGING and not faults(made)
