"""RFC 3339 timestamps both ways.

Charter: UTC milliseconds since 1970 <-> OCPP ``dateTime`` text. We write UTC with ``Z`` and
milliseconds; we read every RFC 3339 form seen in the field: any offset, any number of fraction
digits (cut after the millisecond), ``t``/``z`` in lower case, a blank instead of ``T``, no offset at
all (taken as UTC: the standard asks for UTC), a leap second. What was read can be written again.

Source: RFC 3339 section 5.6; checklist RPC-15; field notes "What real back offices do".
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

EARLIEST_PLAUSIBLE_MS: Final = 1_735_689_600_000  # 2025-01-01: before this software existed
"""A wall time below this is that of a clock that was never set."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_MS: Final = -62_135_596_800_000
_LAST_MS: Final = 253_402_300_799_999
_RFC3339: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,30}))?(?:([Zz])|([+-])(\d\d):?(\d\d))?", re.ASCII
)


class BadTimestamp(ValueError):
    """The text is not an RFC 3339 date-time."""


def to_rfc3339(wall_ms: int) -> str:
    """``2026-11-24T08:15:30.250Z`` of UTC milliseconds since 1970 (years 1 to 9999; ``OverflowError`` beyond)."""
    moment = _EPOCH + timedelta(milliseconds=wall_ms)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z".rjust(24, "0")


def from_rfc3339(text: str) -> int:
    """UTC milliseconds since 1970; raises ``BadTimestamp``."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise BadTimestamp("not an RFC 3339 date-time")
    year, month, day, hour, minute, second = (int(part) for part in match.group(1, 2, 3, 4, 5, 6))
    fraction, _zulu, sign, offset_hours, offset_minutes = match.group(7, 8, 9, 10, 11)
    leap_s = 1 if second == 60 else 0
    try:
        moment = datetime(year, month, day, hour, minute, second - leap_s, tzinfo=UTC)
    except ValueError as error:
        raise BadTimestamp("no such date or time") from error
    offset_min = 0
    if sign is not None:
        if int(offset_hours) > 23 or int(offset_minutes) > 59:
            raise BadTimestamp("no such offset")
        offset_min = (int(offset_hours) * 60 + int(offset_minutes)) * (-1 if sign == "-" else 1)
    milliseconds = int((fraction or "0")[:3].ljust(3, "0"))
    # Integer arithmetic: a float second count loses milliseconds.
    wall_ms = (moment - _EPOCH) // timedelta(milliseconds=1) + leap_s * 1000 - offset_min * 60_000 + milliseconds
    if not _FIRST_MS <= wall_ms <= _LAST_MS:
        raise BadTimestamp("not within the years 1 to 9999 of UTC")
    return wall_ms
