"""Orders in the words of each OCPP version.

Charter: pure functions from what an operator wants to action and payload, drawn from what it knows of the station.
Orders are schema-valid; some ask for what is not there (another connector, transaction, token, key), as operators do.

Units: amperes with one decimal and seconds, as OCPP has them. Sources: OCPP 1.6 section 5 and security white paper;
OCPP 2.0.1 part 2 B, C, E, F, G, H, K, L; field faults 10, 13.
"""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass
from typing import Any, Final

from agent.ocpp.timestamps import to_rfc3339
from agent.sim.world.booking import Booked
from agent.sim.world.desk import Payload

STRANGER: Final = "0BADC0DE"
"""A token that nobody has given out."""

AMPERES: Final = (16, 0, 8, 6, 10.5, 32)
_STACK_LEVELS: Final = (0, 0, 1)


class Wish(enum.StrEnum):
    """What an operator may want."""

    START = "start"
    STOP = "stop"
    UNLOCK = "unlock"
    AVAILABILITY = "availability"
    RESET = "reset"
    TRIGGER = "trigger"
    LIMIT = "limit"
    UNLIMIT = "unlimit"
    SCHEDULE = "schedule"
    CONFIGURE = "configure"
    READ = "read"
    CLEAR_CACHE = "clear_cache"
    RESERVE = "reserve"
    UPDATE = "update"


@dataclass(frozen=True, slots=True)
class Image:
    """Firmware to order. Certificate and signature are empty where the order is not a signed one."""

    location: str
    certificate: str = ""
    signature: str = ""


NOWHERE: Final = Image("https://updates.example/evsed/nothing.bundle", "not a certificate", "bm90IGEgc2lnbmF0dXJl")


@dataclass(frozen=True, slots=True)
class Scene:
    """What the operator knows when it wants something. ``number`` is new for each order."""

    rng: random.Random
    wall_ms: int
    number: int
    evses: tuple[int, ...]
    tokens: tuple[str, ...]
    images: tuple[Image, ...]
    running: tuple[Booked, ...]

    def chance(self, rate: float) -> bool:
        return self.rng.random() < rate

    def evse(self) -> int:
        """Mostly one that is there."""
        return self.rng.choice(self.evses) if self.chance(0.95) else max(self.evses) + 7

    def token(self) -> str:
        """Mostly one that is known."""
        return self.rng.choice(self.tokens) if self.tokens and self.chance(0.9) else STRANGER

    def transaction(self) -> Booked | None:
        """Mostly one that runs."""
        return self.rng.choice(self.running) if self.running and self.chance(0.9) else None

    def image(self) -> Image:
        return self.rng.choice(self.images) if self.images and self.chance(0.8) else NOWHERE


# ---------------------------------------------------------------------------------------- OCPP 1.6


def words_16(wish: Wish, scene: Scene) -> tuple[str, Payload]:
    """Action and payload in 1.6."""
    rng = scene.rng
    match wish:
        case Wish.START:
            payload: Payload = {"idTag": scene.token()}
            if scene.chance(0.9):
                payload["connectorId"] = scene.evse()
            return "RemoteStartTransaction", payload
        case Wish.STOP:
            booked = scene.transaction()
            number = -5 if booked is None or booked.number is None else booked.number
            return "RemoteStopTransaction", {"transactionId": number}
        case Wish.UNLOCK:
            return "UnlockConnector", {"connectorId": scene.evse()}
        case Wish.AVAILABILITY:
            kind = "Operative" if scene.chance(0.6) else "Inoperative"
            return "ChangeAvailability", {"connectorId": rng.choice((0, *scene.evses)), "type": kind}
        case Wish.RESET:
            return "Reset", {"type": rng.choice(("Soft", "Hard"))}
        case Wish.TRIGGER:
            return _trigger_16(scene)
        case Wish.LIMIT:
            return _limit_16(scene)
        case Wish.UNLIMIT:
            return "ClearChargingProfile", rng.choice(
                ({}, {"id": rng.randint(1, 3)}, {"chargingProfilePurpose": "TxDefaultProfile"}, {"stackLevel": 1})
            )
        case Wish.SCHEDULE:
            return "GetCompositeSchedule", {"connectorId": rng.choice((0, *scene.evses)), "duration": 86_400}
        case Wish.CONFIGURE:
            key, value = rng.choice(_SETTINGS_16)
            return "ChangeConfiguration", {"key": key, "value": value}
        case Wish.READ:
            return "GetConfiguration", rng.choice(({}, {"key": ["NumberOfConnectors", "Nonsense"]}))
        case Wish.CLEAR_CACHE:
            return "ClearCache", {}
        case Wish.RESERVE:
            if scene.chance(0.3):
                return "CancelReservation", {"reservationId": scene.number - 1}
            expiry = to_rfc3339(scene.wall_ms + 900_000)
            reservation = {"connectorId": scene.evse(), "expiryDate": expiry, "reservationId": scene.number}
            return "ReserveNow", reservation | {"idTag": scene.token()}
        case Wish.UPDATE:
            return _update_16(scene)


