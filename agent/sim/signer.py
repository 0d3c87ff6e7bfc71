"""A maker's desk for demo and rigs: a root, a signer under it, a stranger; bundles and orders signed by them.

Charter: keys of the moment, in files of the demo's directory, never anywhere else. Uses the product's own bundle tools.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agent.firmware.bundle.make import Description, PayloadPlan, create
from agent.firmware.bundle.sign import sign
from agent.firmware.manifest import Compression, PayloadType, Requires

COMPATIBLE = "evsed-simulated"


@dataclass(frozen=True, slots=True)
class Signer:
    """A private key and its certificate, under a root."""

    key: ec.EllipticCurvePrivateKey
    certificate_pem: str
    root_pem: str

    @classmethod
    def make(cls, name: str) -> Signer:
        """A new root with a new code-signing certificate."""
        root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        root = _certificate(f"{name} root", root_key, f"{name} root", root_key, is_root=True)
        leaf = _certificate(f"{name} signer", key, f"{name} root", root_key, is_root=False)
        return cls(key, _pem(leaf), _pem(root))

    def sign_file(self, file: Path) -> str:
        """OCPP's signature over a whole file: ECDSA, SHA-256, Base64."""
        return base64.b64encode(self.key.sign(file.read_bytes(), ec.ECDSA(hashes.SHA256()))).decode()

    def bundle(self, image: Path, out: Path, *, version: str, epoch: int) -> Path:
        """A signed bundle with one slot image."""
        plan = PayloadPlan("rootfs", PayloadType.SLOT_IMAGE, "rootfs", image, 256 * 1024, Compression.NONE)
        built_ms = int(datetime.now(UTC).timestamp()) * 1_000
        create(Description((COMPATIBLE,), 0, 9, version, epoch, built_ms, (plan,), Requires()), out)
        key_pem = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        sign(out, key_pem, self.certificate_pem.encode())
        return out


def _certificate(
    subject: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    is_root: bool,
) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=365))
        .add_extension(x509.BasicConstraints(ca=is_root, path_length=None), critical=True)
    )
    if not is_root:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=True)
    return builder.sign(issuer_key, hashes.SHA256())


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
