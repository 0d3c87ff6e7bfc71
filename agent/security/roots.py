"""Root certificates: which one may be trusted, and by which hashes others name it.

Charter: pure, from PEM text to a ``Root`` or a refusal in plain words. Nothing is kept here.

A root is a certificate authority that vouches for itself. What a later check of a chain would refuse anyhow (weak
keys, hashes that can be forged) is refused here, where somebody can still be told.

Units: UTC in milliseconds. Sources: RFC 5280 sections 4.1 and 4.2.1.9, RFC 6960 section 4.1.1 (CertID); OCPP 2.0.1
part 2 A00 (certificate properties) and M05, CertificateHashDataType.
"""

from __future__ import annotations

import contextlib
import enum
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

RSA_MIN_BITS: Final = 2_048
EC_MIN_BITS: Final = 224
_FORGEABLE: Final = ("md5", "sha1")


class HashAlgorithm(enum.StrEnum):
    """OCPP 2.0.1 HashAlgorithmEnumType."""

    SHA256 = "SHA256"
    SHA384 = "SHA384"
    SHA512 = "SHA512"


@dataclass(frozen=True, slots=True)
class CertificateHash:
    """OCPP 2.0.1 CertificateHashDataType: what RFC 6960 calls a CertID. In hex the hashes of the issuer's name (DER)
    and of its key (without tag and length), and the serial number without leading zeros."""

    algorithm: HashAlgorithm
    issuer_name_hash: str
    issuer_key_hash: str
    serial_number: str


class NotARoot(Exception):
    """The text is no root certificate that may be trusted; it says why."""


@dataclass(frozen=True, slots=True)
class Root:
    """``issuer_der`` and ``issuer_key`` are what a CertID hashes; a root is its own issuer."""

    pem: str
    fingerprint: str  # SHA-256 of the DER form, hex
    subject: str
    serial_number: str
    issuer_der: bytes
    issuer_key: bytes
    from_wall_ms: int
    until_wall_ms: int

    def hash(self, algorithm: HashAlgorithm) -> CertificateHash:
        name, key = (hashlib.new(algorithm.value, part).hexdigest() for part in (self.issuer_der, self.issuer_key))
        return CertificateHash(algorithm, name, key, self.serial_number)

    def is_meant(self, wanted: CertificateHash) -> bool:
        """Whether ``wanted`` names this certificate: hex digits in any case, leading zeros or not."""
        own = self.hash(wanted.algorithm)
        pairs = (
            (own.issuer_name_hash, wanted.issuer_name_hash),
            (own.issuer_key_hash, wanted.issuer_key_hash),
            (own.serial_number, wanted.serial_number.lstrip("0")),
        )
        return all(mine == other.lower() for mine, other in pairs)


def read_root(pem: str) -> Root:
    """The one certificate in ``pem``. Raises ``NotARoot``."""
    found = _certificates(pem)
    if len(found) != 1:
        raise NotARoot(f"{len(found)} certificates where one is wanted")
    return _root(found[0])


def roots_in(pem: str) -> list[Root]:
    """Those of the certificates in ``pem`` that are roots. Raises ``NotARoot`` where there is no certificate."""
    roots = []
    for each in _certificates(pem):
        with contextlib.suppress(NotARoot):
            roots.append(_root(each))
    return roots


def _certificates(pem: str) -> list[Certificate]:
    from cryptography.x509 import InvalidVersion, load_pem_x509_certificates

    try:
        return load_pem_x509_certificates(pem.encode())
    except (ValueError, InvalidVersion) as error:
        raise NotARoot(f"no PEM certificate: {error}"[:200]) from error


def _root(certificate: Certificate) -> Root:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509 import BasicConstraints, DuplicateExtension, ExtensionNotFound

    try:
        constraints = certificate.extensions.get_extension_for_class(BasicConstraints).value
        if not constraints.ca:
            raise NotARoot("not a certificate authority")
        if certificate.issuer != certificate.subject:
            raise NotARoot("issued by another authority: not a root")
        algorithm = certificate.signature_hash_algorithm
        if algorithm is not None and algorithm.name in _FORGEABLE:
            raise NotARoot(f"signed over {algorithm.name}, which can be forged")
        certificate.verify_directly_issued_by(certificate)
        subject = certificate.subject.rfc4514_string()
        key = _key_bits(certificate)
    except ExtensionNotFound:
        raise NotARoot("not a certificate authority: it has no basic constraints") from None
    except InvalidSignature:
        raise NotARoot("its signature is not its own") from None
    except (DuplicateExtension, UnsupportedAlgorithm, TypeError, ValueError) as error:
        raise NotARoot(f"not readable: {error}"[:200]) from error
    der = certificate.public_bytes(Encoding.DER)
    return Root(
        pem=certificate.public_bytes(Encoding.PEM).decode("ascii"),
        fingerprint=hashlib.sha256(der).hexdigest(),
        subject=subject,
        serial_number=f"{certificate.serial_number:x}",
        issuer_der=certificate.issuer.public_bytes(),
        issuer_key=key,
        from_wall_ms=int(certificate.not_valid_before_utc.timestamp() * 1_000),
        until_wall_ms=int(certificate.not_valid_after_utc.timestamp() * 1_000),
    )


def _key_bits(certificate: Certificate) -> bytes:
    """The public key as it stands in the certificate's bit string. Raises ``NotARoot`` for keys that are too weak."""
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = certificate.public_key()
    if isinstance(key, RSAPublicKey):
        if key.key_size < RSA_MIN_BITS:
            raise NotARoot(f"an RSA key of {key.key_size} bits: {RSA_MIN_BITS} are the least")
        return key.public_bytes(Encoding.DER, PublicFormat.PKCS1)
    if isinstance(key, EllipticCurvePublicKey):
        if key.curve.key_size < EC_MIN_BITS:
            raise NotARoot(f"an EC key of {key.curve.key_size} bits: {EC_MIN_BITS} are the least")
        return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    raise NotARoot("neither an RSA nor an EC key")
