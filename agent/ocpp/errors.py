"""OCPP-J error codes and the exception that becomes a CALLERROR.

Charter: one set of codes in the 2.x spelling for the whole product, and the translation to and from
the spelling on the wire. 1.6 writes FormationViolation and OccurenceConstraintViolation, and lacks
the two framing codes.

Sources: OCPP 1.6J table 7; OCPP 2.0.1 part 4 table 8 (checklist RPC-09, RPC-10).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

from agent.ocpp.version import Version

DESCRIPTION_MAX_CHARS = 255


class ErrorCode(enum.StrEnum):
    """CALLERROR codes in the spelling of OCPP 2.x."""

    FORMAT_VIOLATION = "FormatViolation"
    GENERIC_ERROR = "GenericError"
    INTERNAL_ERROR = "InternalError"
    MESSAGE_TYPE_NOT_SUPPORTED = "MessageTypeNotSupported"
    NOT_IMPLEMENTED = "NotImplemented"  # the action is unknown
    NOT_SUPPORTED = "NotSupported"  # the action is known, this station does not offer it
    OCCURRENCE_CONSTRAINT_VIOLATION = "OccurrenceConstraintViolation"
    PROPERTY_CONSTRAINT_VIOLATION = "PropertyConstraintViolation"
    PROTOCOL_ERROR = "ProtocolError"
    RPC_FRAMEWORK_ERROR = "RpcFrameworkError"
    SECURITY_ERROR = "SecurityError"
    TYPE_CONSTRAINT_VIOLATION = "TypeConstraintViolation"


_V16_SPELLING = {
    ErrorCode.FORMAT_VIOLATION: "FormationViolation",
    ErrorCode.OCCURRENCE_CONSTRAINT_VIOLATION: "OccurenceConstraintViolation",
    ErrorCode.RPC_FRAMEWORK_ERROR: "GenericError",
    ErrorCode.MESSAGE_TYPE_NOT_SUPPORTED: "GenericError",
}

_CANONICAL = {code.value: code for code in ErrorCode} | {
    "FormationViolation": ErrorCode.FORMAT_VIOLATION,
    "OccurenceConstraintViolation": ErrorCode.OCCURRENCE_CONSTRAINT_VIOLATION,
}


def to_wire(code: ErrorCode, version: Version) -> str:
    """How ``version`` spells ``code`` (RPC-09)."""
    return _V16_SPELLING.get(code, code.value) if version.is_16 else code.value


def from_wire(text: str) -> str:
    """The 2.x spelling of a code the peer sent, in any version's spelling; an unknown code stays as it is (RPC-09)."""
    return _CANONICAL.get(text, text)


class RpcError(Exception):
    """Raised by a handler to answer a CALL with a CALLERROR.

    ``description`` goes to the peer and into logs: at most 255 characters, no payload values (RPC-10).
    """

    def __init__(self, code: ErrorCode, description: str = "", details: Mapping[str, Any] | None = None) -> None:
        self.code = code
        self.description = description[:DESCRIPTION_MAX_CHARS]
        self.details = dict(details or {})
        super().__init__(f"{code}: {self.description}")
