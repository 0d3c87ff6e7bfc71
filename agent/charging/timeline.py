"""One profile over time: which of its periods is in force at an instant, and until when that holds.

Charter: start, duration, recurrence and validity of a single profile. How profiles are stacked is
``composite``. Recurrence is counted in UTC from startSchedule, without any daylight-saving shift (16-SC-11).

Units: UTC milliseconds. Rows: 16-SC-05, 16-SC-06; OCPP 2.0.1 K01.
"""

from __future__ import annotations

from agent.charging.profiles import ChargingProfile, Kind, Period, Recurrency, Schedule

CYCLE_MS = {Recurrency.DAILY: 86_400_000, Recurrency.WEEKLY: 7 * 86_400_000}


def earliest(*instants_ms: int | None) -> int | None:
    """The first of the instants; None stands for never."""
    return min((instant for instant in instants_ms if instant is not None), default=None)


def period_at(profile: ChargingProfile, at_ms: int, started_ms: int) -> tuple[Period | None, int | None]:
    """The period in force at ``at_ms`` (None: the profile says nothing then), and the instant until which
    this answer holds (None: for ever). ``started_ms`` is when the transaction started.
    """
    if profile.valid_from_ms is not None and at_ms < profile.valid_from_ms:
        return None, profile.valid_from_ms
    if profile.valid_to_ms is not None and at_ms >= profile.valid_to_ms:
        return None, None
    schedule = profile.schedule
    start_ms = schedule.start_ms
    if start_ms is None:
        # A running transaction that starts in the future means a clock that was set back; the limit holds.
        start_ms, at_ms = started_ms, max(at_ms, started_ms)
    elif at_ms < start_ms:
        return None, earliest(start_ms, profile.valid_to_ms)
    if profile.kind is Kind.RECURRING:
        period, until_ms = _recurring(profile, at_ms, start_ms)
    else:
        period, until_ms = _once(schedule, at_ms, start_ms, _duration_ms(schedule))
    if period is None and until_ms is None:  # its run has ended, however long the profile stays valid
        return None, None
    return period, earliest(until_ms, profile.valid_to_ms)


def needs_clock(profile: ChargingProfile) -> bool:
    """Whether wall time has a say in it; else it goes by the time since the transaction started."""
    return (profile.schedule.start_ms, profile.valid_from_ms, profile.valid_to_ms) != (None, None, None)


def least(profile: ChargingProfile) -> Period:
    """The period with the lowest limit: what holds for certain while nobody knows which of them is in force."""
    return min(profile.schedule.periods, key=lambda period: period.limit_milli)


def expired(profile: ChargingProfile, at_ms: int) -> bool:
    """Whether the profile can never be in force again, whatever transaction comes."""
    if profile.valid_to_ms is not None and at_ms >= profile.valid_to_ms:
        return True
    start_ms, duration_ms = profile.schedule.start_ms, _duration_ms(profile.schedule)
    if profile.kind is Kind.RECURRING or start_ms is None or duration_ms is None:
        return False
    return at_ms >= start_ms + duration_ms


def _duration_ms(schedule: Schedule) -> int | None:
    return None if schedule.duration_s is None else schedule.duration_s * 1000


def _recurring(profile: ChargingProfile, at_ms: int, start_ms: int) -> tuple[Period | None, int | None]:
    assert profile.recurrency is not None  # rules let no recurring profile in without
    cycle_ms = CYCLE_MS[profile.recurrency]
    cycle_start_ms = at_ms - (at_ms - start_ms) % cycle_ms
    duration_ms = _duration_ms(profile.schedule)
    # What reaches beyond the cycle is cut (16-SC-06).
    length_ms = cycle_ms if duration_ms is None else min(duration_ms, cycle_ms)
    period, until_ms = _once(profile.schedule, at_ms, cycle_start_ms, length_ms)
    return period, cycle_start_ms + cycle_ms if period is None else until_ms


def _once(schedule: Schedule, at_ms: int, start_ms: int, length_ms: int | None) -> tuple[Period | None, int | None]:
    """A single run of the schedule that began at ``start_ms``, not after ``at_ms``."""
    end_ms = None if length_ms is None else start_ms + length_ms
    if end_ms is not None and at_ms >= end_ms:
        return None, None
    current = schedule.periods[0]
    for period in schedule.periods:
        period_start_ms = start_ms + period.start_s * 1000
        if period_start_ms > at_ms:
            return current, earliest(period_start_ms, end_ms)
        current = period
    return current, end_ms
