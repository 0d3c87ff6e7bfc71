"""Samples as meterValue: exact numbers, every measured phase, bounded size (16-MV-03 to 06, 16-TX-15)."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import catalogue
from agent.core.facts import SampleContext
from agent.ocpp.metering import thin
from agent.ocpp.v16.metering import MEASURANDS, decimal, meter_value, whole_wh
from tests.support.fake_station import T0_MS, sample

EVERYTHING = sorted(MEASURANDS)


@given(st.integers(min_value=-(10**15), max_value=10**15))
def test_decimal_is_exact(thousandths: int) -> None:
    assert Decimal(decimal(thousandths)) == Decimal(thousandths) / 1000
    assert re.fullmatch(r"-?\d+(\.\d{0,2}[1-9])?", decimal(thousandths))


def test_the_settings_offer_what_can_be_told() -> None:
    assert frozenset(catalogue.MEASURANDS) == MEASURANDS


def test_16_mv_03_every_measured_phase_and_nothing_that_was_not_measured() -> None:
    reading = sample(
        SampleContext.PERIODIC,
        0,
        999,
        voltage_mv=(230_000, None, None),
        current_ma=(6_001, None, None),
        frequency_mhz=None,
    )
    value = meter_value(reading, T0_MS, EVERYTHING)
    assert value is not None
    told = {(entry["measurand"], entry.get("phase")): entry["value"] for entry in value["sampledValue"]}
    assert told == {
        ("Current.Import", "L1"): "6.001",
        ("Current.Offered", None): "16",
        ("Energy.Active.Import.Register", None): "0",
        ("Power.Active.Import", None): "11040.5",
        ("Voltage", "L1-N"): "230",
    }


def test_nothing_wanted_or_nothing_there_is_no_value() -> None:
    reading = sample(SampleContext.CLOCK, 0, 1)
    assert meter_value(reading, 0, ()) is None
    assert meter_value(reading, 0, ("Energy.Active.Export.Register", "SoC")) is None


@pytest.mark.parametrize(("energy_mwh", "wh"), [(0, 0), (999, 0), (1000, 1), (1999, 1)])
def test_16_tx_11_registers_are_rounded_down(energy_mwh: int, wh: int) -> None:
    assert whole_wh(energy_mwh) == wh


@given(st.integers(min_value=0, max_value=3000), st.integers(min_value=1, max_value=12))
def test_16_tx_15_thinning_keeps_ends_and_bound(count: int, width: int) -> None:
    values = [{"timestamp": str(number), "sampledValue": [{}] * width} for number in range(count)]
    kept = thin(values, 300)
    assert kept[:1] == values[:1]
    assert kept[-1:] == values[-1:]
    assert sum(len(value["sampledValue"]) for value in kept) <= max(300 + 2 * width, 2 * width)
    if count * width <= 300:
        assert kept == values
