"""Bundles for RAUC, made by RAUC's own command line, and certificates to sign them with.

Charter: for tests and the benchmark. All files are the caller's. Source: RAUC's manual (manifest, bundle formats).
"""

from __future__ import annotations

import datetime
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

COMPATIBLE: Final = "evsed-test"


@dataclass(frozen=True, slots=True)
class Signer:
    """A self-signed certificate and its key, in files."""

    certificate: Path
    key: Path


def make_signer(folder: Path, name: str, *, not_before: datetime.datetime | None = None, days: int = 3650) -> Signer:
    """Valid from ``not_before`` (left out: yesterday) for ``days``."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    begin = not_before or datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    signer = Signer(folder / f"{name}.cert.pem", folder / f"{name}.key.pem")
    signer.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    signer.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return signer


def make_revocation_list(path: Path, signer: Signer) -> Path:
    """``signer``'s certificate, and after it a list by which it revokes itself."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    certificate = x509.load_pem_x509_certificate(signer.certificate.read_bytes())
    key = serialization.load_pem_private_key(signer.key.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    now = datetime.datetime.now(datetime.UTC)
    revoked = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number).revocation_date(now).build()
    crl = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(certificate.subject)
        .last_update(now - datetime.timedelta(days=1))
        .next_update(now + datetime.timedelta(days=1))
        .add_revoked_certificate(revoked)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(signer.certificate.read_bytes() + crl.public_bytes(serialization.Encoding.PEM))
    return path


def make_bundle(
    path: Path,
    image: Path,
    signer: Signer,
    *,
    compatible: str = COMPATIBLE,
    format_: str = "plain",
    slot: str = "rootfs",
) -> Path:
    """A bundle ``path`` with one image for slots of class ``slot``."""
    content = path.with_name(path.name + ".content")
    content.mkdir()
    try:
        try:
            os.link(image, content / "image.img")
        except OSError:
            shutil.copyfile(image, content / "image.img")
        manifest = f"[update]\ncompatible={compatible}\nversion=2.0\n[bundle]\nformat={format_}\n"
        (content / "manifest.raucm").write_text(f"{manifest}[image.{slot}]\nfilename=image.img\n")
        run(["rauc", f"--cert={signer.certificate}", f"--key={signer.key}", "bundle", str(content), str(path)])
    finally:
        shutil.rmtree(content)
    return path


def run(command: list[str], environment: Mapping[str, str] | None = None) -> None:
    """A command that must succeed."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
