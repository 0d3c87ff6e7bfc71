"""Gate A: the certificate that comes with an OCPP request, and the signature over the whole file."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from agent.firmware.bundle.signatures import Algorithm
from agent.firmware.bundle.signer import FileSigner, check_signing_certificate
from agent.firmware.bundle.trust import JudgedTime
from agent.firmware.errors import Refusal, UpdateRefused
from tests.unit.firmware.bundle.pki import (
    CLOCK_1970,
    NOW,
    POLICY,
    ROOT,
    SIGNER,
    STRANGER,
    Authority,
    Kind,
    make_root,
    ms,
    policy,
)

FILE = b"any file at all, our bundle or a vendor's image" * 1000
DIGEST = hashlib.sha256(FILE).digest()
RSA = ROOT.issue_leaf("RSA signer", kind="rsa2048")


def signer_of(authority: Authority, **settings: Any) -> FileSigner:
    return check_signing_certificate(authority.chain_pem.decode(), policy(**settings), NOW)


def refused(text: str, trusted: Any = POLICY, now: JudgedTime = NOW) -> UpdateRefused:
    with pytest.raises(UpdateRefused) as caught:
        check_signing_certificate(text, trusted, now)
    return caught.value


# ---------------------------------------------------------------------------------------- certificate

DER_HEX = SIGNER.certificate.public_bytes(Encoding.DER).hex()


@pytest.mark.parametrize(
    "text",
    [
        SIGNER.certificate_pem,
        SIGNER.certificate_pem.replace("\n", "\r\n"),
        SIGNER.certificate_pem.replace("\n", "\\n"),
        SIGNER.certificate_pem.replace("\n", "\\r\\n"),
        "  " + SIGNER.certificate_pem.strip() + "  ",
        DER_HEX,
        DER_HEX.upper(),
        "\n".join(DER_HEX[at : at + 64] for at in range(0, len(DER_HEX), 64)),
        SIGNER.certificate_pem + ROOT.certificate_pem,
    ],
    ids=range(9),
)
def test_certificate_in_any_form_that_back_ends_send(text: str) -> None:
    signer = check_signing_certificate(text, POLICY, NOW)
    assert signer.fingerprint == SIGNER.fingerprint
    assert "Signer" in signer.name
    signer.verify(DIGEST, SIGNER.sign_file(FILE))


def test_chain_with_an_intermediate() -> None:
    leaf = ROOT.issue_ca().issue_leaf()
    signer_of(leaf).verify(DIGEST, leaf.sign_file(FILE))
    assert refused(leaf.certificate_pem).refusal is Refusal.CERTIFICATE


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "ab",
        "abc",
        "30820000",
        "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----",
        "-----BEGIN CERTIFICATE-----\n\u202e\ud800\n-----END CERTIFICATE-----",
        SIGNER.certificate_pem[:-40],
        SIGNER.certificate_pem * 5,
        SIGNER.certificate_pem + " " * 5500,
        ROOT.certificate_pem,
        STRANGER.certificate_pem,
        make_root("Root").issue_leaf().certificate_pem,
        ROOT.issue_leaf(purposes=(ExtendedKeyUsageOID.SERVER_AUTH,)).certificate_pem,
        ROOT.issue_leaf(purposes=None).certificate_pem,
        ROOT.issue_leaf(kind="rsa1024").certificate_pem,
    ],
    ids=range(16),
)
def test_certificate_that_is_not_acceptable(text: str) -> None:
    error = refused(text)
    assert error.refusal is Refusal.CERTIFICATE
    assert error.where.startswith("signing certificate")
    assert str(error).isascii()


def test_revoked_certificate() -> None:
    gone = policy(revoked=frozenset({SIGNER.fingerprint}))
    assert refused(SIGNER.certificate_pem, gone).refusal is Refusal.REVOKED


def test_dates_count_now() -> None:
    old = ROOT.issue_leaf(valid_to_ms=ms("2026-01-01"))
    new = ROOT.issue_leaf(valid_from_ms=ms("2027-01-01"))
    for authority in (old, new):
        assert refused(authority.certificate_pem).refusal is Refusal.CERTIFICATE
    # A clock that nobody vouches for is a lower bound: it proves that one has expired, not that one is too new.
    unsure = JudgedTime(NOW.now_ms, trusted=False)
    assert refused(old.certificate_pem, now=unsure).refusal is Refusal.CERTIFICATE
    check_signing_certificate(new.certificate_pem, POLICY, unsure)
    for authority in (old, new):
        check_signing_certificate(authority.certificate_pem, POLICY, CLOCK_1970)


def test_expired_root_does_not_strand_a_device() -> None:
    root = make_root(valid_to_ms=ms("2026-01-01"))
    leaf = root.issue_leaf()
    check_signing_certificate(leaf.certificate_pem, policy(root), NOW)
    check_signing_certificate(leaf.certificate_pem + root.certificate_pem, policy(root), NOW)


def test_threshold_of_bundles_does_not_matter_here() -> None:
    check_signing_certificate(SIGNER.certificate_pem, policy(threshold=2), NOW)


def test_extension_that_comes_twice() -> None:
    """Key usage under the name of basic constraints: whoever reads the first one only is fooled."""
    twice = SIGNER.certificate.public_bytes(Encoding.DER).replace(b"\x55\x1d\x0f", b"\x55\x1d\x13")
    assert "it cannot be read" in refused(twice.hex()).why


# ------------------------------------------------------------------------------------------ signature


@pytest.mark.parametrize("kind", ["p256", "p384", "rsa2048", "rsa3072"])
def test_signature_by_any_kind_of_key(kind: Kind) -> None:
    """P-384 with SHA-256, too: OCPP names no other hash."""
    leaf = ROOT.issue_leaf(kind=kind)
    signer_of(leaf).verify(DIGEST, leaf.sign_file(FILE))
    with pytest.raises(UpdateRefused):
        signer_of(leaf).verify(hashlib.sha256(FILE + b"x").digest(), leaf.sign_file(FILE))


@pytest.mark.parametrize("salt_length", [0, 20, 32, 222])
def test_pss_of_any_salt_length(salt_length: int) -> None:
    signature = base64.b64encode(RSA.sign(FILE, Algorithm.RSA_PSS_SHA256, salt_length)).decode()
    signer_of(RSA).verify(DIGEST, signature)


def test_pkcs1_only_where_it_is_allowed() -> None:
    assert isinstance(RSA.key, RSAPrivateKey)
    signature = RSA.sign_file(FILE, pkcs1=True)
    with pytest.raises(UpdateRefused):
        signer_of(RSA).verify(DIGEST, signature)
    signer_of(RSA, allow_pkcs1=True).verify(DIGEST, signature)
    signer_of(RSA, allow_pkcs1=True).verify(DIGEST, RSA.sign_file(FILE))


def test_signature_with_line_ends() -> None:
    text = RSA.sign_file(FILE)
    folded = "\n".join(text[at : at + 64] for at in range(0, len(text), 64)) + "\n"
    for each in (folded, folded.replace("\n", "\r\n"), folded.replace("\n", "\\n")):
        signer_of(RSA).verify(DIGEST, each)


def test_length_of_a_signature_is_limited() -> None:
    with pytest.raises(UpdateRefused, match="2049 characters"):
        signer_of(RSA).verify(DIGEST, " " * 2049)


@pytest.mark.parametrize(
    "signature",
    [
        "",
        "A",
        "AAAA",
        "!!!!",
        "ä",
        "A" * 2049,
        SIGNER.sign_file(b"another file"),
        STRANGER.sign_file(FILE),
        "MAYCAQACAQA=",
    ],
    ids=range(9),
)
@pytest.mark.parametrize("who", [SIGNER, RSA], ids=["ecdsa", "rsa"])
def test_signature_that_does_not_hold(signature: str, who: Authority) -> None:
    with pytest.raises(UpdateRefused) as caught:
        signer_of(who, allow_pkcs1=True).verify(DIGEST, signature)
    assert (caught.value.refusal, caught.value.where) == (Refusal.FILE_SIGNATURE, "file signature")
