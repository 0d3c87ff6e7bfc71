"""What the controller does and tells when modules or the bus fall silent, in virtual time."""

from __future__ import annotations

import pytest

from hal.ports import Back, LossKind, Lost, PowerLimits, PowerOutput
from hal.power.infypower_codec import Command
from hal.power.infypower_config import InfypowerConfig, Mode
from hal.sim.faults import Fault
from hal.sim.infypower import SimInfypower
from tests.unit.hal.infypower_bench import OFF, ON, SET, Bench, delivering, running


def test_a_silent_module_keeps_its_share_until_it_is_surely_off() -> None:
    made = running(0, 1)
    made.sim.modules[1].faults.set(Fault.SILENT)
    silent_ms = made.now_ms
    most_ma = 0
    while delivering(made)[1]:
        made.run(100)
        most_ma = max(most_ma, made.sim.current_ma)
        assert made.now_ms < silent_ms + 11_000
    assert most_ma == 60_000  # never more than was wanted while both deliver
    assert made.sim.modules[0].set_ma == 30_000
    assert made.told(PowerOutput)[-1].on
    made.run(silent_ms + 18_000 - made.now_ms)
    assert made.told(PowerLimits)[-1].modules == 1
    assert made.sim.modules[0].set_ma == 60_000
    assert made.told(Lost) == []


def test_a_module_that_hears_but_cannot_speak_is_switched_off_before_its_share_is_given_away() -> None:
    made = running(0, 1)
    made.sim.modules[1].faults.set(Fault.DROP)
    silent_ms = made.now_ms
    made.run(5_000)
    assert not delivering(made)[1]
    assert made.commands(*SET, since_ms=silent_ms + 4_000, to=1) == []
    made.run(13_000)
    assert made.sim.modules[0].set_ma == 60_000


def test_a_module_that_returns_starts_from_off_and_takes_its_share_back() -> None:
    made = running(0, 1)
    made.sim.modules[1].faults.set(Fault.SILENT)
    made.run(18_000)
    made.sim.modules[1].faults.clear()
    back_ms = made.now_ms
    made.run(4_000)
    order = made.commands(Command.SWITCH, *SET, since_ms=back_ms, to=1)
    assert order[0] == (Command.SWITCH, 1, OFF)
    assert [command for command, _, _ in order].index(Command.SET_MODULE_OUTPUT) < [d for _, _, d in order].index(ON)
    assert [module.set_ma for module in made.sim.modules] == [30_000, 30_000]
    assert made.told(PowerLimits)[-1].modules == 2
    assert made.told(PowerOutput)[-1].current_ma == 60_000


def test_all_silent_is_told_within_a_few_seconds_and_once() -> None:
    made = running(0, 1)
    for module in made.sim.modules:
        module.faults.set(Fault.SILENT)
    made.run(4_500)
    assert [lost.kind for lost in made.told(Lost)] == [LossKind.SILENT]
    outputs = len(made.told(PowerOutput))
    made.run(30_000)
    assert len(made.told(Lost)) == 1
    assert len(made.told(PowerOutput)) == outputs
    assert not any(delivering(made))
    for module in made.sim.modules:
        module.faults.clear()
    made.run(4_000)
    assert len(made.told(Back)) == 2
    assert made.told(PowerOutput)[-1].current_ma == 60_000  # it is still wanted


def test_nobody_there_is_told_once() -> None:
    made = Bench(InfypowerConfig("dc", Mode.GROUP), SimInfypower(()))
    made.link(up=True)
    made.run(20_000)
    assert [lost.kind for lost in made.told(Lost)] == [LossKind.SILENT]


@pytest.mark.parametrize(("fault", "kind"), [(Fault.GARBAGE, LossKind.GARBAGE), (Fault.SHORT, LossKind.GARBAGE)])
def test_nonsense_instead_of_answers_is_told_as_garbage(fault: Fault, kind: LossKind) -> None:
    made = running(0)
    made.sim.modules[0].faults.set(fault)
    made.run(6_000)
    assert [lost.kind for lost in made.told(Lost)] == [kind]


@pytest.mark.parametrize("fault", [Fault.CORRUPT, Fault.WRONG_UNIT])
def test_answers_that_are_not_ours_count_for_nothing(fault: Fault) -> None:
    made = running(0)
    made.sim.modules[0].faults.set(fault)
    made.run(6_000)
    assert len(made.told(Lost)) == 1


def test_a_lost_link_is_told_at_once_and_the_modules_start_from_off_after_it() -> None:
    made = running(0)
    made.link(up=False)
    assert made.told(Lost) == [Lost(LossKind.GONE, "gone")]
    made.run(12_000)
    assert not delivering(made)[0]  # by its own time-out
    made.link(up=True)
    back_ms = made.now_ms
    made.run(3_000)
    order = made.commands(Command.SWITCH, *SET, since_ms=back_ms)
    assert order[0][2] == OFF
    assert [command for command, _, _ in order].index(Command.SET_MODULE_OUTPUT) < [d for _, _, d in order].index(ON)
    assert len(made.told(Back)) == 2
    assert made.told(PowerOutput)[-1].on


def test_what_is_wanted_off_stays_off_after_a_reconnect() -> None:
    made = running(0)
    made.link(up=False)
    made.group.switch(False, made.now_ms)
    made.run(500)
    assert delivering(made)[0]  # it cannot know yet
    made.link(up=True)
    made.run(100)
    assert not delivering(made)[0]
    made.run(3_000)
    assert not delivering(made)[0]


def test_a_stall_of_ours_is_not_the_modules_silence() -> None:
    made = running(0)
    made.now_ms += 8_000  # nobody called tick
    made.run(1_500)
    assert made.told(Lost) == []


def test_late_and_double_answers_do_no_harm() -> None:
    made = running(0, 1)
    made.sim.modules[0].faults.set(Fault.DELAY, param=400)
    made.sim.modules[1].faults.set(Fault.DUPLICATE)
    since_ms = made.now_ms
    before = len(made.told(PowerOutput))
    made.run(10_000)
    fresh = made.told(PowerOutput)[before:]
    assert 9 <= len(fresh) <= 11
    assert all(output.current_ma == 60_000 for output in fresh)
    assert all(output.at_ms >= since_ms for output in fresh[1:])
    assert made.told(Lost) == []
