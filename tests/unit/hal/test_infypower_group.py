"""The controller's rules against simulated modules, in virtual time."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hal.ports import Back, LossKind, Lost, ModuleFault, ModuleFaults, PowerEvent, PowerLimits, PowerOutput
from hal.power.can_frame import CanFrame
from hal.power.infypower_codec import BROADCAST, DEVICE_GROUP, Capability, Command, ErrorCode, Header, Status
from hal.power.infypower_config import InfypowerConfig, Mode
from hal.sim.faults import Fault
from hal.sim.infypower import SimInfypower
from tests.unit.hal.infypower_bench import OFF, ON, SET, Bench, bench, delivering, running

# ------------------------------------------------------------------------------ coming up, running


@pytest.mark.parametrize("mode", list(Mode))
def test_modules_are_found_and_told_once(mode: Mode) -> None:
    made = bench(0, 1, mode=mode)
    made.run(6_000)
    assert len(made.told(Back)) == 1
    assert made.told(Lost) == []
    assert made.told(PowerLimits)[-1] == PowerLimits(150_000, 1_000_000, 200_000, 60_000, 2)
    assert made.told(ModuleFaults) == [ModuleFaults(frozenset())]
    outputs = made.told(PowerOutput)
    assert 6 <= len(outputs) <= 7
    assert {output.on for output in outputs} == {False}
    assert [output.at_ms for output in outputs] == sorted({output.at_ms for output in outputs})


@pytest.mark.parametrize("mode", list(Mode))
def test_the_set_point_is_reached_and_shared(mode: Mode) -> None:
    made = running(0, 1, mode=mode)
    output = made.told(PowerOutput)[-1]
    assert output.current_ma == 60_000
    assert output.voltage_mv == pytest.approx(392_000, abs=2)  # 380 V + 60 A * 0.2 ohm: current limit
    assert made.sim.modules[0].output.current_ma == 30_000
    made.group.set_output(384_000, 60_000, made.now_ms)
    made.run(2_000)
    assert made.told(PowerOutput)[-1].voltage_mv == 384_000
    assert made.told(PowerOutput)[-1].current_ma == 20_000


@pytest.mark.parametrize("mode", list(Mode))
def test_the_set_point_is_repeated_every_second_and_never_broadcast(mode: Mode) -> None:
    made = running(0, 1, mode=mode)
    since_ms = made.now_ms
    made.run(10_000)
    sets = made.commands(*SET, since_ms=since_ms)
    assert len(sets) == (20 if mode is Mode.MODULES else 10)
    for _, frame in made.sent:
        header = Header.decode(frame.id)
        assert header.destination != BROADCAST
        assert (header.command == Command.SET_GROUP_OUTPUT) == (header.device == DEVICE_GROUP and header.command in SET)
    total_ma = sum(struct.unpack(">II", data)[1] for _, _, data in sets[: 2 if mode is Mode.MODULES else 1])
    assert total_ma == 60_000


def test_a_module_hears_us_far_more_often_than_its_time_out() -> None:
    made = bench(0)
    made.run(60_000)
    assert Status.COMMUNICATION_INTERRUPTED not in made.sim.modules[0].status
    assert len(made.told(PowerOutput)) >= 59


def test_it_starts_from_off_then_set_point_then_on() -> None:
    made = bench(0)
    made.group.set_output(400_000, 10_000, 0)
    made.group.switch(True, 0)
    made.run(3_000)
    order = made.commands(Command.SWITCH, *SET)
    assert order[0] == (Command.SWITCH, 0, OFF)
    first_set = [command for command, _, _ in order].index(Command.SET_MODULE_OUTPUT)
    first_on = [data for _, _, data in order].index(ON)
    assert first_set < first_on
    assert order[first_on - 1][0] is Command.SET_MODULE_OUTPUT
    assert made.told(PowerOutput)[-1].on


def test_a_module_that_is_on_when_we_come_is_switched_off_first() -> None:
    made = bench(0)
    made.sim.receive(CanFrame(0x029C00F0, struct.pack(">II", 400_000, 50_000)))
    made.sim.receive(CanFrame(0x029A00F0, ON))
    made.sim.step(0)
    made.run(1_000)
    assert not delivering(made)[0]


def test_starting_up_is_waited_for() -> None:
    made = bench(0, startup_ms=8_000)
    made.group.set_output(400_000, 10_000, 0)
    made.group.switch(True, 0)
    made.run(7_500)
    assert made.told(Back) == []
    assert [lost.kind for lost in made.told(Lost)] == [LossKind.REFUSED]
    made.run(4_000)
    assert len(made.told(Back)) == 1
    assert made.told(ModuleFaults)[-1].faults == frozenset()
    assert made.told(PowerOutput)[-1].on


# ------------------------------------------------------------------------------------------- off


def test_off_goes_out_in_the_same_moment_to_every_module() -> None:
    made = running(0, 1)
    made.group.switch(False, made.now_ms)
    assert [(to, data) for _, to, data in made.commands(Command.SWITCH, since_ms=made.now_ms)] == [(0, OFF), (1, OFF)]
    made.run(100)
    assert not any(delivering(made))
    made.run(1_100)
    assert not made.told(PowerOutput)[-1].on
    assert made.group.all_off


def test_off_is_repeated_until_the_module_says_so() -> None:
    made = running(0)
    off = made.now_ms
    made.deaf = lambda frame: Header.decode(frame.id).command == Command.SWITCH
    made.group.switch(False, off)
    made.run(2_000)
    assert len(made.commands(Command.SWITCH, since_ms=off)) >= 8
    before = made.group.all_off
    made.deaf = lambda frame: False
    made.run(400)
    assert (before, made.group.all_off) == (False, True)
    confirmed = made.now_ms
    made.run(3_000)
    assert made.commands(Command.SWITCH, since_ms=confirmed) == []
    assert made.commands(*SET, since_ms=off) == []


def test_an_off_that_follows_an_on_at_once_is_repeated_though_the_module_last_said_off() -> None:
    made = bench(0)
    made.run(2_000)
    made.group.set_output(400_000, 10_000, made.now_ms)
    made.group.switch(True, made.now_ms)
    made.group.switch(False, made.now_ms)
    lost_at = made.now_ms + 20
    made.deaf = lambda frame: (
        made.now_ms == lost_at and (frame.data == OFF or Header.decode(frame.id).command == Command.READ_STATE)
    )
    made.run(20)
    assert delivering(made) == [True]
    made.run(300)
    assert delivering(made) == [False]


def test_off_is_not_claimed_while_a_silent_module_may_still_deliver() -> None:
    made = running(0, 1)
    made.sim.modules[1].faults.set(Fault.SILENT)
    made.run(2_000)
    made.group.switch(False, made.now_ms)
    made.run(7_000)
    assert delivering(made) == [False, True]
    assert made.told(PowerOutput)[-1].on
    made.run(8_000)
    assert delivering(made) == [False, False]
    assert not made.told(PowerOutput)[-1].on


def test_a_group_nobody_has_counted_yet_is_told_off_first() -> None:
    made = bench(0, mode=Mode.GROUP)
    header = Header.decode(made.sent[0][1].id)
    assert (header.command, header.device, made.sent[0][1].data) == (Command.SWITCH, DEVICE_GROUP, OFF)


def test_a_module_that_comes_on_by_itself_is_switched_off() -> None:
    made = bench(0)
    made.run(2_000)
    made.sim.modules[0].switch(True)
    made.run(1_200)
    assert not delivering(made)[0]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 1_500)), min_size=1, max_size=12))
@settings(max_examples=25, deadline=None)
def test_however_it_is_switched_the_last_word_holds(switches: list[tuple[bool, int]]) -> None:
    made = bench(0, 1)
    made.run(1_000)
    made.group.set_output(400_000, 10_000, made.now_ms)
    for on, wait_ms in switches:
        made.group.switch(on, made.now_ms)
        made.run(wait_ms)
    made.run(3_000)
    assert set(delivering(made)) == {switches[-1][0]}


# ----------------------------------------------------------------------- limits, refusals, alarms


def test_a_set_point_above_capability_is_lowered_to_it() -> None:
    made = bench(0)
    made.run(1_500)
    made.group.set_output(5_000_000, 900_000, made.now_ms)
    made.group.switch(True, made.now_ms)
    made.run(2_000)
    assert (made.sim.modules[0].set_mv, made.sim.modules[0].set_ma) == (1_000_000, 100_000)


def test_a_voltage_below_the_minimum_is_never_raised() -> None:
    made = running(0)
    made.group.set_output(100_000, 10_000, made.now_ms)
    made.run(1_500)
    assert not delivering(made)[0]
    assert not made.told(PowerOutput)[-1].on
    made.group.set_output(400_000, 10_000, made.now_ms)
    made.run(2_500)
    assert made.told(PowerOutput)[-1].on


def test_a_negative_set_point_is_a_programming_error() -> None:
    made = bench(0)
    with pytest.raises(ValueError, match="negative"):
        made.group.set_output(400_000, -1, 0)


@given(
    st.lists(st.integers(1, 200_000), min_size=1, max_size=8),
    st.integers(0, 2_000_000),
)
@settings(max_examples=40, deadline=None)
def test_shares_never_exceed_the_total_or_a_rating(ratings_ma: list[int], wanted_ma: int) -> None:
    ratings_ma = [max(100, rating // 100 * 100) for rating in ratings_ma]
    sim = SimInfypower(range(len(ratings_ma)))
    for module, rating_ma in zip(sim.modules, ratings_ma, strict=True):
        module.rating = Capability(1_000_000, 150_000, rating_ma, 30_000)
    made = Bench(InfypowerConfig("dc", Mode.MODULES, tuple(range(len(ratings_ma)))), sim)
    made.link(up=True)
    made.group.set_output(400_000, wanted_ma, 0)
    made.group.switch(True, 0)
    made.run(2_400)
    shares_ma = [module.set_ma for module in sim.modules]
    assert all(share <= rating for share, rating in zip(shares_ma, ratings_ma, strict=True))
    assert sum(shares_ma) <= wanted_ma
    assert sum(shares_ma) > min(wanted_ma, sum(ratings_ma)) - len(ratings_ma)


@pytest.mark.parametrize(
    ("bit", "fault"),
    [
        (Status.OVER_TEMPERATURE, ModuleFault.OVER_TEMPERATURE),
        (Status.OUTPUT_SHORT, ModuleFault.OUTPUT_SHORT),
        (Status.FAN, ModuleFault.FAN),
    ],
)
def test_alarms_are_told_and_cleared(bit: Status, fault: ModuleFault) -> None:
    made = running(0, 1)
    made.sim.modules[1].alarms = bit
    made.run(1_200)
    assert made.told(ModuleFaults)[-1] == ModuleFaults(frozenset({fault}))
    made.sim.modules[1].alarms = Status(0)
    made.run(2_200)
    assert made.told(ModuleFaults)[-1] == ModuleFaults(frozenset())


def test_a_shorted_module_is_not_started_again_and_again() -> None:
    made = running(0)
    made.sim.modules[0].alarms = Status.OUTPUT_SHORT
    made.run(1_200)
    since_ms = made.now_ms
    made.run(5_000)
    assert made.commands(Command.SWITCH, since_ms=since_ms) == []
    assert not made.told(PowerOutput)[-1].on


def test_two_modules_with_one_address_are_kept_off() -> None:
    made = running(0, 1)
    made.sim.plug_in(1)
    made.run(2_500)
    assert ModuleFault.DUPLICATE_ADDRESS in made.told(ModuleFaults)[-1].faults
    assert delivering(made) == [True, False, False]
    assert made.sim.current_ma <= 30_000


def test_a_refused_set_point_is_a_fault_until_one_is_taken() -> None:
    made = running(0)
    made.sim.modules[0].rating = Capability(300_000, 150_000, 100_000, 30_000)  # less than it told
    made.run(2_000)
    assert made.told(ModuleFaults)[-1] == ModuleFaults(frozenset({ModuleFault.FAULT}))
    made.group.set_output(280_000, 10_000, made.now_ms)
    made.run(1_000)
    assert made.told(ModuleFaults)[-1] == ModuleFaults(frozenset())


def _refuse_once(made: Bench, wanted: Command) -> list[Command]:
    """Module 1, or the group, says no to the next such command. Returns what was refused."""
    module, refused = made.sim.modules[1], list[Command]()
    execute, accepts = module.execute, module.accepts_voltage

    def once(header: Header, data: bytes, external_mv: int) -> tuple[ErrorCode, bytes]:
        if not refused and header.command == wanted:
            refused.append(wanted)
            return ErrorCode.DATA_INVALID, data
        return execute(header, data, external_mv)

    def group_once(voltage_mv: int) -> bool:
        if not refused and wanted is Command.SET_GROUP_OUTPUT:
            refused.append(wanted)
            return False
        return accepts(voltage_mv)

    module.execute, module.accepts_voltage = once, group_once  # type: ignore[method-assign]
    return refused


@pytest.mark.parametrize(
    ("mode", "command"),
    [
        (Mode.MODULES, Command.SET_MODULE_OUTPUT),
        (Mode.MODULES, Command.SWITCH),
        (Mode.GROUP, Command.SET_GROUP_OUTPUT),
    ],
)
def test_what_was_refused_once_is_asked_again_without_power_and_the_fault_ends(mode: Mode, command: Command) -> None:
    """The station switches off for the fault and wants nothing more, so no such command would ever be taken."""
    made = running(0, 1, mode=mode)

    def station(event: PowerEvent) -> None:
        made.events.append(event)
        if isinstance(event, ModuleFaults):
            made.group.switch(not event.faults, made.now_ms)

    made.group._emit = station
    made.group.switch(False, made.now_ms)
    made.run(2_000)
    refused = _refuse_once(made, command)
    made.group.switch(True, made.now_ms)
    made.run(30_000)
    assert refused == [command]
    assert [event.faults for event in made.told(ModuleFaults)][-2:] == [{ModuleFault.FAULT}, frozenset()]
    assert delivering(made) == [True, True]


def test_refused_readings_are_told_as_refused() -> None:
    made = running(0)
    made.sim.modules[0].faults.set(Fault.REFUSE, param=ErrorCode.COMMAND_INVALID)
    made.run(6_000)
    assert [lost.kind for lost in made.told(Lost)] == [LossKind.REFUSED]


def test_a_module_that_reboots_is_waited_for_and_switched_on_again() -> None:
    made = bench(0, startup_ms=2_000)
    made.group.set_output(400_000, 60_000, made.now_ms)
    made.group.switch(True, made.now_ms)
    made.run(6_000)
    assert made.told(PowerOutput)[-1].current_ma == 60_000
    made.sim.modules[0].faults.set(Fault.RESET, count=1)
    made.run(1_500)
    assert delivering(made) == [False]
    made.run(4_500)
    assert made.told(PowerOutput)[-1].current_ma == 60_000
    assert made.told(ModuleFaults) == [ModuleFaults(frozenset())]  # starting up is no fault


def test_a_group_grows_when_a_module_is_plugged_in() -> None:
    made = running(0, mode=Mode.GROUP)
    made.sim.plug_in(1)
    made.run(5_000)
    assert made.told(PowerLimits)[-1].modules == 2
    assert [module.output.current_ma for module in made.sim.modules] == [30_000, 30_000]


# ------------------------------------------------------------------------------- what is not ours


def test_frames_of_others_are_not_accepted() -> None:
    group = bench(3).group
    ours = Header(Command.READ_OUTPUT, 0xF0, 3)
    assert group.accepts(CanFrame(ours.encode(), bytes(8)))
    for other in (
        Header(Command.READ_OUTPUT, 0xF1, 3),
        Header(Command.READ_OUTPUT, 0xF0, 4),
        Header(Command.READ_OUTPUT, 3, 0xF0),
        Header(Command.MODULE_COUNT, 0xF0, 0, DEVICE_GROUP),
    ):
        assert not group.accepts(CanFrame(other.encode(), bytes(8)))


@given(st.lists(st.tuples(st.integers(0, 0x1FFF_FFFF), st.binary(max_size=8), st.booleans()), max_size=30))
@settings(max_examples=30, deadline=None)
def test_no_frame_disturbs_the_controller(noise: list[tuple[int, bytes, bool]]) -> None:
    made = bench(0, mode=Mode.GROUP)
    made.run(1_200)
    for number, data, aimed in noise:
        # Half of them aimed at us, so that they come past the address check.
        can_id = number & ~0xFFFF | 0xF000 if aimed else number
        frame = CanFrame(can_id, data)
        if made.group.accepts(frame):
            made.group.receive(frame, made.now_ms)
    made.run(2_000)
    assert made.told(PowerOutput)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"mode": Mode.MODULES}, "needs addresses"),
        ({"mode": Mode.GROUP, "addresses": (1,)}, "finds its addresses"),
        ({"mode": Mode.MODULES, "addresses": (1, 1)}, "twice"),
        ({"mode": Mode.MODULES, "addresses": (0x3F,)}, "addresses are"),
        ({"mode": Mode.GROUP, "controller": 0x10}, "controller"),
        ({"mode": Mode.GROUP, "off_timeout_ms": 10_000}, "off_timeout_ms"),
        ({"mode": Mode.GROUP, "poll_interval_ms": 3_000}, "poll_interval_ms"),
    ],
)
def test_an_impossible_configuration_says_what_is_wrong(wrong: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        InfypowerConfig("dc", **wrong)  # type: ignore[arg-type]
