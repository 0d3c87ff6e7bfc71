"""The catalogue against checklist table 2.4, and each setting's round trip (test 11)."""

from __future__ import annotations

import json
import re
from pathlib import Path

import ocpp.v201
import pytest
from jsonschema import Draft6Validator  # type: ignore[import-untyped]

from agent.auth.policy import AuthSettings
from agent.config.device_model import DeviceModel, ReportBase, SetStatus
from agent.config.load import load
from agent.config.model import Config
from agent.config.report import report_data
from agent.config.station_model import build_device_model, build_specs
from agent.config.token_rules import auth_settings, site_list
from agent.config.variable import DataType, Key, Mutability, VariableSpec

CONFIG = """
[station]
identity = "CP-1"
vendor = "Example"
model = "Box"
serial = "S1"
data_dir = "/d"
run_dir = "/r"
[csms]
url = "wss://host"
[settings]
"TxCtrlr.EVConnectionTimeOut" = 77
[[token]]
id = "AB12"
group = "family"
expires = 2030-01-01T00:00:00+01:00
[[evse]]
id = 1
board = "mcu_ac"
connector_type = "sType2"
cable = "socket"
max_current_ma = 32_000
[evse.pilot]
port = "/dev/p1"
[evse.meter]
port = "/dev/m1"
[[evse]]
id = 2
board = "mcu_dc"
connector_type = "cCCS2"
cable = "fixed"
max_current_ma = 60_000
[evse.pilot]
port = "/dev/p2"
[evse.meter]
port = "/dev/m2"
[evse.power]
interface = "socketcan"
channel = "can0"
modules = [0]
[evse.fixed_output]
voltage_mv = 400_000
current_ma = 10_000
"""

# Checklist 2.4: every starred variable of the components we have, with its instance.
# R, RW or W as demanded there; R/RW where either will do.
STARRED = [
    "OCPPCommCtrlr.FileTransferProtocols R",
    "OCPPCommCtrlr.MessageTimeout[Default] R",
    "OCPPCommCtrlr.MessageAttemptInterval[TransactionEvent] RW",
    "OCPPCommCtrlr.MessageAttempts[TransactionEvent] RW",
    "OCPPCommCtrlr.NetworkConfigurationPriority RW",
    "OCPPCommCtrlr.NetworkProfileConnectionAttempts RW",
    "OCPPCommCtrlr.OfflineThreshold RW",
    "OCPPCommCtrlr.ResetRetries RW",
    "OCPPCommCtrlr.RetryBackOffRandomRange RW",
    "OCPPCommCtrlr.RetryBackOffRepeatTimes RW",
    "OCPPCommCtrlr.RetryBackOffWaitMinimum RW",
    "OCPPCommCtrlr.UnlockOnEVSideDisconnect R",  # a cable is always given back
    "OCPPCommCtrlr.WebSocketPingInterval RW",
    "TxCtrlr.EVConnectionTimeOut RW",
    "TxCtrlr.StopTxOnEVSideDisconnect R/RW",
    "TxCtrlr.StopTxOnInvalidId RW",
    "TxCtrlr.TxStartPoint R/RW",
    "TxCtrlr.TxStopPoint R/RW",
    "DeviceDataCtrlr.ItemsPerMessage[GetReport] R",
    "DeviceDataCtrlr.ItemsPerMessage[GetVariables] R",
    "DeviceDataCtrlr.ItemsPerMessage[SetVariables] R",
    "DeviceDataCtrlr.BytesPerMessage[GetReport] R",
    "DeviceDataCtrlr.BytesPerMessage[GetVariables] R",
    "DeviceDataCtrlr.BytesPerMessage[SetVariables] R",
    "ClockCtrlr.DateTime R",
    "ClockCtrlr.TimeSource RW",
    "SecurityCtrlr.Identity R",
    "SecurityCtrlr.OrganizationName RW",
    "SecurityCtrlr.CertificateEntries R",
    "SecurityCtrlr.SecurityProfile R",
    "SecurityCtrlr.BasicAuthPassword W",
    "SampledDataCtrlr.TxStartedMeasurands RW",
    "SampledDataCtrlr.TxUpdatedMeasurands RW",
    "SampledDataCtrlr.TxUpdatedInterval RW",
    "SampledDataCtrlr.TxEndedMeasurands RW",
    "SampledDataCtrlr.TxEndedInterval RW",
    "AlignedDataCtrlr.Interval RW",
    "AlignedDataCtrlr.Measurands RW",
    "AlignedDataCtrlr.TxEndedInterval RW",
    "AlignedDataCtrlr.TxEndedMeasurands RW",
    "AuthCtrlr.AuthorizeRemoteStart RW",
    "AuthCtrlr.LocalAuthorizeOffline RW",
    "AuthCtrlr.LocalPreAuthorize RW",
    "ChargingStation.AvailabilityState R",
    "ChargingStation.Available R",
    "ChargingStation.SupplyPhases R",
    "EVSE@1.AvailabilityState R",
    "EVSE@1.Available R",
    "EVSE@1.Power R",
    "EVSE@1.SupplyPhases R",
    "EVSE@2.Power R",
    "Connector@1:1.Available R",
    "Connector@1:1.ConnectorType R",
    "Connector@1:1.SupplyPhases R",
    "Connector@2:1.ConnectorType R",
    "LocalAuthListCtrlr.Entries R",
    "LocalAuthListCtrlr.ItemsPerMessage R",
    "LocalAuthListCtrlr.BytesPerMessage R",
    "SmartChargingCtrlr.ProfileStackLevel R",
    "SmartChargingCtrlr.RateUnit R",
    "SmartChargingCtrlr.PeriodsPerSchedule R",
    "SmartChargingCtrlr.Entries[ChargingProfiles] R",
    "SmartChargingCtrlr.LimitChangeSignificance RW",
]
ACCESS = {"R": Mutability.READ_ONLY, "RW": Mutability.READ_WRITE, "W": Mutability.WRITE_ONLY}

