"""The simulated modules by themselves: physics, time-outs, faults, and the energy they count."""

from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hal.ports import PowerOutput
from hal.power.can_frame import CanFrame
from hal.power.infypower_codec import (
    BROADCAST,
    DEVICE_GROUP,
    Accepted,
    Command,
    ErrorCode,
    Header,
    Message,
    ModuleCount,
    Output,
    Refused,
    State,
    Status,
    parse_reply,
    read,
    set_group_output,
    set_module_output,
    switch,
)
from hal.power.infypower_config import InfypowerConfig, Mode
from hal.sim.dc_bus import BatteryLoad, DcLoad, OpenCircuit, ResistiveLoad, operating_point
from hal.sim.faults import Fault
from hal.sim.infypower import SimInfypower
from tests.unit.hal.infypower_bench import Bench

CONTROLLER = 0xF0


class Wire:
    """Frames in, answers out."""

    def __init__(self, sim: SimInfypower) -> None:
        self.sim = sim
        self.answers: list[CanFrame] = []
        sim.attach(self.answers.append)

    def ask(self, frame: CanFrame) -> Message:
        """The last answer to this frame."""
        self.answers.clear()
        self.sim.receive(frame)
        return parse_reply(self.answers[-1]).message

    def status(self, module: int = 0) -> Status:
        state = self.ask(read(Command.READ_STATE, module, CONTROLLER))
        assert isinstance(state, State)
        return state.status


def on(load: DcLoad, *, voltage_mv: int = 400_000, current_ma: int = 50_000, soft_start_ms: int = 1_000) -> Wire:
    wire = Wire(SimInfypower([0], load=load, soft_start_ms=soft_start_ms))
    assert wire.ask(set_module_output(voltage_mv, current_ma, 0, CONTROLLER)) == Accepted()
    assert wire.ask(switch(True, 0, CONTROLLER)) == Accepted()
    return wire


@pytest.mark.parametrize(
    ("load", "voltage_mv", "current_ma", "expected"),
    [
        (OpenCircuit(), 400_000, 50_000, (400_000, 0)),  # constant voltage
        (ResistiveLoad(10_000), 400_000, 50_000, (400_000, 40_000)),
        (ResistiveLoad(4_000), 400_000, 50_000, (200_000, 50_000)),  # constant current
        (ResistiveLoad(10_000), 1_000_000, 100_000, (547_722, 54_772)),  # constant power: 30 kW
        (BatteryLoad(380_000, 200), 400_000, 50_000, (390_000, 50_000)),
    ],
)
def test_output_is_limited_by_voltage_current_and_power(
    load: DcLoad, voltage_mv: int, current_ma: int, expected: tuple[int, int]
) -> None:
    wire = on(load, voltage_mv=voltage_mv, current_ma=current_ma)
    wire.sim.step(3_000)
    output = wire.ask(read(Command.READ_OUTPUT_FIXED, 0, CONTROLLER))
    assert isinstance(output, Output)
    assert output.voltage_mv == pytest.approx(expected[0], abs=5)  # the load's whole mA
    assert output.current_ma == pytest.approx(expected[1], abs=1)
    as_float = wire.ask(read(Command.READ_OUTPUT, 0, CONTROLLER))
    assert isinstance(as_float, Output)
    assert as_float.voltage_mv == pytest.approx(output.voltage_mv, abs=50)
    assert (Status.POWER_LIMITED in wire.status()) == (voltage_mv == 1_000_000)


def test_soft_start_rises_and_bleed_down_falls() -> None:
    wire = on(OpenCircuit(), soft_start_ms=5_000)
    seen = []
    for now_ms in range(0, 4_000, 500):
        wire.sim.step(now_ms)
        seen.append(wire.sim.voltage_mv)
    assert seen[0] == 0
    assert seen[1:5] == [100_000, 200_000, 300_000, 400_000]
    wire.ask(switch(False, 0, CONTROLLER))
    wire.sim.step(3_700)
    assert wire.sim.voltage_mv == pytest.approx(300_000, abs=10_000)
    assert Status.DC_OFF in wire.status()
    wire.sim.step(4_500)
    assert wire.sim.voltage_mv == 0


def test_ten_seconds_without_a_controller_switch_it_off() -> None:
    wire = on(ResistiveLoad(10_000))
    wire.sim.step(10_000)
    assert wire.sim.current_ma == 40_000
    wire.sim.step(10_100)
    assert wire.sim.current_ma == 0
    assert {Status.DC_OFF, Status.COMMUNICATION_INTERRUPTED} <= set(wire.status())
    wire.ask(switch(False, 0, CONTROLLER))
    assert Status.COMMUNICATION_INTERRUPTED not in wire.status()


