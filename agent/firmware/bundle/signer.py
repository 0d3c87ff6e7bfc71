"""Gate A: the certificate that came with an OCPP request, and OCPP's signature over the whole file.

Charter: judges the certificate before the request is answered, and the signature once the file's hash is known. Lenient
in form, because back ends differ: PEM with line ends written as ``\\n``, a single certificate or a chain, hexadecimal
DER as in the white paper's first edition. Strict in substance: the rules for a signer of bundles (``trust``) apply,
with one difference: there is no ``built`` to judge by, so the dates count now. A clock that nobody vouches for can only
say that a certificate has expired, not that it is not valid yet.

The hash is always SHA-256, with P-384 keys too, as OCPP says. RSA-PSS (any salt length) and ECDSA are accepted, PKCS#1
v1.5 where the policy allows it; EC-Schnorr, which OCPP also names, exists in no common library.
Source: OCPP 2.0.1 L01; OCPP 1.6 security white paper, SignedUpdateFirmware; firmware reference 1.4.
Imports ``cryptography``; import it where needed.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509 import Certificate

from agent.firmware.bundle import certificates
from agent.firmware.bundle.signatures import CHAIN_MAX
from agent.firmware.bundle.trust import JudgedTime, TrustPolicy, check_chain, check_expiry
from agent.firmware.errors import Refusal, UpdateRefused

CERTIFICATE_CHARS_MAX: Final = 5500
SIGNATURE_CHARS_MAX: Final = 2048
"""OCPP says 800; a key of 8192 bits needs 1368, and line ends may come on top."""
_WHERE: Final = "signing certificate"
_HEX: Final = re.compile(r"(?:[0-9A-Fa-f]{2})+", re.ASCII)


@dataclass(frozen=True, slots=True)
class FileSigner:
    """Who is to have signed the file. ``fingerprint``: SHA-256 of the key, hex. ``name``: its subject."""

    name: str
    fingerprint: str
    allow_pkcs1: bool
    key: certificates.SigningPublicKey

    def verify(self, sha256_digest: bytes, signature_base64: str) -> None:
        """Raises ``UpdateRefused`` (file signature) unless this signer signed the file with that hash."""
        key, signature = self.key, _signature(signature_base64)
        hashed = Prehashed(SHA256())
        if isinstance(key, RSAPublicKey):
            pss = padding.PSS(padding.MGF1(SHA256()), padding.PSS.AUTO)
            good = _holds(lambda: key.verify(signature, sha256_digest, pss, hashed)) or (
                self.allow_pkcs1 and _holds(lambda: key.verify(signature, sha256_digest, padding.PKCS1v15(), hashed))
            )
        else:
            good = _holds(lambda: key.verify(signature, sha256_digest, ec.ECDSA(hashed)))
        if not good:
            raise _refused(f"it is not the signature of this file by {self.name}")


def check_signing_certificate(text: str, policy: TrustPolicy, now: JudgedTime) -> FileSigner:
    """``policy``: the manufacturer's roots; its threshold does not matter here. Raises ``UpdateRefused``: certificate,
    revoked."""
    chain = _chain(text)
    check_chain(chain, policy, _WHERE)
    at_ms = now.now_ms
    if not now.trusted:
        at_ms = max(at_ms, *(certificates.validity_ms(each)[0] for each in chain if each not in policy.roots))
    check_expiry(chain, policy, at_ms, "now", _WHERE)
    leaf = chain[0]
    return FileSigner(
        name=certificates.name_of(leaf),
        fingerprint=certificates.fingerprint(leaf, _WHERE),
        allow_pkcs1=policy.allow_pkcs1,
        key=certificates.public_key(leaf, _WHERE),
    )


def _chain(text: str) -> tuple[Certificate, ...]:
    if len(text) > CERTIFICATE_CHARS_MAX:
        raise certificates.refused(_WHERE, f"{len(text)} characters, at most {CERTIFICATE_CHARS_MAX} are allowed")
    digits = "".join(text.split())
    if _HEX.fullmatch(digits):
        return (certificates.load_der(bytes.fromhex(digits), _WHERE),)
    unescaped = text.replace("\\r", "").replace("\\n", "\n").replace("\r", "")
    blocks = certificates.pem_blocks(unescaped.encode("utf-8", "replace"))
    if not 1 <= len(blocks) <= CHAIN_MAX:
        raise certificates.refused(_WHERE, f"{len(blocks)} certificates in PEM, 1 to {CHAIN_MAX} belong there")
    return tuple(certificates.load_pem(block, f"{_WHERE}[{index}]") for index, block in enumerate(blocks))


def _signature(text: str) -> bytes:
    if len(text) > SIGNATURE_CHARS_MAX:
        raise _refused(f"{len(text)} characters, at most {SIGNATURE_CHARS_MAX} are allowed")
    try:
        return base64.b64decode("".join(text.replace("\\n", "").split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise _refused("it is not Base64") from error


def _holds(verify: Callable[[], None]) -> bool:
    try:
        verify()
    except InvalidSignature:
        return False
    return True


def _refused(why: str) -> UpdateRefused:
    return UpdateRefused(Refusal.FILE_SIGNATURE, "file signature", why)