SCHEMA = Path(ocpp.v201.__file__).parent / "schemas" / "NotifyReportRequest.json"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    file = tmp_path_factory.mktemp("config") / "evsed.toml"
    file.write_text(CONFIG)
    return load(file)


@pytest.fixture
def model(config: Config) -> DeviceModel:
    return build_device_model(config)


@pytest.mark.parametrize("row", STARRED)
def test_checklist_2_4_a_full_inventory_has_every_starred_variable(model: DeviceModel, row: str) -> None:
    name, access = row.split()
    entries = {str(entry.key): entry for entry in model.report(ReportBase.FULL)}
    assert name in entries
    assert entries[name].spec.mutability in [ACCESS[each] for each in access.split("/")]


def test_where_a_maximum_must_be_told_it_is(model: DeviceModel) -> None:
    for name in ("EVSE@1.Power", "LocalAuthListCtrlr.Entries", "SmartChargingCtrlr.Entries[ChargingProfiles]"):
        assert model.spec(Key.parse(name)).max_limit
    assert model.spec(Key.parse("EVSE@1.Power")).max_limit == 3 * 230 * 32
    assert model.spec(Key.parse("EVSE@2.Power")).max_limit == 30_000


def other_value(spec: VariableSpec) -> str:
    """A value of the variable that is not its default, if there is another."""
    match spec.type:
        case DataType.BOOLEAN:
            return "false" if spec.default == "true" else "true"
        case DataType.INTEGER | DataType.DECIMAL:
            return str(spec.maximum if str(spec.maximum) != spec.default else spec.minimum)
        case DataType.STRING:
            return "x" * (spec.maximum or 1)
        case DataType.MEMBER_LIST | DataType.SEQUENCE_LIST:
            return ",".join(reversed(spec.values))
        case DataType.OPTION_LIST:
            return next(value for value in spec.values if value != spec.default)
        case _:
            raise AssertionError(f"no ReadWrite setting is a {spec.type} today")


def test_checklist_test_11_each_setting_makes_the_round_trip(config: Config) -> None:
    model = build_device_model(config)
    tried = 0
    for entry in model.report(ReportBase.CONFIGURATION):
        value = other_value(entry.spec)
        result = model.set(entry.key, value)
        wanted = SetStatus.REBOOT_REQUIRED if entry.spec.reboot_required else SetStatus.ACCEPTED
        assert (result.status, model.text(entry.key)) == (wanted, value), entry.key
        if entry.spec.mutability is Mutability.READ_WRITE:
            assert model.get(entry.key).value == value
        tried += 1
    again = build_device_model(config, stored=model.persistent())
    assert again.snapshot(secrets=True) == model.snapshot(secrets=True)
    assert again.discarded == ()
    assert tried > 30


