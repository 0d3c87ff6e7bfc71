"""The mathematics of a record's signature, and nothing but that.

Charter: the algorithms OCMF names, on the curves that the library has; one answer out of six. The
library is imported when the first signature is checked. Which algorithm is used is what the record
says, but the key must be on the same curve: a record cannot talk a verifier into another one.

Sources: OCMF 1.4 text, table of signature algorithms (SHA-256 with every curve). Makers' records also
write ``brainpoolP256r1``, and r and s side by side instead of DER.
"""

from __future__ import annotations

import base64
import binascii
import enum
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agent.ocmf.parse import SignatureSection
from agent.ocmf.public_key import PublicKey

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

# By the library's names. The 192-bit curves are read where the library can; nothing signs with them.
_CURVES: Final = {
    "ECDSA-secp192k1-SHA256": "secp192k1",
    "ECDSA-secp192r1-SHA256": "secp192r1",
    "ECDSA-secp256k1-SHA256": "secp256k1",
    "ECDSA-secp256r1-SHA256": "secp256r1",
    "ECDSA-secp384r1-SHA256": "secp384r1",
    "ECDSA-brainpool256r1-SHA256": "brainpoolP256r1",
    "ECDSA-brainpoolP256r1-SHA256": "brainpoolP256r1",
    "ECDSA-brainpool384r1-SHA256": "brainpoolP384r1",
    "ECDSA-brainpoolP384r1-SHA256": "brainpoolP384r1",
}
_SIGNATURE_MAX_CHARS: Final = 1_024
_HEX: Final = re.compile(r"(?:[0-9A-Fa-f]{2})+")
_DER_SEQUENCE: Final = b"\x30"


class SignatureState(enum.StrEnum):
    VALID = "valid"
    INVALID = "invalid"
    CURVE_MISMATCH = "curve_mismatch"
    UNSUPPORTED_ALGORITHM = "unsupported_algorithm"
    NO_KEY = "no_key"
    MALFORMED = "malformed"


@dataclass(frozen=True, slots=True)
class SignatureVerdict:
    """One of six answers, and why."""

    state: SignatureState
    text: str

    @property
    def valid(self) -> bool:
        return self.state is SignatureState.VALID


def check(payload: bytes, section: SignatureSection, key: PublicKey | None) -> SignatureVerdict:
    """Whether this key's owner signed exactly these bytes."""
    try:
        return _check(payload, section, key)
    except _Answer as answer:
        return SignatureVerdict(answer.state, answer.text)


class _Answer(Exception):
    """An answer other than valid, found on the way."""

    def __init__(self, state: SignatureState, text: str) -> None:
        super().__init__(text)
        self.state, self.text = state, text


def _check(payload: bytes, section: SignatureSection, key: PublicKey | None) -> SignatureVerdict:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256

    curve = _curve(section.algorithm)
    signature = _decoded(section)
    if key is None:
        raise _Answer(SignatureState.NO_KEY, "No public key was given.")
    try:
        public = _public(key, curve)
        public.verify(_as_der(signature, curve), payload, ec.ECDSA(SHA256()))
    except InvalidSignature:
        raise _Answer(SignatureState.INVALID, "The record was changed, or another key signed it.") from None
    except UnsupportedAlgorithm:
        raise _Answer(SignatureState.UNSUPPORTED_ALGORITHM, f"This library has no {curve.name}.") from None
    return SignatureVerdict(SignatureState.VALID, f"Signed with this key ({curve.name}).")


def _curve(algorithm: str) -> ec.EllipticCurve:
    from cryptography.hazmat.primitives.asymmetric import ec

    known = (
        *(ec.SECP192R1, ec.SECP256K1, ec.SECP256R1, ec.SECP384R1),
        *(ec.BrainpoolP256R1, ec.BrainpoolP384R1),
    )
    for curve in known:
        if curve.name == _CURVES.get(algorithm):
            return curve()
    raise _Answer(SignatureState.UNSUPPORTED_ALGORITHM, f"The algorithm {algorithm[:60]!r} cannot be checked here.")


def _decoded(section: SignatureSection) -> bytes:
    if section.mime_type != "application/x-der":
        raise _Answer(SignatureState.UNSUPPORTED_ALGORITHM, f"Signature type {section.mime_type[:60]!r} is not known.")
    if not 0 < len(section.data) <= _SIGNATURE_MAX_CHARS:
        raise _Answer(SignatureState.MALFORMED, f"The signature has {len(section.data)} characters.")
    if section.encoding == "hex":
        if not _HEX.fullmatch(section.data):
            raise _Answer(SignatureState.MALFORMED, "The signature is not hex.")
        return bytes.fromhex(section.data)
    if section.encoding == "base64":
        try:
            return base64.b64decode(section.data, validate=True)
        except (binascii.Error, ValueError):
            raise _Answer(SignatureState.MALFORMED, "The signature is not Base64.") from None
    raise _Answer(SignatureState.MALFORMED, f"The signature's encoding {section.encoding[:20]!r} is not known.")


def _public(key: PublicKey, curve: ec.EllipticCurve) -> ec.EllipticCurvePublicKey:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    try:
        if key.der is None:
            return ec.EllipticCurvePublicKey.from_encoded_point(curve, key.point or b"")
        public = load_der_public_key(key.der)
    except ValueError:
        if key.der is None:
            raise _Answer(SignatureState.CURVE_MISMATCH, f"The key is no point of {curve.name}.") from None
        raise _Answer(SignatureState.NO_KEY, "The public key is damaged: no verifier can use it.") from None
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise _Answer(SignatureState.CURVE_MISMATCH, "The public key is of another kind than the signature.")
    if public.curve.name != curve.name:
        text = f"The record is signed on {curve.name}, the key is on {public.curve.name}."
        raise _Answer(SignatureState.CURVE_MISMATCH, text)
    return public


def _as_der(signature: bytes, curve: ec.EllipticCurve) -> bytes:
    """r and s side by side have twice the length of the curve; DER never has that length and this shape."""
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

    if signature[:1] == _DER_SEQUENCE:
        try:
            decode_dss_signature(signature)
        except ValueError:
            pass
        else:
            return signature
    half = (curve.key_size + 7) // 8
    if len(signature) != 2 * half:
        raise _Answer(SignatureState.MALFORMED, f"The signature is neither DER nor r and s of {curve.name}.")
    return encode_dss_signature(int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big"))
