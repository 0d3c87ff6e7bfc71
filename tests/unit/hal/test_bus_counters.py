"""What a line counts: each failure as its kind; and what the controller of DC modules adds to it and tells of them."""

from __future__ import annotations

import pytest

from hal.bus_counters import BusCounters
from hal.pilots import openevse_rules as rules
from hal.ports import BadReply, DeviceError, DeviceLost, DeviceRefused, DeviceTimeout, LossKind
from hal.power.infypower_config import InfypowerConfig, Mode
from hal.sim.faults import Fault
from hal.sim.infypower import SimInfypower
from tests.unit.hal.infypower_bench import Bench, bench, running


def failures(counters: BusCounters) -> dict[LossKind, int]:
    """Those that came."""
    return {kind: times for kind, times in counters.failures.items() if times}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (DeviceLost, LossKind.GONE),
        (DeviceTimeout, LossKind.SILENT),
        (BadReply, LossKind.GARBAGE),
        (DeviceRefused, LossKind.REFUSED),
    ],
)
def test_each_error_counts_as_its_kind_and_goes_on(error: type[DeviceError], kind: LossKind) -> None:
    counters = BusCounters()
    with pytest.raises(error), counters.failures_counted():
        raise error("d", "x")
    assert failures(counters) == {kind: 1}
    assert (counters.exchanges, counters.timed) == (1, 0)


def test_what_is_no_error_of_a_device_is_not_counted() -> None:
    counters = BusCounters()
    with pytest.raises(KeyError), counters.failures_counted():
        raise KeyError
    with counters.failures_counted():
        pass
    assert counters == BusCounters()


def test_latencies_are_summed_and_the_longest_kept() -> None:
    counters = BusCounters()
    for latency_us in (30, 70, 50):
        counters.answered(latency_us)
    counters.answered()
    assert counters == BusCounters(exchanges=4, timed=3, latency_sum_us=150, latency_max_us=70)


# --------------------------------------------------------------------------------- power modules


def test_modules_that_answer_are_exchanges_with_a_latency() -> None:
    made = running(0, 1)
    before = made.counters.exchanges
    made.run(10_000)
    rounds = 10
    assert made.counters.exchanges - before == rounds * 2 * 3  # output, state and external voltage of each
    assert failures(made.counters) == {}
    assert made.counters.timed == made.counters.exchanges
    assert 0 < made.counters.latency_sum_us <= made.counters.timed * made.counters.latency_max_us
    assert made.counters.latency_max_us <= 200_000


def test_an_answer_that_comes_twice_counts_once() -> None:
    made = running(0)
    made.sim.modules[0].faults.set(Fault.DUPLICATE)
    before = made.counters.exchanges
    made.run(10_000)
    assert made.counters.exchanges - before == 10 * 3


def test_a_silent_module_fails_once_a_round() -> None:
    made = running(0, 1)
    made.sim.modules[1].faults.set(Fault.SILENT)
    made.run(10_000)
    assert failures(made.counters).keys() == {LossKind.SILENT}
    assert 9 <= made.counters.failures[LossKind.SILENT] <= 10


def test_a_bus_that_is_gone_is_not_a_silent_module() -> None:
    made = running(0)
    made.link(up=False)
    made.run(5_000)
    assert failures(made.counters) == {}


def test_a_refusal_and_garbage_count_as_such() -> None:
    refused = bench(0)
    refused.sim.modules[0].faults.set(Fault.REFUSE)
    refused.run(3_000)
    assert refused.counters.failures[LossKind.REFUSED] > 0
    garbage = running(0)
    garbage.sim.modules[0].faults.set(Fault.CORRUPT)
    garbage.run(3_000)
    assert garbage.counters.failures[LossKind.GARBAGE] > 0


def test_temperatures_are_those_of_modules_that_speak() -> None:
    made = running(0, 1)
    made.sim.modules[0].temperature_c, made.sim.modules[1].temperature_c = 63, -7
    made.run(2_000)
    assert made.group.temperatures() == {"module 0": 63_000, "module 1": -7_000}
    made.sim.modules[1].faults.set(Fault.SILENT)
    made.run(6_000)
    assert made.group.temperatures().keys() == {"module 0"}
    made.link(up=False)
    assert made.group.temperatures() == {}


def test_no_module_no_temperature() -> None:
    made = Bench(InfypowerConfig("dc", Mode.GROUP), SimInfypower(()))
    made.link(up=True)
    made.run(3_000)
    assert made.group.temperatures() == {}


# ------------------------------------------------------------------------------------ pilot board


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (("230", "-2560", "-2560"), {"DS3231": 23_000}),
        (("-105", "0", "651"), {"DS3231": -10_500, "MCP9808": 0, "TMP007": 65_100}),
        (("x", "", "21"), {"TMP007": 2_100}),
        (("230",), {"DS3231": 23_000}),
        (("99999999999999999999", "2001", "-1001"), {}),
        ((), {}),
    ],
)
def test_temperatures_of_an_openevse_board(fields: tuple[str, ...], told: dict[str, int]) -> None:
    assert rules.temperatures(fields) == told