def test_frames_to_others_do_not_keep_it_alive() -> None:
    wire = on(ResistiveLoad(10_000))
    for now_ms in range(1_000, 12_000, 1_000):
        wire.sim.receive(read(Command.READ_STATE, 1, CONTROLLER))
        wire.sim.receive(CanFrame(Header(Command.READ_STATE, 0, 0x05).encode(), bytes(8)))  # another module's frame
        wire.sim.step(now_ms)
    assert wire.sim.current_ma == 0


def test_broadcast_off_reaches_everybody_and_everybody_answers() -> None:
    sim = SimInfypower([0, 1, 2])
    wire = Wire(sim)
    wire.ask(switch(False, BROADCAST, CONTROLLER))
    assert [Header.decode(answer.id).source for answer in wire.answers] == [0, 1, 2]


def test_a_group_counts_itself_and_shares_the_current() -> None:
    sim = SimInfypower([0, 1], load=BatteryLoad(380_000, 200), group=1)
    wire = Wire(sim)
    assert wire.ask(read(Command.MODULE_COUNT, 1, CONTROLLER, DEVICE_GROUP)) == ModuleCount(2)
    assert str(wire.answers[-1]).startswith("02C2F001")
    assert wire.ask(set_group_output(400_000, 60_000, 1, CONTROLLER)) == Accepted()
    for module in (0, 1):
        wire.ask(switch(True, module, CONTROLLER))
    sim.step(2_000)
    assert [module.output.current_ma for module in sim.modules] == [30_000, 30_000]
    wire.ask(switch(False, 1, CONTROLLER))
    sim.step(3_000)
    assert sim.modules[0].output.current_ma == 60_000
    wire.answers.clear()
    sim.receive(read(Command.MODULE_COUNT, 2, CONTROLLER, DEVICE_GROUP))
    assert wire.answers == []


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (CanFrame(Header(0x3D, 0, CONTROLLER).encode(), bytes(8)), ErrorCode.COMMAND_INVALID),
        (set_module_output(2_000_000, 1_000, 0, CONTROLLER), ErrorCode.DATA_INVALID),
        (set_module_output(400_000, 200_000, 0, CONTROLLER), ErrorCode.DATA_INVALID),
        (CanFrame(Header(Command.SWITCH, 0, CONTROLLER).encode(), b"\x02" + bytes(7)), ErrorCode.DATA_INVALID),
        (CanFrame(Header(Command.SWITCH, 0, CONTROLLER).encode(), b""), ErrorCode.DATA_INVALID),
    ],
)
def test_wrong_requests_are_refused_in_the_error_field(request_: CanFrame, code: ErrorCode) -> None:
    wire = Wire(SimInfypower([0]))
    wire.sim.receive(request_)
    assert Header.decode(wire.answers[-1].id).error == code
    assert not wire.sim.modules[0].delivering


def test_it_refuses_while_starting_up() -> None:
    wire = Wire(SimInfypower([0], startup_ms=3_000))
    assert wire.ask(switch(True, 0, CONTROLLER)) == Refused(ErrorCode.STARTING_UP)
    wire.sim.step(3_000)
    assert wire.ask(switch(True, 0, CONTROLLER)) == Accepted()


def test_two_modules_at_one_address_both_answer_and_say_so() -> None:
    wire = Wire(SimInfypower([4, 4]))
    assert Status.ID_REPEATED in wire.status(4)
    assert len(wire.answers) == 2
    wire.sim.pull_out(wire.sim.modules[0])
    assert Status.ID_REPEATED not in wire.status(4)


def test_faults_bite_where_they_are_named() -> None:
    wire = on(ResistiveLoad(10_000))
    wire.sim.step(2_000)
    module = wire.sim.modules[0]
    ask = read(Command.READ_OUTPUT, 0, CONTROLLER)

    def answers(fault: Fault, param: int | None = None) -> list[CanFrame]:
        wire.answers.clear()
        module.faults.set(fault, count=1, param=param)
        wire.sim.receive(ask)
        return list(wire.answers)

    good = CanFrame(0x0283F000, struct.pack(">ff", 400, 40))
    assert answers(Fault.SILENT) == []
    assert answers(Fault.DROP) == []
    assert answers(Fault.DUPLICATE) == [good, good]
    assert answers(Fault.SHORT) == [CanFrame(good.id, good.data[:3])]
    assert answers(Fault.WRONG_UNIT) == [CanFrame(0x0283F001, good.data)]
    assert answers(Fault.GARBAGE) == [CanFrame(good.id, b"\xff" * 8)]
    assert answers(Fault.CORRUPT) == [CanFrame(0x02BEF000, good.data)]
    assert answers(Fault.REFUSE, param=4) == [CanFrame(0x1283F000, bytes(8))]
    assert answers(Fault.DELAY, param=100) == []
    wire.sim.step(2_120)
    assert wire.answers == [good]
    module.faults.set(Fault.STUCK)
    wire.ask(switch(False, 0, CONTROLLER))
    wire.sim.step(6_000)
    assert wire.ask(ask) == Output(400_000, 40_000)
    module.faults.clear()
    assert wire.ask(ask) == Output(0, 0)
    with pytest.raises(ValueError, match="not supported"):
        module.faults.set(Fault.UNPLUG)


