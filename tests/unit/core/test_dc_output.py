"""The output of a DC EVSE: what its modules put out, held against what they were ordered."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.core.events import DcDemand, Event, FromPower, LimitSet
from agent.core.settings import DcBench, EvseHardware, StationSettings
from agent.core.status import ConnectorState, FaultCode
from hal.ports import CpState, MeterReading, ModuleFaults, PowerOutput
from tests.support.core_world import CoreWorld

DC = EvseHardware(evse=1, hard_limit_ma=50_000, min_current_ma=1_000, dc=True, dc_bench=DcBench(400_000, 40_000))


class MeterAtTheRectifiers(CoreWorld):
    """The meter is on the modules' supply, as in the bundled board file; the modules tell their output each second."""

    ac_ma = 0
    put_out_ma: int | None = None  # None: what they are told to
    put_out_mv: int | None = None
    tell = True

    def reading(self, evse: int) -> MeterReading:
        return replace(super().reading(evse), voltage_mv=(230_000,) * 3, current_ma=(self.ac_ma,) * 3)

    def read(self, evse: int) -> None:
        super().read(evse)
        around = self.evses[evse]
        told_ma = around.output[1] if around.output_on else 0
        put_out_ma = told_ma if self.put_out_ma is None else self.put_out_ma
        put_out_mv = around.output[0] if self.put_out_mv is None else self.put_out_mv
        if self.tell:
            self.give(FromPower(evse, PowerOutput(self.at_ms, put_out_mv, put_out_ma, around.output_on)))


def world(hardware: EvseHardware = DC) -> MeterAtTheRectifiers:
    made = MeterAtTheRectifiers(StationSettings(evses=(hardware,)))
    made.boot()
    return made


def faults(made: CoreWorld) -> tuple[FaultCode, ...]:
    return made.station.views()[0].faults


def test_dc_currents_on_the_ac_side_are_held_against_no_limit_of_the_output() -> None:
    made = world(replace(DC, hard_limit_ma=20_000, dc_bench=DcBench(800_000, 20_000)))
    made.charge()
    made.ac_ma = 24_400
    made.run(60_000)
    assert faults(made) == () and made.evses[1].output_on


def test_dc_current_that_modules_take_for_themselves_is_no_weld() -> None:
    made = world()
    made.ac_ma = 1_200
    made.run(60_000)
    assert faults(made) == () and made.state() is ConnectorState.AVAILABLE


def ordered() -> MeterAtTheRectifiers:
    """The modules are ordered to put out 40 A at 400 V, which the vehicle asks for; 50 A are offered."""
    made = world()
    made.charge()
    assert made.evses[1].output == (400_000, 40_000) and made.evses[1].output_on
    return made


@pytest.mark.parametrize(("put_out_ma", "over"), [((40_000 + 2_500) * 110 // 100, False), (46_751, True)])
def test_dc_modules_that_put_out_too_much(put_out_ma: int, over: bool) -> None:
    made = ordered()
    made.put_out_ma = put_out_ma
    made.run(7_000)
    assert faults(made) == () and made.evses[1].output_on
    made.run(1_000)
    assert faults(made) == ((FaultCode.OVER_CURRENT,) if over else ())


LOWERED: dict[str, Event] = {"the limit": LimitSet(1, 10_000), "the vehicle": DcDemand(1, 400_000, 10_000)}


@pytest.mark.parametrize("by", LOWERED)
@pytest.mark.parametrize(("ramp_ms", "over"), [(5_000, False), (14_000, True)])
def test_dc_modules_have_time_to_follow_a_lower_order_and_no_more(by: str, ramp_ms: int, over: bool) -> None:
    made = ordered()
    made.put_out_ma = 40_000
    made.give(LOWERED[by])
    assert made.evses[1].output == (400_000, 10_000)
    made.run(ramp_ms)
    made.put_out_ma = None
    made.run(60_000)
    assert faults(made) == ((FaultCode.OVER_CURRENT,) if over else ())


@pytest.mark.parametrize(
    ("put_out_mv", "put_out_ma", "over"), [(450_000, 40_000, False), (450_001, 1_000, True), (700_000, 999, False)]
)
def test_dc_voltage_above_the_ordered_one_is_the_modules_while_they_drive_current(
    put_out_mv: int, put_out_ma: int, over: bool
) -> None:
    made = ordered()
    made.put_out_mv, made.put_out_ma = put_out_mv, put_out_ma
    made.run(2_000)
    assert faults(made) == () and made.evses[1].output_on, "two readings prove nothing"
    made.run(1_000)
    assert faults(made) == ((FaultCode.POWER_MODULE,) if over else ())
    assert made.evses[1].power is made.evses[1].output_on is not over


def test_dc_modules_that_put_out_too_high_a_voltage_wait_for_the_next_vehicle() -> None:
    """Without power they are fine again, and would do the same to the vehicle that is there."""
    made = ordered()
    made.put_out_mv = 700_000
    made.run(5_000)
    made.put_out_mv = None
    made.run(60_000)
    made.give(FromPower(1, ModuleFaults(frozenset())))
    assert faults(made) == (FaultCode.POWER_MODULE,) and not made.evses[1].power
    made.cp(1, CpState.A)
    made.run(2_000)
    assert faults(made) == ()
    made.charge()
    assert made.evses[1].output_on


def test_dc_modules_have_time_to_follow_a_lower_voltage() -> None:
    made = ordered()
    made.put_out_mv = 400_000
    made.give(DcDemand(1, 300_000, 40_000))
    made.run(5_000)
    assert faults(made) == ()
    made.run(4_000)
    assert faults(made) == (FaultCode.POWER_MODULE,)


@pytest.mark.parametrize(("put_out_ma", "welded"), [(1_000, False), (1_001, True)])
def test_dc_current_out_of_the_modules_through_an_open_contactor_is_a_weld(put_out_ma: int, welded: bool) -> None:
    made = world()
    made.put_out_ma = put_out_ma
    made.run(5_000)
    assert faults(made) == ((FaultCode.CONTACTOR_WELDED,) if welded else ())


def test_dc_without_word_from_the_modules_nothing_is_known_of_the_current() -> None:
    made = world()
    made.tell, made.ac_ma = False, 90_000
    made.charge()
    made.run(60_000)
    assert faults(made) == ()
