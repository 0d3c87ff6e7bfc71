"""Local time conditions: do they hold at an instant, and when can any of them change next.

Charter: conditions on time of day, weekday and date, in the site's time zone. They are looked up from the UTC
instant, so the repeated hour in autumn matches in both passes and what lies in the skipped hour in spring never
occurs. A weekday is that of the instant itself: ``Friday 22:00-06:00`` holds on Friday before 06:00 and from
22:00 on, not on Saturday morning.

Units: UTC milliseconds. Sources: OCPP 2.1 TariffConditionsType; IANA time zones by ``zoneinfo``.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from agent.tariff.model import DAY_MINUTES, Conditions, Dimension, Tariff

# Instants outside are a broken clock; within, every local date of any zone exists.
MIN_WALL_MS = 0
MAX_WALL_MS = 250_000_000_000_000
_DAY_MS = 86_400_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class LocalTime:
    minute: int  # of the day
    weekday: int  # 0 is Monday
    date: date


def local_time(zone: ZoneInfo, wall_ms: int) -> LocalTime:
    local = _local(zone, wall_ms)
    return LocalTime(local.hour * 60 + local.minute, local.weekday(), local.date())


def holds_locally(conditions: Conditions, at: LocalTime) -> bool:
    return (
        _within_day(conditions, at.minute)
        and (conditions.days is None or at.weekday in conditions.days)
        and (conditions.from_date is None or at.date >= conditions.from_date)
        and (conditions.to_date is None or at.date < conditions.to_date)
    )


def _within_day(conditions: Conditions, minute: int) -> bool:
    start = 0 if conditions.start_minute is None else conditions.start_minute
    end = DAY_MINUTES if conditions.end_minute is None else conditions.end_minute
    if end < start:
        return minute >= start or minute < end
    return start <= minute < end


def boundary_minutes(tariff: Tariff) -> tuple[int, ...]:
    """The minutes of the day at which a local condition of the tariff can change; none: it has none."""
    minutes: set[int] = set()
    for dimension in Dimension:
        for price in tariff.prices(dimension):
            held = price.conditions
            minutes |= {minute % DAY_MINUTES for minute in (held.start_minute, held.end_minute) if minute is not None}
            if held.is_local:
                minutes.add(0)
    return tuple(sorted(minutes))


def next_change_ms(minutes: Sequence[int], zone: ZoneInfo, wall_ms: int) -> int | None:
    """The first instant after ``wall_ms`` at which the local time passes one of the minutes (ascending), or jumps.

    A boundary that does not exist on a day (spring) takes effect at the jump, one that exists twice both times.
    """
    if not minutes:
        return None
    local = _local(zone, wall_ms)
    place = bisect_right(minutes, local.hour * 60 + local.minute)
    minute = minutes[place] if place < len(minutes) else minutes[0] + DAY_MINUTES
    into_day = timedelta(hours=local.hour, minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
    # Where the offset stays as it is. Else whatever comes behind the jump comes after it.
    at_ms = wall_ms + (timedelta(minutes=minute) - into_day) // timedelta(milliseconds=1)
    jump_ms = _next_jump(zone, wall_ms, at_ms)
    return at_ms if jump_ms is None else jump_ms


@dataclass(frozen=True, slots=True)
class Skip:
    """Minutes of the day that a date does not have."""

    date: date
    from_minute: int
    to_minute: int


def next_skip(zone: ZoneInfo, wall_ms: int) -> Skip | None:
    """The next jump forward within 400 days."""
    for day in range(400):
        at_ms = wall_ms + day * _DAY_MS
        jump_ms = _next_jump(zone, at_ms, at_ms + _DAY_MS)
        if jump_ms is None:
            continue
        before, after = _local(zone, jump_ms - 1), _local(zone, jump_ms)
        if after.replace(tzinfo=None) - before.replace(tzinfo=None) > timedelta(minutes=1):
            from_minute = (before.hour * 60 + before.minute + 1) % DAY_MINUTES
            return Skip(after.date(), from_minute, after.hour * 60 + after.minute)
    return None


def _next_jump(zone: ZoneInfo, after_ms: int, before_ms: int) -> int | None:
    """The change of the UTC offset within (after, before), if there is one. Two of them within a day or so
    do not occur in any zone."""
    offset = _local(zone, after_ms).utcoffset()
    low_ms, high_ms = after_ms, before_ms
    if _local(zone, high_ms).utcoffset() == offset:
        return None
    while high_ms - low_ms > 1:
        middle_ms = (low_ms + high_ms) // 2
        if _local(zone, middle_ms).utcoffset() == offset:
            low_ms = middle_ms
        else:
            high_ms = middle_ms
    return high_ms


def _local(zone: ZoneInfo, wall_ms: int) -> datetime:
    return (_EPOCH + timedelta(milliseconds=wall_ms)).astimezone(zone)
