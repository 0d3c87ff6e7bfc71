"""Which charging profiles a station accepts: the rules that look at one profile alone.

Charter: well-formedness and the station's capabilities. Rules that look at the other installed profiles or
at running transactions are in ``store``. Each refusal names its rule: rows 16-SC-... of OCPP 1.6 (3.13 and
errata 4), requirement numbers K01.FR... of OCPP 2.0.1 part 2.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from agent.charging.profiles import MAX_LIMIT_MILLI, ChargingProfile, Kind, LimitSource, Purpose, RateUnit, Schedule
from agent.charging.timeline import expired


class Rules(enum.StrEnum):
    """The version of OCPP that a profile came by; the two differ in strictness and replacement."""

    OCPP16 = "1.6"
    OCPP201 = "2.0.1"


class Reason(enum.StrEnum):
    """Why a profile is refused; the values are reason codes of OCPP 2.0.1 (StatusInfoType)."""

    DUPLICATE = "DuplicateProfile"
    INVALID_PROFILE = "InvalidProfile"
    INVALID_SCHEDULE = "InvalidSchedule"
    INVALID_STACK_LEVEL = "InvalidStackLevel"
    MISSING_PARAM = "MissingParam"
    TOO_MANY = "TooManyElements"
    TX_NOT_FOUND = "TxNotFound"
    UNKNOWN_EVSE = "UnknownEvse"
    UNSUPPORTED_PARAM = "UnsupportedParam"
    UNSUPPORTED_RATE_UNIT = "UnsupportedRateUnit"


@dataclass(frozen=True, slots=True)
class Refusal:
    """The profile is not installed. ``rule`` is the requirement it breaks, ``detail`` what is wrong."""

    reason: Reason
    rule: str
    detail: str

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail} ({self.rule})"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the station offers (SmartChargingCtrlr variables; 16-SC-07). EVSEs are numbered 1 to ``evse_count``."""

    evse_count: int
    max_stack_level: int
    max_periods: int
    max_installed: int
    rate_units: frozenset[RateUnit] = frozenset(RateUnit)


def check_structure(profile: ChargingProfile, rules: Rules) -> Refusal | None:
    """The first thing wrong with the profile in itself, on any station and at any time."""
    return next(_structure(profile, rules), None)


def check_profile(
    profile: ChargingProfile,
    evse_id: int,
    *,
    rules: Rules,
    capabilities: Capabilities,
    wall_ms: int,
    source: LimitSource = LimitSource.CSO,
) -> Refusal | None:
    """The first thing wrong with the profile for this station now, apart from what else is installed.

    Also the test for a profile that comes with a remote start, before its transaction exists.
    """
    if (refusal := check_structure(profile, rules)) is not None:
        return refusal
    faults = (*_addressing(profile, evse_id, capabilities, source), *_limits(profile, capabilities))
    if faults:
        return faults[0]
    if expired(profile, wall_ms):
        return Refusal(Reason.INVALID_PROFILE, "K01 validTo, 16-SC-03", "the profile's time has already passed")
    return None


def _structure(profile: ChargingProfile, rules: Rules) -> Iterator[Refusal]:
    if len(profile.schedules) != 1:
        detail = f"{len(profile.schedules)} schedules; more than one is for ISO 15118 only"
        yield Refusal(Reason.INVALID_SCHEDULE, "K01.FR.34", detail)
        return
    if profile.stack_level < 0:
        yield Refusal(Reason.INVALID_STACK_LEVEL, "16-SC-07", f"stackLevel {profile.stack_level} is negative")
    from_ms, to_ms = profile.valid_from_ms, profile.valid_to_ms
    if from_ms is not None and to_ms is not None and from_ms >= to_ms:
        yield Refusal(Reason.INVALID_PROFILE, "16-SC-03, K01 validity", "validFrom is not before validTo")
    if profile.transaction_id is not None and profile.purpose is not Purpose.TX:
        detail = f"transactionId belongs to a TxProfile, not to a {profile.purpose}"
        yield Refusal(Reason.INVALID_PROFILE, "16-SC-01, K01.FR.03", detail)
    yield from _periods(profile.schedule)
    yield from _start(profile, rules)


