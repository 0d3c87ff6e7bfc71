"""Single certificates: reading them, and what each may do. Chains are ``trust``.

Charter: X.509 version 3 with an RSA key (2048 to 8192 bits) or an EC key on P-256 or P-384. A leaf signs code and does
nothing else; an issuer is a CA. A critical extension that is not judged here is a refusal: its maker says that whoever
does not understand it must not go on. All refusals are ``UpdateRefused`` (certificate).
Imports ``cryptography``; import this module only where certificates are judged.
Source: RFC 5280, 4.2.1 (extensions) and 6.1 (paths); firmware reference 1.5.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from agent.firmware.bundle.strict import shown
from agent.firmware.errors import Refusal, UpdateRefused

_Kind = TypeVar("_Kind", bound=x509.ExtensionType)
SigningPublicKey = RSAPublicKey | EllipticCurvePublicKey

RSA_BITS_MIN: Final = 2048
RSA_BITS_MAX: Final = 8192
"""Larger keys cost a small processor seconds for each check."""
CERTIFICATE_BYTES_MAX: Final = 16 * 1024

_PEM: Final = re.compile(rb"-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----")
_UNREADABLE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    UserWarning,  # what the library only warns of, where the interpreter is told to make errors of warnings
)
_LETS_SIGN_CODE: Final = frozenset({ExtendedKeyUsageOID.CODE_SIGNING, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE})
_JUDGED: Final = (x509.BasicConstraints.oid, x509.KeyUsage.oid, x509.ExtendedKeyUsage.oid)


def refused(where: str, why: str, remedy: str = "") -> UpdateRefused:
    return UpdateRefused(Refusal.CERTIFICATE, where, why, remedy)


# -------------------------------------------------------------------------------------------- reading


def pem_blocks(text: bytes) -> list[bytes]:
    """The certificates in a PEM text, still encoded; other text around them is passed over."""
    return _PEM.findall(text)


def load_pem(block: bytes, where: str) -> x509.Certificate:
    return _load(block, where, pem=True)


def load_der(data: bytes, where: str) -> x509.Certificate:
    return _load(data, where, pem=False)


def _load(data: bytes, where: str, *, pem: bool) -> x509.Certificate:
    if len(data) > CERTIFICATE_BYTES_MAX:
        raise refused(where, f"a certificate of {len(data)} bytes, at most {CERTIFICATE_BYTES_MAX} are allowed")
    try:
        certificate = x509.load_pem_x509_certificate(data) if pem else x509.load_der_x509_certificate(data)
        # Read lazily by the library: a fault in there must show up here.
        _ = (certificate.extensions, certificate.subject, certificate.issuer, certificate.signature_hash_algorithm)
    except _UNREADABLE as error:
        raise refused(where, f"it cannot be read ({shown(str(error))})") from error
    return certificate


def to_pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode("ascii")


def fingerprint(certificate: x509.Certificate, where: str) -> str:
    """SHA-256 of the certificate's public key (SubjectPublicKeyInfo), hex. Not of the certificate: its signature can
    be written in another way that also holds (ECDSA's other s), and a revocation list would miss that. Raises
    ``UpdateRefused`` where the key is none that signs bundles."""
    public = public_key(certificate, where).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(public).hexdigest()


def name_of(certificate: x509.Certificate) -> str:
    """For messages: the subject, printable."""
    return shown(certificate.subject.rfc4514_string())


def validity_ms(certificate: x509.Certificate) -> tuple[int, int]:
    """First and last moment, UTC in ms since 1970."""
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return int(first.timestamp() * 1000), int(last.timestamp() * 1000)


# ---------------------------------------------------------------------------------------------- keys


def public_key(certificate: x509.Certificate, where: str) -> SigningPublicKey:
    """Its key, if it is one that signs bundles and is strong enough."""
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise refused(where, f"its key cannot be read ({shown(str(error))})") from error
    if isinstance(key, RSAPublicKey):
        if not RSA_BITS_MIN <= key.key_size <= RSA_BITS_MAX:
            raise refused(where, f"an RSA key of {key.key_size} bits, {RSA_BITS_MIN} to {RSA_BITS_MAX} are allowed")
        return key
    if isinstance(key, EllipticCurvePublicKey):
        if not isinstance(key.curve, SECP256R1 | SECP384R1):
            raise refused(where, f"a key on {key.curve.name}, P-256 and P-384 are allowed")
        return key
    raise refused(where, "its key is neither RSA nor on an elliptic curve")


def key_identity(key: SigningPublicKey) -> bytes:
    """The same for two certificates of one key, and for no others."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


# ------------------------------------------------------------------------------------------- purposes


def check_leaf(certificate: x509.Certificate, where: str) -> None:
    """It signs code, only that, and issues nothing."""
    _check_critical(certificate, where)
    purposes = _extension(certificate, x509.ExtendedKeyUsage)
    if purposes is None:
        raise refused(where, "no extended key usage", "issue it for code signing")
    if set(purposes) != {ExtendedKeyUsageOID.CODE_SIGNING}:
        raise refused(where, "its purpose is not code signing alone", "issue it for code signing and nothing else")
    constraints, usage = _extension(certificate, x509.BasicConstraints), _extension(certificate, x509.KeyUsage)
    if constraints is not None and constraints.ca:
        raise refused(where, "it is a CA; a CA issues and does not sign bundles")
    if usage is not None and not usage.digital_signature:
        raise refused(where, "its key usage has no digital signature")
    public_key(certificate, where)


def check_issuer(certificate: x509.Certificate, below: int, where: str) -> None:
    """It may issue, with ``below`` other CAs between it and the leaf."""
    _check_critical(certificate, where)
    constraints, usage = _extension(certificate, x509.BasicConstraints), _extension(certificate, x509.KeyUsage)
    purposes = _extension(certificate, x509.ExtendedKeyUsage)
    if constraints is None or not constraints.ca:
        raise refused(where, "it issued a certificate and is no CA")
    if constraints.path_length is not None and below > constraints.path_length:
        raise refused(where, f"{below} CAs below it, it allows {constraints.path_length} (path length)")
    if usage is not None and not usage.key_cert_sign:
        raise refused(where, "its key usage does not let it issue certificates")
    if purposes is not None and _LETS_SIGN_CODE.isdisjoint(purposes):
        raise refused(where, "it may not issue certificates for code signing (extended key usage)")
    public_key(certificate, where)


def _extension(certificate: x509.Certificate, kind: type[_Kind]) -> _Kind | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _check_critical(certificate: x509.Certificate, where: str) -> None:
    for extension in certificate.extensions:
        if extension.critical and extension.oid not in _JUDGED:
            raise refused(where, f"a critical extension ({extension.oid.dotted_string}) that this agent does not judge")