@given(
    st.integers(150_000, 1_000_000),
    st.integers(0, 200_000),
    st.one_of(
        st.builds(ResistiveLoad, st.integers(100, 1_000_000)),
        st.builds(BatteryLoad, st.integers(0, 900_000), st.integers(10, 5_000)),
    ),
)
def test_the_operating_point_is_on_both_curves(highest_mv: int, limit_ma: int, load: DcLoad) -> None:
    def supply_ma(voltage_mv: int) -> int:
        return min(limit_ma, 30_000_000_000 // max(1, voltage_mv))

    voltage_mv, current_ma = operating_point(load, supply_ma, highest_mv)
    assert 0 <= voltage_mv <= highest_mv
    assert current_ma <= supply_ma(voltage_mv)
    assert load.current_ma(voltage_mv) <= current_ma <= load.current_ma(voltage_mv + 1)
    if voltage_mv < highest_mv:
        assert current_ma == min(supply_ma(voltage_mv), load.current_ma(voltage_mv + 1))
        assert load.current_ma(voltage_mv + 1) > supply_ma(voltage_mv + 1)


@given(st.lists(st.integers(1, 200), min_size=1, max_size=6))
@settings(max_examples=30)
def test_energy_does_not_depend_on_how_time_is_cut(steps_ms: list[int]) -> None:
    """A steady output's energy is exact: 400 V * 40 A for the whole time."""
    wire = on(ResistiveLoad(10_000), soft_start_ms=1)
    wire.sim.step(100)
    before = wire.sim.energy_nanojoule
    now_ms = 100
    for step_ms in steps_ms:
        now_ms += step_ms
        wire.sim.step(now_ms)
    assert wire.sim.energy_nanojoule - before == 400_000 * 40_000 * sum(steps_ms)


def test_the_parts_of_the_modules_are_the_whole() -> None:
    sim = SimInfypower([0, 1, 2], load=ResistiveLoad(10_007))
    wire = Wire(sim)
    for module in (0, 1, 2):
        wire.ask(set_module_output(400_000, 20_000 + module, module, CONTROLLER))
        wire.ask(switch(True, module, CONTROLLER))
    for now_ms in range(100, 2_000, 100):
        sim.step(now_ms)
        assert sum(module.output.current_ma for module in sim.modules) == sim.current_ma


def test_reported_power_adds_up_to_the_energy_that_flowed() -> None:
    """Between two readings power moves one way, so the trapezoids miss at most half of each change."""
    made = Bench(InfypowerConfig("dc", Mode.MODULES, (0, 1)), SimInfypower([0, 1], load=BatteryLoad(380_000, 200)))
    made.link(up=True)
    made.run(2_000)
    made.group.set_output(400_000, 80_000, made.now_ms)
    made.group.switch(True, made.now_ms)
    made.run(30_000)
    made.group.set_output(390_000, 30_000, made.now_ms)
    made.run(20_000)
    made.group.switch(False, made.now_ms)
    made.run(5_000)
    readings = made.told(PowerOutput)
    reported_nj, bound_nj = 0, 0
    for first, second in itertools.pairwise(readings):
        passed_ms = second.at_ms - first.at_ms
        power = first.voltage_mv * first.current_ma, second.voltage_mv * second.current_ma
        reported_nj += sum(power) * passed_ms // 2
        bound_nj += abs(power[1] - power[0]) * passed_ms // 2
    flowed_nj = made.sim.energy_nanojoule
    rounding_nj = flowed_nj // 100_000  # the wire's single-precision volts and amperes
    assert abs(reported_nj - flowed_nj) <= bound_nj + rounding_nj
    assert bound_nj < flowed_nj // 30  # so that the bound says something
    assert made.sim.energy_mwh == flowed_nj // 3_600_000_000
