"""Samples as meterValue: exact numbers, every measured phase, bounded size (16-MV-03 to 06, 16-TX-15)."""

from __future__ import annotations

import contextlib
import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import catalogue
from agent.core.facts import SampleContext
from agent.ocpp import schema
from agent.ocpp.metering import thin
from agent.ocpp.v16.metering import MEASURANDS, decimal, meter_value, whole_wh
from agent.ocpp.version import Version
from tests.support.fake_station import T0_MS, sample

EVERYTHING = sorted(MEASURANDS)
UNITS = {
    "Current.Import": "A",
    "Current.Offered": "A",
    "Energy.Active.Export.Register": "Wh",
    "Energy.Active.Import.Register": "Wh",
    "Frequency": None,
    "Power.Active.Import": "W",
    "Voltage": "V",
}
DEFAULTS = {
    "context": "Sample.Periodic",
    "format": "Raw",
    "location": "Outlet",
    "measurand": "Energy.Active.Import.Register",
    "unit": "Wh",
}
"""Of a sampledValue that says none of them (1.6, section 7.43)."""


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


def test_16_mv_05_values_are_text_and_what_is_left_out_is_what_the_standard_puts_there() -> None:
    """Location and format are never said: Outlet and Raw. A unit is said wherever 1.6 has one: Wh would be the default
    of energy only."""
    value = meter_value(sample(SampleContext.CLOCK, 0, 5_000_000, energy_export_mwh=1_000), T0_MS, EVERYTHING)
    assert value is not None
    schema.check_request(Version.V16, "MeterValues", {"connectorId": 1, "meterValue": [value]})
    for entry in value["sampledValue"]:
        assert isinstance(entry["value"], str) and entry.keys() <= {"value", "context", "measurand", "phase", "unit"}
        whole = DEFAULTS | entry
        assert (whole["context"], whole["location"], whole["format"]) == ("Sample.Clock", "Outlet", "Raw")
    units = {entry["measurand"]: entry.get("unit") for entry in value["sampledValue"]}
    assert units == UNITS


def test_16_mv_05_what_says_nothing_of_itself_is_the_register_in_wh() -> None:
    """What we say of a periodic reading of the register is what the standard reads where nothing is said."""
    value = meter_value(sample(SampleContext.PERIODIC, 0, 5_000_000), T0_MS, ("Energy.Active.Import.Register",))
    assert value is not None
    assert [DEFAULTS | entry for entry in value["sampledValue"]] == [DEFAULTS | {"value": "5000"}]


@pytest.mark.parametrize(("unit", "takes"), [("Celsius", True), ("Celcius", True), ("Kelvins", False)])
def test_16_mv_08_both_spellings_of_celsius_are_in_the_schema_and_the_wrong_one_is_not_ours(
    unit: str, takes: bool
) -> None:
    value = {"value": "40", "measurand": "Temperature", "unit": unit}
    payload = {"connectorId": 1, "meterValue": [{"timestamp": "2026-11-24T08:00:00Z", "sampledValue": [value]}]}
    with contextlib.nullcontext() if takes else pytest.raises(schema.SchemaViolation):
        schema.check_request(Version.V16, "MeterValues", payload)
    assert "Celcius" not in UNITS.values() and UNITS.keys() == MEASURANDS


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
