"""Sealing: a payload and its signature become one record.

Charter: asks the key for a signature, checks it at once, frames both. A signature that does not verify
(a broken key, a memory fault, a secure element that answered for another key) must never leave the
station: nobody could tell it from a forgery later. The algorithm is P-256 with SHA-256, OCMF's default.

Signing may take 300 ms in a secure element: call it outside the event loop.
"""

from __future__ import annotations

from typing import Final, Protocol

ALGORITHM: Final = "ECDSA-secp256r1-SHA256"
HEADER: Final = b"OCMF"
SEPARATOR: Final = b"|"


class SigningFailed(Exception):
    """The key answered with something that is not its signature; nothing was sealed."""


class SigningKey(Protocol):
    """A P-256 private key, wherever it lives."""

    @property
    def public_der(self) -> bytes:
        """The public half as DER SubjectPublicKeyInfo."""

    def sign(self, data: bytes) -> bytes:
        """ECDSA over SHA-256 of the data, as DER."""


def seal(payload: bytes, key: SigningKey) -> bytes:
    """``OCMF|payload|signature``, with the payload exactly as given."""
    if SEPARATOR in payload:
        raise ValueError("a payload with '|' in it cannot be told from its frame")
    signature = key.sign(payload)
    _prove(payload, signature, key.public_der)
    section = f'{{"SA":"{ALGORITHM}","SE":"hex","SD":"{signature.hex().upper()}"}}'
    return SEPARATOR.join((HEADER, payload, section.encode("ascii")))


def _prove(payload: bytes, signature: bytes, public_der: bytes) -> None:
    # Here and not at the top: who only reads records or builds drafts need not load OpenSSL.
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    try:
        public = load_der_public_key(public_der)
        if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
            raise SigningFailed("the signing key is not on P-256")
        public.verify(signature, payload, ec.ECDSA(SHA256()))
    except (InvalidSignature, UnsupportedAlgorithm, ValueError) as error:
        raise SigningFailed(f"the fresh signature does not verify: {error or type(error).__name__}") from error
