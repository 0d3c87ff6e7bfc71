"""Public keys in every form they are handed around.

Charter: undoes the outer encoding (hex, Base64, PEM, OCA's prefix) and tells a DER structure from a bare
point. What curve a DER key is on, and whether it is sound, is for ``curves.py``. Pure.

Sources: OCA white paper "Signed meter values" (``oca:base16:asn1:``), RFC 7468 (PEM), labels of meters in
the field (a bare X,Y without the leading 04).
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Final

from agent.ocmf.errors import OcmfError

_KEY_MAX_CHARS: Final = 8_192
_OCA_PREFIX: Final = "oca:base16:asn1:"
_PEM: Final = re.compile(r"-----BEGIN PUBLIC KEY-----([A-Za-z0-9+/=\s]*)-----END PUBLIC KEY-----", re.ASCII)
_HEX: Final = re.compile(r"(?:[0-9A-Fa-f]{2})+")
_BARE_BYTES: Final = (48, 64, 96)  # X and Y on a curve of 192, 256 or 384 bits
_UNCOMPRESSED: Final = b"\x04"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """Either a DER SubjectPublicKeyInfo, or an uncompressed point that does not say its curve."""

    der: bytes | None = None
    point: bytes | None = None


def parse_key(text: str | bytes) -> PublicKey:
    """Read a key; OcmfError when it is in no known form. Raw DER bytes will do as well."""
    if len(text) > _KEY_MAX_CHARS:
        raise OcmfError("key", f"it is longer than {_KEY_MAX_CHARS}", "give the public key alone")
    if isinstance(text, str):
        return _structure(_bytes(text.strip()))
    try:
        return parse_key(text.decode("ascii"))
    except UnicodeDecodeError:
        return _structure(text)  # DER holds bytes that are no ASCII (its object identifiers)


_FORMS: Final = "give hex, Base64 or PEM of a DER public key, the oca:base16:asn1: form, or the point's X and Y in hex"


def _bytes(text: str) -> bytes:
    pem = _PEM.search(text)
    if pem is not None:
        return _base64(pem[1])
    text = "".join(text.split())
    if text.lower().startswith(_OCA_PREFIX):
        return _hex(text[len(_OCA_PREFIX) :])
    if _HEX.fullmatch(text):
        return _hex(text)
    found = _base64(text)
    if found.lower().startswith(_OCA_PREFIX.encode("ascii")):
        return _hex(found[len(_OCA_PREFIX) :].decode("ascii", "replace"))
    return found


def _hex(text: str) -> bytes:
    if not _HEX.fullmatch(text):
        raise OcmfError("key", "it is not hex", _FORMS)
    return bytes.fromhex(text)


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise OcmfError("key", "it is neither hex nor Base64", _FORMS) from error


def _structure(data: bytes) -> PublicKey:
    # A bare point may by chance begin like DER; a DER key never has the length of a bare point.
    if len(data) in _BARE_BYTES:
        return PublicKey(point=_UNCOMPRESSED + data)
    if data[:1] == _UNCOMPRESSED and len(data) - 1 in _BARE_BYTES:
        return PublicKey(point=data)
    if data[:1] == b"\x30":
        return PublicKey(der=data)
    raise OcmfError("key", f"its {len(data)} bytes are neither a DER public key nor a point", _FORMS)