_SETTINGS_16: Final = (
    ("MeterValueSampleInterval", "1800"),
    ("MeterValueSampleInterval", "3600"),
    ("MeterValueSampleInterval", "900"),
    ("ClockAlignedDataInterval", "0"),
    ("ClockAlignedDataInterval", "21600"),
    ("HeartbeatInterval", "7200"),
    ("WebSocketPingInterval", "900"),
    ("ConnectionTimeOut", "120"),
    ("MinimumStatusDuration", "0"),
    ("MinimumStatusDuration", "2"),
    ("StopTransactionOnInvalidId", "true"),
    ("StopTransactionOnInvalidId", "false"),
    ("MeterValuesSampledData", "Nonsense"),
    ("NumberOfConnectors", "9"),
    ("Nonsense", "1"),
)


def _trigger_16(scene: Scene) -> tuple[str, Payload]:
    names = ["BootNotification", "Heartbeat", "MeterValues", "StatusNotification", "FirmwareStatusNotification"]
    extended = scene.chance(0.3)
    if not extended:
        names.append("DiagnosticsStatusNotification")
    payload: Payload = {"requestedMessage": scene.rng.choice(names)}
    if scene.chance(0.5):
        payload["connectorId"] = scene.evse()
    return ("ExtendedTriggerMessage" if extended else "TriggerMessage"), payload


def _limit_16(scene: Scene) -> tuple[str, Payload]:
    purpose, level, periods = _limit(scene)
    connector = 0 if purpose == "Max" else scene.rng.choice((0, *scene.evses)) if purpose == "Default" else 0
    profile: Payload = {
        "chargingProfileId": _PROFILE_IDS[purpose],
        "stackLevel": level,
        "chargingProfilePurpose": {"Max": "ChargePointMaxProfile", "Default": "TxDefaultProfile", "Tx": "TxProfile"}[
            purpose
        ],
        "chargingProfileKind": "Absolute",
        "chargingSchedule": {
            "chargingRateUnit": "A",
            "startSchedule": to_rfc3339(scene.wall_ms),
            "chargingSchedulePeriod": periods,
        },
    }
    booked = scene.transaction()
    if purpose == "Tx":
        number = -5 if booked is None or booked.number is None else booked.number
        connector = scene.evses[0] if booked is None else booked.evse
        profile["transactionId"] = number
    return "SetChargingProfile", {"connectorId": connector, "csChargingProfiles": profile}


def _update_16(scene: Scene) -> tuple[str, Payload]:
    image, now = scene.image(), to_rfc3339(scene.wall_ms)
    if not image.certificate:
        return "UpdateFirmware", {"location": image.location, "retrieveDate": now}
    firmware = {"location": image.location, "retrieveDateTime": now, "signature": image.signature}
    firmware["signingCertificate"] = image.certificate
    return "SignedUpdateFirmware", {"requestId": scene.number, "firmware": firmware}


# ---------------------------------------------------------------------------------------- OCPP 2.0.1


