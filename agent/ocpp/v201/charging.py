"""2.0.1 charging profiles to the neutral form and composite schedules back.

Charter: translation only; whether a profile may be installed is the station's decision, under the
rules of 2.0.1. Numbers are exact: a limit is read from the digits of the message, never as a binary
fraction, and has at most one decimal (ChargingSchedulePeriodType.limit).

Units: 2.0.1 limits in A or W; neutral ones in milliampere or milliwatt.
Sources: OCPP 2.0.1 part 2 K01, K05, K08, K10.
"""

from __future__ import annotations

from typing import Any, Final

from agent.charging.profiles import (
    ChargingProfile,
    Kind,
    Period,
    Purpose,
    RateUnit,
    Recurrency,
    Schedule,
)
from agent.charging.records import criteria_to_plain, profile_to_plain
from agent.charging.store import Criteria
from agent.ipc.port import StationPort
from agent.ipc.profiles import CompositeSchedule, ProfileAnswer, ProfileOutcome
from agent.ocpp.dialect import StationView
from agent.ocpp.errors import ErrorCode, RpcError
from agent.ocpp.frames import Payload
from agent.ocpp.profile_values import instant, milli
from agent.ocpp.timestamps import to_rfc3339
from agent.ocpp.v201.messages import status

RULES: Final = "2.0.1"


# ------------------------------------------------------------------------------------------ messages


async def set_charging_profile(station: StationPort, view: StationView, request: Payload) -> Payload:
    """SetChargingProfileResponse (K01)."""
    if not _is_known(view, request["evseId"]):
        return status("Rejected", "UnknownEvse")
    answer = await install(station, request["evseId"], request["chargingProfile"])
    if answer.outcome is ProfileOutcome.ACCEPTED:
        return status("Accepted")
    return status("Rejected", "InvalidProfile", answer.reason)


async def clear_charging_profile(station: StationPort, request: Payload) -> Payload:
    """ClearChargingProfileResponse (K10): an id alone, or all that match every criterion."""
    if "chargingProfileId" in request:
        criteria = by_id(request["chargingProfileId"])
    else:
        wanted = request.get("chargingProfileCriteria", {})
        purpose = wanted.get("chargingProfilePurpose")
        criteria = criteria_to_plain(
            Criteria(
                evse_id=wanted.get("evseId"),
                purpose=None if purpose is None else Purpose(purpose),
                stack_level=wanted.get("stackLevel"),
            )
        )
    answer = await station.clear_profiles(criteria)
    return status("Accepted" if answer.outcome is ProfileOutcome.ACCEPTED else "Unknown")


async def get_composite_schedule(station: StationPort, view: StationView, request: Payload) -> Payload:
    """GetCompositeScheduleResponse (K08)."""
    evse = request["evseId"]
    if not _is_known(view, evse):
        return status("Rejected", "UnknownEvse")
    if request["duration"] < 0:
        raise RpcError(ErrorCode.PROPERTY_CONSTRAINT_VIOLATION, "duration: below the minimum")
    schedule = await station.composite_schedule(evse, request["duration"], request.get("chargingRateUnit"))
    if schedule is None:
        return status("Rejected")
    return {"status": "Accepted", "schedule": _schedule_out(schedule, evse)}


def _is_known(view: StationView, evse: int) -> bool:
    return evse == 0 or evse in view.welcome.evses


# --------------------------------------------------------------------------------------- translation


async def install(station: StationPort, evse: int, profile: dict[str, Any]) -> ProfileAnswer:
    """Ask the station to install a profile. Raises ``RpcError`` for numbers and times that cannot be."""
    return await station.install_profile(evse, profile_to_plain(read_profile(profile)), RULES)


def by_id(profile_id: int) -> dict[str, Any]:
    """The criteria that select one profile."""
    return criteria_to_plain(Criteria(ids=frozenset({profile_id})))


def read_profile(profile: dict[str, Any]) -> ChargingProfile:
    """A schema-valid ChargingProfileType. Raises ``RpcError`` for numbers and times that cannot be."""
    recurrency = profile.get("recurrencyKind")
    return ChargingProfile(
        id=profile["id"],
        stack_level=profile["stackLevel"],
        purpose=Purpose(profile["chargingProfilePurpose"]),
        kind=Kind(profile["chargingProfileKind"]),
        schedules=tuple(_schedule_in(schedule) for schedule in profile["chargingSchedule"]),
        recurrency=None if recurrency is None else Recurrency(recurrency),
        valid_from_ms=instant(profile, "validFrom"),
        valid_to_ms=instant(profile, "validTo"),
        transaction_id=profile.get("transactionId"),
    )


def _schedule_in(schedule: dict[str, Any]) -> Schedule:
    minimum = schedule.get("minChargingRate")
    return Schedule(
        unit=RateUnit(schedule["chargingRateUnit"]),
        periods=tuple(
            Period(
                period["startPeriod"],
                milli(period["limit"], "limit"),
                period.get("numberPhases"),
                period.get("phaseToUse"),
            )
            for period in schedule["chargingSchedulePeriod"]
        ),
        duration_s=schedule.get("duration"),
        start_ms=instant(schedule, "startSchedule"),
        id=schedule["id"],
        min_charging_rate_milli=None if minimum is None else milli(minimum, "minChargingRate"),
    )


def _schedule_out(schedule: CompositeSchedule, evse: int) -> dict[str, Any]:
    periods = []
    for period in schedule.periods:
        # A quotient by ten prints with one decimal: it is the float nearest to those digits.
        entry: dict[str, Any] = {"startPeriod": period.start_s, "limit": period.limit_tenths / 10}
        if period.phases is not None:
            entry["numberPhases"] = period.phases
        periods.append(entry)
    return {
        "evseId": evse,
        "duration": schedule.duration_s,
        "scheduleStart": to_rfc3339(schedule.start_wall_ms),
        "chargingRateUnit": schedule.unit,
        "chargingSchedulePeriod": periods,
    }
