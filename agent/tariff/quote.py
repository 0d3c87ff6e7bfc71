"""What a session would cost.

Charter: a made-up session (when, how much energy at which power, how long idle) as points of ``fold.Session``, with
readings every minute and at every boundary as a station takes them, and the bill of it.

Units: W, Wh, s, min as people say them; inside mWh and ms.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from agent.tariff.cost import Bill, bill
from agent.tariff.fold import Session
from agent.tariff.model import EvseKind, Payment, Tariff
from agent.tariff.usage import Activity, Point, Register, Usage

MINUTE_MS = 60_000
MAX_MINUTES = 14 * 1440
MAX_WH = 10_000_000
MILLIJOULE_PER_MWH = 3_600  # so W times ms, divided by it, are mWh


@dataclass(frozen=True, slots=True)
class Profile:
    """``start`` is local time. ``power_w`` are steps (from second, watt); the last one lasts.

    Charging takes as long as the energy needs at that power, or ``charging_min`` if given: then what flows later
    does not count, and without ``power_w`` the power is the energy spread evenly.
    """

    start: datetime
    energy_wh: int
    power_w: tuple[tuple[int, int], ...] = ()
    charging_min: int | None = None
    idle_min: int = 0
    evse_kind: EvseKind = EvseKind.AC
    reservation_min: int = 0
    payment: Payment | None = None


@dataclass(frozen=True, slots=True)
class Quote:
    usage: Usage
    bill: Bill | None


def quote(tariff: Tariff | None, profile: Profile, *, zone: str) -> Quote:
    """``ValueError`` when the profile makes no sense."""
    charging_ms = _charging_ms(profile)
    session = Session(
        tariff,
        zone=zone,
        evse_kind=profile.evse_kind,
        payment=profile.payment,
        reservation_ms=profile.reservation_min * MINUTE_MS,
    )
    start_ms = _utc_ms(profile.start, zone)
    end_ms = charging_ms + profile.idle_min * MINUTE_MS
    at_ms: int | None = 0
    while at_ms is not None:
        charging = at_ms < charging_ms
        power_mw = _power_mw(profile, at_ms, charging_ms) if charging else 0
        register = Register(at_ms, _energy_mwh(profile, at_ms, charging_ms), power_mw)
        session.add(Point(at_ms, start_ms + at_ms, Activity.CHARGING if charging else Activity.IDLE, register))
        at_ms = _next_ms(session, profile, at_ms, charging_ms, end_ms)
    usage = session.usage()
    return Quote(usage, bill(session.tariffs, usage))


def _next_ms(session: Session, profile: Profile, at_ms: int, charging_ms: int, end_ms: int) -> int | None:
    candidates = [at_ms + MINUTE_MS, charging_ms, end_ms, session.next_boundary_ms() or end_ms]
    candidates += [from_s * 1000 for from_s, _ in profile.power_w]
    return min((each for each in candidates if at_ms < each <= end_ms), default=None)


def _charging_ms(profile: Profile) -> int:
    if not 0 <= profile.energy_wh <= MAX_WH:
        raise ValueError(f"energy_wh: expected 0 to {MAX_WH}, found {profile.energy_wh}")
    if profile.power_w and (profile.power_w[0][0] != 0 or list(profile.power_w) != sorted(set(profile.power_w))):
        raise ValueError("power_w: expected steps from second 0 on, in order of time")
    if any(power < 0 for _, power in profile.power_w):
        raise ValueError("power_w: expected 0 or more")
    if profile.idle_min < 0 or profile.reservation_min < 0:
        raise ValueError("idle_min, reservation_min: expected 0 or more")
    charging_ms = _needed_ms(profile) if profile.charging_min is None else profile.charging_min * MINUTE_MS
    if not 0 <= charging_ms + profile.idle_min * MINUTE_MS <= MAX_MINUTES * MINUTE_MS:
        raise ValueError(f"the session: expected at most {MAX_MINUTES} minutes")
    if profile.charging_min == 0 and profile.energy_wh:
        raise ValueError("charging_min: expected more than 0 with energy")
    return charging_ms


def _needed_ms(profile: Profile) -> int:
    """How long the energy takes at the power."""
    if not profile.energy_wh:
        return 0
    if not profile.power_w or profile.power_w[-1][1] == 0:
        raise ValueError("power_w: expected a power that ends the charging, or charging_min")
    missing = profile.energy_wh * 1000 * MILLIJOULE_PER_MWH
    for number, (from_s, power_w) in enumerate(profile.power_w):
        until_s = profile.power_w[number + 1][0] if number + 1 < len(profile.power_w) else None
        flows = None if until_s is None else power_w * (until_s - from_s) * 1000
        if flows is None or flows >= missing:
            return from_s * 1000 - (-missing // power_w)
        missing -= flows
    raise AssertionError("the last power lasts")


def _energy_mwh(profile: Profile, at_ms: int, charging_ms: int) -> int:
    """What has flown until then, at most the energy of the profile."""
    whole_mwh = profile.energy_wh * 1000
    if at_ms >= charging_ms and (profile.charging_min is None or not profile.power_w):
        return whole_mwh
    at_ms = min(at_ms, charging_ms)
    if not profile.power_w:
        return whole_mwh * at_ms // charging_ms
    flown = 0
    for number, (from_s, power_w) in enumerate(profile.power_w):
        until_ms = profile.power_w[number + 1][0] * 1000 if number + 1 < len(profile.power_w) else at_ms
        flown += power_w * max(0, min(until_ms, at_ms) - from_s * 1000)
    return min(whole_mwh, flown // MILLIJOULE_PER_MWH)


def _power_mw(profile: Profile, at_ms: int, charging_ms: int) -> int:
    if not profile.power_w:
        return profile.energy_wh * 1000 * MILLIJOULE_PER_MWH * 1000 // charging_ms
    return next(power_w * 1000 for from_s, power_w in reversed(profile.power_w) if from_s * 1000 <= at_ms)


def _utc_ms(start: datetime, zone: str) -> int:
    local = start.replace(tzinfo=ZoneInfo(zone)) if start.tzinfo is None else start
    return (local - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