def words_201(wish: Wish, scene: Scene) -> tuple[str, Payload]:
    """Action and payload in 2.0.1."""
    rng = scene.rng
    match wish:
        case Wish.START:
            payload: Payload = {"idToken": _id_token(scene.token()), "remoteStartId": scene.number}
            if scene.chance(0.9):
                payload["evseId"] = scene.evse()
            return "RequestStartTransaction", payload
        case Wish.STOP:
            booked = scene.transaction()
            return "RequestStopTransaction", {"transactionId": "nothing" if booked is None else booked.key}
        case Wish.UNLOCK:
            return "UnlockConnector", {"evseId": scene.evse(), "connectorId": 1}
        case Wish.AVAILABILITY:
            evse = rng.choice((0, *scene.evses))
            kind = "Operative" if scene.chance(0.6) else "Inoperative"
            return "ChangeAvailability", {"operationalStatus": kind} | ({"evse": {"id": evse}} if evse else {})
        case Wish.RESET:
            return "Reset", {"type": rng.choice(("Immediate", "OnIdle"))} | ({"evseId": 1} if scene.chance(0.1) else {})
        case Wish.TRIGGER:
            return _trigger_201(scene)
        case Wish.LIMIT:
            return _limit_201(scene)
        case Wish.UNLIMIT:
            by_purpose = {"chargingProfileCriteria": {"chargingProfilePurpose": "TxDefaultProfile"}}
            return "ClearChargingProfile", rng.choice(({"chargingProfileId": rng.randint(1, 3)}, by_purpose))
        case Wish.SCHEDULE:
            return "GetCompositeSchedule", {"evseId": rng.choice((0, *scene.evses)), "duration": 86_400}
        case Wish.CONFIGURE:
            component, variable, value = rng.choice(_SETTINGS_201)
            item = {"component": {"name": component}, "variable": {"name": variable}, "attributeValue": value}
            return "SetVariables", {"setVariableData": [item]}
        case Wish.READ:
            if scene.chance(0.2):
                return "GetBaseReport", {"requestId": scene.number, "reportBase": "FullInventory"}
            component, variable, _value = rng.choice(_SETTINGS_201)
            asked = {"component": {"name": component}, "variable": {"name": variable}}
            return "GetVariables", {"getVariableData": [asked]}
        case Wish.CLEAR_CACHE:
            return "ClearCache", {}
        case Wish.RESERVE:
            if scene.chance(0.3):
                return "CancelReservation", {"reservationId": scene.number - 1}
            expiry = to_rfc3339(scene.wall_ms + 900_000)
            reservation = {"id": scene.number, "expiryDateTime": expiry, "evseId": scene.evse()}
            return "ReserveNow", reservation | {"idToken": _id_token(scene.token())}
        case Wish.UPDATE:
            image = scene.image()
            firmware = {"location": image.location, "retrieveDateTime": to_rfc3339(scene.wall_ms)}
            if image.certificate:
                firmware |= {"signingCertificate": image.certificate, "signature": image.signature}
            return "UpdateFirmware", {"requestId": scene.number, "firmware": firmware}


_SETTINGS_201: Final = (
    ("SampledDataCtrlr", "TxUpdatedInterval", "1800"),
    ("SampledDataCtrlr", "TxUpdatedInterval", "3600"),
    ("SampledDataCtrlr", "TxUpdatedInterval", "900"),
    ("AlignedDataCtrlr", "Interval", "0"),
    ("AlignedDataCtrlr", "Interval", "21600"),
    ("OCPPCommCtrlr", "HeartbeatInterval", "7200"),
    ("OCPPCommCtrlr", "WebSocketPingInterval", "900"),
    ("TxCtrlr", "EVConnectionTimeOut", "120"),
    ("TxCtrlr", "StopTxOnInvalidId", "true"),
    ("TxCtrlr", "StopTxOnInvalidId", "false"),
    ("TxCtrlr", "Nonsense", "1"),
    ("NonsenseCtrlr", "Enabled", "1"),
)


def _trigger_201(scene: Scene) -> tuple[str, Payload]:
    names = ("BootNotification", "Heartbeat", "MeterValues", "StatusNotification", "TransactionEvent")
    name = scene.rng.choice((*names, "FirmwareStatusNotification", "LogStatusNotification"))
    payload: Payload = {"requestedMessage": name}
    if name == "StatusNotification" or scene.chance(0.5):
        payload["evse"] = {"id": scene.evse(), "connectorId": 1}
    return "TriggerMessage", payload


def _limit_201(scene: Scene) -> tuple[str, Payload]:
    purpose, level, periods = _limit(scene)
    evse = scene.rng.choice((0, *scene.evses)) if purpose == "Default" else 0
    profile: Payload = {
        "id": _PROFILE_IDS[purpose],
        "stackLevel": level,
        "chargingProfilePurpose": {
            "Max": "ChargingStationMaxProfile",
            "Default": "TxDefaultProfile",
            "Tx": "TxProfile",
        }[purpose],
        "chargingProfileKind": "Absolute",
        "chargingSchedule": [
            {
                "id": 1,
                "chargingRateUnit": "A",
                "startSchedule": to_rfc3339(scene.wall_ms),
                "chargingSchedulePeriod": periods,
            }
        ],
    }
    if purpose == "Tx":
        booked = scene.transaction()
        evse = scene.evses[0] if booked is None else booked.evse or scene.evses[0]
        profile["transactionId"] = "nothing" if booked is None else booked.key
    return "SetChargingProfile", {"evseId": evse, "chargingProfile": profile}


def _id_token(token: str) -> Payload:
    return {"idToken": token, "type": "ISO14443"}


# ------------------------------------------------------------------------------------------- both

_PROFILE_IDS: Final = {"Max": 1, "Default": 2, "Tx": 3}


def _limit(scene: Scene) -> tuple[str, int, list[dict[str, Any]]]:
    """Purpose, stack level and one to three steps of a limit in A, half an hour each."""
    rng = scene.rng
    purpose = rng.choice(("Max", "Default", "Default", "Tx"))
    steps = [
        {"startPeriod": 1_800 * number, "limit": rng.choice(AMPERES)} for number in range(rng.choice((1, 1, 2, 3)))
    ]
    return purpose, rng.choice(_STACK_LEVELS), steps
