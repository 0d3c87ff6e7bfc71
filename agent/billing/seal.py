"""The frame of a receipt: ``EVSED-RECEIPT|<payload>|{"SA":...,"SE":"hex","SD":"..."}``.

Charter: puts payload and signature together, takes them apart again, checks the one against the other. What
is in the payload is ``receipt``'s affair. The frame is that of OCMF, so that a person who knows the one
recognises the other, but what is signed begins with a domain prefix: no OCMF payload begins so, therefore no
signature of a receipt can pass as one of a meter record, nor the other way round.

Exactly one byte string is the receipt: every other spelling of the same signature (lower case, other order of
keys, white space) is refused, so that no byte of a receipt can be changed unnoticed.
"""

from __future__ import annotations

import re
from typing import Final

from agent.billing.errors import ReceiptError
from agent.ocmf.sign import ALGORITHM, SEPARATOR, SigningFailed, SigningKey

HEADER: Final = b"EVSED-RECEIPT"
DOMAIN: Final = b"EVSED-RECEIPT-V1\n"

_JSON_HEAD: Final = b'{"payload":'
_JSON_MIDDLE: Final = b',"signature":'
_SECTION: Final = re.compile(rb'\{"SA":"ECDSA-secp256r1-SHA256","SE":"hex","SD":"((?:[0-9A-F]{2}){8,72})"\}')
FRAME_MAX_BYTES: Final = len(HEADER) + 2 + len(f'{{"SA":"{ALGORITHM}","SE":"hex","SD":""}}') + 2 * 72


def seal(payload: bytes, key: SigningKey) -> bytes:
    """The payload, exactly as given, with its signature. ``SigningFailed`` when the key does not answer with
    its own signature: such a receipt could never be told from a forgery."""
    if SEPARATOR in payload or not payload.isascii():
        raise ValueError("the payload of a receipt is ASCII without '|'")
    signature = key.sign(DOMAIN + payload)
    if not signed_by(payload, signature, key.public_der):
        raise SigningFailed("the fresh signature of a receipt does not verify")
    section = f'{{"SA":"{ALGORITHM}","SE":"hex","SD":"{signature.hex().upper()}"}}'
    return SEPARATOR.join((HEADER, payload, section.encode("ascii")))


def as_json(sealed: bytes) -> bytes:
    """The same bytes as one JSON object, for programs that know nothing of the frame."""
    _, payload, section = sealed.split(SEPARATOR)
    return b"".join((_JSON_HEAD, payload, _JSON_MIDDLE, section, b"}"))


def from_json(data: bytes) -> bytes:
    """The sealed receipt in such an object, whose bytes must be exactly those that ``as_json`` wrote."""
    # Inside a text of the payload the quotes would be escaped, so the middle stands there only once.
    payload, middle, section = data.removeprefix(_JSON_HEAD).rpartition(_JSON_MIDDLE)
    if not data.startswith(_JSON_HEAD) or not middle or not section.endswith(b"}"):
        raise ReceiptError("frame", "not the JSON form of a receipt")
    return SEPARATOR.join((HEADER, payload, section[:-1]))


def opened(sealed: bytes) -> tuple[bytes, bytes]:
    """Payload and signature (DER) of a sealed receipt; nothing is checked but the frame."""
    parts = sealed.split(SEPARATOR)
    if parts[0] != HEADER:
        raise ReceiptError("frame", f"does not begin with {HEADER.decode()}|")
    if len(parts) != 3:
        raise ReceiptError("frame", f"{len(parts)} parts between bars instead of 3")
    section = _SECTION.fullmatch(parts[2])
    if section is None:
        raise ReceiptError("signature section", "not in the one form that we write")
    return parts[1], bytes.fromhex(section[1].decode("ascii"))


def signed_by(payload: bytes, signature: bytes, public_der: bytes) -> bool:
    """Is this the signature of that key over that payload as a receipt? False also for a useless key."""
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    try:
        public = load_der_public_key(public_der)
        if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
            return False
        public.verify(signature, DOMAIN + payload, ec.ECDSA(SHA256()))
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        return False
    return True
