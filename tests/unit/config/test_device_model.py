"""The device model: statuses of B05 and B06, reports of B07, storage, IPC copies."""

from __future__ import annotations

import pytest

from agent.config.catalogue import boolean, fixed_integer, integer, members, sequence, text
from agent.config.device_model import DeviceModel, GetStatus, ReportBase, SetStatus, with_defaults
from agent.config.report import report_data
from agent.config.variable import BadValue, DataType, Key, Mutability, VariableSpec

WAIT = Key("TxCtrlr", "EVConnectionTimeOut")
FLAG = Key("TxCtrlr", "StopTxOnInvalidId")
COUNT = Key("OCPPCommCtrlr", "MessageAttempts", "TransactionEvent")
LIST = Key("SampledDataCtrlr", "TxEndedMeasurands")
ORDER = Key("OCPPCommCtrlr", "NetworkConfigurationPriority")
SECRET = Key("SecurityCtrlr", "BasicAuthPassword")
STATE = Key("EVSE", "AvailabilityState", evse=1)
PROBLEM = Key("ChargingStation", "Problem")
NAME = Key("SecurityCtrlr", "OrganizationName")

SPECS = {
    WAIT: integer(60, 1, 3_600, "s"),
    FLAG: boolean(True),
    COUNT: integer(3, 1, 10),
    LIST: members((), ("Voltage", "Current.Import", "Frequency")),
    ORDER: sequence(("1",), ("1", "2", "3"), reboot=True),
    SECRET: VariableSpec(type=DataType.STRING, default="", mutability=Mutability.WRITE_ONLY, minimum=16, maximum=40),
    STATE: VariableSpec(
        type=DataType.OPTION_LIST, default="Unavailable", values=("Available", "Unavailable"), persistent=False
    ),
    PROBLEM: boolean(False, Mutability.READ_ONLY),
    NAME: text("", 20),
}
PASSWORD = "correct horse 16"


@pytest.fixture
def model() -> DeviceModel:
    return DeviceModel(SPECS)


# ---------------------------------------------------------------------------------- B05, B06

SETS = (
    ("B05 accepted", WAIT, "30", SetStatus.ACCEPTED, "30"),
    ("canonical number", WAIT, "+007", SetStatus.ACCEPTED, "7"),
    ("names in any case", Key("txctrlr", "EVCONNECTIONTIMEOUT"), "30", SetStatus.ACCEPTED, "30"),
    ("instance in any case", Key("OCPPCommCtrlr", "MessageAttempts", "transactionevent"), "4", SetStatus.ACCEPTED, "4"),
    ("above", WAIT, "3601", SetStatus.REJECTED, None),
    ("below", WAIT, "0", SetStatus.REJECTED, None),
    ("no number", WAIT, "1.5", SetStatus.REJECTED, None),
    ("no number at all", WAIT, "", SetStatus.REJECTED, None),
    ("digits of another script", WAIT, "٣", SetStatus.REJECTED, None),
    ("flag in any case", FLAG, "FALSE", SetStatus.ACCEPTED, "false"),
    ("no flag", FLAG, "1", SetStatus.REJECTED, None),
    ("list is cleaned", LIST, " voltage , Frequency", SetStatus.ACCEPTED, "Voltage,Frequency"),
    ("list may be empty", LIST, "", SetStatus.ACCEPTED, ""),
    ("16-MV-04 one bad entry refuses all", LIST, "Voltage,Temperature", SetStatus.REJECTED, None),
    ("list with an entry twice", LIST, "Voltage,voltage", SetStatus.REJECTED, None),
    ("list with an empty entry", LIST, "Voltage,,Frequency", SetStatus.REJECTED, None),
    ("sequence keeps order, needs reboot", ORDER, "3,1", SetStatus.REBOOT_REQUIRED, "3,1"),
    ("sequence may not be empty", ORDER, "", SetStatus.REJECTED, None),
    ("read-only", PROBLEM, "true", SetStatus.REJECTED, None),
    ("A01 password", SECRET, PASSWORD, SetStatus.ACCEPTED, PASSWORD),
    ("A01 too short", SECRET, "x" * 15, SetStatus.REJECTED, None),
    ("A01 too long", SECRET, "x" * 41, SetStatus.REJECTED, None),
    ("no control characters", NAME, "a\nb", SetStatus.REJECTED, None),
    ("too long for any value", LIST, "Voltage," * 200, SetStatus.REJECTED, None),
    ("unknown component", Key("Nope", "X"), "1", SetStatus.UNKNOWN_COMPONENT, None),
    ("unknown EVSE", Key("EVSE", "AvailabilityState", evse=2), "Available", SetStatus.UNKNOWN_COMPONENT, None),
    ("unknown component instance", Key("TxCtrlr", "X", component_instance="1"), "1", SetStatus.UNKNOWN_COMPONENT, None),
    ("unknown variable", Key("TxCtrlr", "Nope"), "1", SetStatus.UNKNOWN_VARIABLE, None),
    ("unknown instance", Key("OCPPCommCtrlr", "MessageAttempts"), "1", SetStatus.UNKNOWN_VARIABLE, None),
)


