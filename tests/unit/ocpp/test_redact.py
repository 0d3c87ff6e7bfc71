"""The message trace shows no secrets (16-SEC-05, and defect 14 of the checklist's 6.3)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.ocpp.redact import redact

SECRET = "s3cr3t-value"


@pytest.mark.parametrize(
    "payload",
    [
        {"key": "AuthorizationKey", "value": SECRET},
        {"setVariableData": [{"variable": {"name": "BasicAuthPassword"}, "attributeValue": SECRET}]},
        {"reportData": [{"variable": {"name": "basicauthpassword"}, "variableAttribute": [{"value": SECRET}]}]},
        {"connectionData": {"apn": {"apnPassword": SECRET, "simPin": SECRET}}},
        {"connectionData": {"vpn": {"server": "a", "user": "b", "password": SECRET, "key": SECRET}}},
        {"basicAuthPassword": SECRET},
        {"location": f"ftp://user:{SECRET}@files.example/a"},
        {"location": f"ftp://user:p/{SECRET}@files.example/a"},
        {"location": f"ftp://user:p@{SECRET}@files.example/a"},
        {"log": {"remoteLocation": f"https://acct.example/c/?sv=2024&sig={SECRET}"}},
        {"firmware": {"location": f"https://bucket.example/x.evb?X-Amz-Signature={SECRET}"}},
        {"data": json.dumps({"location": f"https://bucket.example/x.evb?X-Amz-Signature={SECRET}"})},
        {"ocppCsmsUrl": f"wss://user:p/{SECRET}@csms.example"},
        {"idToken": {"additionalInfo": [{"additionalIdToken": f"DE-ABC-{SECRET}", "type": "eMAID"}]}},
        {"idTag": SECRET},
        {"idToken": {"idToken": SECRET, "type": "ISO14443"}},
    ],
)
def test_rpc_10_secrets_are_masked(payload: dict[str, Any]) -> None:
    shown = redact(json.dumps([2, "1", "Any", payload]).encode())
    assert SECRET not in shown
    assert "***" in shown
    assert json.loads(shown)[:3] == [2, "1", "Any"]


def test_everything_else_is_shown_as_it_is() -> None:
    key = {"key": "HeartbeatInterval", "value": "60", "n": [1, None, True, 1.5]}
    measured = {"sampledValue": [{"value": "60", "location": "Outlet"}], "location": "https://files.example/a/"}
    for frame in ([2, "1", "ChangeConfiguration", key], [2, "1", "MeterValues", measured]):
        assert json.loads(redact(json.dumps(frame).encode())) == frame


def test_a_card_can_still_be_recognised() -> None:
    assert '"***CDEF"' in redact(b'[2,"1","Authorize",{"idTag":"04AABBCDEF"}]')
    assert '"***"' in redact(b'[2,"1","Authorize",{"idTag":"1234"}]')


@pytest.mark.parametrize("frame", [b"\xff", b"[1", b"[" * 100_000, b'{"password": "x"'])
def test_unreadable_frames_show_their_size_only(frame: bytes) -> None:
    assert redact(frame) == f"<unreadable, {len(frame)} bytes>"


def test_json_inside_a_text_is_masked_too() -> None:
    inside = json.dumps({"idToken": "04AABBCDEF", "password": SECRET, "priceText": "0.45/kWh"})
    shown = redact(json.dumps([2, "1", "DataTransfer", {"vendorId": "v", "data": inside}]).encode())
    assert json.loads(json.loads(shown)[3]["data"]) == {
        "idToken": "***CDEF",
        "password": "***",
        "priceText": "0.45/kWh",
    }


@pytest.mark.parametrize("text", ["{", "[1", "{no json}", "[" * 1_000])
def test_a_text_that_only_looks_like_json_stays(text: str) -> None:
    assert json.loads(redact(json.dumps([2, "1", "DataTransfer", {"data": text}]).encode()))[3]["data"] == text


def test_what_is_known_of_a_customer_is_not_shown() -> None:
    told = {"data": "Erika, 12 Example Street", "seqNo": 0, "generatedAt": "2026-01-01T00:00:00Z", "requestId": 1}
    shown = json.loads(redact(json.dumps([2, "1", "NotifyCustomerInformation", told]).encode()))[3]
    assert shown == told | {"data": "***"}
    asked = [2, "1", "CustomerInformation", {"customerIdentifier": "Erika Example", "requestId": 1}]
    assert "Erika" not in redact(json.dumps(asked).encode())


def test_of_signed_meter_data_the_length_is_left() -> None:
    signed = json.dumps({"signedMeterData": "T0NNRnw=", "publicKey": "AA"})
    shown = redact(json.dumps([2, "1", "StopTransaction", {"value": signed, "signedMeterData": "T0NNRnw="}]).encode())
    assert "T0NN" not in shown and shown.count("<8 characters>") == 2 and "publicKey" in shown
