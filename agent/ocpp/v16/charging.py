"""1.6 charging profiles to the neutral form and composite schedules back.

Charter: translation only; whether a profile may be installed is the station's decision, under the
rules of 1.6. Numbers are exact: a limit is read from the digits of the message, never as a binary
fraction (16-SC-13); the schema has let through only multiples of 0.1.

Units: 1.6 limits in A or W with one decimal; neutral ones in milliampere or milliwatt.
Sources: OCPP 1.6 section 3.13, 5.5, 5.7, 5.16, errata 4; checklist 16-SC-01 to 16, 16-CMD-05.
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
from agent.ocpp.v16.transactions import TransactionIds

RULES: Final = "1.6"

_PURPOSES: Final = {
    "ChargePointMaxProfile": Purpose.STATION_MAX,
    "TxDefaultProfile": Purpose.TX_DEFAULT,
    "TxProfile": Purpose.TX,
}

_SET_STATUS: Final = {
    ProfileOutcome.ACCEPTED: "Accepted",
    ProfileOutcome.NOT_SUPPORTED: "NotSupported",
}


# ------------------------------------------------------------------------------------------ messages


async def set_charging_profile(
    station: StationPort, view: StationView, ids: TransactionIds, request: Payload
) -> Payload:
    """SetChargingProfile.conf."""
    connector = _connector(view, request)
    profile = request["csChargingProfiles"]
    tx_id = None
    if "transactionId" in profile:
        tx_id = ids.tx_id(profile["transactionId"])
        if tx_id is None:
            return {"status": "Rejected"}
    answer = await install(station, connector, profile, tx_id)
    return {"status": _SET_STATUS.get(answer.outcome, "Rejected")}


async def clear_charging_profile(station: StationPort, request: Payload) -> Payload:
    """ClearChargingProfile.conf: an id alone, or all that match every criterion (16-SC-09)."""
    if "id" in request:
        criteria = by_id(request["id"])
    else:
        purpose = request.get("chargingProfilePurpose")
        criteria = criteria_to_plain(
            Criteria(
                evse_id=request.get("connectorId"),
                purpose=None if purpose is None else _PURPOSES[purpose],
                stack_level=request.get("stackLevel"),
            )
        )
    answer = await station.clear_profiles(criteria)
    return {"status": "Accepted" if answer.outcome is ProfileOutcome.ACCEPTED else "Unknown"}


async def get_composite_schedule(station: StationPort, view: StationView, request: Payload) -> Payload:
    """GetCompositeSchedule.conf."""
    connector = _connector(view, request)
    if request["duration"] < 0:
        raise RpcError(ErrorCode.PROPERTY_CONSTRAINT_VIOLATION, "duration: below the minimum")
    schedule = await station.composite_schedule(connector, request["duration"], request.get("chargingRateUnit"))
    if schedule is None:
        return {"status": "Rejected"}
    return {
        "status": "Accepted",
        "connectorId": connector,
        "scheduleStart": to_rfc3339(schedule.start_wall_ms),
        "chargingSchedule": _schedule_out(schedule),
    }


def _connector(view: StationView, request: Payload) -> int:
    """16-SC-16: an unknown connector is a CALLERROR."""
    connector: int = request["connectorId"]
    if connector != 0 and connector not in view.welcome.evses:
        raise RpcError(ErrorCode.PROPERTY_CONSTRAINT_VIOLATION, "connectorId: no such connector")
    return connector


# --------------------------------------------------------------------------------------- translation


async def install(station: StationPort, evse: int, profile: dict[str, Any], tx_id: str | None) -> ProfileAnswer:
    """Ask the station to install a 1.6 profile; ``tx_id`` is our id of its transaction."""
    return await station.install_profile(evse, profile_to_plain(read_profile(profile, tx_id)), RULES)


def by_id(profile_id: int) -> dict[str, Any]:
    """The criteria that select one profile."""
    return criteria_to_plain(Criteria(ids=frozenset({profile_id})))


def read_profile(profile: dict[str, Any], tx_id: str | None) -> ChargingProfile:
    """A schema-valid 1.6 ChargingProfile. Raises ``RpcError`` for numbers and times that cannot be."""
    recurrency = profile.get("recurrencyKind")
    return ChargingProfile(
        id=profile["chargingProfileId"],
        stack_level=profile["stackLevel"],
        purpose=_PURPOSES[profile["chargingProfilePurpose"]],
        kind=Kind(profile["chargingProfileKind"]),
        schedules=(_schedule_in(profile["chargingSchedule"]),),
        recurrency=None if recurrency is None else Recurrency(recurrency),
        valid_from_ms=instant(profile, "validFrom"),
        valid_to_ms=instant(profile, "validTo"),
        transaction_id=tx_id,
    )


def _schedule_in(schedule: dict[str, Any]) -> Schedule:
    minimum = schedule.get("minChargingRate")
    return Schedule(
        unit=RateUnit(schedule["chargingRateUnit"]),
        periods=tuple(
            Period(period["startPeriod"], milli(period["limit"], "limit"), period.get("numberPhases"))
            for period in schedule["chargingSchedulePeriod"]
        ),
        duration_s=schedule.get("duration"),
        start_ms=instant(schedule, "startSchedule"),
        min_charging_rate_milli=None if minimum is None else milli(minimum, "minChargingRate"),
    )


def _schedule_out(schedule: CompositeSchedule) -> dict[str, Any]:
    periods = []
    for period in schedule.periods:
        # A quotient by ten prints with one decimal: it is the float nearest to those digits.
        entry: dict[str, Any] = {"startPeriod": period.start_s, "limit": period.limit_tenths / 10}
        if period.phases is not None:
            entry["numberPhases"] = period.phases
        periods.append(entry)
    return {
        "duration": schedule.duration_s,
        "startSchedule": to_rfc3339(schedule.start_wall_ms),
        "chargingRateUnit": schedule.unit,
        "chargingSchedulePeriod": periods,
    }