def test_every_entry_is_valid_by_the_schema(model: DeviceModel) -> None:
    message = {
        "requestId": 1,
        "generatedAt": "2026-01-01T00:00:00Z",
        "seqNo": 0,
        "reportData": [report_data(entry) for entry in model.report(ReportBase.FULL)],
    }
    Draft6Validator(json.loads(SCHEMA.read_text("utf-8-sig"))).validate(message)


def test_measurands_are_those_of_the_standard(model: DeviceModel) -> None:
    schema = json.loads((SCHEMA.parent / "MeterValuesRequest.json").read_text("utf-8-sig"))
    known = set(schema["definitions"]["MeasurandEnumType"]["enum"])
    assert set(model.spec(Key("SampledDataCtrlr", "TxUpdatedMeasurands")).values) <= known


def test_what_the_configuration_says_is_there(model: DeviceModel) -> None:
    assert model.text(Key("SecurityCtrlr", "Identity")) == "CP-1"
    assert model.text(Key("ChargingStation", "VendorName")) == "Example"
    assert model.integer(Key("TxCtrlr", "EVConnectionTimeOut")) == 77
    assert model.text(Key("Connector", "ConnectorType", evse=1, connector=1)) == "sType2"
    assert model.members(Key("TxCtrlr", "TxStartPoint")) == ("PowerPathClosed",)


@pytest.mark.parametrize(("cable", "unlocks"), [("fixed", "false"), ("socket", "true")])
def test_the_cable_of_a_socket_is_always_given_back_and_a_fixed_one_never(
    tmp_path: Path, cable: str, unlocks: str
) -> None:
    """16-TX-17: UnlockConnectorOnEVSideDisconnect is no choice here, and says what is done."""
    file = tmp_path / "evsed.toml"
    fixed = CONFIG.replace('"sType2"', '"cType2"').replace('"socket"', '"fixed"')
    file.write_text(fixed if cable == "fixed" else CONFIG)
    spec = build_specs(load(file))[Key("OCPPCommCtrlr", "UnlockOnEVSideDisconnect")]
    assert (spec.mutability, spec.default) == (Mutability.READ_ONLY, unlocks)
    before = {"OCPPCommCtrlr.UnlockOnEVSideDisconnect": "false" if unlocks == "true" else "true"}
    model = build_device_model(load(file), stored=before)  # set while it was writable
    assert model.text(Key("OCPPCommCtrlr", "UnlockOnEVSideDisconnect")) == unlocks


def test_token_rules_read_the_settings(config: Config, model: DeviceModel) -> None:
    assert auth_settings(model, 36) == AuthSettings(list_enabled=False)  # no dialect fills a local list yet
    changes = {
        "AuthCtrlr.LocalPreAuthorize": "true",
        "AuthCtrlr.LocalAuthorizeOffline": "false",
        "AuthCtrlr.OfflineTxForUnknownIdEnabled": "true",
        "AuthCtrlr.MasterPassGroupId": "M",
        "AuthCacheCtrlr.Enabled": "false",
        "AuthCacheCtrlr.LifeTime": "9",
        "AuthCacheCtrlr.DisablePostAuthorize": "true",
        "LocalAuthListCtrlr.Enabled": "false",
        "LocalAuthListCtrlr.DisablePostAuthorize": "true",
    }
    for name, value in changes.items():
        assert model.set(Key.parse(name), value).status.stored
    assert auth_settings(model, 20) == AuthSettings(True, False, True, "M", False, 9, True, False, True, 20)
    entry = site_list(config)["ab12"]
    assert (entry.status, entry.group, entry.token_type) == ("Accepted", "family", "ISO14443")
    assert entry.expires_wall_ms == 1_893_452_400_000


def test_names_follow_the_standards_form() -> None:
    assert all(re.fullmatch(r"[A-Za-z0-9@:\[\].]+ [RW/]+", row) for row in STARRED)