def _periods(schedule: Schedule) -> Iterator[Refusal]:
    def wrong(rule: str, detail: str) -> Refusal:
        return Refusal(Reason.INVALID_SCHEDULE, rule, detail)

    if not schedule.periods:
        yield wrong("16-SC-05", "no period")
        return
    if schedule.periods[0].start_s != 0:
        yield wrong("16-SC-05, K01.FR.31", f"first startPeriod is {schedule.periods[0].start_s}, must be 0")
    for before, after in pairwise(schedule.periods):
        if after.start_s <= before.start_s:
            yield wrong("16-SC-05, K01.FR.35", f"startPeriod {after.start_s} follows {before.start_s}")
    for period in schedule.periods:
        if not 0 <= period.limit_milli <= MAX_LIMIT_MILLI:
            yield wrong("16-SC-13", f"limit {period.limit_milli} / 1000 {schedule.unit} is out of range")
        if period.number_phases not in (None, 1, 2, 3):
            yield wrong("16-SC-07", f"numberPhases {period.number_phases} is not 1 to 3")
    if schedule.duration_s is not None and schedule.duration_s <= 0:
        yield wrong("16-SC-05", f"duration {schedule.duration_s} is not positive")


def _start(profile: ChargingProfile, rules: Rules) -> Iterator[Refusal]:
    has_start = profile.schedule.start_ms is not None
    if profile.kind is Kind.RECURRING and profile.recurrency is None:
        yield Refusal(Reason.MISSING_PARAM, "16-SC-06", "a recurring profile needs recurrencyKind")
    if profile.kind is Kind.RECURRING and not has_start:
        yield Refusal(Reason.MISSING_PARAM, "16-SC-06, K01.FR.40", "a recurring profile needs startSchedule")
    if profile.kind is Kind.RELATIVE and has_start:
        yield Refusal(Reason.INVALID_SCHEDULE, "16-SC-06, K01.FR.41", "a relative profile has no startSchedule")
    if rules is Rules.OCPP16:
        return
    if profile.kind is Kind.ABSOLUTE and not has_start:
        yield Refusal(Reason.MISSING_PARAM, "K01.FR.40", "an absolute profile needs startSchedule")
    if profile.kind is Kind.RELATIVE and profile.purpose in (Purpose.STATION_MAX, Purpose.STATION_EXTERNAL):
        yield Refusal(Reason.INVALID_PROFILE, "K01.FR.38", f"a {profile.purpose} cannot be relative")


def _addressing(
    profile: ChargingProfile, evse_id: int, capabilities: Capabilities, source: LimitSource
) -> Iterator[Refusal]:
    if not 0 <= evse_id <= capabilities.evse_count:
        yield Refusal(Reason.UNKNOWN_EVSE, "16-SC-16, K01.FR.28", f"there is no EVSE {evse_id}")
    if (profile.purpose is Purpose.STATION_EXTERNAL) != (source is not LimitSource.CSO):
        # The CSMS may not set external constraints, and others may set nothing else.
        yield Refusal(Reason.INVALID_PROFILE, "K01.FR.22", f"a {profile.purpose} does not come from {source}")
    if profile.purpose is Purpose.STATION_MAX and evse_id != 0:
        detail = f"a {profile.purpose} is for the whole station, not for EVSE {evse_id}"
        yield Refusal(Reason.INVALID_PROFILE, "16-SC-01, K01.FR.03", detail)
    if profile.purpose is Purpose.TX and evse_id == 0:
        yield Refusal(Reason.INVALID_PROFILE, "16-SC-01, K01.FR.16", "a TxProfile needs an EVSE above 0")


def _limits(profile: ChargingProfile, capabilities: Capabilities) -> Iterator[Refusal]:
    schedule = profile.schedule
    if profile.stack_level > capabilities.max_stack_level:
        detail = f"stackLevel {profile.stack_level} is above {capabilities.max_stack_level}"
        yield Refusal(Reason.INVALID_STACK_LEVEL, "16-SC-07, K01", detail)
    if schedule.unit not in capabilities.rate_units:
        yield Refusal(Reason.UNSUPPORTED_RATE_UNIT, "16-SC-07, K01.FR.26", f"chargingRateUnit {schedule.unit}")
    if len(schedule.periods) > capabilities.max_periods:
        detail = f"{len(schedule.periods)} periods, at most {capabilities.max_periods}"
        yield Refusal(Reason.TOO_MANY, "16-SC-07, K01", detail)
    if any(period.phase_to_use is not None for period in schedule.periods):
        detail = "phaseToUse without ACPhaseSwitchingSupported"
        yield Refusal(Reason.UNSUPPORTED_PARAM, "K01.FR.20, K01.FR.48", detail)
