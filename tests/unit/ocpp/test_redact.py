"""The message trace shows no secrets (defect 14 of the checklist's 6.3)."""

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
    frame = [2, "1", "ChangeConfiguration", {"key": "HeartbeatInterval", "value": "60", "n": [1, None, True, 1.5]}]
    assert json.loads(redact(json.dumps(frame).encode())) == frame


def test_a_card_can_still_be_recognised() -> None:
    assert '"***CDEF"' in redact(b'[2,"1","Authorize",{"idTag":"04AABBCDEF"}]')
    assert '"***"' in redact(b'[2,"1","Authorize",{"idTag":"1234"}]')


@pytest.mark.parametrize("frame", [b"\xff", b"[1", b"[" * 100_000, b'{"password": "x"'])
def test_unreadable_frames_show_their_size_only(frame: bytes) -> None:
    assert redact(frame) == f"<unreadable, {len(frame)} bytes>"
