"""Root certificates: which may be trusted (A00, TLS-04), and by which hashes they are named."""

from __future__ import annotations

import re
import shutil
import ssl
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.hashes import SHA384

from agent.security.roots import CertificateHash, HashAlgorithm, NotARoot, read_root, roots_in
from tests.unit.firmware.bundle.pki import ROOT, VALID_FROM_MS, VALID_TO_MS, make_key, make_root


@pytest.mark.parametrize("kind", ["p256", "p384", "p521", "rsa2048", "rsa3072"])
def test_a_root_is_read(kind: Any) -> None:
    made = make_root("Root of the CSMS", kind)
    root = read_root(made.certificate_pem)
    assert root.pem == made.certificate_pem
    assert root.subject == "CN=Root of the CSMS"
    assert (root.from_wall_ms, root.until_wall_ms) == (VALID_FROM_MS, VALID_TO_MS)
    assert root.serial_number == f"{made.certificate.serial_number:x}"


def test_words_around_a_certificate_do_not_matter() -> None:
    assert read_root(f"Müller's root\n\n{ROOT.certificate_pem}\n\n").pem == ROOT.certificate_pem


_DER = ssl.PEM_cert_to_DER_cert(ROOT.certificate_pem)
ODD_VERSION = ssl.DER_cert_to_PEM_cert(_DER.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x03", 1))
"""Version 4, of which there is none; TLS takes it all the same."""
FORGED = make_root("Forged", signed_by=make_key())
OTHERS = make_root("Older root").issue_ca("Intermediate")


@pytest.mark.parametrize(
    ("pem", "why"),
    [
        ("", "no PEM certificate"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "no PEM certificate"),
        (ROOT.certificate_pem[:-60], "no PEM certificate"),
        (ODD_VERSION, "no PEM certificate"),
        (ROOT.certificate_pem * 2, "2 certificates where one is wanted"),
        (ROOT.issue_leaf().certificate_pem, "not a certificate authority"),
        (make_root(ca=False).certificate_pem, "not a certificate authority"),
        (make_root(ca=None).certificate_pem, "no basic constraints"),
        (OTHERS.certificate_pem, "issued by another authority"),
        (FORGED.certificate_pem, "its signature is not its own"),
        (make_root(kind="rsa1024").certificate_pem, "RSA key of 1024 bits: 2048 are the least"),
    ],
)
def test_what_is_no_root_is_refused_in_plain_words(pem: str, why: str) -> None:
    with pytest.raises(NotARoot, match=re.escape(why)):
        read_root(pem)


def test_of_a_bundle_the_roots_are_told() -> None:
    other = make_root("Other", hashed=SHA384())
    bundle = ROOT.certificate_pem + OTHERS.certificate_pem + other.certificate_pem
    assert [root.pem for root in roots_in(bundle)] == [ROOT.certificate_pem, other.certificate_pem]
    with pytest.raises(NotARoot):
        roots_in("nothing")


@pytest.mark.parametrize("algorithm", list(HashAlgorithm))
def test_a_root_is_meant_by_its_own_hashes_only(algorithm: HashAlgorithm) -> None:
    root = read_root(ROOT.certificate_pem)
    own = root.hash(algorithm)
    assert root.is_meant(own)
    loud = CertificateHash(
        algorithm, own.issuer_name_hash.upper(), own.issuer_key_hash.upper(), f"0{own.serial_number.upper()}"
    )
    assert root.is_meant(loud)
    assert not root.is_meant(replace(own, issuer_name_hash=own.issuer_key_hash))
    assert not root.is_meant(replace(own, issuer_key_hash=own.issuer_name_hash))
    assert not root.is_meant(replace(own, serial_number="1"))
    assert not read_root(make_root().certificate_pem).is_meant(own)


@pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl")
@pytest.mark.parametrize("kind", ["p256", "p521", "rsa2048"])
@pytest.mark.parametrize("algorithm", list(HashAlgorithm))
def test_hashes_are_those_of_openssl(tmp_path: Path, kind: Any, algorithm: HashAlgorithm) -> None:
    """Its OCSP requests hold a CertID of RFC 6960."""
    file = tmp_path / "root.pem"
    made = make_root("Root of the CSMS", kind)
    file.write_text(made.certificate_pem)
    asked = ["openssl", "ocsp", f"-{algorithm.value.lower()}", "-issuer", str(file), "-cert", str(file), "-req_text"]
    text = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.replace("\\\n", "")
    told = [re.search(rf"{name}: ([0-9A-F]+)", text) for name in ("Name Hash", "Key Hash", "Serial Number")]
    name, key, serial = (found[1].lower() for found in told if found is not None)
    assert read_root(made.certificate_pem).hash(algorithm) == CertificateHash(algorithm, name, key, serial.lstrip("0"))


@pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl")
def test_a_root_signed_over_a_hash_that_can_be_forged_is_refused(tmp_path: Path) -> None:
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=Old", "-sha1", "-days", "9"]
    file = tmp_path / "old.pem"
    subprocess.run([*made, "-keyout", str(tmp_path / "key"), "-out", str(file)], check=True, capture_output=True)
    with pytest.raises(NotARoot, match="sha1, which can be forged"):
        read_root(file.read_text())
