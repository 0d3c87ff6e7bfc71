"""How a record travels in OCPP: the SignedMeterValueType of each version, and back.

Charter: wraps the signed bytes in Base64, puts the fields each schema wants around them, keeps the
schema's limits. Which key goes along (or none) is the caller's policy. Pure; no OCPP package needed.

Sources: OCA white paper "Signed meter values in OCPP" (1.6), SignedMeterValueType in the schemas of 2.0.1 and
2.1. The signing method stays empty: it is inside the record.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from agent.ocmf.errors import OcmfError
from agent.ocmf.parse import RECORD_MAX_BYTES
from agent.ocmf.record import SIGNED_MAX_CHARS

ENCODING_METHOD: Final = "OCMF"
SIGNED_MAX_CHARS_21: Final = 32_768
_KEY_MAX_CHARS: Final = 2_500


@dataclass(frozen=True, slots=True)
class Carried:
    """What came out of a message. ``public_key`` is as sent, empty where none was."""

    record: bytes
    public_key: str


def signed_value_16(record: bytes, public_key: str) -> str:
    """``SampledValue.value`` with format SignedData: the object as JSON text."""
    return json.dumps(signed_value_201(record, public_key), separators=(",", ":"))


def signed_value_201(record: bytes, public_key: str) -> dict[str, str]:
    """``signedMeterValue`` of OCPP 2.0.1, where all four fields are required."""
    return {
        "signedMeterData": _base64(record, SIGNED_MAX_CHARS),
        "signingMethod": "",
        "encodingMethod": ENCODING_METHOD,
        "publicKey": _key(public_key),
    }


def signed_value_21(record: bytes, public_key: str) -> dict[str, str]:
    """``signedMeterValue`` of OCPP 2.1: longer, and what says nothing is left out."""
    value = {"signedMeterData": _base64(record, SIGNED_MAX_CHARS_21), "encodingMethod": ENCODING_METHOD}
    return value | ({"publicKey": _key(public_key)} if public_key else {})


def read_signed_value(value: str | Mapping[str, Any]) -> Carried:
    """The record in a SignedMeterValueType of any version; OcmfError when there is none."""
    found: Any = value
    if isinstance(value, str):
        if len(value) > 4 * RECORD_MAX_BYTES:
            raise OcmfError("signed value", "it is too long", "give one signed value")
        try:
            found = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise OcmfError("signed value", f"it is not JSON ({type(error).__name__})", _REMEDY) from error
    if not isinstance(found, Mapping):
        raise OcmfError("signed value", "it is not a JSON object", _REMEDY)
    method, data, key = (found.get(name) for name in ("encodingMethod", "signedMeterData", "publicKey"))
    if method != ENCODING_METHOD:
        raise OcmfError("signed value", f"it is {method!r:.40}, not OCMF", _REMEDY, key="encodingMethod")
    if not isinstance(data, str) or len(data) > 2 * RECORD_MAX_BYTES:
        raise OcmfError("signed value", "it is no text, or too long", _REMEDY, key="signedMeterData")
    if key is not None and not isinstance(key, str):
        raise OcmfError("signed value", "it is not a text", _REMEDY, key="publicKey")
    try:
        return Carried(base64.b64decode(data, validate=True), key or "")
    except (binascii.Error, ValueError) as error:
        raise OcmfError("signed value", "it is not Base64", _REMEDY, key="signedMeterData") from error


_REMEDY: Final = "give the signed value as the message carried it"


def _base64(record: bytes, limit_chars: int) -> str:
    text = base64.b64encode(record).decode("ascii")
    if len(text) > limit_chars:
        raise ValueError(f"signedMeterData has {len(text)} characters, the schema allows {limit_chars}")
    return text


def _key(public_key: str) -> str:
    if len(public_key) > _KEY_MAX_CHARS:
        raise ValueError(f"publicKey has {len(public_key)} characters, the schema allows {_KEY_MAX_CHARS}")
    return public_key