@pytest.mark.parametrize(("name", "key", "value", "status", "stored"), SETS, ids=[row[0] for row in SETS])
def test_b05_set(model: DeviceModel, name: str, key: Key, value: str, status: SetStatus, stored: str | None) -> None:
    before = model.snapshot(secrets=True)
    checked = model.check(key, value)
    assert model.snapshot(secrets=True) == before, "check must not change anything"
    result = model.set(key, value)
    assert result == checked
    assert (result.status, result.value) == (status, stored)
    if stored is None:
        assert model.snapshot(secrets=True) == before
        assert result.reason
    else:
        assert result.key is not None and model.text(key) == stored
        assert model.persistent()[str(result.key)] == stored


def test_b05_other_attributes_do_not_exist(model: DeviceModel) -> None:
    assert model.set(WAIT, "30", "MaxSet").status is SetStatus.NOT_SUPPORTED_ATTRIBUTE_TYPE
    assert model.get(WAIT, "Target").status is GetStatus.NOT_SUPPORTED_ATTRIBUTE_TYPE
    assert model.set(Key("Nope", "X"), "1", "Target").status is SetStatus.UNKNOWN_COMPONENT


def test_b06_get(model: DeviceModel) -> None:
    assert model.get(Key("txctrlr", "evconnectiontimeout")).value == "60"
    assert model.get(SECRET) == model.get(SECRET).__class__(GetStatus.REJECTED)
    assert model.get(Key("Nope", "X")).status is GetStatus.UNKNOWN_COMPONENT
    assert model.get(Key("TxCtrlr", "X")).status is GetStatus.UNKNOWN_VARIABLE


def test_a_refusal_does_not_repeat_the_value(model: DeviceModel) -> None:
    assert "x" * 15 not in model.set(SECRET, "x" * 15).reason


# -------------------------------------------------------------------------------- B07 reports


def test_b07_full_inventory_has_everything_and_no_secret(model: DeviceModel) -> None:
    model.set(SECRET, PASSWORD)
    report = model.report(ReportBase.FULL)
    assert [entry.key for entry in report] == list(SPECS)
    assert PASSWORD not in repr(report)
    assert PASSWORD not in repr([report_data(entry) for entry in report])


def test_b07_configuration_inventory_is_what_can_be_set(model: DeviceModel) -> None:
    keys = {entry.key for entry in model.report(ReportBase.CONFIGURATION)}
    assert keys == set(SPECS) - {STATE, PROBLEM}


def test_b07_summary_is_availability_and_problems(model: DeviceModel) -> None:
    assert [entry.key for entry in model.report(ReportBase.SUMMARY)] == [STATE]
    model.put(PROBLEM, "true")
    assert [entry.key for entry in model.report(ReportBase.SUMMARY)] == [STATE, PROBLEM]


def test_report_data_has_the_schemas_shape(model: DeviceModel) -> None:
    by_key = {entry.key: report_data(entry) for entry in model.report(ReportBase.FULL)}
    assert by_key[WAIT] == {
        "component": {"name": "TxCtrlr"},
        "variable": {"name": "EVConnectionTimeOut"},
        "variableAttribute": [{"mutability": "ReadWrite", "persistent": True, "value": "60"}],
        "variableCharacteristics": {
            "dataType": "integer",
            "supportsMonitoring": True,
            "unit": "s",
            "minLimit": 1,
            "maxLimit": 3_600,
        },
    }
    assert by_key[STATE]["component"] == {"name": "EVSE", "evse": {"id": 1}}
    assert by_key[COUNT]["variable"] == {"name": "MessageAttempts", "instance": "TransactionEvent"}
    assert by_key[LIST]["variableCharacteristics"]["maxLimit"] == len("Voltage,Current.Import,Frequency")
    assert by_key[LIST]["variableCharacteristics"]["valuesList"] == "Voltage,Current.Import,Frequency"
    assert "value" not in by_key[SECRET]["variableAttribute"][0]


