"""Numbers and times of charging profiles, as both dialects read them.

Charter: pure; a value that is out of range is a PropertyConstraintViolation that names its field.
Sources: checklist 16-SC-13, 16-SC-16, RPC-15.
"""

from __future__ import annotations

from typing import Any

from agent.charging.profiles import LimitNumberError, exact_milli
from agent.ocpp.errors import ErrorCode, RpcError
from agent.ocpp.timestamps import BadTimestamp, from_rfc3339


def milli(number: int | float, field: str) -> int:
    """A limit in thousandths; more than one decimal is refused (16-SC-13, 16-SC-16)."""
    try:
        return exact_milli(number)
    except LimitNumberError:
        raise RpcError(ErrorCode.PROPERTY_CONSTRAINT_VIOLATION, f"{field}: out of range") from None


def instant(fields: dict[str, Any], name: str) -> int | None:
    """A point in time of a profile, None where it has none."""
    if name not in fields:
        return None
    try:
        return from_rfc3339(fields[name])
    except BadTimestamp as error:
        raise RpcError(ErrorCode.PROPERTY_CONSTRAINT_VIOLATION, f"{name}: {error}") from None
