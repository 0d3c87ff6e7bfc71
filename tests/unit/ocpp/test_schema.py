"""Schema validation: verdicts, paths and error codes (RPC-09, RPC-10, RPC-11)."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from agent.ocpp import schema
from agent.ocpp.errors import ErrorCode
from agent.ocpp.schema import Fault, SchemaViolation
from agent.ocpp.version import Version

V16, V201, V21 = Version.V16, Version.V201, Version.V21

STATUS: dict[str, Any] = {
    "timestamp": "2026-01-01T00:00:00Z",
    "connectorStatus": "Available",
    "evseId": 1,
    "connectorId": 1,
}
METER: dict[str, Any] = {"connectorId": 1, "meterValue": [{"timestamp": "x", "sampledValue": [{"value": "1"}]}]}


def profile_16(limit: float) -> dict[str, Any]:
    period = {"startPeriod": 0, "limit": limit}
    schedule = {"chargingRateUnit": "A", "chargingSchedulePeriod": [period]}
    profile = {
        "chargingProfileId": 1,
        "stackLevel": 0,
        "chargingProfilePurpose": "TxProfile",
        "chargingProfileKind": "Absolute",
        "chargingSchedule": schedule,
    }
    return {"connectorId": 1, "csChargingProfiles": profile}


def violation(version: Version, action: str, payload: object) -> SchemaViolation:
    with pytest.raises(SchemaViolation) as caught:
        schema.check_request(version, action, payload)
    return caught.value


@pytest.mark.parametrize(
    ("version", "action", "payload", "fault", "path", "code"),
    [
        (V201, "StatusNotification", {}, Fault.MISSING, "timestamp", "OccurrenceConstraintViolation"),
        (V16, "Authorize", {}, Fault.MISSING, "idTag", "ProtocolError"),
        (V201, "StatusNotification", STATUS | {"evseId": "1"}, Fault.WRONG_TYPE, "evseId", "TypeConstraintViolation"),
        (V201, "StatusNotification", STATUS | {"evseId": True}, Fault.WRONG_TYPE, "evseId", "TypeConstraintViolation"),
        (V201, "StatusNotification", STATUS | {"evseId": 1.0}, Fault.WRONG_TYPE, "evseId", "TypeConstraintViolation"),
        (V201, "StatusNotification", STATUS | {"evseId": None}, Fault.WRONG_TYPE, "evseId", "TypeConstraintViolation"),
        (
            V201,
            "StatusNotification",
            STATUS | {"connectorStatus": "Charging"},
            Fault.NOT_ALLOWED,
            "connectorStatus",
            "PropertyConstraintViolation",
        ),
        (V201, "StatusNotification", STATUS | {"colour": 1}, Fault.UNKNOWN_FIELD, "colour", "FormatViolation"),
        (V16, "Authorize", {"idTag": "x" * 21}, Fault.TOO_LONG, "idTag", "PropertyConstraintViolation"),
        (V16, "Authorize", [], Fault.WRONG_TYPE, "", "TypeConstraintViolation"),
        (
            V16,
            "MeterValues",
            {"connectorId": 1, "meterValue": []},
            Fault.TOO_FEW,
            "meterValue",
            "OccurrenceConstraintViolation",
        ),
        (
            V201,
            "GetVariables",
            {"getVariableData": [{"component": {"name": "a"}, "variable": {}}]},
            Fault.MISSING,
            "getVariableData[0].variable.name",
            "OccurrenceConstraintViolation",
        ),
        (
            V16,
            "SetChargingProfile",
            profile_16(6.25),
            Fault.NOT_A_MULTIPLE,
            "csChargingProfiles.chargingSchedule.chargingSchedulePeriod[0].limit",
            "PropertyConstraintViolation",
        ),
    ],
)
def test_rpc_09_fault_path_and_code(
    version: Version, action: str, payload: object, fault: Fault, path: str, code: str
) -> None:
    error = violation(version, action, payload)
    assert (error.fault, error.path, error.code) == (fault, path, code)


def test_too_many_items() -> None:
    element = {"component": {"name": "a"}, "variable": {"name": "b"}}
    certificate = {"hashAlgorithm": "SHA256", "issuerNameHash": "a", "issuerKeyHash": "b", "serialNumber": "c"}
    payload = {
        "idToken": {"idToken": "a", "type": "eMAID"},
        "iso15118CertificateHashData": [certificate | {"responderURL": "http://x"}] * 5,
    }
    error = violation(V201, "Authorize", payload)
    assert (error.fault, error.path) == (Fault.TOO_MANY, "iso15118CertificateHashData")
    schema.check_request(V201, "GetVariables", {"getVariableData": [element] * 5000})


def test_minimum_and_maximum() -> None:
    def needs(soc: int) -> dict[str, Any]:
        dc = {"evMaxCurrent": 100, "evMaxVoltage": 400, "stateOfCharge": soc}
        return {"evseId": 1, "chargingNeeds": {"requestedEnergyTransfer": "DC", "dcChargingParameters": dc}}

    for soc, fault in ((-1, Fault.TOO_SMALL), (101, Fault.TOO_LARGE)):
        error = violation(V201, "NotifyEVChargingNeeds", needs(soc))
        assert (error.fault, error.path) == (fault, "chargingNeeds.dcChargingParameters.stateOfCharge")
    for soc in (0, 100):
        schema.check_request(V201, "NotifyEVChargingNeeds", needs(soc))


@pytest.mark.parametrize("limit", [8.1, 16, 16.1, 0.3, 6.3, 1000000.7])
def test_tenths_are_multiples_of_a_tenth_as_people_write_them(limit: float) -> None:
    schema.check_request(V16, "SetChargingProfile", profile_16(limit))


@pytest.mark.parametrize("limit", [6.25, 16.15, 1e-300, 2**62 + 0.5, 1e300])
def test_no_number_breaks_the_remainder(limit: float) -> None:
    payload = profile_16(limit)
    if limit == 1e300 or limit > 2**60:
        schema.check_request(V16, "SetChargingProfile", payload)
    else:
        assert violation(V16, "SetChargingProfile", payload).fault is Fault.NOT_A_MULTIPLE


def test_rpc_10_description_names_the_place_and_never_the_value() -> None:
    error = violation(V16, "Authorize", {"idTag": "topsecret" * 5})
    assert error.description == "idTag: too long"
    error = violation(V16, "Authorize", {"idTag": "x", "n" * 5000: "topsecret"})
    assert len(error.description) < 255 and "topsecret" not in error.description


def test_rpc_11_unknown_fields_in_a_response_are_told_not_refused() -> None:
    answer = {"idTagInfo": {"status": "Accepted", "vendorNote": 1}, "extra": {}}
    assert set(schema.check_response(V16, "Authorize", answer)) == {"vendorNote", "extra"}
    assert schema.check_response(V16, "Authorize", {"idTagInfo": {"status": "Accepted"}}) == ()
    with pytest.raises(SchemaViolation):
        schema.check_response(V16, "Authorize", {"idTagInfo": {"status": "Maybe"}, "extra": 1})


def test_free_form_data_is_left_alone() -> None:
    samples: tuple[Any, ...] = (None, 1, "x", [1, {"a": None}], {"my_key": {"HTTPProxy": []}})
    for data in samples:
        schema.check_request(V201, "DataTransfer", {"vendorId": "v", "data": data})
    schema.check_request(V201, "Heartbeat", {"customData": {"vendorId": "v", "anything": [1]}})


def test_action_sets() -> None:
    assert [len(schema.actions(version)) for version in Version] == [39, 64, 91]
    assert "SecurityEventNotification" in schema.actions(V16)
    assert "NotifyPeriodicEventStream" in schema.actions(V21)
    assert not {"TransactionEvent", "StatusNotificationResponse", ""} & schema.actions(V16)


@pytest.mark.parametrize("action", ["Nothing", "../rpc", "", "AuthorizeResponse"])
def test_unknown_actions_are_key_errors(action: str) -> None:
    with pytest.raises(KeyError):
        schema.check_request(V16, action, {})
    with pytest.raises(KeyError):
        schema.check_response(V16, action, {})


def test_a_meter_value_passes_in_16() -> None:
    schema.check_request(V16, "MeterValues", METER)


def test_codes_are_the_declared_ones() -> None:
    assert {violation(V16, "Authorize", {}).code} <= set(ErrorCode)


def test_an_unknown_schema_keyword_fails_loudly() -> None:
    with pytest.raises(ValueError, match="pattern"):
        schema._Compiler({}).compile({"type": "string", "pattern": "a"})
    with pytest.raises(ValueError, match="null"):
        schema._Compiler({}).compile({"type": "null"})


def test_the_ocpp_package_is_read_and_never_imported() -> None:
    code = (
        "import sys; from agent.ocpp import schema, session; from agent.ocpp.version import Version;"
        "schema.check_request(Version.V201, 'Heartbeat', {});"
        "sys.exit(any(m.split('.')[0] in ('ocpp', 'jsonschema') for m in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
