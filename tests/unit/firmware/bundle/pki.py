"""Certificates for tests: roots, intermediates and leaves, right ones and ones with a chosen flaw.

Charter: ``make_root`` begins a chain, ``Authority.issue_ca`` and ``issue_leaf`` go on. Keys are P-256 unless said
otherwise; RSA keys come from a small pool, since they take long to make. Times are UTC in ms since 1970; by default
everything is valid from 2025 to 2035. ``ROOT``, ``SIGNER``, ``OTHER_SIGNER`` (same root) and ``STRANGER`` (another
root) are ready.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from typing import Any, Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agent.firmware.bundle.signatures import Algorithm, Signature, algorithms_of
from agent.firmware.bundle.trust import JudgedTime, TrustPolicy

Kind = Literal["p256", "p384", "p521", "rsa1024", "rsa2048", "rsa3072"]
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
CODE_SIGNING: Final = ExtendedKeyUsageOID.CODE_SIGNING


def ms(text: str) -> int:
    """``2026-11-20`` or ``2026-11-20T12:00:00``, UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


VALID_FROM_MS: Final = ms("2025-01-01")
VALID_TO_MS: Final = ms("2035-01-01")
NOW: Final = JudgedTime(ms("2026-12-01"), trusted=True)
CLOCK_1970: Final = JudgedTime(0, trusted=False)


def make_key(kind: Kind = "p256") -> PrivateKey:
    """A new key on a curve; the RSA keys are the same ones every time."""
    curves: dict[str, ec.EllipticCurve] = {"p256": ec.SECP256R1(), "p384": ec.SECP384R1(), "p521": ec.SECP521R1()}
    return ec.generate_private_key(curves[kind]) if kind in curves else _rsa_key(int(kind.removeprefix("rsa")))


@cache
def _rsa_key(bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


@dataclass(frozen=True)
class Authority:
    """A key with its certificate, and the certificates above it but the root: what signs bundles, or issues."""

    key: PrivateKey
    certificate: x509.Certificate
    above: tuple[x509.Certificate, ...] = ()
    is_root: bool = False

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        """Leaf first, without the root."""
        return (self.certificate, *self.above)

    @property
    def chain_pem(self) -> bytes:
        return b"".join(each.public_bytes(Encoding.PEM) for each in self.chain)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def certificate_pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode("ascii")

    @property
    def fingerprint(self) -> str:
        public = self.certificate.public_key()
        return sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()

    def issue_ca(self, name: str = "Intermediate", **flaws: Any) -> Authority:
        """An intermediate; ``flaws`` as for ``certify``."""
        return self._issue(name, {"ca": True, "purposes": None, "usage": "issue", **flaws})

    def issue_leaf(self, name: str = "Signer", **flaws: Any) -> Authority:
        """A code signer; ``flaws`` as for ``certify``."""
        return self._issue(name, {"ca": False, "purposes": (CODE_SIGNING,), "usage": "sign", **flaws})

    def _issue(self, name: str, how: dict[str, Any]) -> Authority:
        key = how.pop("key", None) or make_key(how.pop("kind", "p256"))
        above = () if self.is_root else (self.certificate, *self.above)
        return Authority(key, certify(name, key, self, **how), above)

    def sign(self, data: bytes, algorithm: Algorithm | None = None, salt_length: int = 32) -> bytes:
        """The bare signature."""
        chosen = algorithm or algorithms_of(self.key.public_key())[0]
        if isinstance(self.key, ec.EllipticCurvePrivateKey):
            return self.key.sign(data, ec.ECDSA(SHA384() if chosen is Algorithm.ECDSA_P384_SHA384 else SHA256()))
        if chosen is Algorithm.RSA_PKCS1_SHA256:
            return self.key.sign(data, padding.PKCS1v15(), SHA256())
        return self.key.sign(data, padding.PSS(padding.MGF1(SHA256()), salt_length), SHA256())

    def entry(self, manifest: bytes, algorithm: Algorithm | None = None) -> Signature:
        """A signature block's entry over ``manifest``."""
        chosen = algorithm or algorithms_of(self.key.public_key())[0]
        return Signature(chosen, self.chain, self.sign(manifest, chosen))

    def sign_file(self, data: bytes, *, pkcs1: bool = False) -> str:
        """OCPP's signature over a whole file: SHA-256 with any key, in Base64."""
        if isinstance(self.key, ec.EllipticCurvePrivateKey):
            signature = self.key.sign(data, ec.ECDSA(SHA256()))
        else:
            signature = self.sign(data, Algorithm.RSA_PKCS1_SHA256 if pkcs1 else Algorithm.RSA_PSS_SHA256)
        return base64.b64encode(signature).decode("ascii")


def make_root(name: str = "Root", kind: Kind = "p256", **flaws: Any) -> Authority:
    """A self-signed CA; ``flaws`` as for ``certify``."""
    key = make_key(kind)
    certificate = certify(name, key, None, **{"ca": True, "purposes": None, "usage": "issue", **flaws})
    return Authority(key, certificate, is_root=True)


def certify(
    name: str,
    key: PrivateKey,
    issuer: Authority | None,
    *,
    ca: bool | None,
    purposes: Sequence[x509.ObjectIdentifier] | None,
    usage: Literal["sign", "issue", "none"] | None,
    path_length: int | None = None,
    valid_from_ms: int = VALID_FROM_MS,
    valid_to_ms: int = VALID_TO_MS,
    extra: Sequence[tuple[x509.ExtensionType, bool]] = (),
    hashed: HashAlgorithm | None = None,
    signed_by: PrivateKey | None = None,
) -> x509.Certificate:
    """One certificate. ``ca`` None: no basic constraints; ``usage`` None: no key usage. ``extra``: more extensions,
    each with whether it is critical. ``signed_by``: this key instead of the issuer's (a forgery)."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(valid_from_ms / 1000, UTC))
        .not_valid_after(datetime.fromtimestamp(valid_to_ms / 1000, UTC))
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca, path_length if ca else None), critical=True)
    if usage is not None:
        builder = builder.add_extension(_usage(usage), critical=True)
    if purposes is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    for extension, critical in extra:
        builder = builder.add_extension(extension, critical)
    signer = signed_by or (issuer.key if issuer else key)
    return builder.sign(signer, hashed or SHA256())  # type: ignore[arg-type]


def _usage(what: Literal["sign", "issue", "none"]) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=what == "sign",
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=what == "none",
        key_cert_sign=what == "issue",
        crl_sign=what == "issue",
        encipher_only=False,
        decipher_only=False,
    )


ROOT: Final = make_root()
SIGNER: Final = ROOT.issue_leaf()
OTHER_SIGNER: Final = ROOT.issue_leaf("Other signer")
STRANGER: Final = make_root("Stranger").issue_leaf("Stranger's signer")
POLICY: Final = TrustPolicy((ROOT.certificate,))


def policy(*roots: Authority, **settings: Any) -> TrustPolicy:
    """Trust in these roots, or in ``ROOT``."""
    return TrustPolicy(tuple(each.certificate for each in roots or (ROOT,)), **settings)