# ------------------------------------------------------------------------------ own use, storage


def test_typed_getters(model: DeviceModel) -> None:
    assert model.integer(WAIT) == 60
    assert model.boolean(FLAG) is True
    assert model.members(LIST) == ()
    model.set(LIST, "Frequency,Voltage")
    assert model.members(LIST) == ("Frequency", "Voltage")
    with pytest.raises(KeyError):
        model.integer(Key("TxCtrlr", "Nope"))
    with pytest.raises(AssertionError):
        model.integer(FLAG)


def test_put_is_for_ourselves_but_still_checked(model: DeviceModel) -> None:
    assert model.put(STATE, "Available") is True
    assert model.put(STATE, "available") is False
    with pytest.raises(BadValue):
        model.put(STATE, "Elsewhere")


def test_a_provider_computes_the_value_each_time() -> None:
    now = ["Available"]
    model = DeviceModel(SPECS, providers={STATE: lambda: now[0]})
    assert model.get(STATE).value == "Available"
    now[0] = "Unavailable"
    assert model.snapshot()[str(STATE)] == "Unavailable"
    with pytest.raises(AssertionError, match="unknown setting"):
        DeviceModel(SPECS, providers={Key("Nope", "X"): lambda: ""})


def test_values_survive_a_restart_and_computed_ones_do_not(model: DeviceModel) -> None:
    model.set(WAIT, "30")
    model.set(SECRET, PASSWORD)
    model.put(STATE, "Available")
    stored = model.persistent()
    assert stored == {str(WAIT): "30", str(SECRET): PASSWORD}
    again = DeviceModel(SPECS, stored)
    assert (again.integer(WAIT), again.text(SECRET), again.text(STATE)) == (30, PASSWORD, "Unavailable")
    assert again.discarded == ()


def test_field_fault_15_a_station_starts_with_any_store() -> None:
    stored = {str(WAIT): "99999", "Gone.Variable": "1", "%&": "1", str(FLAG): "false", str(STATE): "Available"}
    model = DeviceModel(SPECS, stored)
    assert model.integer(WAIT) == 60
    assert model.boolean(FLAG) is False
    assert set(model.discarded) == {str(WAIT), "Gone.Variable", "%&", str(STATE)}


def test_the_gateways_copy(model: DeviceModel) -> None:
    model.set(WAIT, "30")
    model.set(SECRET, PASSWORD)
    assert PASSWORD not in model.snapshot().values()
    copy = DeviceModel.from_snapshot(SPECS, model.snapshot(secrets=True))
    assert copy.snapshot(secrets=True) == model.snapshot(secrets=True)
    copy.apply({str(WAIT): "31", "From.ANewerStation": "1"})
    assert copy.integer(WAIT) == 31


# ------------------------------------------------------------------------------ factory defaults


def test_factory_defaults_can_be_replaced_where_they_can_be_set() -> None:
    specs = with_defaults(SPECS, {"txctrlr.evconnectiontimeout": "010"})
    assert specs[WAIT].default == "10"
    assert DeviceModel(specs, {str(WAIT): "20"}).integer(WAIT) == 20, "what was set later wins"
    for name, value, message in (
        (str(WAIT), "0", "expected at least 1"),
        (str(PROBLEM), "true", "not a ReadOnly one"),
        (str(SECRET), PASSWORD, "not a WriteOnly one"),
        ("TxCtrlr.Nope", "1", "the name of a setting"),
        ("nodot", "1", "Component.Variable"),
    ):
        with pytest.raises(BadValue, match=f"^{name}: .*{message}"):
            with_defaults(SPECS, {name: value})


def test_settings_that_differ_in_case_only_are_a_mistake_of_ours() -> None:
    with pytest.raises(AssertionError, match="case only"):
        DeviceModel({WAIT: SPECS[WAIT], Key("TXCTRLR", "EVConnectionTimeOut"): SPECS[WAIT]})


def test_a_default_that_is_no_value_is_a_mistake_of_ours() -> None:
    with pytest.raises(BadValue):
        DeviceModel({WAIT: integer(0, 1, 2)})
    assert fixed_integer(5).canonical("5") == "5"
