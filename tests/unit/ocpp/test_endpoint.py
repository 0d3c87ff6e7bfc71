"""Endpoint: URL, credentials and TLS policy (WS-01, TLS-01, TLS-02, A00)."""

from __future__ import annotations

import base64
import ssl
from pathlib import Path

import pytest

from agent.ocpp.endpoint import Endpoint, TlsSettings
from agent.ocpp.version import Version
from tests.unit.firmware.bundle.pki import make_root


@pytest.mark.parametrize(
    ("url", "identity", "expected"),
    [
        ("ws://csms.example", "CP1", "ws://csms.example/CP1"),
        ("ws://csms.example/", "CP1", "ws://csms.example/CP1"),
        ("ws://csms.example:8080/ocpp/v2", "CP1", "ws://csms.example:8080/ocpp/v2/CP1"),
        ("ws://csms.example/ocpp/", "CP1", "ws://csms.example/ocpp/CP1"),
        ("ws://csms.example/ocpp?tenant=a%20b", "CP1", "ws://csms.example/ocpp/CP1?tenant=a%20b"),
        ("ws://csms.example", "RDAM|123", "ws://csms.example/RDAM%7C123"),
        ("ws://csms.example", "a/b ü", "ws://csms.example/a%2Fb%20%C3%BC"),
        ("ws://[::1]:9000/x", "CP1", "ws://[::1]:9000/x/CP1"),
    ],
)
def test_ws_01_identity_is_the_last_encoded_path_segment(url: str, identity: str, expected: str) -> None:
    assert Endpoint(url, identity).connection_url == expected


@pytest.mark.parametrize(
    ("url", "identity", "field"),
    [
        ("http://csms.example", "CP1", "url"),
        ("ws://", "CP1", "url"),
        ("ws://me:secret@csms.example", "CP1", "url"),
        ("ws://csms.example#part", "CP1", "url"),
        ("wss://csms.example", "CP1", "tls"),
        ("ws://csms.example", "", "identity"),
        ("ws://csms.example", "a:b", "identity"),
        ("ws://csms.example", "x" * 49, "identity"),
    ],
)
def test_ws_01_bad_settings_are_refused_by_name(url: str, identity: str, field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}:") as refusal:
        Endpoint(url, identity)
    assert "secret" not in str(refusal.value)


def test_at_least_one_version_is_offered() -> None:
    with pytest.raises(ValueError, match=r"^versions:"):
        Endpoint("ws://csms.example", "CP1", versions=())
    assert Endpoint("ws://csms.example", "CP1").versions == (Version.V201, Version.V16)


def test_basic_authentication_takes_any_bytes_and_stays_out_of_texts() -> None:
    """16-SEC-03, 16-SEC-05."""
    endpoint = Endpoint("ws://csms.example", "CP1", password=b"\x00\xff:secret")
    scheme, credentials = endpoint.headers["Authorization"].split()
    assert scheme == "Basic"
    assert base64.b64decode(credentials) == b"CP1:\x00\xff:secret"
    assert "secret" not in repr(endpoint)
    assert Endpoint("ws://csms.example", "CP1").headers == {}


def test_tls_01_tls_02_context_policy() -> None:
    context = TlsSettings(ca_file=None).context()
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.options & ssl.OP_NO_COMPRESSION
    old = [suite["name"] for suite in context.get_ciphers() if suite["protocol"] != "TLSv1.3"]
    assert old == [
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "AES128-GCM-SHA256",
        "AES256-GCM-SHA384",
    ]


def test_tls_03_without_a_choice_of_the_systems_store_only_installed_roots_are_trusted() -> None:
    root = make_root("Installed").certificate_pem
    context = TlsSettings(ca_file=None, roots=(root,), system_store=False).context()
    assert context.cert_store_stats()["x509"] == 1


def test_tls_03_own_trust_store_excludes_the_system_store(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        TlsSettings(ca_file=tmp_path / "missing.pem").context()
