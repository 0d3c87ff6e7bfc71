"""Numbers on the wire have exactly the digits that were measured."""

from __future__ import annotations

import json
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from agent.core.facts import SampleContext
from agent.ocpp.v201.metering import meter_value, number
from tests.support.fake_station import T0_MS, sample


@given(st.integers(-(10**15), 10**15))
def test_a_number_is_written_with_its_own_digits(thousandths: int) -> None:
    assert Decimal(json.dumps(number(thousandths))) == Decimal(thousandths) / 1000


def test_absent_quantities_and_unknown_measurands_are_left_out() -> None:
    reading = sample(
        SampleContext.PERIODIC, 0, 5, power_mw=None, current_ma=(None, 7_000, None), energy_export_mwh=None
    )
    names = ("Power.Active.Import", "SoC", "Energy.Active.Export.Register", "Current.Import")
    value = meter_value(reading, T0_MS, names)
    assert value is not None
    assert [(each["measurand"], each["value"], each["phase"]) for each in value["sampledValue"]] == [
        ("Current.Import", 7, "L2")
    ]
    assert meter_value(reading, T0_MS, names[:3]) is None
