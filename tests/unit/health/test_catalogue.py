"""No trouble is without a name, a place, a remedy and words for both dialects; names are those of the standards."""

from __future__ import annotations

import pytest
from ocpp.v16.enums import ChargePointErrorCode
from ocpp.v201 import enums

from agent.core.faults import SPECS
from agent.core.status import FaultCode
from agent.health.catalogue import CATALOGUE, DRIVERS, Entry
from agent.health.model import Condition, Part, Severity

ENTRIES = pytest.mark.parametrize("entry", CATALOGUE.values(), ids=CATALOGUE.keys())
NOT_IN_APPENDIX = {("RCD", "Problem"), ("SecurityCtrlr", "Problem"), ("TariffCostCtrlr", "Problem")}
OCPP_CODE_MAX_CHARS = 50  # vendorErrorCode (1.6) and techCode (2.0.1)


def test_every_fault_of_the_core_is_here() -> None:
    assert {code.value for code in FaultCode} <= set(CATALOGUE)


@pytest.mark.parametrize("code", FaultCode)
def test_what_keeps_an_evse_from_charging_is_a_fault_and_clears_as_the_core_does(code: FaultCode) -> None:
    entry = CATALOGUE[code.value]
    assert entry.condition is Condition.FAULT
    assert entry.clears is SPECS[code].clears


def test_every_part_can_have_trouble() -> None:
    assert {entry.part for entry in CATALOGUE.values()} == set(Part)


@ENTRIES
def test_an_entry_has_words_for_people(entry: Entry) -> None:
    assert entry.text[:1].islower() or entry.text.startswith(("CSMS", "DC"))
    assert not entry.text.endswith(".")
    assert entry.remedy.endswith(".")


def test_all_dangers_have_words_for_drivers() -> None:
    dangers = {entry.code for entry in CATALOGUE.values() if entry.severity is Severity.DANGER}
    assert dangers <= set(DRIVERS) <= {entry.code for entry in CATALOGUE.values() if entry.condition is Condition.FAULT}
    assert all("touch" in words and words.endswith(".") for words in DRIVERS.values())


@ENTRIES
def test_an_entry_has_a_name_in_both_dialects(entry: Entry) -> None:
    assert entry.ocpp16 in set(ChargePointErrorCode) - {"NoError"}
    assert len(entry.code) <= OCPP_CODE_MAX_CHARS
    components = {each.value for each in (*enums.PhysicalComponentName, *enums.ControllerComponentName)}
    assert entry.component in components
    assert entry.variable in set(enums.StandardizedVariableName)
    listed = set(getattr(enums, f"{entry.component}VariableName"))
    assert entry.variable in listed or (entry.component, entry.variable) in NOT_IN_APPENDIX


@pytest.mark.parametrize(
    ("severity", "condition"),
    [
        (Severity.DANGER, Condition.FAULT),
        (Severity.ERROR, Condition.FAULT),
        (Severity.ALERT, Condition.WARNING),
        (Severity.NOTICE, Condition.WARNING),
    ],
)
def test_errors_and_worse_are_faults(severity: Severity, condition: Condition) -> None:
    assert Entry("x", Part.BUS, severity, "x", "X.", "OtherError", "DataLink").condition is condition


@pytest.mark.parametrize(
    ("code", "ocpp16"),
    [
        (FaultCode.POWER_MODULE, "InternalError"),
        (FaultCode.RESIDUAL_SELF_TEST, "InternalError"),  # nothing has leaked: a component of ours is broken
        (FaultCode.RESIDUAL_CURRENT, "GroundFailure"),
        (FaultCode.METER_LOST, "PowerMeterFailure"),
        (FaultCode.CONTACTOR_WELDED, "PowerSwitchFailure"),
        (FaultCode.LOCK, "ConnectorLockFailure"),
        (FaultCode.OVER_CURRENT, "OverCurrentFailure"),
        (FaultCode.OVER_TEMPERATURE, "HighTemperature"),
        (FaultCode.DIODE, "EVCommunicationError"),
    ],
)
def test_error_code_of_16(code: FaultCode, ocpp16: str) -> None:
    """16-ST-07."""
    assert CATALOGUE[code.value].ocpp16 == ocpp16
