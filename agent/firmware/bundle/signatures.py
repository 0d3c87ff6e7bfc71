"""The signature block: who signed the manifest's bytes, and whether the signatures hold.

Charter: reading and writing the block, and one signature against the key of its own certificate. Whether that
certificate may sign at all is ``trust``. Text is canonical (PEM and Base64 exactly as written here), so that a changed
byte never goes unnoticed. What is signed is the manifest alone, so plain tools can sign it.
Source: ``docs/bundle-format.md``, "Signature block".
"""

from __future__ import annotations

import base64
import binascii
import enum
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agent.firmware.bundle.layout import SIGNATURES_BYTES_MAX
from agent.firmware.bundle.strict import Node, parse_json
from agent.firmware.errors import Refusal, UpdateRefused

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from agent.firmware.bundle.certificates import SigningPublicKey

SIGNATURES_MAX: Final = 8
CHAIN_MAX: Final = 4
_DOCUMENT: Final = "signature block"
_SIGNATURE_BYTES_MAX: Final = 1024  # RSA with 8192 bits
_VALUES_MAX: Final = 512
_TEXT: Final = re.compile(r"[ -~\n]+", re.ASCII)
_BASE64: Final = re.compile(r"[A-Za-z0-9+/]+={0,2}", re.ASCII)


class Algorithm(enum.StrEnum):
    ECDSA_P256_SHA256 = "ecdsa-p256-sha256"
    ECDSA_P384_SHA384 = "ecdsa-p384-sha384"
    RSA_PSS_SHA256 = "rsa-pss-sha256"  # any salt length
    RSA_PKCS1_SHA256 = "rsa-pkcs1-sha256"  # only where the device's policy allows it


@dataclass(frozen=True, slots=True)
class Signature:
    """One entry of the block. ``chain``: the signer's certificate first. ``signature``: DER for ECDSA."""

    algorithm: Algorithm
    chain: tuple[Certificate, ...]
    signature: bytes


# ----------------------------------------------------------------------------------- reading, writing


def parse_signatures(data: bytes) -> tuple[Signature, ...]:
    """Raises ``UpdateRefused``: malformed, or certificate where one cannot be read."""
    root = parse_json(data, _DOCUMENT, _VALUES_MAX)
    entries = root.members(("signatures",))["signatures"].array(0, SIGNATURES_MAX)
    return tuple(_signature(each) for each in entries)


def _signature(node: Node) -> Signature:
    members = node.members(("algorithm", "chain", "signature"))
    names = tuple(map(str, Algorithm))
    algorithm = members["algorithm"].text(re.compile("|".join(names)), f"one of {', '.join(names)}")
    chain = tuple(_certificate(each) for each in members["chain"].array(1, CHAIN_MAX))
    return Signature(Algorithm(algorithm), chain, _base64(members["signature"]))


def _certificate(node: Node) -> Certificate:
    from agent.firmware.bundle.certificates import load_pem, to_pem

    text = node.text(_TEXT, "a certificate in PEM")
    certificate = load_pem(text.encode("ascii"), node.where)
    if to_pem(certificate) != text:
        node.refuse("it is not written as PEM is: lines of 64 characters, nothing before or after")
    return certificate


def _base64(node: Node) -> bytes:
    text = node.text(_BASE64, "Base64")
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error:
        node.expected("whole Base64")
    if base64.b64encode(data).decode("ascii") != text:
        node.expected("Base64 without stray bits")
    if len(data) > _SIGNATURE_BYTES_MAX:
        node.refuse(f"{len(data)} bytes, at most {_SIGNATURE_BYTES_MAX} are allowed")
    return data


def encode_signatures(entries: tuple[Signature, ...]) -> bytes:
    """The block's bytes. Raises ``UpdateRefused`` (too large)."""
    from agent.firmware.bundle.certificates import to_pem

    plain = [
        {
            "algorithm": str(each.algorithm),
            "chain": [to_pem(certificate) for certificate in each.chain],
            "signature": base64.b64encode(each.signature).decode("ascii"),
        }
        for each in entries
    ]
    data = json.dumps({"signatures": plain}, separators=(",", ":")).encode("ascii")
    if len(entries) > SIGNATURES_MAX or len(data) > SIGNATURES_BYTES_MAX:
        why = f"{len(entries)} signatures of {len(data)} bytes"
        remedy = f"at most {SIGNATURES_MAX} and {SIGNATURES_BYTES_MAX} bytes are allowed"
        raise UpdateRefused(Refusal.TOO_LARGE, _DOCUMENT, why, remedy)
    return data


# ------------------------------------------------------------------------------------------ verifying


def check_signature(entry: Signature, signed: bytes, where: str) -> SigningPublicKey:
    """The key that signed; whether policy allows the algorithm is not asked here. Raises ``UpdateRefused``:
    certificate (its key is none that signs bundles), signature."""
    from cryptography.exceptions import InvalidSignature

    from agent.firmware.bundle.certificates import public_key

    key = public_key(entry.chain[0], f"{where}.chain[0]")
    if entry.algorithm not in algorithms_of(key):
        raise UpdateRefused(Refusal.SIGNATURE, where, f"{entry.algorithm} does not fit the certificate's key")
    try:
        _verify(key, entry, signed)
    except InvalidSignature as error:
        why = "it is not the signature of this manifest by this certificate"
        raise UpdateRefused(Refusal.SIGNATURE, where, why) from error
    return key


def _verify(key: SigningPublicKey, entry: Signature, signed: bytes) -> None:
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS, PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.hashes import SHA256, SHA384

    if isinstance(key, RSAPublicKey):
        pkcs1 = entry.algorithm is Algorithm.RSA_PKCS1_SHA256
        key.verify(entry.signature, signed, PKCS1v15() if pkcs1 else PSS(MGF1(SHA256()), PSS.AUTO), SHA256())
    else:
        p384 = entry.algorithm is Algorithm.ECDSA_P384_SHA384
        key.verify(entry.signature, signed, ECDSA(SHA384() if p384 else SHA256()))


def algorithms_of(key: SigningPublicKey) -> tuple[Algorithm, ...]:
    """What this key can sign with; the preferred one first."""
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    if isinstance(key, RSAPublicKey):
        return Algorithm.RSA_PSS_SHA256, Algorithm.RSA_PKCS1_SHA256
    p256 = isinstance(key.curve, SECP256R1)
    return (Algorithm.ECDSA_P256_SHA256 if p256 else Algorithm.ECDSA_P384_SHA384,)
